/**
 * The rules of a run and its lease: claim, renew, end (R5 to R8).
 *
 * Invariants: one live lease at most; each claim raises the fence by one; a lapsed, released or foreign lease is
 * never extended; a completed or cancelled run never changes, unless it is restarted.
 */
import type { ClaimRequest, Decision, EndRequest, ForkRequest, Refusal, RenewRequest } from "./requests.ts";
import { accept, refuse } from "./requests.ts";
import type { KeptManifest, RunState, StepState, Wait } from "./state.ts";
import { leaseIsLive, leaseLeftMs } from "./state.ts";

export function claim(run: RunState | null, request: ClaimRequest, now: number): Decision<"claim"> {
  if (run === null) return grant(newRun(request, now), request, now);
  if (run.manifestHash !== request.manifestHash) {
    return refuse(
      "manifest_mismatch",
      `run "${run.runId}" began with another manifest (hash ${run.manifestHash}, not ${request.manifestHash}). ` +
        "Resume it with the manifest that it began with, or use a new run id.",
    );
  }
  if (run.status === "completed") return accept({ run });
  if (run.status === "cancelled") return cancelled(run);
  if (run.forkedFrom?.copying) {
    return refuse(
      "lease_held",
      `run "${run.runId}" is being forked from run "${run.forkedFrom.runId}". If that was cut short, fork it again.`,
    );
  }
  if (run.claimRequestId === request.requestId) return accept({ run });
  const retryAfterMs = leaseLeftMs(run, now);
  if (retryAfterMs > 0 && run.workerId !== request.workerId) {
    return refuse(
      "lease_held",
      `run "${run.runId}" is held by worker "${run.workerId}" for another ${retryAfterMs} ms, longer if it renews.`,
      { retryAfterMs },
    );
  }
  const takeovers = run.status === "running" ? run.takeovers + 1 : run.takeovers;
  return grant({ ...run, takeovers }, request, now);
}

export function renew(run: RunState | null, request: RenewRequest, now: number): Decision<"renew"> {
  if (run === null) return unknownRun(request.runId);
  const mine = run.workerId === request.workerId && (request.fence === null || request.fence === run.fence);
  if (!mine || !leaseIsLive(run, now)) return accept({ leaseExpiresAt: null, status: run.status });
  const leaseExpiresAt = now + request.leaseMs;
  return accept(
    { leaseExpiresAt, status: run.status },
    { run: { ...run, leaseExpiresAt, leaseMs: request.leaseMs, updatedAt: now } },
  );
}

export function end(run: RunState | null, request: EndRequest, now: number): Decision<"end"> {
  if (run === null) return unknownRun(request.runId);
  const lost = fencedOut(run, request.fence) ?? notTheHolder(run, request.workerId);
  if (lost) return lost;
  if (run.status !== "running") {
    return run.status === request.status ? accept({ run, accepted: false }) : notRunning(run);
  }
  const next: RunState = {
    ...run,
    status: request.status,
    leaseExpiresAt: null,
    updatedAt: now,
    completedAt: now,
    outcome: request.outcome,
    result: request.result,
    error: request.error,
    waits: [],
  };
  return accept({ run: next, accepted: true }, { run: next });
}

/** A run whose lease has lapsed, with the lease gone: nobody can revive it (R8). `null` when there is nothing to note. */
export function lapse(run: RunState, now: number): RunState | null {
  if (run.status !== "running" || run.leaseExpiresAt === null || leaseIsLive(run, now)) return null;
  return { ...run, leaseExpiresAt: null, updatedAt: now };
}

/** R5: the refusal of a caller whose fence is not the run's, or `null`. */
export function fencedOut(run: RunState, fence: number | null): Refusal | null {
  if (fence === null || fence === run.fence) return null;
  if (run.status === "cancelled") return cancelled(run);
  return refuse(
    "lease_lost",
    `the lease of run "${run.runId}" under fence ${fence} is lost: the run stands at fence ${run.fence}, ` +
      `held by worker "${run.workerId}". Stop this attempt; its recorded steps are kept.`,
  );
}

/** The refusal of a caller without a fence that did not claim the run last, or `null`. */
export function notTheHolder(run: RunState, workerId: string): Refusal | null {
  if (run.workerId === workerId) return null;
  return refuse(
    "lease_lost",
    `worker "${workerId}" does not hold run "${run.runId}": worker "${run.workerId}" claimed it since.`,
  );
}

/** The refusal of whoever would work on a run that is not running. */
export function notRunning(run: RunState): Refusal {
  if (run.status === "cancelled") return cancelled(run);
  return refuse("lease_lost", `run "${run.runId}" is ${run.status}, and its lease was released.`);
}

function cancelled(run: RunState): Refusal {
  return refuse(
    "run_cancelled",
    `run "${run.runId}" was cancelled. Start a new run, with a new run id, or restart it from a step.`,
  );
}

/** More are not listed: the run's row is written with each. Decisions always are. */
const MAX_WAITS = 100;

/**
 * A run whose waits at one step are over, and those in the branches below it; with a new one there, if there is one. A
 * decision below a group is waited for until the group has completed: one that failed may be decided anew.
 */
export function withWait(
  run: RunState,
  at: Pick<StepState, "stepIndex" | "path" | "status">,
  wait: Wait | null,
): RunState {
  const below = `${at.path}/`;
  const others = run.waits.filter((other) => {
    if (other.stepIndex === at.stepIndex) return false;
    const isPending = other.for === "decision" && at.status !== "completed";
    return isPending || !other.path.startsWith(below);
  });
  const isListed = wait !== null && (others.length < MAX_WAITS || wait.for === "decision");
  if (!isListed && others.length === run.waits.length) return run;
  return { ...run, waits: isListed ? [...others, wait] : others };
}

export function unknownRun(runId: string): Refusal {
  return refuse("run_not_found", `no run "${runId}" is known to this store. Begin it with startOrResume.`);
}

/** What a claim keeps of the run; its fence goes up by one. */
type Claimed = KeptManifest &
  Pick<
    RunState,
    | "runId"
    | "manifestHash"
    | "projectId"
    | "scenarioId"
    | "fence"
    | "takeovers"
    | "createdAt"
    | "waits"
    | "interventions"
    | "forkedFrom"
  >;

export function newRun(request: ClaimRequest | ForkRequest, now: number): Claimed {
  return {
    runId: request.runId,
    manifestHash: request.manifestHash,
    projectId: request.projectId,
    scenarioId: request.scenarioId,
    task: request.task,
    input: request.input,
    tags: request.tags,
    fence: 0,
    takeovers: 0,
    createdAt: now,
    waits: [],
    interventions: [],
    forkedFrom: null,
  };
}

/** A claim that succeeds: a new fence, a new lease, and a run that is running, whatever it was. */
function grant(run: Claimed, request: ClaimRequest, now: number): Decision<"claim"> {
  const next: RunState = {
    ...run,
    status: "running",
    fence: run.fence + 1,
    workerId: request.workerId,
    claimRequestId: request.requestId,
    leaseMs: request.leaseMs,
    leaseExpiresAt: now + request.leaseMs,
    updatedAt: now,
    completedAt: null,
    outcome: null,
    result: null,
    error: null,
  };
  return accept({ run: next }, { run: next });
}
