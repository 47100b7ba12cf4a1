/** Failures as they are recorded, and as they are replayed (R24). */
import { errorFromData } from "../contract/errors.ts";
import type { DurableRunErrorCode } from "../contract/errors.ts";
import type { StepError } from "../contract/types.ts";

export function toStepError(error: unknown): StepError {
  if (!(error instanceof Error)) return { name: "Error", message: textOf(error) };
  const code: unknown = "code" in error ? error.code : undefined;
  return {
    name: error.name,
    message: error.message,
    ...(typeof code === "string" && { code }),
    ...(error.stack !== undefined && { stack: error.stack }),
  };
}

/** An error with the recorded name, message and code. The stack is not replayed. */
export function fromStepError(recorded: StepError): Error {
  const { name, message, code } = recorded;
  const error =
    code !== undefined && code in REPLAYED_BY_CLASS
      ? errorFromData({ code: code as DurableRunErrorCode, message })
      : Object.assign(new Error(message), code !== undefined && { code });
  if (name !== undefined) error.name = name;
  return error;
}

/** The typed errors that can be a step's own failure. */
const REPLAYED_BY_CLASS = { await_event_timeout: true, payload_not_json: true, payload_too_large: true };

/** What a caller threw that is not an error, in words. */
function textOf(thrown: unknown): string {
  try {
    return typeof thrown === "string" ? thrown : `thrown: ${JSON.stringify(thrown) ?? String(thrown)}`;
  } catch {
    return `thrown: ${typeof thrown}`;
  }
}
