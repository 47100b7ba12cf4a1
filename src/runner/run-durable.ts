/**
 * `runDurable`: one attempt at a run, from its claim to its end.
 *
 * Knows only the contract. Claims the run, keeps its lease, gives the task a context that replays what is recorded,
 * and records how it ended. Whatever goes wrong on the way out, the task's own error reaches the caller (R27), and an
 * attempt that lost its lease writes nothing more (R9).
 */
import type { Clock } from "../contract/clock.ts";
import { backoffMs, systemClock } from "../contract/clock.ts";
import { checkLeaseMs, checkRunId, checkText, DEFAULT_LEASE_MS, LIMITS } from "../contract/limits.ts";
import { fromJsonText, toJsonText } from "../contract/payload.ts";
import type { EndRunInput, RunRecord, StartOrResumeResult, StepRecord } from "../contract/types.ts";
import { deriveWorkerId, newRequestId } from "../identity.ts";
import { RunContext } from "./context.ts";
import { toStepError } from "./failures.ts";
import { isAnswer, Lease } from "./lease.ts";
import type { RunDurableInput, RunDurableResult } from "./types.ts";

/**
 * Claims the run (creating it if need be), runs the task over its recorded steps, and ends it.
 *
 * A run that has completed answers its recorded result without calling the task. Resolves after every step that the
 * task began has settled. Rejects with the task's own error, the run then being `failed` and open to be resumed by
 * the next call; with what `startOrResume` refuses (`lease_held`, `manifest_mismatch`, `run_cancelled`, …); with
 * `step_divergence` when the task ended before all recorded steps were replayed; with `payload_not_json` or
 * `payload_too_large` when JSON cannot carry the task's result; or with `lease_lost`, when another worker took over
 * or the store was out of reach for too long: the run is then as it was, and can be resumed.
 */
export async function runDurable<TResult>(input: RunDurableInput<TResult>): Promise<RunDurableResult<TResult>> {
  const { runId, store, clock = systemClock } = input;
  const workerId = input.workerId ?? deriveWorkerId();
  const leaseMs = input.leaseMs ?? DEFAULT_LEASE_MS;
  checkRunId(runId);
  checkText("workerId", workerId, LIMITS.workerIdBytes);
  checkLeaseMs(leaseMs);
  input.signal?.throwIfAborted();

  const claimedAt = clock.now();
  const claimed = await claim(input, workerId, leaseMs, clock);
  const { run } = claimed;
  if (run.status === "completed" && "result" in run) {
    return { result: run.result as TResult, record: run, steps: claimed.completedSteps };
  }
  const lease = new Lease({ runId, workerId, leaseMs, store, clock }, claimed.fence, claimedAt);
  if (run.status === "running") lease.startHeartbeat();
  const context = new RunContext({ input, lease, clock, claimed });
  try {
    return await attempt(input, workerId, lease, context);
  } finally {
    lease.stop();
  }
}

async function attempt<TResult>(
  input: RunDurableInput<TResult>,
  workerId: string,
  lease: Lease,
  context: RunContext,
): Promise<RunDurableResult<TResult>> {
  const { runId, store, defaultOutcome } = input;
  const end = (how: Pick<EndRunInput, "status" | "outcome" | "result" | "error">): Promise<RunRecord> => {
    lease.beginEnding();
    const requestId = newRequestId();
    const fence = lease.fence === undefined ? {} : { fence: lease.fence };
    return lease.offer(() => store.endRun({ runId, workerId, requestId, ...fence, ...how }));
  };
  let resultText: string;
  try {
    const returned = await lease.whileHeld(Promise.resolve(input.taskFn(context)));
    await lease.whileHeld(context.settle());
    context.assertAllReplayed();
    resultText = toJsonText("the task's result", returned);
  } catch (error) {
    if (!lease.lostError) await lease.whileHeld(context.settle()).catch(() => {});
    if (lease.lostError) throw isAbort(error) ? lease.lostError : error;
    await end({ status: "failed", error: toStepError(error) }).catch(() => {});
    throw error;
  }
  const result = fromJsonText(resultText);
  const record = await end({ status: "completed", result, ...(defaultOutcome && { outcome: defaultOutcome }) });
  return { result: fromJsonText(resultText) as TResult, record, steps: sorted(context.records()) };
}

/** The claim, offered again while the store cannot answer, for as long as a lease would last. */
async function claim<TResult>(
  input: RunDurableInput<TResult>,
  workerId: string,
  leaseMs: number,
  clock: Clock,
): Promise<StartOrResumeResult> {
  const requestId = newRequestId();
  const giveUpAt = clock.now() + leaseMs;
  for (let attemptNo = 1; ; attemptNo += 1) {
    try {
      return await input.store.startOrResume({
        runId: input.runId,
        manifest: input.manifest,
        workerId,
        leaseMs,
        requestId,
      });
    } catch (error) {
      const delay = backoffMs(attemptNo, 50, 2_000);
      if (isAnswer(error) || clock.now() + delay >= giveUpAt) throw error;
      await clock.sleep(delay, input.signal);
    }
  }
}

/** What the lost lease itself made the task throw. */
function isAbort(error: unknown): boolean {
  return error instanceof Error && (error.name === "AbortError" || error.name === "DurableRunLeaseLostError");
}

function sorted(records: Iterable<StepRecord>): StepRecord[] {
  return [...records].sort((a, b) => a.stepIndex - b.stepIndex);
}
