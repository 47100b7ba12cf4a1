/**
 * The rules of a fork: a new run that is filled with copies of another's steps, and then sealed.
 *
 * Invariants: nobody may claim the run before the seal; each try at a fork, a repeated one too, begins anew under a fence
 * of its own, so that of two at once only the later one can fill and seal it; a run that was not begun as this fork is
 * left alone.
 */
import type { CopyRequest, Decision, ForkRequest, Refusal, SealRequest } from "./requests.ts";
import { accept, refuse } from "./requests.ts";
import { fencedOut, newRun, unknownRun } from "./runs.ts";
import type { ForkOrigin, RunState } from "./state.ts";

export function fork(run: RunState | null, request: ForkRequest, now: number): Decision<"fork"> {
  if (run?.claimRequestId === request.requestId && !isOpen(run)) return accept({ run });
  const { sourceRunId, throughStep } = request;
  const origin = run?.forkedFrom;
  // The source may have gone meanwhile, and another run begun under its id.
  const isMine =
    origin?.runId === sourceRunId &&
    origin.throughStep === throughStep &&
    run?.manifestHash === request.manifestHash;
  if (run !== null && !(isOpen(run) && isMine)) {
    return refuse("run_exists", `there is a run "${run.runId}" already. Fork into a new run id.`);
  }
  const next: RunState = {
    ...(run ?? newRun(request, now)),
    status: "pending",
    fence: (run?.fence ?? 0) + 1,
    workerId: "fork",
    claimRequestId: request.requestId,
    leaseMs: 0,
    leaseExpiresAt: null,
    updatedAt: now,
    completedAt: null,
    outcome: null,
    result: null,
    error: null,
    forkedFrom: { runId: sourceRunId, throughStep, copying: true },
  };
  // What an earlier try has copied may no longer be what the source has.
  return accept({ run: next }, run === null ? { run: next } : { run: next, dropFrom: 0 });
}

export function copy(run: RunState | null, request: CopyRequest): Decision<"copy"> {
  if (run === null) return unknownRun(request.runId);
  const lost = fencedOut(run, request.fence) ?? sealed(run);
  if (lost) return lost;
  const { step, result, requestId } = request;
  const next = { ...step, result, fence: run.fence, beginRequestId: requestId };
  return accept({ fence: run.fence }, { step: next });
}

export function seal(run: RunState | null, request: SealRequest, now: number): Decision<"seal"> {
  if (run === null) return unknownRun(request.runId);
  const lost = fencedOut(run, request.fence);
  if (lost) return lost;
  if (!isOpen(run)) return accept({ run });
  const next: RunState = { ...run, forkedFrom: { ...run.forkedFrom, copying: false }, updatedAt: now };
  return accept({ run: next }, { run: next });
}

function sealed(run: RunState): Refusal | null {
  if (isOpen(run)) return null;
  return refuse("lease_lost", `run "${run.runId}" takes no copies: it is not being forked.`);
}

/** A fork that was cancelled before the seal takes nothing more, and is not revived by another one. */
function isOpen(run: RunState): run is RunState & { readonly forkedFrom: ForkOrigin } {
  return run.status === "pending" && run.forkedFrom !== null && run.forkedFrom.copying;
}
