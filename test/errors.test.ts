/** The typed errors: callers test `code`, and an error that crossed RPC as data is the error that it was. */
import { describe, expect, test } from "vitest";
import type { DurableRunErrorCode } from "../src/contract/errors.ts";
import {
  codeOf,
  DurableAwaitEventTimeoutError,
  DurableBranchStoppedError,
  DurableForbiddenError,
  DurableInvalidInputError,
  DurableNestedStepError,
  DurablePayloadError,
  DurableRunCancelledError,
  DurableRunDivergenceError,
  DurableRunError,
  DurableRunInputMismatchError,
  DurableRunLeaseHeldError,
  DurableRunLeaseLostError,
  DurableRunNotFoundError,
  DurableRunSuspendedError,
  DurableStepInputMismatchError,
  DurableStepInterruptedError,
  DurableStepNotDueError,
  DurableStepTimeoutError,
  DurableStoreUnavailableError,
  errorFromData,
  NonRetryableError,
} from "../src/contract/errors.ts";

/** Exhaustive: a code that is missing here does not type-check. */
const CLASS_OF: Record<DurableRunErrorCode, { error: DurableRunError; name: string }> = {
  lease_held: { error: new DurableRunLeaseHeldError("m"), name: "DurableRunLeaseHeldError" },
  manifest_mismatch: { error: new DurableRunInputMismatchError("m"), name: "DurableRunInputMismatchError" },
  step_divergence: { error: new DurableRunDivergenceError("m"), name: "DurableRunDivergenceError" },
  step_input_mismatch: {
    error: new DurableStepInputMismatchError("m"),
    name: "DurableStepInputMismatchError",
  },
  await_event_timeout: {
    error: new DurableAwaitEventTimeoutError("m"),
    name: "DurableAwaitEventTimeoutError",
  },
  step_timeout: { error: new DurableStepTimeoutError("m"), name: "DurableStepTimeoutError" },
  event_emit_race: { error: new DurableRunError("m", "event_emit_race"), name: "DurableRunError" },
  lease_lost: { error: new DurableRunLeaseLostError("m"), name: "DurableRunLeaseLostError" },
  run_not_found: { error: new DurableRunNotFoundError("m"), name: "DurableRunNotFoundError" },
  run_cancelled: { error: new DurableRunCancelledError("m"), name: "DurableRunCancelledError" },
  run_suspended: { error: new DurableRunSuspendedError("m", 3), name: "DurableRunSuspendedError" },
  run_exists: { error: new DurableRunError("m", "run_exists"), name: "DurableRunError" },
  step_not_running: { error: new DurableRunError("m", "step_not_running"), name: "DurableRunError" },
  step_interrupted: { error: new DurableStepInterruptedError("m"), name: "DurableStepInterruptedError" },
  step_not_due: {
    error: new DurableStepNotDueError("m", { retryAfterMs: 5 }),
    name: "DurableStepNotDueError",
  },
  step_not_in_doubt: { error: new DurableRunError("m", "step_not_in_doubt"), name: "DurableRunError" },
  nested_step: { error: new DurableNestedStepError("m"), name: "DurableNestedStepError" },
  forbidden: { error: new DurableForbiddenError("m"), name: "DurableForbiddenError" },
  branch_stopped: { error: new DurableBranchStoppedError("m"), name: "DurableBranchStoppedError" },
  payload_not_json: { error: new DurablePayloadError("m", "payload_not_json"), name: "DurablePayloadError" },
  payload_too_large: {
    error: new DurablePayloadError("m", "payload_too_large"),
    name: "DurablePayloadError",
  },
  store_unavailable: { error: new DurableStoreUnavailableError("m"), name: "DurableStoreUnavailableError" },
  invalid_input: { error: new DurableInvalidInputError("runId", "m"), name: "DurableInvalidInputError" },
};
const ALL = Object.entries(CLASS_OF) as [DurableRunErrorCode, { error: DurableRunError; name: string }][];
/** What no store answers with: the runner makes it, where the step is known, and it never is data. */
const RUNNERS_OWN = "run_suspended";

describe("each error", () => {
  test.each(ALL)("%s has its code, its name and the one base class", (code, { error, name }) => {
    expect(error).toBeInstanceOf(DurableRunError);
    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({ code, name });
    expect(error.stack).toContain(name);
    expect(codeOf(error)).toBe(code);
  });

  test.each(ALL.filter(([code]) => code !== RUNNERS_OWN))(
    "%s is made again from data, the class, the code and the message alike",
    (code, { error, name }) => {
      const message = code === "invalid_input" ? "runId must not be empty" : `what happened: ${code}`;
      const made = errorFromData({ code, message, ...(code === "invalid_input" && { field: "runId" }) });
      expect(made.constructor).toBe(error.constructor);
      expect({ code: made.code, name: made.name, message: made.message }).toEqual({ code, name, message });
    },
  );
});

describe("details", () => {
  test("a held lease says how long it lasts, where the store said so, also over RPC", () => {
    expect(new DurableRunLeaseHeldError("m", { retryAfterMs: 12 }).retryAfterMs).toBe(12);
    expect(errorFromData({ code: "lease_held", message: "m", retryAfterMs: 0 })).toMatchObject({
      retryAfterMs: 0,
    });
    expect("retryAfterMs" in errorFromData({ code: "lease_held", message: "m" })).toBe(false);
  });

  test("a step that is not due says how long it has to wait, also over RPC", () => {
    expect(new DurableStepNotDueError("m", { retryAfterMs: 12 }).retryAfterMs).toBe(12);
    const made = errorFromData({ code: "step_not_due", message: "m", retryAfterMs: 12 });
    expect(made).toMatchObject({ code: "step_not_due", retryAfterMs: 12 });
    expect(errorFromData({ code: "step_not_due", message: "m" })).toMatchObject({ retryAfterMs: 0 });
  });

  test("a suspended run names the step that it waits at", () => {
    expect(new DurableRunSuspendedError("m", 3)).toMatchObject({ code: "run_suspended", stepIndex: 3 });
    expect(errorFromData({ code: RUNNERS_OWN, message: "m" })).toMatchObject({
      code: "run_suspended",
      message: "m",
    });
  });

  test("what no further attempt can mend is not to be retried", () => {
    const errors = [
      new NonRetryableError("m"),
      new DurableStepInterruptedError("m"),
      new DurableNestedStepError("m"),
      new DurableBranchStoppedError("m"),
    ];
    for (const error of errors) expect(error.retryable).toBe(false);
  });

  test("an error that ends retries is the task's own, not one of the contract, and keeps the cause", () => {
    const cause = new Error("no such customer");
    const error = new NonRetryableError("given up", { cause });
    expect(error).toMatchObject({ name: "NonRetryableError", message: "given up", cause });
    expect(error).not.toBeInstanceOf(DurableRunError);
    expect(codeOf(error)).toBeUndefined();
  });

  test("an invalid input names its field once, also over RPC", () => {
    const error = new DurableInvalidInputError("leaseMs", "must be a whole number");
    expect(error).toMatchObject({ field: "leaseMs", message: "leaseMs must be a whole number" });
    const { code, field, message } = error;
    expect(errorFromData({ code, field, message })).toMatchObject({ field, message });
    expect(errorFromData({ code: "invalid_input", message: "is wrong" })).toMatchObject({
      field: "input",
      message: "input is wrong",
    });
  });

  test("an unavailable store may be asked again, and keeps the cause", () => {
    const cause = new Error("stalled");
    const error = new DurableStoreUnavailableError("no answer", { cause });
    expect(error.retryable).toBe(true);
    expect(error.cause).toBe(cause);
    expect(new DurableRunLeaseLostError("lost", { cause }).cause).toBe(cause);
    expect(new DurableRunCancelledError("cancelled", { cause }).cause).toBe(cause);
  });
});

describe("codeOf", () => {
  test("reads the code of another copy's error, and of plain data", () => {
    expect(codeOf(Object.assign(new Error("m"), { code: "lease_lost" }))).toBe("lease_lost");
    expect(codeOf({ code: "lease_held" })).toBe("lease_held");
  });

  test.each([[undefined], [null], ["lease_lost"], [7], [new Error("lease_lost")], [{ code: 7 }], [{}]])(
    "finds none in %s",
    (value) => {
      expect(codeOf(value)).toBeUndefined();
    },
  );
});
