/**
 * `runDurable`: one attempt at a run, from its claim to its end.
 *
 * Knows only the contract. Claims the run, keeps its lease, gives the task a context that replays what is recorded,
 * and records how it ended. Whatever goes wrong on the way out, the task's own error reaches the caller (R27), and an
 * attempt that lost its lease writes nothing more (R9).
 */
import { backoffMs, systemClock, withDeadline } from "../contract/clock.ts";
import { checkLeaseMs, checkRunId, checkText, DEFAULT_LEASE_MS, LIMITS } from "../contract/limits.ts";
import { fromJsonText, toJsonText } from "../contract/payload.ts";
import type { ClaimedRunRecord, EndRunInput, RunOutcome, StartOrResumeResult } from "../contract/types.ts";
import { deriveWorkerId, newRequestId } from "../identity.ts";
import { Attempt } from "./attempt.ts";
import { RunContext } from "./context.ts";
import { toStepError } from "./failures.ts";
import { isAnswer, isUnavailable, Lease } from "./lease.ts";
import { noAnswer } from "./pending-calls.ts";
import type { RunDurableInput, RunDurableResult } from "./types.ts";

/** How often a claim is made while it fails with what may be a defect: nothing is at stake yet. */
const CLAIMS_OVER_DEFECTS = 5;

/** An input whose defaults are filled in. */
type Checked<TResult> = RunDurableInput<TResult> &
  Required<Pick<RunDurableInput<TResult>, "workerId" | "leaseMs" | "clock">>;

/**
 * Claims the run (creating it if need be), runs the task over its recorded steps, and ends it.
 *
 * A run that has completed answers its recorded result without calling the task; where the store kept none, the task
 * is replayed to find it, and nothing is written. Resolves after every step that the task began has settled. Rejects
 * with the task's own error, the run then being `failed` and open to be resumed by the next call; with what
 * `startOrResume` refuses (`lease_held`, `manifest_mismatch`, `run_cancelled`, …); with `step_divergence` or
 * `step_input_mismatch` when the task left the record, even if it caught that error; with `payload_not_json` or
 * `payload_too_large` when JSON cannot carry the task's result; with `run_suspended`, when a step waits for somebody to
 * resolve it: call again after that; with `run_cancelled`, when the run was cancelled meanwhile; or with `lease_lost`,
 * when another worker took over or the store was out of reach for too long: the run is then as it was, and can be
 * resumed.
 */
export async function runDurable<TResult>(
  given: RunDurableInput<TResult>,
): Promise<RunDurableResult<TResult>> {
  const input = checked(given);
  const { runId, store, workerId, leaseMs, clock } = input;
  input.signal?.throwIfAborted();

  const claimedAt = clock.now();
  const claimed = await claim(input);
  const { run } = claimed;
  if (run.status === "completed" && "result" in run) {
    return { result: run.result as TResult, record: run, steps: claimed.completedSteps };
  }
  const holdsLease = run.status !== "completed";
  const lease = new Lease(
    { runId, workerId, leaseMs, store, clock },
    claimed.fence,
    holdsLease ? claimedAt : Infinity,
  );
  try {
    const attempt = new Attempt({ input, lease, clock, claimed });
    if (holdsLease) lease.startHeartbeat();
    if (holdsLease) lease.startWatch();
    const end = holdsLease ? ending(input, lease) : async () => run;
    return await work(input, attempt, end);
  } finally {
    lease.stop();
  }
}

function checked<TResult>(input: RunDurableInput<TResult>): Checked<TResult> {
  const {
    workerId = deriveWorkerId(),
    leaseMs = DEFAULT_LEASE_MS,
    clock = systemClock,
    defaultOutcome,
  } = input;
  checkRunId(input.runId);
  checkText("workerId", workerId, LIMITS.workerIdBytes);
  checkLeaseMs(leaseMs);
  if (defaultOutcome !== undefined) toJsonText("defaultOutcome", defaultOutcome, LIMITS.smallPayloadBytes);
  return { ...input, workerId, leaseMs, clock };
}

type End = (how: Pick<EndRunInput, "status" | "outcome" | "result" | "error">) => Promise<ClaimedRunRecord>;

/** Ends the run: a success is offered as long as the lease lasts, a failure only told. */
function ending<TResult>({ runId, store, workerId }: Checked<TResult>, lease: Lease): End {
  return (how) => {
    lease.beginEnding();
    const fence = lease.fence === undefined ? {} : { fence: lease.fence };
    const request: EndRunInput = { runId, workerId, requestId: newRequestId(), ...fence, ...how };
    const call = (): Promise<ClaimedRunRecord> => store.endRun(request);
    return how.status === "completed" ? lease.offer(call) : lease.tell(call);
  };
}

async function work<TResult>(
  input: Checked<TResult>,
  attempt: Attempt,
  end: End,
): Promise<RunDurableResult<TResult>> {
  const { taskFn, manifest } = input;
  const { lease } = attempt;
  try {
    if (lease.lostError) throw lease.lostError;
    const context = new RunContext(attempt, manifest);
    const returned = await attempt.unlessParked(lease.whileHeld(Promise.resolve(taskFn(context))));
    await attempt.unlessParked(lease.whileHeld(attempt.settle()));
    attempt.replay.assertAllReplayed();
    const text = toJsonText("the task's result", returned);
    const outcome = outcomeOf(input, fromJsonText(text) as TResult);
    const record = await end({ status: "completed", result: fromJsonText(text), ...outcome });
    return { result: fromJsonText(text) as TResult, record, steps: attempt.records() };
  } catch (error) {
    if (!lease.lostError) await lease.whileHeld(attempt.settle()).catch(() => {});
    // A task that had failed before its run was parked has failed (R27).
    const parked = error === attempt.parked ? attempt.parked : undefined;
    if (lease.lostError) throw parked ? lease.lostError : error;
    if (parked) return suspend(input, attempt, parked);
    await end({ status: "failed", error: toStepError(error) }).catch(() => {});
    throw error;
  }
}

function outcomeOf<TResult>(
  { outcome, defaultOutcome }: RunDurableInput<TResult>,
  result: TResult,
): { outcome?: RunOutcome } {
  const recorded = outcome?.(result) ?? defaultOutcome;
  if (recorded === undefined) return {};
  toJsonText("outcome", recorded, LIMITS.smallPayloadBytes);
  return { outcome: recorded };
}

/** Leaves the run to whoever comes once the step is resolved. Throws. */
async function suspend<TResult>(
  { runId, store, workerId }: Checked<TResult>,
  { lease }: Attempt,
  parked: Error,
): Promise<never> {
  lease.beginEnding();
  const fence = lease.fence === undefined ? {} : { fence: lease.fence };
  const request = { runId, workerId, requestId: newRequestId(), ...fence };
  // Should the store not hear of it, the lease lapses: the step is parked either way.
  await lease.tell(async () => store.suspendRun?.(request)).catch(() => {});
  const lost = lease.lostError;
  throw lost?.code === "run_cancelled" ? lost : parked;
}

/** The claim, made again while the store cannot answer, for as long as a lease would last. */
async function claim<TResult>(input: Checked<TResult>): Promise<StartOrResumeResult> {
  const { runId, manifest, store, workerId, leaseMs, clock, signal } = input;
  const request = { runId, manifest, workerId, leaseMs, requestId: newRequestId() };
  const giveUpAt = clock.now() + leaseMs;
  for (let attemptNo = 1; ; attemptNo += 1) {
    try {
      return await withDeadline(clock, giveUpAt - clock.now(), store.startOrResume(request), noAnswer);
    } catch (error) {
      const delay = backoffMs(attemptNo, 50, 2_000);
      const hopeless = isAnswer(error) || (!isUnavailable(error) && attemptNo >= CLAIMS_OVER_DEFECTS);
      if (hopeless || clock.now() + delay >= giveUpAt) throw error;
      await clock.sleep(delay, signal);
    }
  }
}
