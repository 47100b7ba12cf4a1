/**
 * A worker that dies at a chosen store call: the call is not made, or its answer is lost, and nothing is heard of the
 * worker from then on, heartbeats included.
 */
import type { AwaitedEvent, DurableRunStore } from "../contract/types.ts";
import { inFrontOf } from "./in-front-of.ts";

export interface KillPoint {
  /** Which call, from 1. Heartbeats and the watch over the lease are not counted. */
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

  const store = inFrontOf(inner, async (method, args, call) => {
    if (dead) return never;
    const counts = method !== "renewLease" && method !== "watchLease";
    if (counts) calls += 1;
    const isPoint = counts && calls === point?.call;
    if (isPoint && point.when === "before") {
      die();
      return never;
    }
    const outcome = call();
    await outcome.catch(() => {});
    if (isPoint) die();
    // Nor is anything heard of what was under way beside the fatal call.
    if (dead) return never;
    const answer = await outcome;
    if (method === "completeStep") acknowledged.add((args[0] as { stepIndex: number }).stepIndex);
    const { step } = (method === "waitForEvent" && (answer as AwaitedEvent | undefined)) || {};
    if (step) acknowledged.add(step.stepIndex);
    return answer;
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
