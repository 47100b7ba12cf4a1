/**
 * The rules of what is done to a run from outside its steps: suspend, cancel, restart.
 *
 * Invariants: each frees the lease; a cancel and a restart mint a fence, so that whoever works on the run is fenced
 * out at once; a completed run is not cancelled; what people ask for takes effect once, however late it is repeated.
 */
import type { CancelRequest, Decision, Refusal, RestartRequest, SuspendRequest } from "./requests.ts";
import { accept, refuse } from "./requests.ts";
import { fencedOut, notRunning, notTheHolder, unknownRun } from "./runs.ts";
import type { RunState, Slice } from "./state.ts";

const KNOWN_INTERVENTIONS = 16;

/** A decision that was made meanwhile leaves nothing to wait for: the run is then anybody's to claim. */
export function suspend(run: RunState | null, request: SuspendRequest, now: number): Decision<"suspend"> {
  if (run === null) return unknownRun(request.runId);
  const lost = fencedOut(run, request.fence) ?? notTheHolder(run, request.workerId);
  if (lost) return lost;
  if (run.status === "suspended" || run.status === "pending") return accept({ run });
  if (run.status !== "running") return notRunning(run);
  const status = waitsForDecision(run) ? "suspended" : "pending";
  const next: RunState = { ...run, status, leaseExpiresAt: null, updatedAt: now };
  return accept({ run: next }, { run: next });
}

export function cancel(run: RunState | null, request: CancelRequest, now: number): Decision<"cancel"> {
  if (run === null) return unknownRun(request.runId);
  if (run.status === "cancelled" || run.status === "completed") return accept({ run });
  if (isRepeated(run, request)) return accept({ run });
  const error = { name: "DurableRunCancelledError", message: request.reason, code: "run_cancelled" };
  const next: RunState = {
    ...run,
    ...fencedBy(run, request.requestId),
    status: "cancelled",
    updatedAt: now,
    completedAt: now,
    outcome: null,
    result: null,
    error: JSON.stringify(error),
    waits: [],
  };
  return accept({ run: next }, { run: next });
}

/** The slice's step is the first that is dropped. */
export function restart({ run, step }: Slice, request: RestartRequest, now: number): Decision<"restart"> {
  if (run === null) return unknownRun(request.runId);
  if (isRepeated(run, request)) return accept({ run });
  if (run.forkedFrom?.copying) return stillForked(run);
  const from = request.stepIndex;
  if (step === null) {
    return refuse("invalid_input", `fromStep is ${from}, but run "${run.runId}" has no such step on record`, {
      field: "fromStep",
    });
  }
  const next: RunState = {
    ...run,
    ...fencedBy(run, request.requestId),
    status: "pending",
    updatedAt: now,
    completedAt: null,
    outcome: null,
    result: null,
    error: null,
    waits: run.waits.filter(({ stepIndex }) => stepIndex < from),
  };
  return accept({ run: next }, { run: next, dropFrom: from });
}

export function waitsForDecision(run: RunState): boolean {
  return run.waits.some((wait) => wait.for === "decision");
}

/** Whether a request that changes a run from outside has done so before. */
export function isRepeated(run: RunState, { requestId }: { requestId: string }): boolean {
  return run.interventions.includes(requestId);
}

/** With this request among those that are known again. */
export function withIntervention({ interventions }: RunState, requestId: string): readonly string[] {
  return [...interventions, requestId].slice(-KNOWN_INTERVENTIONS);
}

export function stillForked({ runId }: RunState): Refusal {
  return refuse("lease_held", `run "${runId}" is still being forked.`);
}

/** R5: nobody holds the run, and whoever did is behind the fence. */
function fencedBy(run: RunState, requestId: string) {
  const interventions = withIntervention(run, requestId);
  return { fence: run.fence + 1, claimRequestId: requestId, leaseExpiresAt: null, interventions };
}
