/** Failures as they are recorded, and as they are replayed (R24). */
import { errorFromData } from "../contract/errors.ts";
import type { DurableRunErrorCode } from "../contract/errors.ts";
import type { StepError } from "../contract/types.ts";

/** Whatever was thrown, as a store takes it. Never throws: a failure that is hard to describe is still one. */
export function toStepError(thrown: unknown): StepError {
  try {
    return describe(thrown);
  } catch {
    return { name: "Error", message: `thrown: ${typeof thrown}` };
  }
}

/** An error with the recorded name, message and code. The stack is not replayed. */
export function fromStepError(recorded: StepError): Error {
  const { name, message, code } = recorded;
  const error =
    code !== undefined && REPLAYED_BY_CLASS.has(code)
      ? errorFromData({ code: code as DurableRunErrorCode, message })
      : Object.assign(new Error(message), code !== undefined && { code });
  if (name !== undefined) error.name = name;
  return error;
}

/** The typed errors that can be a step's own failure. */
const REPLAYED_BY_CLASS: ReadonlySet<string> = new Set([
  "await_event_timeout",
  "nested_step",
  "payload_not_json",
  "payload_too_large",
  "step_interrupted",
  "step_timeout",
]);

/** Goes by shape: an error of another realm is no instance of this one's Error. */
function describe(thrown: unknown): StepError {
  if (typeof thrown !== "object" || thrown === null || !("message" in thrown)) {
    return { name: "Error", message: textOf(thrown) };
  }
  const { message, name, code, stack } = thrown as Record<"message" | "name" | "code" | "stack", unknown>;
  return {
    name: typeof name === "string" ? name : "Error",
    message: typeof message === "string" ? message : textOf(message),
    ...(typeof code === "string" && { code }),
    ...(typeof stack === "string" && { stack }),
  };
}

/** What a caller threw that is not an error, in words. */
function textOf(thrown: unknown): string {
  return typeof thrown === "string" ? thrown : `thrown: ${JSON.stringify(thrown) ?? String(thrown)}`;
}
