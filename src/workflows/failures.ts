/**
 * Failures on their way through the platform, which keeps of an error little more than its message: the one place that
 * reads the messages of Workflows.
 */
import { cutText, LIMITS } from "../contract/limits.ts";
import type { StepError } from "../contract/types.ts";
import { fromStepError, toStepError } from "../runner/failures.ts";

/** What the platform would lose, at the end of a message. */
const LABEL = " [durable-runs ";
const LABELLED = /^(.*) \[durable-runs (\{.*\})\]$/s;

/** What a step's function threw, as it is recorded. */
export function toRecordedError(thrown: unknown): StepError {
  const { stack: _, message, ...rest } = toStepError(thrown);
  return { ...rest, message: cutText(message, LIMITS.errorTextBytes) };
}

/** What a step's function threw, as an error that gets through with its name and code. */
export function toPlatformError(thrown: unknown): Error {
  const { name = "Error", message: text, code } = toRecordedError(thrown);
  if (name === "Error" && code === undefined) return new Error(text);
  return new Error(`${name}: ${text}${LABEL}${JSON.stringify({ name, code })}]`);
}

/** Whether an error that the platform throws is the one that {@link toPlatformError} gave it. */
export function isSamePlatformError(error: unknown, sent: Error): boolean {
  const { message } = toStepError(error);
  return message === sent.message || message === `${sent.name}: ${sent.message}`;
}

/** The failure that stands behind an error of the platform: by name, message and code what the function threw. */
export function fromPlatformError(error: unknown): unknown {
  const { message } = toStepError(error);
  const [, text, label] = LABELLED.exec(message) ?? [];
  if (text === undefined || label === undefined) return error;
  const { name, code } = parseLabel(label);
  if (name === undefined || !text.startsWith(`${name}: `)) return error;
  return fromStepError({ name, message: text.slice(name.length + 2), ...(code !== undefined && { code }) });
}

function parseLabel(label: string): { name?: string; code?: string } {
  try {
    return JSON.parse(label) as { name?: string; code?: string };
  } catch {
    return {};
  }
}

/** Whether a wait ended because no event came. Pauses and restarts end one too, and those are for the platform. */
export function isWaitTimeout(error: unknown): boolean {
  const { name, message } = toStepError(error);
  return (
    name === "WorkflowTimeoutError" || /^(WorkflowTimeoutError: )?Execution timed out after /.test(message)
  );
}

/** Whether the platform would not try a step again that fails so: it looks at how the message begins, too. */
export function isNonRetryable(thrown: unknown): boolean {
  return toPlatformError(thrown).message.startsWith("NonRetryableError");
}

/** Whether the platform has paused, restarted or terminated the instance. */
export function isEngineAbort(error: unknown): boolean {
  return /^(\w+: )?Aborting engine: /.test(toStepError(error).message);
}
