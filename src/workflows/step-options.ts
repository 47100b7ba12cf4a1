/** What of a step's options the platform can keep. */
import { DurableInvalidInputError } from "../contract/errors.ts";
import { interruptionPolicy } from "../runner/interruptions.ts";
import { DEFAULT_DELAY_MS } from "../runner/retries.ts";
import type { StepOptions } from "../runner/types.ts";
import type { WorkflowStepConfig } from "./types.ts";

/**
 * The platform's policy for a step whose options are checked. The platform multiplies its delays as a {@link RetryPolicy}
 * does, and has no longest one. Throws `invalid_input` for what it cannot keep.
 */
export function platformConfig(
  { retries, onInterrupted = "rerun" }: StepOptions,
  stepConfig: WorkflowStepConfig | undefined,
): WorkflowStepConfig | undefined {
  if (interruptionPolicy(onInterrupted) !== "rerun") {
    refuse("onInterrupted", 'must be "rerun": Workflows always run an interrupted step again');
  }
  if (retries === undefined) return stepConfig;
  if (typeof retries === "function") {
    refuse("retries", "must be a policy: Workflows keep no function that decides on a retry");
  }
  const { limit, delayMs = DEFAULT_DELAY_MS, backoff = "exponential", maxDelayMs, jitter } = retries;
  if (maxDelayMs !== undefined) {
    refuse("retries.maxDelayMs", "must be left out: Workflows keep no longest delay");
  }
  if (jitter) refuse("retries.jitter", "must be false or left out: Workflows do not vary their delays");
  return { ...stepConfig, retries: { limit, delay: delayMs, backoff } };
}

function refuse(field: string, why: string): never {
  throw new DurableInvalidInputError(field, why);
}
