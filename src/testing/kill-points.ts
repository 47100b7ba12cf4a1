/**
 * A worker that dies at a chosen store call: the call is not made, or its answer is lost, and nothing is heard of the
 * worker from then on, heartbeats included.
 */
import type { DurableRunStore } from "../contract/types.ts";

export interface KillPoint {
  /** Which call, from 1. Heartbeats are not counted. */
  readonly call: number;
  readonly when: "before" | "after";
}

export interface Killable {
  readonly store: DurableRunStore;
  /** Resolves when the worker has died. */
  readonly died: Promise<void>;
  /** Calls made so far, heartbeats aside. */
  readonly calls: number;
  /** Positions of the steps whose completion was acknowledged to the worker. */
  readonly acknowledged: ReadonlySet<number>;
}

type Method = keyof DurableRunStore;

/** Without a point, nobody dies, and calls are only counted. */
export function killable(inner: DurableRunStore, point?: KillPoint): Killable {
  const acknowledged = new Set<number>();
  let calls = 0;
  let dead = false;
  let die = (): void => {};
  const died = new Promise<void>((resolve) => {
    die = () => {
      dead = true;
      resolve();
    };
  });
  const never = new Promise<never>(() => {});

  const intercept = async (method: Method, args: readonly unknown[]): Promise<unknown> => {
    if (dead) return never;
    if (method !== "renewLease") calls += 1;
    const isPoint = method !== "renewLease" && calls === point?.call;
    if (isPoint && point?.when === "before") {
      die();
      return never;
    }
    const answer = await (inner[method] as (...all: unknown[]) => Promise<unknown>).apply(inner, [...args]);
    if (isPoint) {
      die();
      return never;
    }
    if (method === "completeStep") acknowledged.add((args[0] as { stepIndex: number }).stepIndex);
    return answer;
  };

  const store = new Proxy(inner, {
    get: (target, property) =>
      typeof target[property as Method] === "function"
        ? (...args: unknown[]) => intercept(property as Method, args)
        : Reflect.get(target, property),
  });
  return {
    store,
    died,
    acknowledged,
    get calls() {
      return calls;
    },
  };
}
