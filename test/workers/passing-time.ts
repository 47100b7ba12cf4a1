/**
 * Deadlines that pass at once, in tests of a D1 that fails: they are long, so that a D1 that answers, on a busy machine,
 * is not late.
 */
import { refusalOf } from "../../src/testing/harness.ts";

/** How long a caller waits for D1. Three such waits are shorter than a lease of the tests' runs. */
export const RECORD_DEADLINE_MS = 5_000;

export interface Failing {
  readonly clock: { advance(ms: number): void };
  /** How often D1 has failed so far. */
  readonly failures: () => number;
}

/** What a call that waits for D1 is refused with, by a clock that goes far faster from D1's next failure on. */
export async function refusedInTime(
  { clock, failures }: Failing,
  call: () => Promise<unknown>,
): Promise<string> {
  const before = failures();
  const passing = setInterval(() => {
    if (failures() > before) clock.advance(RECORD_DEADLINE_MS / 10);
  }, 4);
  try {
    return await refusalOf(call);
  } finally {
    clearInterval(passing);
  }
}
