/**
 * Calls to a Durable Object, repeated where that is safe (R20).
 *
 * What an object throws is infrastructure, never an answer. A stub that saw a reset stays broken, so each attempt
 * takes a fresh one. Every call here is idempotent under its request id.
 */
import type { Clock } from "../../contract/clock.ts";
import { backoffMs } from "../../contract/clock.ts";
import { DurableRunError, DurableStoreUnavailableError } from "../../contract/errors.ts";

export interface RetryOptions {
  /** Calls in all. Default 6. */
  attempts?: number;
  /** The first backoff's ceiling; it doubles at each attempt. Default 25. */
  baseMs?: number;
  /** Default 1,000. */
  maxMs?: number;
}

/** Rejects with `store_unavailable` when it gives up; with what was thrown when repeating cannot help. */
export async function callFresh<T>(
  call: () => Promise<T>,
  clock: Clock,
  { attempts = 6, baseMs = 25, maxMs = 1_000 }: RetryOptions = {},
): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await call();
    } catch (error) {
      const fault = classifyFault(error);
      if (fault === "defect") throw error;
      if (fault === "overloaded" || attempt >= attempts) {
        throw new DurableStoreUnavailableError(`the coordinator could not answer: ${messageOf(error)}`, {
          cause: error,
        });
      }
      await clock.sleep(backoffMs(attempt, baseMs, maxMs));
    }
  }
}

/**
 * By the properties that the runtime sets, and by message where it sets none.
 * https://developers.cloudflare.com/durable-objects/best-practices/error-handling/
 */
export function classifyFault(error: unknown): "transient" | "overloaded" | "defect" {
  if (typeof error !== "object" || error === null) return "defect";
  const flags = error as { overloaded?: unknown; retryable?: unknown; durableObjectReset?: unknown };
  if (flags.overloaded === true) return "overloaded";
  if (flags.retryable === true || flags.durableObjectReset === true) return "transient";
  return TRANSIENT.test(messageOf(error)) ? "transient" : "defect";
}

const TRANSIENT = new RegExp(
  [
    "network connection lost",
    "durable object (was )?reset",
    "object to be reset",
    "reset because its code was updated",
    "script has been upgraded",
    "no longer active",
    "internal error",
    "exceeded (its )?memory limit",
    "exceeded (its )?cpu time limit",
    "abort",
    "disconnected",
    // Of a service binding, by wrangler, while the other Worker is about to start.
    "not found\\. make sure it is running locally",
  ].join("|"),
  "i",
);

/** The invocation that called may call no more: this call has not left it, but another invocation may make it. */
export function isOutOfSubrequests(error: unknown): boolean {
  const isAnswer = error instanceof DurableRunError && error.code !== "store_unavailable";
  return !isAnswer && /too many subrequests/i.test(messageOf(error));
}

/**
 * What was called belongs to another request of this Worker, so the call has not left. Whoever is called cannot say
 * so.
 */
export function isOfAnotherRequest(error: unknown): boolean {
  return /^cannot perform i\/o on behalf of a different request/i.test(messageOf(error)) && !isRemote(error);
}

/** The runtime marks what another Worker or object has thrown. */
function isRemote(error: unknown): boolean {
  return (error as { remote?: unknown } | null)?.remote === true;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
