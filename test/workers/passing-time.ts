/** Time that passes at once, in tests of a D1 that fails; but a D1 that answers, on a busy machine, is never late. */
import { onTestFinished } from "vitest";
import { refusalOf } from "../../src/testing/harness.ts";
import { isAtWork } from "./d1.ts";

/** How long a caller waits for D1. Three such waits are shorter than a lease of the tests' runs. */
export const RECORD_DEADLINE_MS = 5_000;

interface Movable {
  advance(ms: number): void;
}

/** Every 4 ms, the clock moves on by `stepMs`, unless D1 is at work; until the test is over, or somebody stops it. */
export function timeFlies(clock: Movable, stepMs = 500, mayPass: () => boolean = () => true): () => void {
  const flying = setInterval(() => {
    if (mayPass() && !isAtWork()) clock.advance(stepMs);
  }, 4);
  const stop = () => clearInterval(flying);
  onTestFinished(stop);
  return stop;
}

/** Settles like `work`, while time flies. */
export async function whileTimeFlies<T>(clock: Movable, work: Promise<T>, stepMs?: number): Promise<T> {
  const stop = timeFlies(clock, stepMs);
  try {
    return await work;
  } finally {
    stop();
  }
}

export interface Failing {
  readonly clock: Movable;
  /** How often D1 has failed so far. */
  readonly failures: () => number;
}

/** What a call that waits for D1 is refused with, by a clock that goes far faster from D1's next failure on. */
export async function refusedInTime(
  { clock, failures }: Failing,
  call: () => Promise<unknown>,
): Promise<string> {
  const before = failures();
  const stop = timeFlies(clock, RECORD_DEADLINE_MS / 10, () => failures() > before);
  try {
    return await refusalOf(call);
  } finally {
    stop();
  }
}
