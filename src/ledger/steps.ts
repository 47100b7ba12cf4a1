/**
 * The rules of a step: begin, complete, fail, resolve (R5, R16, R23, R24, R30, R31).
 *
 * Invariants: a completed step never changes; an attempt is counted once, however often its begin is repeated; a
 * step's intent, kind, path and (once given) deadline and input hash are those of its first begin; no attempt begins
 * before its time; a step that a worker died in runs again only where its policy says so, or somebody has decided it.
 */
import { mismatch } from "../contract/replay.ts";
import type {
  BeginFacts,
  BeginRequest,
  BegunFacts,
  CompleteRequest,
  Decision,
  FailRequest,
  Refusal,
  ResolveRequest,
} from "./requests.ts";
import { accept, refuse } from "./requests.ts";
import { isRepeated, stillForked, waitsForDecision, withIntervention } from "./interventions.ts";
import { fencedOut, notRunning, unknownRun, withWait } from "./runs.ts";
import type { Change, RunState, Slice, StepState, Wait } from "./state.ts";

export function begin({ run, step }: Slice, request: BeginRequest, now: number): Decision<"begin"> {
  if (run === null) return unknownRun(request.runId);
  const lost = fencedOut(run, request.fence);
  if (lost) return lost;
  if (step?.beginRequestId === request.requestId) return accept({ step });
  const differs = step && divergence(run, step, request);
  if (differs) return differs;
  if (step?.status === "completed") return accept({ step });
  if (run.status !== "running") return notRunning(run);
  const { onInterrupted, attempt } = request;
  if (step && attempt !== null && attempt <= step.attempts) return beginIsLate(request, step);
  if (step && isInDoubt(step) && (onInterrupted === "fail" || onInterrupted === "park")) {
    const next = heldBack(run, step, request, now);
    return accept(
      { step: next },
      changed(run, next, next.status === "pending" ? waiting(next, "decision") : null),
    );
  }
  const waitMs = (step?.nextAttemptAt ?? 0) - now;
  if (waitMs > 0) return notDue(request, waitMs);
  const next = nextAttempt(run, step, request.stepIndex, request, now);
  return accept({ step: next }, changed(run, next, waitOf(next, request)));
}

export function complete(slice: Slice, request: CompleteRequest, now: number): Decision<"complete"> {
  const found = runningStep(slice, request, now);
  if (!found.ok) return found;
  const { run, step } = found;
  if (step.status === "completed") return accept({ step, accepted: false });
  if (step.status !== "running")
    return stepNotRunning(request, `attempt ${step.attempts} has failed; begin it again first`);
  const next = completed(step, request.result, now);
  return accept({ step: next, accepted: true }, changed(run, next));
}

export function fail(slice: Slice, request: FailRequest, now: number): Decision<"fail"> {
  const found = runningStep(slice, request, now);
  if (!found.ok) return found;
  const { run, step } = found;
  if (step.status === "completed") return stepNotRunning(request, "it has completed, and its result stands");
  if (step.status !== "running") return accept({ step });
  const { retryAfterMs, error, inDoubt } = request;
  const nextAttemptAt = retryAfterMs === null ? null : now + retryAfterMs;
  const status = nextAttemptAt === null ? "failed" : "pending";
  const next: StepState = { ...step, status, result: null, error, inDoubt, nextAttemptAt, completedAt: now };
  const wait = nextAttemptAt === null ? null : { ...waiting(next, "retry"), until: nextAttemptAt };
  return accept({ step: next }, changed(run, next, wait));
}

/** Frees a step in doubt: with a result, or for another attempt. */
export function resolve({ run, step }: Slice, request: ResolveRequest, now: number): Decision<"resolve"> {
  if (run === null) return unknownRun(request.runId);
  if (step && isRepeated(run, request)) return accept({ step });
  if (run.forkedFrom?.copying) return stillForked(run);
  const why = whyNotToResolve(run, step, request);
  if (step === null || why !== null) {
    const { runId, stepIndex } = request;
    return refuse(
      "step_not_in_doubt",
      `step ${stepIndex} of run "${runId}" ${why}: there is nothing to resolve.`,
    );
  }
  const undecided: StepState = { ...step, fence: run.fence, beginRequestId: request.requestId };
  const next: StepState =
    request.result === null
      ? { ...undecided, status: "pending", tries: 0, inDoubt: false, nextAttemptAt: null, completedAt: null }
      : completed(undecided, request.result, now);
  const left = {
    ...withWait(run, next, null),
    interventions: withIntervention(run, request.requestId),
    updatedAt: now,
  };
  const isFreed = left.status === "suspended" && !waitsForDecision(left);
  return accept({ step: next }, { step: next, run: isFreed ? { ...left, status: "pending" } : left });
}

/** `null`: it may be resolved. A failure that the task has seen, or is about to see, is what it goes on from (R24). */
function whyNotToResolve(
  run: RunState,
  step: StepState | null,
  { isCaught, readAt }: ResolveRequest,
): string | null {
  if (step === null) return "is not on record";
  if (run.status === "completed" || run.status === "cancelled") return `is of a run that is ${run.status}`;
  if (!step.inDoubt) return "is not in doubt";
  if (step.status === "running") return "is being reconciled";
  if (step.status !== "failed") return null;
  if (isCaught) return "has failed, and the task has gone on from that";
  // Also a worker whose lease has lapsed may go on, until its run is claimed.
  if (run.status === "running") return "has failed in a run that has not ended yet";
  return readAt === run.updatedAt ? null : "is of a run that has changed meanwhile";
}

/** R24: the failed steps that a later step's begin says the task had caught. They replay as failures. */
export function caughtFailures(steps: Iterable<StepState>): StepState[] {
  const all = [...steps];
  const caught = new Set(all.flatMap((step) => step.caught));
  return all.filter((step) => step.status === "failed" && caught.has(step.stepIndex));
}

/** Completed steps, and the failures that the task has gone on from to one of these: what a fork begins with. */
export function settledSteps(steps: readonly StepState[]): StepState[] {
  const settled = new Set(steps.filter((step) => step.status === "completed"));
  const failures = new Map(
    steps.filter(({ status }) => status === "failed").map((step) => [step.stepIndex, step]),
  );
  // A set is walked to what is added to it meanwhile.
  for (const { caught } of settled) {
    for (const position of caught) {
      const failure = failures.get(position);
      if (failure) settled.add(failure);
    }
  }
  return steps.filter((step) => settled.has(step));
}

/**
 * The step that a completion or failure is about, under the caller's fence; begun here, if its own begin was lost or
 * never sent.
 */
function runningStep(
  { run, step }: Slice,
  request: CompleteRequest | FailRequest,
  now: number,
): { ok: true; run: RunState; step: StepState } | Refusal {
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
    const next = nextAttempt(run, step, request.stepIndex, begun, startOf(run, begun, now));
    const deadlineAt = step?.deadlineAt ?? begun.deadlineAt;
    current = { ...next, deadlineAt, attempts: Math.max(next.attempts, request.attempt ?? 0) };
  }
  if (current === null) return stepNotRunning(request, "no such step has begun");
  if (current.status !== "completed" && request.attempt !== null && request.attempt < current.attempts) {
    const now = `attempt ${current.attempts} is ${current.status}`;
    return stepNotRunning(request, `attempt ${request.attempt} is over; ${now}`);
  }
  if (run.status !== "running" && current.status === "running") return notRunning(run);
  const fence = current.status === "running" ? run.fence : current.fence;
  return { ok: true, run, step: { ...current, fence } };
}

/** No step begins before its run, whatever its worker says. */
function startOf(run: RunState, { startedAt, elapsedMs }: BegunFacts, now: number): number {
  return startedAt ?? Math.max(run.createdAt, now - elapsedMs);
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
    path: facts.path,
    intent: facts.intent,
    kind: facts.kind,
    inputHash: step?.inputHash || facts.inputHash,
    status: "running",
    attempts: (step?.attempts ?? 0) + 1,
    tries: step === null || step.status === "failed" ? 1 : step.tries + 1,
    nextAttemptAt: null,
    inDoubt: step !== null && isInDoubt(step) && facts.onInterrupted === "reconcile",
    result: null,
    error: step?.error ?? null,
    caught: withCaught(step, facts),
    deadlineAt: step?.deadlineAt ?? firstDeadline,
    startedAt: now,
    completedAt: null,
    workerId: run.workerId,
    fence: run.fence,
    beginRequestId: facts.requestId,
  };
}

/** A step that a worker died in, and that is not to run: failed for good, or parked. */
function heldBack(run: RunState, step: StepState, request: BeginRequest, now: number): StepState {
  const { fence } = run;
  const begun = { fence, beginRequestId: request.requestId, caught: withCaught(step, request) };
  const held: StepState = { ...step, ...begun, inDoubt: true, nextAttemptAt: null };
  if (request.onInterrupted === "park") {
    const tries = step.status === "failed" ? 0 : step.tries;
    return { ...held, status: "pending", tries, completedAt: null };
  }
  if (step.status === "failed") return held;
  const error = {
    name: "DurableStepInterruptedError",
    message:
      `step ${step.stepIndex} ("${step.intent}") was interrupted in attempt ${step.attempts}, when worker ` +
      `"${step.workerId}" died or lost the run. What it has done is not known.`,
    code: "step_interrupted",
  };
  return { ...held, status: "failed", error: JSON.stringify(error), completedAt: now };
}

function completed(step: StepState, result: StepState["result"], now: number): StepState {
  return { ...step, status: "completed", result, inDoubt: false, nextAttemptAt: null, completedAt: now };
}

/** Whoever begins a step that is running takes over from somebody who died in it. */
function isInDoubt(step: StepState): boolean {
  return step.status === "running" || step.inDoubt;
}

function withCaught(step: StepState | null, { caught }: BeginFacts): number[] {
  return [...new Set([...(step?.caught ?? []), ...caught])];
}

/** The change of a step, and of its run, where that no longer waits for the same. */
function changed(run: RunState, step: StepState, wait: Wait | null = null): Change {
  const next = withWait(run, step, wait);
  return next === run ? { step } : { step, run: next };
}

function waiting({ stepIndex, path }: StepState, what: Wait["for"]): Wait {
  return { stepIndex, path, for: what, key: null, until: null };
}

function waitOf(step: StepState, { waitFor }: BeginRequest): Wait | null {
  if (waitFor === null) return null;
  return { ...waiting(step, waitFor.for), key: waitFor.key, until: step.deadlineAt };
}

/** R23: the refusal when the record and the code disagree on what this step is; else `null`. */
function divergence(run: RunState, step: StepState, facts: BeginFacts): Refusal | null {
  const error = mismatch(run.runId, step.stepIndex, step, facts);
  return error && { ok: false, error };
}

function notDue({ runId, stepIndex, intent }: BeginRequest, retryAfterMs: number): Refusal {
  return refuse(
    "step_not_due",
    `the next attempt of step ${stepIndex} ("${intent}") of run "${runId}" is due in ${retryAfterMs} ms.`,
    { retryAfterMs },
  );
}

function beginIsLate({ runId, stepIndex, attempt }: BeginRequest, { attempts }: StepState): Refusal {
  return refuse(
    "step_not_running",
    `attempt ${attempt} of step ${stepIndex} of run "${runId}" has been begun: the step is at attempt ${attempts}.`,
  );
}

function stepNotRunning(request: CompleteRequest | FailRequest, why: string): Refusal {
  return refuse(
    "step_not_running",
    `cannot ${request.op} step ${request.stepIndex} of run "${request.runId}": ${why}.`,
  );
}
