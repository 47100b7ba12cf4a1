/**
 * A whole `runDurable` in one step of a Workflow: the platform lends the process and tries again, the store keeps the
 * record.
 *
 * Relies on R6: the lease's owner is the instance and not the attempt, so that a later attempt takes over from an
 * earlier one at once. A callback that the platform has given up on goes on all the same; its fence is the lower one, and
 * so it changes nothing.
 * Invariant: what comes after a step depends on what that step has answered alone, so the instance replays.
 */
import { NonRetryableError } from "cloudflare:workflows";
import { codeOf } from "../contract/errors.ts";
import type { DurableRunLeaseHeldError, DurableRunSuspendedError } from "../contract/errors.ts";
import { byteLength, cutText, LIMITS } from "../contract/limits.ts";
import { toJsonText } from "../contract/payload.ts";
import type { DurableRunManifest, DurableRunStore, RunOutcome } from "../contract/types.ts";
import { toStepError } from "../runner/failures.ts";
import { isFinal } from "../runner/retries.ts";
import { runDurable } from "../runner/run-durable.ts";
import type { DurableContext, RunDurableResult } from "../runner/types.ts";
import { isNonRetryable, isWaitTimeout } from "./failures.ts";
import { RUN_DECISION_EVENT, type RunPointer } from "./tasks.ts";
import type { WorkflowStepConfig, WorkflowStepMethods } from "./types.ts";

/**
 * What the platform is told of the step unless `stepConfig` says otherwise. An attempt lasts as long as the run, waits
 * for people included, so the time limit is a last resort: at 30 days an attempt is given up, and the next one goes on
 * where it was. Ten retries, the first after 10 seconds and the last after 85 minutes: three hours in all.
 */
export const RUN_STEP_CONFIG = {
  retries: { limit: 10, delay: "10 seconds", backoff: "exponential" },
  timeout: "30 days",
} as const satisfies WorkflowStepConfig;

/** Between two looks at a run that another worker holds; and at one that waits for a decision. */
const HELD_WAIT_MS = { first: 1_000, last: 600_000 };
const DECISION_WAIT_MS = { first: 60_000, last: 3_600_000 };

/** No retry mends these. So does none for an error that says so itself: see {@link isHopeless}. */
const HOPELESS: ReadonlySet<string> = new Set([
  "manifest_mismatch",
  "step_divergence",
  "step_input_mismatch",
  "payload_not_json",
  "payload_too_large",
  "invalid_input",
  "forbidden",
  "run_cancelled",
  "nested_step",
]);

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
  /** Retries and time limit of the step. Each of the two that is left out is that of {@link RUN_STEP_CONFIG}. */
  stepConfig?: WorkflowStepConfig;
  /** Of the step. Default "run". */
  name?: string;
}

type Answer =
  | { readonly pointer: RunPointer }
  /** Another worker has the run: for how long, as far as is known. */
  | { readonly heldForMs: number }
  /** A step in doubt waits for somebody. */
  | { readonly suspendedAt: number };

/**
 * Runs a task over a store from within a Workflow's `run`, and answers where to find the result: it stays in the store,
 * since an instance keeps at most 1 MiB.
 *
 * - A failure of the task, a store that is out of reach and an attempt that took too long or died are tried again as
 *   `stepConfig` says, each time from the first step that is not on record.
 * - A run that another worker holds is waited for, and so is a step that waits for a decision
 *   ({@link RUN_DECISION_EVENT}): the instance sleeps meanwhile, and no attempt is used up.
 * - What no retry would mend ends the instance at once: a changed manifest or input, code that left the record, a
 *   payload or an argument that is refused, a run that was cancelled, and any error with `retryable: false`.
 *
 * A run that has completed answers at once, and so does a replayed instance. Rejects with an error whose message begins
 * with the code in brackets, `[run_cancelled] …`, and whose `code` it is; a task's own failure without one is
 * `task_failed`. Over a failed run, `instance.restart()` goes on from what is on record.
 */
export async function runDurableInWorkflow<TResult>(
  step: WorkflowStepMethods,
  event: { readonly instanceId: string; readonly workflowName: string },
  input: RunDurableInWorkflowInput<TResult>,
): Promise<RunPointer> {
  const { name = "run", workflowName = event.workflowName, runId = event.instanceId } = input;
  const config = { ...RUN_STEP_CONFIG, ...input.stepConfig };
  const workerId = `workflow:${workflowName}:${event.instanceId}`;
  let held = 0;
  let undecided = 0;
  for (;;) {
    const answer = await inStep(step, { name, config }, () => attempt({ ...input, runId }, workerId));
    if ("pointer" in answer) return answer.pointer;
    if ("heldForMs" in answer) {
      const waitMs = Math.max(answer.heldForMs, growing(HELD_WAIT_MS, held++));
      await step.sleep(`${name} (held)`, Math.min(waitMs, HELD_WAIT_MS.last));
    } else {
      await decision(step, `${name} (decision)`, growing(DECISION_WAIT_MS, undecided++));
    }
  }
}

/**
 * Rejects with the error that ended the step, if it is known. The platform may keep no more of one that is not to be
 * tried again than that there was one.
 */
async function inStep(
  step: WorkflowStepMethods,
  { name, config }: { name: string; config: WorkflowStepConfig },
  work: () => Promise<Answer>,
): Promise<Answer> {
  let hopeless: Error | undefined;
  const callback = async (): Promise<Answer> => {
    try {
      return await work();
    } catch (error) {
      const told = toldError(error);
      if (!isHopeless(error)) throw told;
      hopeless = told;
      throw new NonRetryableError(told.message);
    }
  };
  try {
    return await step.do(name, config, callback);
  } catch (error) {
    throw hopeless ?? error;
  }
}

async function attempt<TResult>(
  input: RunDurableInWorkflowInput<TResult> & { runId: string },
  workerId: string,
): Promise<Answer> {
  const { runId, manifest, store, taskFn, leaseMs, outcome } = input;
  try {
    const done = await runDurable({
      runId,
      manifest,
      store,
      workerId,
      taskFn,
      ...(leaseMs !== undefined && { leaseMs }),
      ...(outcome !== undefined && { outcome }),
    });
    return { pointer: pointerOf(done) };
  } catch (error) {
    switch (codeOf(error)) {
      case "lease_held":
        return { heldForMs: (error as DurableRunLeaseHeldError).retryAfterMs ?? 0 };
      case "lease_lost":
        // Whoever has the run now, or nobody: the next claim tells.
        return { heldForMs: 0 };
      case "run_suspended":
        return { suspendedAt: (error as DurableRunSuspendedError).stepIndex };
      default:
        throw error;
    }
  }
}

function pointerOf({ record, result }: RunDurableResult<unknown>): RunPointer {
  const { runId, projectId, completedAt, updatedAt, stepCount } = record;
  return {
    runId,
    projectId,
    status: "completed",
    completedAt: completedAt ?? updatedAt,
    stepCount,
    resultBytes: byteLength(toJsonText("result", result)),
  };
}

/** Resolves when somebody has decided, or it is time to look. */
async function decision(step: WorkflowStepMethods, name: string, waitMs: number): Promise<void> {
  try {
    await step.waitForEvent(name, { type: RUN_DECISION_EVENT, timeout: `${waitMs / 1_000} seconds` });
  } catch (error) {
    if (!isWaitTimeout(error)) throw error;
  }
}

function growing({ first, last }: { first: number; last: number }, round: number): number {
  return Math.min(last, first * 2 ** Math.min(round, 30));
}

function isHopeless(error: unknown): boolean {
  return HOPELESS.has(codeOf(error) ?? "") || isFinal(error) || isNonRetryable(error);
}

/** A failure as the instance shows it: the platform keeps a message and little else. */
function toldError(thrown: unknown): Error & { code: string } {
  const { message, code = "task_failed" } = toStepError(thrown);
  const text = cutText(`[${code}] ${message}`, LIMITS.errorTextBytes);
  return Object.assign(new Error(text, { cause: thrown }), { code });
}
