/** Checks of what a task asks of its context: the same wherever the task runs. Each throws before anything is begun. */
import { DurableInvalidInputError } from "../contract/errors.ts";
import {
  checkInteger,
  checkObject,
  checkStepKind,
  checkText,
  DEFAULT_WAIT_MS,
  LIMITS,
} from "../contract/limits.ts";
import type { StepKind } from "../contract/types.ts";
import { canonicalHash } from "../identity.ts";
import { checkRetries } from "./retries.ts";
import type { AwaitEventOptions, Branches, StepOptions } from "./types.ts";

const DEFAULT_POLL_MS = 250;

/** The kind of a step, and the hash of its input: empty when it has no fingerprint. */
export function checkStep(
  intent: string,
  fn: unknown,
  opts: StepOptions,
): { kind: StepKind; inputHash: string } {
  checkObject("opts", opts);
  if (typeof fn !== "function") throw new DurableInvalidInputError("fn", "must be a function");
  const { kind = "logic", inputFingerprint, timeoutMs, retries } = opts;
  checkText("intent", intent, LIMITS.intentBytes);
  checkStepKind(kind);
  if (timeoutMs !== undefined) checkInteger("timeoutMs", timeoutMs, 1, LIMITS.timeoutMs);
  if (retries !== undefined) checkRetries(retries);
  return { kind, inputHash: inputFingerprint === undefined ? "" : canonicalHash(inputFingerprint) };
}

export function checkSleep(ms: number): void {
  checkInteger("ms", ms, 0, LIMITS.timeoutMs);
}

/** How long it is until then; 0 when it has passed. */
export function msUntil(date: Date, now: number): number {
  const at: unknown = date instanceof Date ? date.getTime() : undefined;
  if (typeof at !== "number" || Number.isNaN(at))
    throw new DurableInvalidInputError("date", "must be a valid Date");
  const ms = Math.max(0, Math.ceil(at - now));
  if (ms > LIMITS.timeoutMs)
    throw new DurableInvalidInputError("date", "must be at most a hundred years from now");
  return ms;
}

export function checkWait(opts: AwaitEventOptions): Required<AwaitEventOptions> {
  checkObject("opts", opts);
  const { timeoutMs = DEFAULT_WAIT_MS, pollMs = DEFAULT_POLL_MS } = opts;
  checkInteger("timeoutMs", timeoutMs, 0, LIMITS.timeoutMs);
  checkInteger("pollMs", pollMs, 1, LIMITS.timeoutMs);
  return { timeoutMs, pollMs };
}

export function checkRace(branches: readonly unknown[]): void {
  if (branches.length === 0)
    throw new DurableInvalidInputError("branches", "must not be empty: no race would end");
}

/** The values of named branches, in order, as an array for an array and as an object for an object. */
export function likeBranches(
  branches: Branches,
  named: readonly { readonly name: string }[],
  values: readonly unknown[],
): unknown {
  return Array.isArray(branches) ? values : Object.fromEntries(named.map(({ name }, i) => [name, values[i]]));
}
