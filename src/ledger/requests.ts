/**
 * The requests that change a run, and what each answers: the vocabulary between a store's face, its journal and the
 * ledger, and, as it stands, the wire format of the coordinator (R21). Flat, and made of what structured clone takes.
 */
import type { ErrorData } from "../contract/errors.ts";
import type { InterruptionPolicy, RunStatus, StepKind } from "../contract/types.ts";
import type { Body, Change, EventState, RunState, StepState, Wait } from "./state.ts";

interface RequestBase {
  readonly runId: string;
  /** The same at each repetition of one request. */
  readonly requestId: string;
}

/** `null`: the caller knows no fence, and is held to the lease as far as its worker id tells (R5). */
type Fence = number | null;

export interface ClaimRequest extends RequestBase {
  readonly op: "claim";
  readonly workerId: string;
  readonly leaseMs: number;
  readonly manifestHash: string;
  readonly projectId: string;
  readonly scenarioId: string | null;
  readonly task: string;
  readonly input: Body;
  readonly tags: string | null;
}

export interface RenewRequest extends RequestBase {
  readonly op: "renew";
  readonly workerId: string;
  readonly leaseMs: number;
  readonly fence: Fence;
}

/** What a begin says of its step. A later request for the same attempt repeats it, in case the begin was lost (R16). */
export interface BeginFacts {
  readonly requestId: string;
  readonly intent: string;
  readonly kind: StepKind;
  readonly inputHash: string;
  readonly timeoutMs: number | null;
  readonly caught: readonly number[];
  readonly path: string;
  readonly waitFor: Pick<Wait, "for" | "key"> | null;
  readonly onInterrupted: InterruptionPolicy;
}

/** What a begin said, and was answered, if it was. */
export interface BegunFacts extends BeginFacts {
  /** `null`: nobody was told of it when it began, which was `elapsedMs` before the request that says so. */
  readonly startedAt: number | null;
  readonly elapsedMs: number;
  readonly deadlineAt: number | null;
}

export interface BeginRequest extends RequestBase, BeginFacts {
  readonly op: "begin";
  readonly fence: Fence;
  readonly stepIndex: number;
  /** Which attempt it begins, so that a late copy begins no later one; `null` when the caller does not say. */
  readonly attempt: number | null;
}

interface EndStepRequest extends RequestBase {
  readonly fence: Fence;
  readonly stepIndex: number;
  /** Which attempt it ends; `null` when the caller does not say. */
  readonly attempt: number | null;
  readonly begun: BegunFacts | null;
}

export interface CompleteRequest extends EndStepRequest {
  readonly op: "complete";
  readonly result: Body;
}

/** A completion whose result is the payload of an event that somebody waits for. */
export type EventCompletion = Omit<CompleteRequest, "result">;

export interface FailRequest extends EndStepRequest {
  readonly op: "fail";
  readonly error: string;
  /** `null`: the step has failed. */
  readonly retryAfterMs: number | null;
  readonly inDoubt: boolean;
}

export interface EndRequest extends RequestBase {
  readonly op: "end";
  readonly workerId: string;
  readonly fence: Fence;
  readonly status: "completed" | "failed";
  readonly outcome: string | null;
  readonly result: Body | null;
  readonly error: string | null;
}

export interface EmitRequest extends RequestBase {
  readonly op: "emit";
  readonly key: string;
  readonly payload: Body;
}

/** The worker leaves a run that waits for a decision. */
export interface SuspendRequest extends RequestBase {
  readonly op: "suspend";
  readonly workerId: string;
  readonly fence: Fence;
}

export interface CancelRequest extends RequestBase {
  readonly op: "cancel";
  readonly reason: string;
}

export interface ResolveRequest extends RequestBase {
  readonly op: "resolve";
  readonly stepIndex: number;
  /** `null`: another attempt. */
  readonly result: Body | null;
  /** Whether the task has gone on from the step's failure (R24), as of when the run was last updated. */
  readonly isCaught: boolean;
  readonly readAt: number | null;
}

export interface RestartRequest extends RequestBase {
  readonly op: "restart";
  /** The first step to be dropped. */
  readonly stepIndex: number;
}

/** Creates a run that is filled by copies; nobody may claim it before the seal. */
export interface ForkRequest extends RequestBase {
  readonly op: "fork";
  readonly manifestHash: string;
  readonly projectId: string;
  readonly scenarioId: string | null;
  readonly task: string;
  readonly input: Body;
  readonly tags: string | null;
  readonly sourceRunId: string;
  readonly throughStep: number;
}

export interface CopyRequest extends RequestBase {
  readonly op: "copy";
  readonly fence: number;
  readonly stepIndex: number;
  /** As the source has it, but for the result. */
  readonly step: StepState;
  readonly result: Body | null;
}

/** All copies are made. */
export interface SealRequest extends RequestBase {
  readonly op: "seal";
  readonly fence: number;
}

export type Request =
  | SuspendRequest
  | CancelRequest
  | ResolveRequest
  | RestartRequest
  | ForkRequest
  | CopyRequest
  | SealRequest
  | ClaimRequest
  | RenewRequest
  | BeginRequest
  | CompleteRequest
  | FailRequest
  | EndRequest
  | EmitRequest;

export type Op = Request["op"];
export type RequestOf<O extends Op> = Extract<Request, { op: O }>;

/** The payload that a request brings. */
export function bodyOf(request: Request): Body | null {
  switch (request.op) {
    case "claim":
    case "fork":
      return request.input;
    case "complete":
    case "end":
    case "resolve":
    case "copy":
      return request.result;
    case "emit":
      return request.payload;
    default:
      return null;
  }
}

/** The same request with another payload in its place. */
export function withBody<R extends Request>(request: R, body: Body): R {
  switch (request.op) {
    case "claim":
    case "fork":
      return { ...request, input: body };
    case "complete":
    case "end":
    case "resolve":
    case "copy":
      return { ...request, result: body };
    case "emit":
      return { ...request, payload: body };
    default:
      return request;
  }
}

/** `accepted`: what this request brought is what stands; else something earlier stands. */
export interface Replies {
  claim: { readonly run: RunState };
  suspend: { readonly run: RunState };
  cancel: { readonly run: RunState };
  restart: { readonly run: RunState };
  fork: { readonly run: RunState };
  seal: { readonly run: RunState };
  copy: { readonly fence: number };
  resolve: { readonly step: StepState };
  renew: { readonly leaseExpiresAt: number | null; readonly status: RunStatus };
  begin: { readonly step: StepState };
  complete: { readonly step: StepState; readonly accepted: boolean };
  fail: { readonly step: StepState };
  end: { readonly run: RunState; readonly accepted: boolean };
  /** `isNew`: it was not on record before, so its payload is the one that the request brought. */
  emit: { readonly accepted: boolean; readonly isNew: boolean; readonly event: EventState };
}

/** A refusal changes nothing. */
export interface Refusal {
  readonly ok: false;
  readonly error: ErrorData;
}

export type Decision<O extends Op = Op> =
  | { readonly ok: true; readonly reply: Replies[O]; readonly change: Change }
  | Refusal;

export function accept<O extends Op>(reply: Replies[O], change: Change = {}): Decision<O> {
  return { ok: true, reply, change };
}

export function refuse(code: ErrorData["code"], message: string, details: Partial<ErrorData> = {}): Refusal {
  return { ok: false, error: { code, message, ...details } };
}
