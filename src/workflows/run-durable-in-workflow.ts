/**
 * A whole `runDurable` in one step of a Workflow: the platform lends the process and tries again, the store keeps the
 * record.
 *
 * Relies on R6: the lease's owner is the instance and not the attempt, so that a later attempt takes over from an
 * earlier one at once. A callback that the platform has given up on goes on all the same; its fence is the lower one, and
 * so it changes nothing.
 * Invariant: what comes after a step depends on what that step has answered alone, so the instance replays. A failure is
 * an answer, too: of a step that throws a NonRetryableError, the platform keeps no record, and runs it again at a replay.
 */
import type { DurableRunManifest, DurableRunStore, RunOutcome } from "../contract/types.ts";
import { checkRetries, type RetryFunction, type RetryPolicy } from "../runner/retries.ts";
import type { DurableContext } from "../runner/types.ts";
import { attempt, type Answer } from "./attempt.ts";
import { failureOfStep, isPlatformTimeout, refused, toCodedError, WorkflowRunError } from "./failures.ts";
import { released } from "./platform.ts";
import { RUN_DECISION_EVENT, type RunPointer } from "./tasks.ts";
import type { WorkflowStepConfig, WorkflowStepMethods } from "./types.ts";

/**
 * What the platform is told of the step unless `stepConfig` says otherwise. Its retries are for attempts that did not
 * answer: their isolate or the engine died, the store was out of reach, or their time was up. Their delays grow to 17
 * minutes, and last 14 hours in all; so a run may wait for a person for three months over daily restarts. An attempt lasts as
 * long as the run, waits included, so the time limit is a last resort.
 */
export const RUN_STEP_CONFIG = {
  retries: { limit: 100, delay: "10 seconds", backoff: "linear" },
  timeout: "30 days",
} as const satisfies WorkflowStepConfig;

/** How often a task that has failed is tried again: three hours in all. */
export const TASK_RETRIES = {
  limit: 10,
  delayMs: 10_000,
  backoff: "exponential",
  maxDelayMs: 7_200_000,
} as const satisfies RetryPolicy;

/** Before the next look at a run that another worker holds; that was taken from an attempt; that waits for a decision. */
const WAIT_MS = {
  held: { first: 1_000, last: 600_000 },
  taken: { first: 1_000, last: 30_000 },
  decision: { first: 60_000, last: 3_600_000 },
};

export interface RunDurableInWorkflowInput<TResult> {
  store: DurableRunStore;
  manifest: DurableRunManifest;
  /** As for `runDurable`. */
  taskFn: (ctx: DurableContext) => Promise<TResult>;
  /** Default: the instance's id. */
  runId?: string;
  /** Default: the Workflow's name. With the instance's id, it is the owner of the lease. */
  workflowName?: string;
  /** For holding the run. Default 30,000. The platform's own next attempt does not wait for it to lapse. */
  leaseMs?: number;
  /** What to record of a result. Default: nothing. */
  outcome?: (result: TResult) => RunOutcome | undefined;
  /**
   * Whether a task that has failed is tried again, and after how long: `limit` times in all, from the first step that is
   * not on record. The instance sleeps meanwhile. Default {@link TASK_RETRIES}.
   */
  taskRetries?: RetryPolicy | RetryFunction;
  /**
   * The platform's retries, for attempts that did not answer, and the time limit of one attempt. Each of the two that is left
   * out is that of {@link RUN_STEP_CONFIG}.
   */
  stepConfig?: WorkflowStepConfig;
  /** Of the step. Default "run". */
  name?: string;
}

/**
 * Runs a task over a store from within a Workflow's `run`, and answers where to find the result: it stays in the store,
 * since an instance keeps at most 1 MiB.
 *
 * - A failure of the task is tried again as `taskRetries` say, from the first step that is not on record.
 * - So are, as `stepConfig` says, an attempt that died or took too long, and a store that is out of reach.
 * - A run that another worker holds is waited for, and so is a step that waits for a decision
 *   ({@link RUN_DECISION_EVENT}): the instance sleeps meanwhile, and nothing is used up.
 * - What no retry would mend ends it at once: a changed manifest or input, code that left the record, a payload or an
 *   argument that is refused, a run that was cancelled, and any error with `retryable: false`.
 *
 * A run that has completed answers at once. Rejects with a `NonRetryableError` whose message begins with the code in
 * brackets, `[run_cancelled] …`, and whose `code` it is; a task's own failure without one is `task_failed`. A replayed
 * instance answers, or rejects, as before. Over a failed run, `instance.restart()` goes on from what is on record. What the
 * platform throws on its own account gets through unchanged.
 */
export async function runDurableInWorkflow<TResult>(
  step: WorkflowStepMethods,
  event: { readonly instanceId: string; readonly workflowName: string },
  input: RunDurableInWorkflowInput<TResult>,
): Promise<RunPointer> {
  const { name = "run", workflowName = event.workflowName, runId = event.instanceId } = input;
  const { taskRetries = TASK_RETRIES } = input;
  checkTaskRetries(taskRetries);
  const config = configOf(input.stepConfig);
  const workerId = `workflow:${workflowName}:${event.instanceId}`;
  const waits = new GrowingWaits();
  for (let failures = 0; ;) {
    const attemptInput = { ...input, runId, workerId, taskRetries, failures };
    const answer = await inStep(step, { name, config }, () => attempt(attemptInput));
    if ("pointer" in answer) return answer.pointer;
    if ("refused" in answer) throw new WorkflowRunError(answer.refused);
    if ("failed" in answer) {
      failures += 1;
      waits.reset();
      await step.sleep(`${name} (failed)`, answer.retryAfterMs);
    } else if ("suspendedAt" in answer) {
      const waitMs = waits.next("decision", answer.suspendedAt);
      await decision(step, `${name} (decision)`, waitMs);
    } else {
      const waitMs =
        "isTaken" in answer
          ? waits.next("taken")
          : Math.min(WAIT_MS.held.last, Math.max(answer.heldForMs, waits.next("held")));
      await step.sleep(`${name} (held)`, waitMs);
    }
  }
}

function checkTaskRetries(taskRetries: RetryPolicy | RetryFunction): void {
  try {
    checkRetries(taskRetries);
  } catch (error) {
    throw refused(error);
  }
}

/** A member that is `undefined` is one that is left out. */
function configOf({ retries, timeout }: WorkflowStepConfig = {}): WorkflowStepConfig {
  return {
    ...RUN_STEP_CONFIG,
    ...(retries !== undefined && { retries }),
    ...(timeout !== undefined && { timeout }),
  };
}

async function inStep(
  step: WorkflowStepMethods,
  { name, config }: { name: string; config: WorkflowStepConfig },
  work: () => Promise<Answer>,
): Promise<Answer> {
  const callback = async (): Promise<Answer> => {
    try {
      return await work();
    } catch (error) {
      throw toCodedError(error);
    }
  };
  try {
    return released(await step.do(name, config, callback));
  } catch (error) {
    const failure = failureOfStep(error);
    throw failure === undefined ? error : new WorkflowRunError(failure, { cause: error });
  }
}

/** Waits that grow as long as it is the same that is waited for. */
class GrowingWaits {
  #of = "";
  #round = 0;

  next(kind: keyof typeof WAIT_MS, stepIndex?: number): number {
    const of = `${kind} ${stepIndex ?? ""}`;
    if (of !== this.#of) this.reset();
    this.#of = of;
    const { first, last } = WAIT_MS[kind];
    return Math.min(last, first * 2 ** Math.min(this.#round++, 30));
  }

  reset(): void {
    this.#of = "";
    this.#round = 0;
  }
}

/** Resolves when somebody has decided, or it is time to look. */
async function decision(step: WorkflowStepMethods, name: string, waitMs: number): Promise<void> {
  try {
    const timeout = `${waitMs / 1_000} seconds` as const;
    released(await step.waitForEvent(name, { type: RUN_DECISION_EVENT, timeout }));
  } catch (error) {
    if (!isPlatformTimeout(error)) throw error;
  }
}
