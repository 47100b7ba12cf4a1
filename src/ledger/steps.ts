/**
 * The rules of a step: begin, complete, fail (R5, R16, R23, R24).
 *
 * Invariants: a completed step never changes; an attempt is counted once, however often its begin is repeated; a
 * step's intent, kind and (once given) deadline and input hash are those of its first begin.
 */
import { mismatch } from "../contract/replay.ts";
import type {
  BeginFacts,
  BeginRequest,
  CompleteRequest,
  Decision,
  FailRequest,
  Refusal,
} from "./requests.ts";
import { accept, refuse } from "./requests.ts";
import { ended, fencedOut, unknownRun } from "./runs.ts";
import type { RunState, Slice, StepState } from "./state.ts";

export function begin({ run, step }: Slice, request: BeginRequest, now: number): Decision<"begin"> {
  if (run === null) return unknownRun(request.runId);
  const lost = fencedOut(run, request.fence);
  if (lost) return lost;
  if (step?.beginRequestId === request.requestId) return accept({ step });
  const differs = step && divergence(run, step, request);
  if (differs) return differs;
  if (step?.status === "completed") return accept({ step });
  if (run.status !== "running") return ended(run);
  const next = nextAttempt(run, step, request.stepIndex, request, now);
  return accept({ step: next }, { step: next });
}

export function complete(slice: Slice, request: CompleteRequest, now: number): Decision<"complete"> {
  const found = runningStep(slice, request);
  if (!found.ok) return found;
  const { step } = found;
  if (step.status === "completed") return accept({ step, accepted: false });
  if (step.status === "failed")
    return notRunning(request, `attempt ${step.attempts} has failed; begin it again first`);
  const next: StepState = {
    ...step,
    status: "completed",
    result: request.result,
    error: null,
    completedAt: now,
  };
  return accept({ step: next, accepted: true }, { step: next });
}

export function fail(slice: Slice, request: FailRequest, now: number): Decision<"fail"> {
  const found = runningStep(slice, request);
  if (!found.ok) return found;
  const { step } = found;
  if (step.status === "completed") return notRunning(request, "it has completed, and its result stands");
  if (step.status === "failed") return accept({ step });
  const next: StepState = { ...step, status: "failed", result: null, error: request.error, completedAt: now };
  return accept({ step: next }, { step: next });
}

/** R24: the failed steps that a later step's begin says the task had caught. They replay as failures. */
export function caughtFailures(steps: Iterable<StepState>): StepState[] {
  const all = [...steps];
  const caught = new Set(all.flatMap((step) => step.caught));
  return all.filter((step) => step.status === "failed" && caught.has(step.stepIndex));
}

/** The step that a completion or failure is about, begun here if its own begin was lost, under the caller's fence. */
function runningStep(
  { run, step }: Slice,
  request: CompleteRequest | FailRequest,
): { ok: true; step: StepState } | Refusal {
  if (run === null) return unknownRun(request.runId);
  const lost = fencedOut(run, request.fence);
  if (lost) return lost;
  const { begun } = request;
  const beginWasLost =
    step === null || (step.status !== "completed" && (request.attempt ?? 0) > step.attempts);
  let current = step;
  if (begun !== null && beginWasLost) {
    const differs = step && divergence(run, step, begun);
    if (differs) return differs;
    const next = nextAttempt(run, step, request.stepIndex, begun, begun.startedAt);
    const deadlineAt = step?.deadlineAt ?? begun.deadlineAt;
    current = { ...next, deadlineAt, attempts: Math.max(next.attempts, request.attempt ?? 0) };
  }
  if (current === null) return notRunning(request, "no such step has begun");
  if (current.status !== "completed" && request.attempt !== null && request.attempt < current.attempts) {
    const now = `attempt ${current.attempts} is ${current.status}`;
    return notRunning(request, `attempt ${request.attempt} is over; ${now}`);
  }
  if (run.status !== "running" && current.status === "running") return ended(run);
  return { ok: true, step: { ...current, fence: current.status === "running" ? run.fence : current.fence } };
}

function nextAttempt(
  run: RunState,
  step: StepState | null,
  stepIndex: number,
  facts: BeginFacts,
  now: number,
): StepState {
  const firstDeadline = facts.timeoutMs === null ? null : now + facts.timeoutMs;
  return {
    stepIndex,
    intent: facts.intent,
    kind: facts.kind,
    inputHash: step?.inputHash || facts.inputHash,
    status: "running",
    attempts: (step?.attempts ?? 0) + 1,
    result: null,
    error: null,
    caught: [...new Set([...(step?.caught ?? []), ...facts.caught])],
    deadlineAt: step?.deadlineAt ?? firstDeadline,
    startedAt: now,
    completedAt: null,
    workerId: run.workerId,
    fence: run.fence,
    beginRequestId: facts.requestId,
  };
}

/** R23: the refusal when the record and the code disagree on what this step is; else `null`. */
function divergence(run: RunState, step: StepState, facts: BeginFacts): Refusal | null {
  const error = mismatch(run.runId, step.stepIndex, step, facts);
  return error && { ok: false, error };
}

function notRunning(request: CompleteRequest | FailRequest, why: string): Refusal {
  return refuse(
    "step_not_running",
    `cannot ${request.op} step ${request.stepIndex} of run "${request.runId}": ${why}.`,
  );
}
