/** A task of `runDurable` on Cloudflare's own Workflows, in place of a store of ours. */
import { checkRunId, checkText, LIMITS } from "../contract/limits.ts";
import { newRunId } from "../identity.ts";
import { WorkflowContext } from "./context.ts";
import { WorkflowRun } from "./run.ts";
import type { RunOnWorkflowStepInput, WorkflowStepMethods } from "./types.ts";

/** Half of a step's name, so that there is room for the intent. */
const MAX_WORKFLOW_NAME_BYTES = 128;

/**
 * Runs a task whose steps the platform records, retries and replays. Resolves to what the task returned, as it is.
 *
 * Use it as the whole of a Workflow's `run`, or wrap `runDurable` in one step instead; never both at once, which would
 * record each step twice. The context is that of `runDurable`, but for these:
 *
 * - A step is known by `workflowName/intent`, and by the platform's count where that repeats, not by its position: steps
 *   may be added, moved or dropped between deploys. So there is no `step_divergence`. A changed input fingerprint is
 *   found (`step_input_mismatch`); a changed kind is not, since none is recorded.
 * - A group is known by the names of its branches, and by its count where they repeat; those of a list are their places.
 *   So one may be put before another, but one that is given another branch is another group, whose steps run. In a branch
 *   the name of a step has its path, `workflowName:left,right/left//intent`, and `stepIndex` counts the steps of that branch.
 * - A failed step is tried again as its `retries` say, or else `stepConfig`. When the attempts are used up, its failure
 *   is the task's. The platform keeps no `maxDelayMs`, no jitter and no function: those are refused with `invalid_input`.
 * - A failure that is not to be tried again is recorded as an output of the step, and so replays as it was.
 * - An interrupted step is always run again; an `onInterrupted` other than "rerun" is refused with `invalid_input`.
 * - A result is recorded by the platform, which takes 1 MiB (`payload_too_large`).
 * - `ctx.sleep` and `ctx.sleepUntil` are the platform's sleeps. It knows one by its length: change that, and it is slept
 *   anew.
 * - `ctx.all` and `ctx.race` leave two steps: that nothing was decided, and what was. One that is run again undecided
 *   leaves another of the first.
 * - `ctx.awaitEvent(key)` waits for an event of type `workflowEventType(key)`, at most 100 characters. Of the events
 *   with one key, the first counts; a later wait for the key answers the same. `pollMs` has no use here. Branches share one
 *   wait for a key. In a branch, after a group, and for a key that was awaited before, each leaves two steps more, of
 *   whether it came in time.
 * - `ctx.emitEvent` needs `instance`, and rejects with `invalid_input` without. It answers `accepted: false` for a key
 *   that this run has emitted or received, and cannot know of what others have sent.
 * - `ctx.signal` never aborts, but in a branch that has lost a race.
 *
 * Rejects with what the task threw, or `invalid_input`.
 */
export async function runOnWorkflowStep<TResult>(
  workflowStep: WorkflowStepMethods,
  input: RunOnWorkflowStepInput<TResult>,
): Promise<TResult> {
  const { taskFn, ...settings } = input;
  const { workflowName, projectId = workflowName, scenarioId } = settings;
  checkText("workflowName", workflowName, MAX_WORKFLOW_NAME_BYTES);
  checkText("projectId", projectId, LIMITS.projectIdBytes);
  if (scenarioId !== undefined) checkText("scenarioId", scenarioId, LIMITS.projectIdBytes);
  const runId = settings.runId ?? (await workflowStep.do(`${workflowName}#/run-id`, async () => newRunId()));
  checkRunId(runId);
  const run = new WorkflowRun(workflowStep, { ...settings, runId, projectId });
  const result = await taskFn(new WorkflowContext(run));
  run.assertNotDiverged();
  return result;
}
