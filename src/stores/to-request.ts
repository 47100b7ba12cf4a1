/**
 * From the contract's inputs to the ledger's requests: every argument is checked, every payload serialised, once,
 * here (R21). Whatever is wrong is refused before anything is touched.
 */
import { DurableInvalidInputError } from "../contract/errors.ts";
import {
  checkInteger,
  checkLeaseMs,
  checkObject,
  checkOneOf,
  checkRunId,
  checkStepIndex,
  checkStepKind,
  checkText,
  cutText,
  DEFAULT_LEASE_MS,
  LIMITS,
} from "../contract/limits.ts";
import { toJsonText } from "../contract/payload.ts";
import type {
  BeginStepInput,
  CompleteStepInput,
  DurableRunManifest,
  EmitEventInput,
  EndRunInput,
  FailStepInput,
  LateBegin,
  RenewLeaseInput,
  RequestOptions,
  RestartRunOptions,
  StartOrResumeInput,
  StepError,
  StepResolution,
  SuspendRunInput,
  WaitForEventInput,
  WatchLeaseInput,
} from "../contract/types.ts";
import { manifestHash, newRequestId } from "../identity.ts";
import type {
  BeginFacts,
  BeginRequest,
  BegunFacts,
  CancelRequest,
  ClaimRequest,
  CompleteRequest,
  EmitRequest,
  EndRequest,
  EventCompletion,
  FailRequest,
  RenewRequest,
  ResolveRequest,
  RestartRequest,
  SuspendRequest,
} from "../ledger/requests.ts";

export function claimRequest(input: StartOrResumeInput): ClaimRequest {
  checkRunId(input.runId);
  checkText("workerId", input.workerId, LIMITS.workerIdBytes);
  return {
    op: "claim",
    runId: input.runId,
    requestId: requestId(input),
    workerId: input.workerId,
    leaseMs: leaseMs(input),
    ...manifestFields(input.manifest),
  };
}

export function renewRequest(input: RenewLeaseInput): RenewRequest {
  checkRunId(input.runId);
  checkText("workerId", input.workerId, LIMITS.workerIdBytes);
  return {
    op: "renew",
    runId: input.runId,
    requestId: newRequestId(),
    workerId: input.workerId,
    leaseMs: leaseMs(input),
    fence: fence(input),
  };
}

export function beginRequest(input: BeginStepInput): BeginRequest {
  checkRunId(input.runId);
  checkStepIndex(input.stepIndex);
  const labels = stepLabels(input.stepIndex, input);
  if (input.timeoutMs !== undefined) checkInteger("timeoutMs", input.timeoutMs, 0, LIMITS.timeoutMs);
  for (const position of input.caught ?? []) checkInteger("caught", position, 0, LIMITS.steps - 1);
  const { waitFor, onInterrupted = "rerun" } = input;
  checkOneOf("onInterrupted", onInterrupted, ["rerun", "fail", "park", "reconcile"]);
  if (input.attempt !== undefined) checkInteger("attempt", input.attempt, 1, Number.MAX_SAFE_INTEGER);
  return {
    op: "begin",
    runId: input.runId,
    requestId: requestId(input),
    fence: fence(input),
    stepIndex: input.stepIndex,
    ...labels,
    timeoutMs: input.timeoutMs ?? null,
    caught: input.caught ?? [],
    waitFor: waitFor === undefined ? null : waitOf(waitFor),
    onInterrupted,
    attempt: input.attempt ?? null,
  };
}

export function completeRequest(input: CompleteStepInput): CompleteRequest {
  return {
    op: "complete",
    ...endStepFields(input),
    result: { text: toJsonText("result", input.result) },
  };
}

export function failRequest(input: FailStepInput): FailRequest {
  const { retryAfterMs, inDoubt = false } = input;
  if (retryAfterMs !== undefined) checkInteger("retryAfterMs", retryAfterMs, 0, LIMITS.timeoutMs);
  const given: unknown = inDoubt;
  if (typeof given !== "boolean") throw new DurableInvalidInputError("inDoubt", "must be true or false");
  return {
    op: "fail",
    ...endStepFields(input),
    error: errorText(input.error),
    retryAfterMs: retryAfterMs ?? null,
    inDoubt,
  };
}

export function endRequest(input: EndRunInput): EndRequest {
  checkRunId(input.runId);
  checkText("workerId", input.workerId, LIMITS.workerIdBytes);
  checkOneOf("status", input.status, ["completed", "failed"]);
  const { outcome, error } = input;
  if (outcome !== undefined) checkObject("outcome", outcome);
  return {
    op: "end",
    runId: input.runId,
    requestId: requestId(input),
    workerId: input.workerId,
    fence: fence(input),
    status: input.status,
    outcome: outcome === undefined ? null : toJsonText("outcome", outcome, LIMITS.smallPayloadBytes),
    result: "result" in input ? { text: toJsonText("result", input.result) } : null,
    error: error === undefined ? null : errorText(error),
  };
}

export function emitRequest(input: EmitEventInput): EmitRequest {
  checkRunId(input.runId);
  checkText("key", input.key, LIMITS.eventKeyBytes);
  return {
    op: "emit",
    runId: input.runId,
    requestId: requestId(input),
    key: input.key,
    payload: { text: toJsonText("payload", input.payload) },
  };
}

export function suspendRequest(input: SuspendRunInput): SuspendRequest {
  checkRunId(input.runId);
  checkText("workerId", input.workerId, LIMITS.workerIdBytes);
  const { runId, workerId } = input;
  return { op: "suspend", runId, requestId: requestId(input), workerId, fence: fence(input) };
}

export function cancelRequest(runId: string, reason: string, options: RequestOptions): CancelRequest {
  checkRunId(runId);
  checkText("reason", reason, LIMITS.reasonBytes);
  checkObject("options", options);
  return { op: "cancel", runId, requestId: requestId(options), reason };
}

export function resolveRequest(
  runId: string,
  stepIndex: number,
  resolution: StepResolution,
  options: RequestOptions,
): Omit<ResolveRequest, "isCaught" | "readAt"> {
  checkRunId(runId);
  checkStepIndex(stepIndex);
  checkObject("resolution", resolution);
  checkObject("options", options);
  const { result, rerun, ...rest } = resolution as { result?: unknown; rerun?: unknown };
  const [unknownField] = Object.keys(rest);
  if (unknownField !== undefined || "result" in resolution === "rerun" in resolution) {
    throw new DurableInvalidInputError("resolution", "must be either { result } or { rerun: true }");
  }
  if ("rerun" in resolution && rerun !== true) {
    throw new DurableInvalidInputError("resolution.rerun", "must be true");
  }
  const body = "result" in resolution ? { text: toJsonText("resolution.result", result) } : null;
  return { op: "resolve", runId, requestId: requestId(options), stepIndex, result: body };
}

export function restartRequest(runId: string, options: RestartRunOptions): RestartRequest {
  checkRunId(runId);
  checkObject("options", options);
  checkInteger("fromStep", options.fromStep, 0, LIMITS.steps - 1);
  if (options.dropLater !== true) {
    throw new DurableInvalidInputError(
      "dropLater",
      "must be true: a restart forgets the step that it begins from and every later one",
    );
  }
  return { op: "restart", runId, requestId: requestId(options), stepIndex: options.fromStep };
}

export function checkWaitForEvent(input: WaitForEventInput): void {
  checkRunId(input.runId);
  checkText("key", input.key, LIMITS.eventKeyBytes);
  checkInteger("timeoutMs", input.timeoutMs, 0, LIMITS.holdMs);
}

/** `null`: the caller names no step. */
export function eventCompletion({ runId, step }: WaitForEventInput): EventCompletion | null {
  if (step === undefined) return null;
  checkObject("step", step);
  return { op: "complete", ...endStepFields({ ...step, runId }) };
}

export function checkWatchLease(input: WatchLeaseInput): void {
  checkRunId(input.runId);
  checkInteger("fence", input.fence, 0, Number.MAX_SAFE_INTEGER);
  checkInteger("timeoutMs", input.timeoutMs, 0, LIMITS.holdMs);
}

function waitOf(waitFor: NonNullable<BeginStepInput["waitFor"]>): BeginRequest["waitFor"] {
  checkObject("waitFor", waitFor);
  checkOneOf("waitFor.kind", waitFor.kind, ["event", "time"]);
  if (waitFor.kind === "time") return { for: "time", key: null };
  checkText("waitFor.key", waitFor.key, LIMITS.eventKeyBytes);
  return { for: "event", key: waitFor.key };
}

function manifestFields(
  manifest: DurableRunManifest,
): Pick<ClaimRequest, "manifestHash" | "projectId" | "scenarioId" | "task" | "input" | "tags"> {
  checkObject("manifest", manifest);
  checkText("manifest.projectId", manifest.projectId, LIMITS.projectIdBytes);
  if (manifest.scenarioId !== undefined) {
    checkText("manifest.scenarioId", manifest.scenarioId, LIMITS.projectIdBytes);
  }
  checkObject("manifest.task", manifest.task);
  checkText("manifest.task.id", manifest.task.id, LIMITS.projectIdBytes);
  if (typeof manifest.task.intent !== "string" || manifest.task.intent === "") {
    throw new DurableInvalidInputError("manifest.task.intent", "must be a text that is not empty");
  }
  checkObject("manifest.input", manifest.input);
  return {
    projectId: manifest.projectId,
    scenarioId: manifest.scenarioId ?? null,
    task: toJsonText("manifest.task", manifest.task, LIMITS.smallPayloadBytes),
    input: { text: toJsonText("manifest.input", manifest.input) },
    tags: manifest.tags === undefined ? null : tagsText(manifest.tags),
    manifestHash: manifestHash(manifest),
  };
}

function tagsText(tags: Record<string, string>): string {
  checkObject("manifest.tags", tags);
  const entries = Object.entries(tags);
  if (entries.length > LIMITS.tags) {
    throw new DurableInvalidInputError(
      "manifest.tags",
      `has ${entries.length} tags; at most ${LIMITS.tags} are allowed`,
    );
  }
  for (const [key, value] of entries) {
    checkText("manifest.tags key", key, LIMITS.tagBytes);
    if (value !== "") checkText(`manifest.tags.${key}`, value, LIMITS.tagBytes);
  }
  return toJsonText("manifest.tags", tags);
}

function endStepFields(
  input: Omit<CompleteStepInput, "result"> | FailStepInput,
): Omit<CompleteRequest, "op" | "result"> {
  checkRunId(input.runId);
  checkStepIndex(input.stepIndex);
  if (input.attempt !== undefined) checkInteger("attempt", input.attempt, 0, Number.MAX_SAFE_INTEGER);
  const id = requestId(input);
  return {
    runId: input.runId,
    requestId: id,
    fence: fence(input),
    stepIndex: input.stepIndex,
    attempt: input.attempt ?? null,
    begun: input.begin === undefined ? null : lateBegin(id, input.stepIndex, input.begin),
  };
}

function lateBegin(requestId: string, stepIndex: number, begin: LateBegin): BegunFacts {
  checkObject("begin", begin);
  const { elapsedMs } = begin;
  checkInteger("begin.elapsedMs", elapsedMs, 0, LIMITS.timeoutMs);
  const labels = stepLabels(stepIndex, begin, "begin.");
  return { requestId, ...labels, ...BEGUN_PLAINLY, elapsedMs };
}

const BEGUN_PLAINLY = {
  timeoutMs: null,
  caught: [],
  waitFor: null,
  onInterrupted: "rerun",
  startedAt: null,
  deadlineAt: null,
} as const;

function stepLabels(
  stepIndex: number,
  { intent, kind, inputHash, path = String(stepIndex) }: Omit<LateBegin, "elapsedMs">,
  at = "",
): Pick<BeginFacts, "intent" | "kind" | "inputHash" | "path"> {
  checkText(`${at}intent`, intent, LIMITS.intentBytes);
  checkStepKind(kind, `${at}kind`);
  if (inputHash !== "") checkText(`${at}inputHash`, inputHash, LIMITS.inputHashBytes);
  checkText(`${at}path`, path, LIMITS.pathBytes);
  return { intent, kind, inputHash, path };
}

/** A failure is cut to size rather than refused: refusing it would lose it. */
function errorText(error: StepError): string {
  checkObject("error", error);
  const kept = { name: error.name, message: error.message, code: error.code, stack: error.stack };
  for (const [key, value] of Object.entries(kept)) {
    if (value === undefined && key !== "message") continue;
    if (typeof value !== "string") throw new DurableInvalidInputError(`error.${key}`, "must be a string");
  }
  return JSON.stringify(kept, (key, value: unknown) =>
    key !== "" && typeof value === "string" ? cutText(value, LIMITS.errorTextBytes) : value,
  );
}

export function requestId(input: { requestId?: string }): string {
  if (input.requestId === undefined) return newRequestId();
  checkText("requestId", input.requestId, LIMITS.requestIdBytes);
  return input.requestId;
}

function leaseMs(input: { leaseMs?: number }): number {
  const value = input.leaseMs ?? DEFAULT_LEASE_MS;
  checkLeaseMs(value);
  return value;
}

function fence(input: { fence?: number }): number | null {
  if (input.fence === undefined) return null;
  checkInteger("fence", input.fence, 0, Number.MAX_SAFE_INTEGER);
  return input.fence;
}
