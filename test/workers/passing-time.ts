/**
 * Deadlines that pass at once, in tests of a D1 that does not answer: they are long, so that a D1 that does answer, on a
 * busy machine, is not late.
 */
import { refusalOf } from "../../src/testing/harness.ts";

/** How long a caller waits for D1. Three such waits are shorter than a lease of the tests' runs. */
export const RECORD_DEADLINE_MS = 5_000;

/** What a call that waits for D1 is refused with, by a clock that goes far faster meanwhile. */
export async function refusedInTime(
  clock: { advance(ms: number): void },
  call: () => Promise<unknown>,
): Promise<string> {
  const passing = setInterval(() => clock.advance(RECORD_DEADLINE_MS / 10), 4);
  try {
    return await refusalOf(call);
  } finally {
    clearInterval(passing);
  }
}
