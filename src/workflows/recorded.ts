/**
 * What a step leaves in the platform's journal, and what it says when it is read back (R25).
 *
 * A result is left as the plain value that JSON gives back, so that it can be read in the dashboard. An envelope goes
 * around what a plain value cannot say: `undefined`, an input hash, a failure, a member `__proto__` (which the
 * platform's copies lose) and a result that looks like an envelope itself.
 */
import { fromJsonText, NO_VALUE } from "../contract/payload.ts";
import type { StepError } from "../contract/types.ts";

const MARK = "durable-runs";
const VERSION = 1;

/** How a step ended: its result as JSON text, or a failure that is not to be tried again. */
export type Outcome = { readonly text: string } | { readonly error: StepError };

export interface Recorded {
  /** Empty when the step had no input fingerprint. */
  readonly inputHash: string;
  readonly error?: StepError;
  /** When there is no error. */
  readonly result?: unknown;
}

interface Envelope {
  readonly [MARK]: typeof VERSION;
  readonly inputHash?: string;
  readonly result?: unknown;
  readonly json?: string;
  readonly error?: StepError;
}

export function toRecorded(outcome: Outcome, inputHash = ""): unknown {
  const hash = inputHash === "" ? {} : { inputHash };
  if ("error" in outcome) return { [MARK]: VERSION, ...hash, error: outcome.error } satisfies Envelope;
  const { text } = outcome;
  if (text === NO_VALUE) return { [MARK]: VERSION, ...hash } satisfies Envelope;
  if (text.includes('"__proto__"')) return { [MARK]: VERSION, ...hash, json: text } satisfies Envelope;
  const result = fromJsonText(text);
  if (inputHash === "" && !isEnvelope(result)) return result;
  return { [MARK]: VERSION, ...hash, result } satisfies Envelope;
}

export function fromRecorded(recorded: unknown): Recorded {
  if (!isEnvelope(recorded)) return { inputHash: "", result: recorded };
  const { inputHash = "", error, json, result } = recorded;
  if (error !== undefined) return { inputHash, error };
  return { inputHash, result: json === undefined ? result : fromJsonText(json) };
}

function isEnvelope(value: unknown): value is Envelope {
  return typeof value === "object" && value !== null && MARK in value && value[MARK] === VERSION;
}
