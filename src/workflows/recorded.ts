/**
 * What a step leaves in the platform's journal, and what it says when it is read back (R25).
 *
 * A result is left as the plain value that JSON gives back, so that it can be read in the dashboard. An envelope goes
 * around what a plain value cannot say: `undefined`, an input hash, a failure, a member `__proto__` (which the
 * platform's copies lose), a result that looks like an envelope itself, and that nothing was decided yet.
 */
import { fromJsonText, NO_VALUE } from "../contract/payload.ts";
import type { StepError } from "../contract/types.ts";

const MARK = "durable-runs";
const VERSION = 1;

/** How a step ended: its result as JSON text, a failure that is not to be tried again, or without a decision. */
export type Outcome = { readonly text: string } | { readonly error: StepError } | typeof UNDECIDED;

/** That what the step is to decide was not decided when it ran. */
export const UNDECIDED = { undecided: true } as const;

export interface Recorded {
  /** Empty when the step had no input fingerprint. */
  readonly inputHash: string;
  readonly isUndecided?: boolean;
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
  readonly undecided?: true;
}

export function toRecorded(outcome: Outcome, inputHash = ""): unknown {
  const hash = inputHash === "" ? {} : { inputHash };
  if ("undecided" in outcome) return { [MARK]: VERSION, ...UNDECIDED } satisfies Envelope;
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
  const { inputHash = "", error, json, result, undecided } = recorded;
  if (undecided) return { inputHash, isUndecided: true };
  if (error !== undefined) return { inputHash, error };
  return { inputHash, result: json === undefined ? result : fromJsonText(json) };
}

function isEnvelope(value: unknown): value is Envelope {
  return typeof value === "object" && value !== null && MARK in value && value[MARK] === VERSION;
}
