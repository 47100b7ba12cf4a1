/**
 * Errors as HTTP answers: RFC 9457 problem details, with the contract's `code`.
 *
 * Owns which status a code has and what an answer may say. A detail is a fixed sentence a code, but for `invalid_input`,
 * which names the field and the rule: what a caller sent is never sent back. So the messages of errors, which quote
 * ids and values, stay on this side.
 */
import type { DurableRunErrorCode } from "../contract/errors.ts";
import { codeOf } from "../contract/errors.ts";

/** Codes that only HTTP needs. */
export type HttpErrorCode =
  | "unauthorized"
  | "not_found"
  | "method_not_allowed"
  | "unsupported_media_type"
  | "internal";

export type ProblemCode = DurableRunErrorCode | HttpErrorCode;

/** The body of every answer that is an error; media type `application/problem+json`. */
export interface Problem {
  type: "about:blank";
  /** The status in words. */
  title: string;
  status: number;
  detail: string;
  code: ProblemCode;
  /** With `invalid_input`: what was wrong, such as "limit" or "tags"; "body" or "query" for a field that is not known. */
  field?: string;
  /** With `lease_held` and `step_not_due`. */
  retryAfterMs?: number;
}

/** What a face itself refuses. `headers` go with the answer. */
export class HttpError extends Error {
  override readonly name = "HttpError";
  readonly code: HttpErrorCode;
  readonly headers: Readonly<Record<string, string>>;
  constructor(code: HttpErrorCode, headers: Readonly<Record<string, string>> = {}) {
    super(PROBLEMS[code][1]);
    this.code = code;
    this.headers = headers;
  }
}

type Row = readonly [status: number, detail: string];

/** A new code does not compile until it has its row. */
export const PROBLEMS = {
  invalid_input: [400, "The request is outside what is allowed."],
  payload_not_json: [400, "The body carries a value that JSON cannot."],
  unauthorized: [
    401,
    "A bearer token, a session or a Cloudflare Access JWT is needed, and none that is known came.",
  ],
  forbidden: [
    403,
    "The token is for another project, only for reading, or the request came from another site.",
  ],
  not_found: [404, "There is nothing at this address."],
  run_not_found: [404, "There is no such run."],
  method_not_allowed: [405, "The address does not take this method."],
  lease_held: [409, "A worker holds the run. It may be asked again once its lease has lapsed."],
  lease_lost: [409, "The lease was lost to another claim, or the run has ended."],
  manifest_mismatch: [409, "The run id stands for a run with another manifest."],
  run_cancelled: [409, "The run was cancelled."],
  run_suspended: [409, "A step of the run waits to be resolved."],
  run_exists: [409, "The new run id is taken."],
  step_interrupted: [409, "A worker died inside the step."],
  step_not_due: [409, "The delay before the step's next attempt is not over."],
  step_not_in_doubt: [409, "The step is not in doubt, so there is nothing to resolve."],
  step_not_running: [409, "The step is not running."],
  step_divergence: [409, "Another step stands at this position."],
  step_input_mismatch: [409, "The step was recorded with another input."],
  nested_step: [409, "A step was begun inside another one."],
  branch_stopped: [409, "The branch's group has decided its outcome."],
  event_emit_race: [409, "Another event was emitted under this key at the same time."],
  payload_too_large: [413, "The body, or a value in it, is larger than is allowed."],
  unsupported_media_type: [415, "A body has to be application/json."],
  internal: [500, "Something went wrong here. The Worker's log says what."],
  store_unavailable: [
    503,
    "The store did not answer in time. Repeat the request, with the same Idempotency-Key.",
  ],
  await_event_timeout: [504, "The event did not come in time."],
  step_timeout: [504, "The step took too long."],
} as const satisfies Record<ProblemCode, Row>;

const TITLES: Readonly<Record<number, string>> = {
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  409: "Conflict",
  413: "Content Too Large",
  415: "Unsupported Media Type",
  500: "Internal Server Error",
  503: "Service Unavailable",
  504: "Gateway Timeout",
};

/** The answer to an error. One that is not known is told to `report`, and nothing of it to the caller. */
export function problemResponse(error: unknown, report: (error: unknown) => void): Response {
  const known = codeOf(error);
  const code: ProblemCode = known !== undefined && isProblemCode(known) ? known : "internal";
  if (code === "internal") report(error);
  const [status, sentence] = PROBLEMS[code];
  const { retryAfterMs } = (error ?? {}) as { retryAfterMs?: unknown };
  const problem: Problem = {
    type: "about:blank",
    title: TITLES[status] ?? "Error",
    status,
    detail: sentence,
    code,
    ...(code === "invalid_input" && fieldAndRule(error, sentence)),
    ...(typeof retryAfterMs === "number" && { retryAfterMs }),
  };
  const headers = new Headers(error instanceof HttpError ? error.headers : {});
  headers.set("content-type", "application/problem+json");
  if (problem.retryAfterMs !== undefined)
    headers.set("retry-after", String(Math.max(1, Math.ceil(problem.retryAfterMs / 1_000))));
  return new Response(JSON.stringify(problem), { status, headers });
}

function isProblemCode(code: string): code is ProblemCode {
  return Object.hasOwn(PROBLEMS, code);
}

/**
 * A message is `<field> <rule>`. What a rule quotes, or says that the value is, came from the caller; a rule that is not
 * whole without it is not shown.
 */
function fieldAndRule(error: unknown, sentence: string): Pick<Problem, "field" | "detail"> {
  const { field: given, message } = error as { field?: unknown; message?: unknown };
  if (typeof given !== "string" || typeof message !== "string") return { detail: sentence };
  const rest = message.startsWith(`${given} `) ? message.slice(given.length + 1) : "is not allowed";
  const rule = rest.split(/, (?:but (?:is|has|answered)|not) /, 1)[0] ?? "";
  if (/^is (?:not known|no field)/.test(rest)) {
    const above = nameAbove(given);
    return { field: above, detail: `${above} must have no field that is not known` };
  }
  const field = plainField(given);
  const isWhole = rule !== "" && !/["'`<]|^is \d|, but /.test(rule);
  return { field, detail: `${field} ${isWhole ? rule : (RULES[field] ?? "is not allowed")}` };
}

/** The rules of fields of which errors quote. */
const RULES: Readonly<Record<string, string>> = {
  fromStep: "must be the position of a step on record",
  throughStep: "must be the position of a step on record",
  edits: "must be of steps that are copied, by position",
  runId: "must be of letters, digits, - and _, the first no -, and at most 100 of them",
};

/** The name of a field, without what is below it, as those names are the caller's; but a task knows the fields of its input. */
function plainField(field: string): string {
  const name = /^(?:manifest\.|options\.)?(input(?:\.\w{1,64})+$|[A-Za-z][\w-]{0,63}(?=[.[ ]|$))/.exec(
    field,
  )?.[1];
  return name ?? "(a field)";
}

/** Of a field that nobody knows: what it lies in. */
function nameAbove(field: string): string {
  return /[.[]/.test(field) ? plainField(/^[^.[]*/.exec(field)?.[0] ?? "") : "body";
}
