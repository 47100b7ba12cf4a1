/**
 * A store in front of another: it records every call, and a test may stand in the way of any of them.
 *
 * It has the optional methods that the inner store has; but those by which a store tells of something (a wait that is
 * answered, a lease that is lost) only when asked for, so that a test may count polls.
 */
import type { DurableRunStore } from "../../src/contract/types.ts";

type Methods = Required<Omit<DurableRunStore, "loadRun" | "close" | "beginAfterMs">>;
export type Method = keyof Methods;

/** Stands in the way of a method: `pass` makes the real call. */
type Hook<M extends Method> = (
  pass: () => ReturnType<Methods[M]>,
  ...args: Parameters<Methods[M]>
) => ReturnType<Methods[M]>;

/** Stands in the way of any method. */
export type Fault = <T>(pass: () => Promise<T>) => Promise<T>;

const INTERVENTIONS = ["suspendRun", "cancelRun", "resolveStep", "restartRun", "forkRun"] as const;
const PUSHES = ["waitForEvent", "watchLease"] as const;
type Optional = (typeof INTERVENTIONS)[number] | (typeof PUSHES)[number];

export interface WrappedStoreOptions {
  /** Whether it has `waitForEvent` and `watchLease`, if the inner store does. Default false. */
  pushes?: boolean;
  /** What it says of begins. Default: nothing, so that each is told first, and a test may count on it. */
  beginAfterMs?: number;
}

export class WrappedStore implements DurableRunStore {
  readonly calls: { readonly method: Method; readonly args: readonly unknown[] }[] = [];
  readonly hooks: { [M in Method]?: Hook<M> } = {};
  readonly #inner: DurableRunStore;
  declare readonly beginAfterMs?: number;
  declare suspendRun?: Methods["suspendRun"];
  declare cancelRun?: Methods["cancelRun"];
  declare resolveStep?: Methods["resolveStep"];
  declare restartRun?: Methods["restartRun"];
  declare forkRun?: Methods["forkRun"];
  declare waitForEvent?: Methods["waitForEvent"];
  declare watchLease?: Methods["watchLease"];

  constructor(inner: DurableRunStore, { pushes = false, beginAfterMs }: WrappedStoreOptions = {}) {
    this.#inner = inner;
    if (beginAfterMs !== undefined) this.beginAfterMs = beginAfterMs;
    for (const method of INTERVENTIONS) this.#passOn(method);
    if (pushes) for (const method of PUSHES) this.#passOn(method);
  }

  /** How often a method was called. */
  count(method: Method): number {
    return this.calls.filter((call) => call.method === method).length;
  }

  /** The methods that were called, in order, without those that look after the lease. */
  methods(): Method[] {
    return this.calls
      .map((call) => call.method)
      .filter((method) => method !== "renewLease" && method !== "watchLease");
  }

  inject(method: Method, fault: Fault): void {
    (this.hooks as Record<Method, Fault>)[method] = fault;
  }

  startOrResume(...args: Parameters<Methods["startOrResume"]>) {
    return this.#around("startOrResume", args, () => this.#inner.startOrResume(...args));
  }
  renewLease(...args: Parameters<Methods["renewLease"]>) {
    return this.#around("renewLease", args, () => this.#inner.renewLease(...args));
  }
  loadStep(...args: Parameters<Methods["loadStep"]>) {
    return this.#around("loadStep", args, () => this.#inner.loadStep(...args));
  }
  beginStep(...args: Parameters<Methods["beginStep"]>) {
    return this.#around("beginStep", args, () => this.#inner.beginStep(...args));
  }
  completeStep(...args: Parameters<Methods["completeStep"]>) {
    return this.#around("completeStep", args, () => this.#inner.completeStep(...args));
  }
  failStep(...args: Parameters<Methods["failStep"]>) {
    return this.#around("failStep", args, () => this.#inner.failStep(...args));
  }
  endRun(...args: Parameters<Methods["endRun"]>) {
    return this.#around("endRun", args, () => this.#inner.endRun(...args));
  }
  emitEvent(...args: Parameters<Methods["emitEvent"]>) {
    return this.#around("emitEvent", args, () => this.#inner.emitEvent(...args));
  }
  loadEvent(...args: Parameters<Methods["loadEvent"]>) {
    return this.#around("loadEvent", args, () => this.#inner.loadEvent(...args));
  }
  close(): Promise<void> {
    return this.#inner.close();
  }

  #passOn<M extends Optional>(method: M): void {
    type Call = (...args: Parameters<Methods[M]>) => ReturnType<Methods[M]>;
    const inner = (this.#inner[method] as Call | undefined)?.bind(this.#inner);
    if (inner === undefined) return;
    const passed: Call = (...args) => this.#around(method, args, () => inner(...args));
    Object.assign(this, { [method]: passed });
  }

  #around<M extends Method>(
    method: M,
    args: Parameters<Methods[M]>,
    pass: () => ReturnType<Methods[M]>,
  ): ReturnType<Methods[M]> {
    this.calls.push({ method, args });
    const hook = this.hooks[method] as Hook<M> | undefined;
    return hook ? hook(pass, ...args) : pass();
  }
}

/** The first `times` calls throw before the store sees them. */
export function failing(times: number, error: () => Error): Fault {
  let left = times;
  return async (pass) => {
    if (left-- > 0) throw error();
    return pass();
  };
}

/** The first `times` calls take effect, and their answers are lost. */
export function losingAnswers(times: number, error: () => Error): Fault {
  let left = times;
  return async (pass) => {
    const answer = await pass();
    if (left-- > 0) throw error();
    return answer;
  };
}

/** The first `times` calls never settle, and the store never sees them. */
export function hanging(times = Infinity): Fault {
  let left = times;
  return (pass) => (left-- > 0 ? new Promise(() => {}) : pass());
}
