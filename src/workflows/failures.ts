/**
 * Failures on their way through the platform, which keeps of an error little more than its message: the one place that
 * reads the messages of Workflows.
 */
import { codeOf } from "../contract/errors.ts";
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

/** Whether a wait, or an attempt of a step, was out of time. Pauses and restarts end them too, and are for the platform. */
export function isPlatformTimeout(error: unknown): boolean {
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

/** Whether the platform says that there is no such instance. */
export function isInstanceNotFound(error: unknown): boolean {
  return /\binstance\.not_found\b/.test(toStepError(error).message);
}

/** A failure of a run in a step, as the step leaves it on record. */
export interface Failure {
  readonly code: string;
  readonly message: string;
}

const CODE_BYTES = 256;
const CODED = /^(?:\w+: )?\[([^\]]*)\] (.*)$/s;

/** A failure without a code of its own is `task_failed`. */
export function toFailure(thrown: unknown): Failure {
  const { message, code = "task_failed" } = toStepError(thrown);
  return { code: cutText(code, CODE_BYTES), message: cutText(message, LIMITS.errorTextBytes) };
}

/** For a step to throw: the code gets through in the message. */
export function toCodedError(thrown: unknown): Error {
  const { code, message } = toFailure(thrown);
  return new Error(`[${code}] ${message}`);
}

/** The failure that the platform says a step has ended with; `undefined` for what is the platform's own. */
export function failureOfStep(error: unknown): Failure | undefined {
  if (isEngineAbort(error)) return undefined;
  const { message } = toStepError(error);
  const [, code, text] = CODED.exec(message) ?? [];
  if (code !== undefined && text !== undefined) return { code, message: text };
  return isPlatformTimeout(error) ? { code: "step_timeout", message } : undefined;
}

/**
 * How `runDurableInWorkflow` fails: `[code] message`, and the `code`. It is final, as the name says, which is that of the
 * platform's own error. The name is no data, since an error that has it as data loses its message on the way out of the
 * instance, where the platform is the local one or has a compatibility date before 2026-05-14.
 */
export class WorkflowRunError extends Error {
  readonly code: string;
  readonly retryable = false;

  constructor({ code, message }: Failure, options?: ErrorOptions) {
    super(`[${code}] ${message}`, options);
    this.code = code;
  }

  override get name(): string {
    return "NonRetryableError";
  }
}

/** What is known of an error before a run has begun. */
export function refused(error: unknown): WorkflowRunError {
  const { code, message } = toFailure(error);
  return new WorkflowRunError(
    { code: codeOf(error) === undefined ? "invalid_input" : code, message },
    { cause: error },
  );
}
