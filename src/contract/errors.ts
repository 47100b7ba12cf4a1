/**
 * The typed errors of the contract. Each has a `code`; test that, not the class: a class does not survive RPC or a
 * second copy of this package.
 */

/** The codes of the plain declaration, then ours. */
export type DurableRunErrorCode =
  | "lease_held"
  | "manifest_mismatch"
  | "step_divergence"
  | "step_input_mismatch"
  | "await_event_timeout"
  | "event_emit_race"
  | "lease_lost"
  | "run_not_found"
  | "run_cancelled"
  | "run_suspended"
  | "run_exists"
  | "step_not_running"
  | "step_timeout"
  | "step_interrupted"
  | "step_not_due"
  | "step_not_in_doubt"
  | "nested_step"
  | "branch_stopped"
  | "payload_not_json"
  | "payload_too_large"
  | "store_unavailable"
  | "forbidden"
  | "invalid_input";

/** Base class of all errors that the contract speaks of. */
export class DurableRunError extends Error {
  readonly code: DurableRunErrorCode;
  constructor(message: string, code: DurableRunErrorCode, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** Another worker holds a live lease. Wait for `retryAfterMs`, or let it work. */
export class DurableRunLeaseHeldError extends DurableRunError {
  /** How long the lease has left by the store's clock, where the store says so. The holder may renew it. */
  declare readonly retryAfterMs?: number;
  constructor(message: string, details: { retryAfterMs?: number } = {}) {
    super(message, "lease_held");
    if (details.retryAfterMs !== undefined) this.retryAfterMs = details.retryAfterMs;
  }
}

/** The run id stands for a run with another manifest. Use another id, or the manifest that it began with. */
export class DurableRunInputMismatchError extends DurableRunError {
  constructor(message: string) {
    super(message, "manifest_mismatch");
  }
}

/** The code took another path than the record: another step stands at this position, or recorded steps were skipped. */
export class DurableRunDivergenceError extends DurableRunError {
  constructor(message: string) {
    super(message, "step_divergence");
  }
}

/** The same step at the same position, with another input fingerprint. */
export class DurableStepInputMismatchError extends DurableRunError {
  constructor(message: string) {
    super(message, "step_input_mismatch");
  }
}

/** `awaitEvent` reached its deadline. */
export class DurableAwaitEventTimeoutError extends DurableRunError {
  constructor(message: string) {
    super(message, "await_event_timeout");
  }
}

/** An attempt of a step took longer than its `timeoutMs`. */
export class DurableStepTimeoutError extends DurableRunError {
  constructor(message: string) {
    super(message, "step_timeout");
  }
}

/** A worker died inside the step, whose `onInterrupted` is "fail". What it has done is not known. */
export class DurableStepInterruptedError extends DurableRunError {
  readonly retryable = false;
  constructor(message: string) {
    super(message, "step_interrupted");
  }
}

/** The delay before the step's next attempt is not over. */
export class DurableStepNotDueError extends DurableRunError {
  /** By the store's clock. */
  readonly retryAfterMs: number;
  constructor(message: string, { retryAfterMs = 0 }: { retryAfterMs?: number }) {
    super(message, "step_not_due");
    this.retryAfterMs = retryAfterMs;
  }
}

/** A step was begun inside the function of another one, where no replay would come by. */
export class DurableNestedStepError extends DurableRunError {
  readonly retryable = false;
  constructor(message: string) {
    super(message, "nested_step");
  }
}

/** The other branches of the group have decided its outcome; this one takes no further step. */
export class DurableBranchStoppedError extends DurableRunError {
  readonly retryable = false;
  constructor(message: string) {
    super(message, "branch_stopped");
  }
}

/** The run was cancelled. Nothing of it will be claimed again. */
export class DurableRunCancelledError extends DurableRunError {
  constructor(message: string, options?: ErrorOptions) {
    super(message, "run_cancelled", options);
  }
}

/** A step of the run is parked: see its record's `waitingFor`, resolve the step, and run it again. */
export class DurableRunSuspendedError extends DurableRunError {
  readonly stepIndex: number;
  constructor(message: string, stepIndex: number) {
    super(message, "run_suspended");
    this.stepIndex = stepIndex;
  }
}

/** Thrown by a step's function, it ends the step's retries at once. So does any error with `retryable: false`. */
export class NonRetryableError extends Error {
  override readonly name: string = "NonRetryableError";
  readonly retryable = false;
}

/** The caller no longer holds the lease: another claim came, it lapsed, or the run ended. Nothing was changed. */
export class DurableRunLeaseLostError extends DurableRunError {
  /** Whether the store has said so. If not, it was out of reach for too long, and the lease is taken for lost. */
  readonly isConfirmed: boolean;
  constructor(
    message: string,
    { isConfirmed = true, ...options }: ErrorOptions & { isConfirmed?: boolean } = {},
  ) {
    super(message, "lease_lost", options);
    this.isConfirmed = isConfirmed;
  }
}

export class DurableRunNotFoundError extends DurableRunError {
  constructor(message: string) {
    super(message, "run_not_found");
  }
}

/** A value that JSON cannot carry, with its path in the message, or that is too large, with both sizes. */
export class DurablePayloadError extends DurableRunError {
  declare readonly code: "payload_not_json" | "payload_too_large";
  constructor(message: string, code: "payload_not_json" | "payload_too_large") {
    super(message, code);
  }
}

/** The store could not answer in time. The effect is unknown: repeat the call with the same request id. */
export class DurableStoreUnavailableError extends DurableRunError {
  readonly retryable = true;
  constructor(message: string, options?: ErrorOptions) {
    super(message, "store_unavailable", options);
  }
}

/** The caller's binding or token is for another project, or only for reading. Nothing happened. */
export class DurableForbiddenError extends DurableRunError {
  constructor(message: string) {
    super(message, "forbidden");
  }
}

/** An argument is outside what the contract allows. Nothing happened. */
export class DurableInvalidInputError extends DurableRunError {
  readonly field: string;
  constructor(field: string, problem: string) {
    super(`${field} ${problem}`, "invalid_input");
    this.field = field;
  }
}

/** An error as plain data, as it crosses RPC. */
export interface ErrorData {
  code: DurableRunErrorCode;
  message: string;
  retryAfterMs?: number;
  field?: string;
}

/** Makes the typed error that the data stands for. */
export function errorFromData(data: ErrorData): DurableRunError {
  const { code, message } = data;
  switch (code) {
    case "lease_held":
      return new DurableRunLeaseHeldError(message, data);
    case "manifest_mismatch":
      return new DurableRunInputMismatchError(message);
    case "step_divergence":
      return new DurableRunDivergenceError(message);
    case "step_input_mismatch":
      return new DurableStepInputMismatchError(message);
    case "await_event_timeout":
      return new DurableAwaitEventTimeoutError(message);
    case "step_timeout":
      return new DurableStepTimeoutError(message);
    case "step_interrupted":
      return new DurableStepInterruptedError(message);
    case "step_not_due":
      return new DurableStepNotDueError(message, data);
    case "nested_step":
      return new DurableNestedStepError(message);
    case "branch_stopped":
      return new DurableBranchStoppedError(message);
    case "run_cancelled":
      return new DurableRunCancelledError(message);
    case "lease_lost":
      return new DurableRunLeaseLostError(message);
    case "run_not_found":
      return new DurableRunNotFoundError(message);
    case "payload_not_json":
    case "payload_too_large":
      return new DurablePayloadError(message, code);
    case "store_unavailable":
      return new DurableStoreUnavailableError(message);
    case "forbidden":
      return new DurableForbiddenError(message);
    case "invalid_input": {
      const field = data.field ?? "input";
      return new DurableInvalidInputError(
        field,
        message.startsWith(`${field} `) ? message.slice(field.length + 1) : message,
      );
    }
    default:
      return new DurableRunError(message, code);
  }
}

/** The `code` of an error of this contract, also when it comes from another copy of this package or over RPC. */
export function codeOf(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}
