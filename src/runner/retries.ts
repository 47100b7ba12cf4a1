/** Whether a failed attempt of a step is followed by another, and after how long. */
import { codeOf, DurableInvalidInputError } from "../contract/errors.ts";
import { checkInteger, checkOneOf, LIMITS } from "../contract/limits.ts";

export interface RetryPolicy {
  /** How often a failed step is attempted again: 0 to 1,000. */
  limit: number;
  /** Before the first retry, in milliseconds. Default 1,000. */
  delayMs?: number;
  /**
   * How the delay grows with each retry: not at all, by `delayMs`, or to twice as much. Default "exponential".
   */
  backoff?: "constant" | "linear" | "exponential";
  /** No delay is longer. Default 300,000 (five minutes), or `delayMs` where that is more. */
  maxDelayMs?: number;
  /** Waits a random part of each delay instead ("full jitter"). Default false. */
  jitter?: boolean;
}

/**
 * Answers the delay before the next attempt in milliseconds, or `false` for no further one. `attempt` is that of the one
 * that failed: 1 for the first. Asked 1,000 times at most.
 */
export type RetryFunction = (error: unknown, attempt: number) => number | false;

export const DEFAULT_DELAY_MS = 1_000;
const DEFAULT_MAX_DELAY_MS = 300_000;

export function checkRetries(retries: RetryPolicy | RetryFunction): void {
  if (typeof retries === "function") return;
  if (typeof retries !== "object" || retries === null) {
    throw new DurableInvalidInputError("retries", "must be an object with a limit, or a function");
  }
  const { limit, delayMs, backoff, maxDelayMs, jitter, ...rest } = retries;
  const [unknownField] = Object.keys(rest);
  if (unknownField !== undefined) {
    const fields = "limit, delayMs, backoff, maxDelayMs and jitter";
    throw new DurableInvalidInputError(`retries.${unknownField}`, `is not known; the fields are ${fields}`);
  }
  checkInteger("retries.limit", limit, 0, LIMITS.retries);
  if (delayMs !== undefined) checkInteger("retries.delayMs", delayMs, 0, LIMITS.timeoutMs);
  if (maxDelayMs !== undefined) checkInteger("retries.maxDelayMs", maxDelayMs, 0, LIMITS.timeoutMs);
  if (backoff !== undefined) checkOneOf("retries.backoff", backoff, ["constant", "linear", "exponential"]);
  if (jitter !== undefined && typeof jitter !== "boolean") {
    throw new DurableInvalidInputError("retries.jitter", "must be true or false");
  }
}

/**
 * The delay before the next attempt, in whole milliseconds, or `undefined` when the failure is final. `tries`: how many
 * attempts there have been. Throws what a retry function throws, or `invalid_input` for a delay that is none.
 */
export function retryDelayMs(
  retries: RetryPolicy | RetryFunction | undefined,
  error: unknown,
  tries: number,
): number | undefined {
  if (retries === undefined || isFinal(error) || tries > LIMITS.retries) return undefined;
  if (typeof retries === "function") {
    const delay: unknown = retries(error, tries);
    if (delay === false) return undefined;
    checkAnswer(delay);
    return delay;
  }
  const { limit, delayMs = DEFAULT_DELAY_MS, jitter = false } = retries;
  if (tries > limit) return undefined;
  const { maxDelayMs = Math.max(DEFAULT_MAX_DELAY_MS, delayMs) } = retries;
  const delay = Math.min(maxDelayMs, delayMs * growth(retries.backoff ?? "exponential", tries));
  return Math.floor(jitter ? Math.random() * (delay + 1) : delay);
}

function checkAnswer(delay: unknown): asserts delay is number {
  if (typeof delay === "number" && Number.isSafeInteger(delay) && delay >= 0 && delay <= LIMITS.timeoutMs)
    return;
  throw new DurableInvalidInputError(
    "retries",
    `must answer false, or a whole number of milliseconds from 0 to ${LIMITS.timeoutMs}, but answered ` +
      (typeof delay === "number" ? delay : `a value of type ${typeof delay}`),
  );
}

/**
 * Whether the attempts that a policy allows are used up before this one, the `tries`th: the earlier ones failed, or killed
 * their workers. A function is asked of failures alone.
 */
export function isUsedUp(retries: RetryPolicy | RetryFunction | undefined, tries: number): boolean {
  return typeof retries === "object" && tries > retries.limit + 1;
}

/** What no further attempt would mend: what says so of itself, and a result that cannot be recorded (R25). */
export function isFinal(error: unknown): boolean {
  const code = codeOf(error);
  if (code === "payload_not_json" || code === "payload_too_large") return true;
  return typeof error === "object" && error !== null && "retryable" in error && error.retryable === false;
}

function growth(backoff: NonNullable<RetryPolicy["backoff"]>, tries: number): number {
  if (backoff === "constant") return 1;
  return backoff === "linear" ? tries : 2 ** (tries - 1);
}
