/** What a step does when a worker has died in it (R31): the option, and the work that follows from it. */
import { DurableInvalidInputError } from "../contract/errors.ts";
import type { DurableRunStore, InterruptionPolicy } from "../contract/types.ts";
import type { StepInfo, StepOptions } from "./types.ts";
import { RERUN } from "./types.ts";

type OnInterrupted = NonNullable<StepOptions["onInterrupted"]>;

/** The policy by which the step begins. Throws `invalid_input`, also over a store that keeps no step in doubt. */
export function checkInterruption(onInterrupted: OnInterrupted, store: DurableRunStore): InterruptionPolicy {
  const policy = interruptionPolicy(onInterrupted);
  if (policy !== "rerun" && store.resolveStep === undefined) {
    throw new DurableInvalidInputError(
      "onInterrupted",
      'must be "rerun" over this store: it has no resolveStep, and would not tell that a step was interrupted',
    );
  }
  return policy;
}

/**
 * The work of each attempt. `assertHeld` throws when the attempt is over. `isInDoubt`: whether the latest attempt ended
 * before it was on record what an earlier one had done.
 */
export function interruptible<T>(
  onInterrupted: OnInterrupted,
  fn: (info: StepInfo) => Promise<T>,
): {
  run: (info: StepInfo, inDoubt: boolean, assertHeld: () => void) => Promise<T>;
  isInDoubt: () => boolean;
} {
  let doubtful: StepInfo | undefined;
  const run = async (info: StepInfo, inDoubt: boolean, assertHeld: () => void): Promise<T> => {
    doubtful = undefined;
    if (inDoubt && typeof onInterrupted === "object") {
      doubtful = info;
      const found = await onInterrupted.reconcile(info);
      if (found !== RERUN) return found as T;
      // It may have taken so long that another attempt is under way, here or elsewhere, and finds out by itself.
      assertHeld();
      doubtful = undefined;
    }
    return fn(info);
  };
  return { run, isInDoubt: () => doubtful !== undefined };
}

/** Throws `invalid_input` for what is none. */
export function interruptionPolicy(onInterrupted: OnInterrupted): InterruptionPolicy {
  if (onInterrupted === "rerun" || onInterrupted === "fail" || onInterrupted === "park") return onInterrupted;
  const given: unknown = onInterrupted;
  const hasReconcile = typeof given === "object" && given !== null && "reconcile" in given;
  if (hasReconcile && typeof given.reconcile === "function") return "reconcile";
  throw new DurableInvalidInputError(
    "onInterrupted",
    'must be "rerun", "fail", "park" or { reconcile: a function }',
  );
}
