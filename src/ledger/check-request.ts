/**
 * Whether what came over a wire is a request: every field, by the limits of the contract. The coordinator asks before
 * it does anything, for a caller over a binding need not be this package's client, and one row that cannot be read
 * would trouble everybody who lists or counts runs.
 *
 * It takes all that stores/to-request.ts makes. A field that is not known is left alone, as a newer client may send it.
 *
 * What holds of texts: `task`, `tags`, `outcome` and `error`, which lists show and count by, are JSON of their shape,
 * as JSON.stringify writes it. A body that lies in its row is JSON. A larger one is taken as it is, for to parse it
 * would cost too much; where it is no JSON, it alone cannot be read.
 */
import { DurableInvalidInputError } from "../contract/errors.ts";
import { jsonDepth } from "../contract/json-depth.ts";
import {
  byteLength,
  checkInteger,
  checkLeaseMs,
  checkObject,
  checkOneOf,
  checkRunId,
  checkStepIndex,
  checkStepKind,
  checkText,
  LIMITS,
} from "../contract/limits.ts";
import { NO_VALUE } from "../contract/payload.ts";
import type { Op, Request } from "./requests.ts";

type Fields = Readonly<Record<string, unknown>>;
type Check = (field: string, value: unknown) => void;

/** The last instant that is a date. */
const LAST_INSTANT = 8.64e15;
/** How far a caller's clock may be ahead. */
const CLOCK_SKEW_MS = 86_400_000;
/** So that the attempts of all steps of many runs can be added up. */
const MAX_ATTEMPTS = 1_000_000_000;
/** Of payloads, as contract/payload.ts takes them. SQLite reads no deeper JSON. */
const MAX_DEPTH = 1_000;
/** Longer bodies lie in chunks. */
const PARSED_LENGTH = 256 * 1_024;
const POLICIES = ["rerun", "fail", "park", "reconcile"] as const;
/** Four texts, of which each byte may be escaped, and what is around them. */
const MAX_ERROR_LENGTH = 4 * 6 * LIMITS.errorTextBytes + 1_024;

/** `now`: epoch milliseconds. Throws `invalid_input`, which names the field. */
export function checkRequest(request: unknown, now: number): asserts request is Request {
  checkObject("request", request);
  const fields = request as Fields;
  checkOp(fields["op"]);
  checkRunId(fields["runId"]);
  checkText("requestId", fields["requestId"], LIMITS.requestIdBytes);
  FIELDS_OF[fields["op"]](fields, now);
}

export function checkOp(op: unknown): asserts op is Op {
  checkOneOf("op", op, OPS);
}

/** What an operation has beside `op`, `runId` and `requestId`. */
const FIELDS_OF: Readonly<Record<Op, (request: Fields, now: number) => void>> = {
  claim: (request) => {
    checkWorkerId(request);
    checkLeaseMs(request["leaseMs"]);
    checkManifest(request);
  },
  renew: (request) => {
    checkWorkerId(request);
    checkLeaseMs(request["leaseMs"]);
    checkFence(request);
  },
  begin: (request) => {
    checkFence(request);
    checkStepIndex(request["stepIndex"]);
    checkAttempt("attempt", request["attempt"]);
    checkFacts("", request);
  },
  complete: (request, now) => {
    checkEndOfStep(request, now);
    checkBody("result", request["result"]);
  },
  fail: (request, now) => {
    checkEndOfStep(request, now);
    checkErrorText("error", request["error"]);
    checkDelay("retryAfterMs", request["retryAfterMs"]);
    checkBoolean("inDoubt", request["inDoubt"]);
  },
  end: (request) => {
    checkWorkerId(request);
    checkFence(request);
    checkOneOf("status", request["status"], ["completed", "failed"]);
    orNull(checkOutcome)("outcome", request["outcome"]);
    orNull(checkBody)("result", request["result"]);
    orNull(checkErrorText)("error", request["error"]);
  },
  emit: (request) => {
    checkText("key", request["key"], LIMITS.eventKeyBytes);
    checkBody("payload", request["payload"]);
  },
  suspend: (request) => {
    checkWorkerId(request);
    checkFence(request);
  },
  cancel: (request) => checkText("reason", request["reason"], LIMITS.reasonBytes),
  resolve: (request) => {
    checkStepIndex(request["stepIndex"]);
    orNull(checkBody)("result", request["result"]);
    checkBoolean("isCaught", request["isCaught"]);
    orNull(checkInstant)("readAt", request["readAt"]);
  },
  restart: (request) => checkStepIndex(request["stepIndex"]),
  fork: (request) => {
    checkManifest(request);
    checkText("sourceRunId", request["sourceRunId"], LIMITS.runIdBytes);
    integer(0, LIMITS.steps - 1)("throughStep", request["throughStep"]);
  },
  copy: (request, now) => {
    integer(0)("fence", request["fence"]);
    checkStepIndex(request["stepIndex"]);
    checkStep(request["step"], request["stepIndex"], now);
    orNull(checkBody)("result", request["result"]);
  },
  seal: (request) => integer(0)("fence", request["fence"]),
};

const OPS = Object.keys(FIELDS_OF) as Op[];

function checkWorkerId(request: Fields): void {
  checkText("workerId", request["workerId"], LIMITS.workerIdBytes);
}

function checkFence(request: Fields): void {
  checkCount("fence", request["fence"]);
}

function checkManifest(request: Fields): void {
  const { manifestHash } = request;
  if (typeof manifestHash !== "string" || !/^[0-9a-f]{64}$/.test(manifestHash))
    throw new DurableInvalidInputError("manifestHash", "must be a SHA-256: 64 hex digits in lower case");
  checkText("projectId", request["projectId"], LIMITS.projectIdBytes);
  orNull(text(LIMITS.projectIdBytes))("scenarioId", request["scenarioId"]);
  checkTask("task", request["task"]);
  orNull(checkTags)("tags", request["tags"]);
  checkBody("input", request["input"]);
}

function checkEndOfStep(request: Fields, now: number): void {
  checkFence(request);
  checkStepIndex(request["stepIndex"]);
  checkCount("attempt", request["attempt"]);
  const { begun } = request;
  if (begun === null) return;
  checkObject("begun", begun);
  const facts = begun as Fields;
  checkText("begun.requestId", facts["requestId"], LIMITS.requestIdBytes);
  checkFacts("begun.", facts);
  if (facts["startedAt"] !== null) checkPast("begun.startedAt", facts["startedAt"], now);
  checkElapsed("begun.elapsedMs", facts["elapsedMs"]);
  checkDeadline("begun.deadlineAt", facts["deadlineAt"]);
}

/** What a begin says of its step, but for its request id. `at`: what stands before the names of fields. */
function checkFacts(at: string, facts: Fields): void {
  checkLabels(at, facts);
  checkDelay(`${at}timeoutMs`, facts["timeoutMs"]);
  checkOneOf(`${at}onInterrupted`, facts["onInterrupted"], POLICIES);
  const { waitFor } = facts;
  if (waitFor === null) return;
  checkObject(`${at}waitFor`, waitFor);
  const { for: what, key } = waitFor as Fields;
  checkOneOf(`${at}waitFor.for`, what, ["event", "time"]);
  if (what === "event") checkText(`${at}waitFor.key`, key, LIMITS.eventKeyBytes);
  else if (key !== null) throw new DurableInvalidInputError(`${at}waitFor.key`, "must be null");
}

/** What a step's begins and its record have alike. */
function checkLabels(at: string, of: Fields): void {
  checkText(`${at}intent`, of["intent"], LIMITS.intentBytes);
  checkStepKind(of["kind"]);
  if (of["inputHash"] !== "") checkText(`${at}inputHash`, of["inputHash"], LIMITS.inputHashBytes);
  checkText(`${at}path`, of["path"], LIMITS.pathBytes);
  const { caught } = of;
  if (!Array.isArray(caught) || caught.length > LIMITS.steps)
    throw new DurableInvalidInputError(
      `${at}caught`,
      `must be an array of at most ${LIMITS.steps} positions`,
    );
  for (const position of caught) checkPosition(`${at}caught`, position);
}

/** A step of a run that is forked: one that has completed or failed. */
function checkStep(step: unknown, stepIndex: number, now: number): void {
  checkObject("step", step);
  const state = step as Fields;
  if (state["stepIndex"] !== stepIndex)
    throw new DurableInvalidInputError("step.stepIndex", "must be the stepIndex of the request");
  checkLabels("step.", state);
  checkOneOf("step.status", state["status"], ["completed", "failed"]);
  integer(0, MAX_ATTEMPTS)("step.attempts", state["attempts"]);
  integer(0, MAX_ATTEMPTS)("step.tries", state["tries"]);
  orNull(checkInstant)("step.nextAttemptAt", state["nextAttemptAt"]);
  orNull(checkInstant)("step.deadlineAt", state["deadlineAt"]);
  checkPast("step.startedAt", state["startedAt"], now);
  if (state["completedAt"] !== null) checkPast("step.completedAt", state["completedAt"], now);
  checkBoolean("step.inDoubt", state["inDoubt"]);
  checkText("step.workerId", state["workerId"], LIMITS.workerIdBytes);
  orNull(checkErrorText)("step.error", state["error"]);
}

function checkBody(field: string, body: unknown): void {
  checkObject(field, body);
  const { text: json, ...rest } = body as Fields;
  if (typeof json !== "string" || Object.keys(rest).length > 0)
    throw new DurableInvalidInputError(field, "must be { text }, a string");
  const bytes = json.length * 3 <= LIMITS.payloadBytes ? 0 : byteLength(json);
  if (bytes > LIMITS.payloadBytes)
    throw new DurableInvalidInputError(
      field,
      `has ${bytes} bytes; at most ${LIMITS.payloadBytes} are allowed`,
    );
  if (json !== NO_VALUE && json.length <= PARSED_LENGTH) parsed(field, json);
}

function checkTask(field: string, json: unknown): void {
  const { id, intent } = smallObject(field, json);
  checkText("task.id", id, LIMITS.projectIdBytes);
  if (typeof intent !== "string" || intent === "")
    throw new DurableInvalidInputError("task.intent", "must be a text that is not empty");
}

function checkOutcome(field: string, json: unknown): void {
  smallObject(field, json);
}

function checkTags(field: string, json: unknown): void {
  // Escaped, a byte may be six.
  const tags = Object.entries(ownObject(field, json, 12 * LIMITS.tags * LIMITS.tagBytes + 1_024));
  if (tags.length > LIMITS.tags)
    throw new DurableInvalidInputError(field, `has ${tags.length} tags; at most ${LIMITS.tags} are allowed`);
  for (const [key, value] of tags) {
    checkText("tags key", key, LIMITS.tagBytes);
    if (value !== "") checkText("tags value", value, LIMITS.tagBytes);
  }
}

const ERROR_FIELDS: readonly string[] = ["name", "message", "code", "stack"];

function checkErrorText(field: string, json: unknown): void {
  const error = ownObject(field, json, MAX_ERROR_LENGTH);
  if (typeof error["message"] !== "string")
    throw new DurableInvalidInputError(`${field}.message`, "must be a string");
  for (const [name, value] of Object.entries(error)) {
    if (!ERROR_FIELDS.includes(name))
      throw new DurableInvalidInputError(field, `has a field that is not among ${ERROR_FIELDS.join(", ")}`);
    if (typeof value !== "string" || byteLength(value) > LIMITS.errorTextBytes) {
      const rule = `must be a string of at most ${LIMITS.errorTextBytes} bytes`;
      throw new DurableInvalidInputError(`${field}.${name}`, rule);
    }
  }
}

function smallObject(field: string, json: unknown): Fields {
  const object = ownObject(field, json, LIMITS.smallPayloadBytes);
  if (byteLength(json as string) <= LIMITS.smallPayloadBytes) return object;
  throw new DurableInvalidInputError(field, `has more than ${LIMITS.smallPayloadBytes} bytes`);
}

/** An object, as JSON.stringify writes it: then no key is there twice, and whoever reads it reads the same. */
function ownObject(field: string, json: unknown, maxLength: number): Fields {
  if (typeof json !== "string" || json.length > maxLength)
    throw new DurableInvalidInputError(field, `must be JSON text of at most ${maxLength} characters`);
  const value = parsed(field, json);
  checkObject(field, value);
  if (JSON.stringify(value) === json) return value as Fields;
  throw new DurableInvalidInputError(field, "must be JSON text as JSON.stringify writes it");
}

function parsed(field: string, json: string): unknown {
  if (jsonDepth(json) > MAX_DEPTH)
    throw new DurableInvalidInputError(field, `is nested more than ${MAX_DEPTH} deep`);
  try {
    return JSON.parse(json) as unknown;
  } catch {
    throw new DurableInvalidInputError(field, "must be JSON text");
  }
}

/** Made once, since each step is checked twice. */
const checkAttempt = orNull(integer(1));
const checkCount = orNull(integer(0));
const checkElapsed = integer(0, LIMITS.timeoutMs);
const checkDelay = orNull(checkElapsed);
const checkDeadline = orNull(checkInstant);
const checkPosition = integer(0, LIMITS.steps - 1);

function orNull(check: Check): Check {
  return (field, value) => {
    if (value !== null) check(field, value);
  };
}

function integer(min: number, max: number = Number.MAX_SAFE_INTEGER): Check {
  return (field, value) => checkInteger(field, value, min, max);
}

function text(maxBytes: number): Check {
  return (field, value) => checkText(field, value, maxBytes);
}

function checkInstant(field: string, value: unknown): void {
  checkInteger(field, value, 0, LAST_INSTANT);
}

/** What a coordinator's clock has said. */
function checkPast(field: string, value: unknown, now: number): void {
  checkInteger(field, value, 0, now + CLOCK_SKEW_MS);
}

function checkBoolean(field: string, value: unknown): void {
  if (typeof value !== "boolean") throw new DurableInvalidInputError(field, "must be true or false");
}
