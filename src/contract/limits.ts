/**
 * The limits of the contract and the checks that hold them: one rule a field, used by every store and by the runner.
 *
 * A check throws {@link DurableInvalidInputError} that names the field and the limit, before anything is touched.
 */
import { DurableInvalidInputError } from "./errors.ts";
import type { RunStatus, StepKind } from "./types.ts";

export const DEFAULT_LEASE_MS = 30_000;

/** How long a wait for an event lasts unless told otherwise: a day. */
export const DEFAULT_WAIT_MS = 86_400_000;

export const STEP_KINDS = [
  "logic",
  "llm",
  "tool",
  "readiness",
  "deterministic",
  "event",
] as const satisfies readonly StepKind[];

export const RUN_STATUSES = [
  "pending",
  "running",
  "completed",
  "failed",
  "suspended",
  "cancelled",
] as const satisfies readonly RunStatus[];

/** Bytes are of UTF-8. */
export const LIMITS = {
  /** The longest name by which a Durable Object still knows itself. https://developers.cloudflare.com/durable-objects/api/namespace/ */
  runIdBytes: 1_024,
  workerIdBytes: 512,
  projectIdBytes: 256,
  intentBytes: 1_024,
  eventKeyBytes: 1_024,
  requestIdBytes: 128,
  inputHashBytes: 128,
  tags: 64,
  tagBytes: 1_024,
  /** Positions run from 0 to one less. */
  steps: 100_000,
  /** A day. */
  leaseMs: 86_400_000,
  /** A hundred years: later deadlines might be no dates. */
  timeoutMs: 3_155_760_000_000,
  /** How often a failed step is attempted again. */
  retries: 1_000,
  /** How long a call may be held until there is something to answer: a minute. */
  holdMs: 60_000,
  /** Of a step in a branch: the names of the branches that it lies in make the most of it. */
  pathBytes: 1_024,
  branchNameBytes: 128,
  /** Of a group. */
  branches: 1_000,
  /** Why a run was cancelled. */
  reasonBytes: 4_096,
  /** A step's result, an event's payload, a run's input or result: 16 MiB. */
  payloadBytes: 16 * 1_024 * 1_024,
  /** A run's task or outcome, which lie in the run's own row: 256 KiB. */
  smallPayloadBytes: 256 * 1_024,
  /** What is kept of an error's message and of its stack, each. */
  errorTextBytes: 16_384,
} as const;

const utf8 = new TextEncoder();

export function byteLength(text: string): number {
  return utf8.encode(text).byteLength;
}

/**
 * The one rule for run ids: 1 to 1,024 bytes of well-formed text without control characters. Anything else goes,
 * "../" and emoji included: an id is opaque, and no store uses it as a path.
 */
export function checkRunId(runId: unknown): asserts runId is string {
  checkText("runId", runId, LIMITS.runIdBytes);
}

export function checkText(field: string, value: unknown, maxBytes: number): asserts value is string {
  if (typeof value !== "string") {
    throw new DurableInvalidInputError(field, `must be a string, but is ${describe(value)}`);
  }
  if (value === "") throw new DurableInvalidInputError(field, `must not be empty (1 to ${maxBytes} bytes)`);
  // A string of n UTF-16 units has n to 3n bytes.
  const bytes = value.length * 3 <= maxBytes ? 0 : byteLength(value);
  if (bytes > maxBytes) {
    throw new DurableInvalidInputError(field, `has ${bytes} bytes of UTF-8; at most ${maxBytes} are allowed`);
  }
  // oxlint-disable-next-line no-control-regex -- control characters are what it looks for
  if (/[\u0000-\u001f\u007f]/.test(value)) {
    throw new DurableInvalidInputError(field, "has a control character (U+0000 to U+001F, U+007F)");
  }
  if (!value.isWellFormed())
    throw new DurableInvalidInputError(field, "has a lone surrogate, so is not well-formed text");
}

export function checkLeaseMs(leaseMs: unknown): asserts leaseMs is number {
  checkInteger("leaseMs", leaseMs, 1, LIMITS.leaseMs);
}

export function checkStepIndex(stepIndex: unknown): asserts stepIndex is number {
  checkInteger("stepIndex", stepIndex, 0, LIMITS.steps - 1);
}

export function checkStepKind(kind: unknown, field = "kind"): asserts kind is StepKind {
  checkOneOf(field, kind, STEP_KINDS);
}

export function checkObject(field: string, value: unknown): void {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new DurableInvalidInputError(field, "must be an object");
  }
}

export function checkInteger(
  field: string,
  value: unknown,
  min: number,
  max: number,
): asserts value is number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < min || value > max) {
    throw new DurableInvalidInputError(
      field,
      `must be a whole number from ${min} to ${max}, but is ${typeof value === "number" ? value : describe(value)}`,
    );
  }
}

export function checkOneOf<T extends string>(
  field: string,
  value: unknown,
  allowed: readonly T[],
): asserts value is T {
  if (!(allowed as readonly unknown[]).includes(value)) {
    throw new DurableInvalidInputError(
      field,
      `must be one of ${allowed.join(", ")}, but is ${describe(value)}`,
    );
  }
}

/** The first bytes of a text, cut between characters, with a mark where it was cut. */
export function cutText(text: string, maxBytes: number): string {
  if (text.length * 3 <= maxBytes) return text;
  const bytes = utf8.encode(text);
  if (bytes.byteLength <= maxBytes) return text;
  const mark = "… (cut)";
  const head = new Uint8Array(maxBytes - byteLength(mark));
  const { read } = utf8.encodeInto(text, head);
  return text.slice(0, read) + mark;
}

function describe(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  if (value === null || value === undefined) return String(value);
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}
