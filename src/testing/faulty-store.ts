/** A store that fails on demand, by wrapping a real one: before a call takes effect, after it, or without a word. */
import { DurableStoreUnavailableError } from "../contract/errors.ts";
import type { DurableRunStore } from "../contract/types.ts";
import type { StoreMethod } from "./in-front-of.ts";
import { inFrontOf } from "./in-front-of.ts";

/**
 * What befalls a call. "before": it is not made, and rejects with `store_unavailable`. "after": it is made, its answer is
 * lost, and it rejects in the same way. "hang": it is not made, and never settles. An error: it is not made, and rejects
 * with that.
 */
export type StoreFault = "none" | "before" | "after" | "hang" | Error;

type Methods = Required<DurableRunStore>;

/** A call; `method` tells the types of `args`. */
export type StoreCall = {
  [M in StoreMethod]: {
    readonly method: M;
    readonly args: Parameters<Methods[M]>;
    /** Which call of this method, from 1. */
    readonly number: number;
  };
}[StoreMethod];

/** Its methods are those of the store that it wraps: what that one lacks is lacking here too. */
const Wrapping = class {} as unknown as new () => DurableRunStore;

/** Passes calls on to `inner`, each as `fault` says. */
export class FaultyStore extends Wrapping {
  /** Decides what befalls each call. */
  fault: (call: StoreCall) => StoreFault = () => "none";
  /** Calls made so far, failed ones included. */
  readonly calls: StoreCall[] = [];
  /** How many calls were made to fail or hang. */
  faults = 0;
  /** How often a method was called. */
  readonly count: (method: StoreMethod) => number;

  constructor(inner: DurableRunStore) {
    super();
    const counts = new Map<StoreMethod, number>();
    this.count = (method) => counts.get(method) ?? 0;
    const store = inFrontOf(inner, async (method, args, call) => {
      const number = this.count(method) + 1;
      counts.set(method, number);
      const info = { method, args, number } as unknown as StoreCall;
      this.calls.push(info);
      const fault = this.fault(info);
      if (fault === "none") return call();
      this.faults += 1;
      if (fault === "hang") return new Promise<never>(() => {});
      if (fault instanceof Error) throw fault;
      if (fault === "after") await call();
      throw new DurableStoreUnavailableError(`call ${number} of ${method} fails, as the test wants it`);
    });
    return new Proxy(this, {
      has: (own, property) => property in own || property in store,
      get: (own, property) => Reflect.get(property in own ? own : store, property) as unknown,
    });
  }
}
