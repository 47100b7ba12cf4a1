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
  | "step_not_running"
  | "step_timeout"
  | "payload_not_json"
  | "payload_too_large"
  | "store_unavailable"
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

/** The caller no longer holds the lease: another claim came, it lapsed, or the run ended. Nothing was changed. */
export class DurableRunLeaseLostError extends DurableRunError {
  constructor(message: string, options?: ErrorOptions) {
    super(message, "lease_lost", options);
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
    case "lease_lost":
      return new DurableRunLeaseLostError(message);
    case "run_not_found":
      return new DurableRunNotFoundError(message);
    case "payload_not_json":
    case "payload_too_large":
      return new DurablePayloadError(message, code);
    case "store_unavailable":
      return new DurableStoreUnavailableError(message);
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
