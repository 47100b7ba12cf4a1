/** A clock that can be moved and a database that can be held, for the coordinators of each test. */
import { afterEach, beforeEach } from "vitest";
import type { Clock } from "../../src/contract/clock.ts";
import { TestClock } from "../../src/testing/clock.ts";
import { faults, resetFaults } from "./faults.ts";
import { GatedDatabase } from "./gated-database.ts";

interface MovableClock extends Clock {
  advance(ms: number): void;
}

/** Those of the test at hand. */
export let clock: MovableClock;
export let db: GatedDatabase;

/** To be called once in a test file. */
export function useGatedWorld(newClock: () => MovableClock = () => new TestClock()): void {
  beforeEach(() => {
    clock = newClock();
    db = new GatedDatabase();
    faults.clock = clock;
    const own = db;
    faults.wrap = () => own;
  });
  afterEach(resetFaults);
}

/** Another clock for the tests of one `describe`. */
export function useClock(newClock: () => MovableClock): void {
  beforeEach(() => {
    clock = newClock();
    faults.clock = clock;
  });
}
