/**
 * What tests inject into the coordinators of their own isolate: time, and a database that fails.
 *
 * A run keeps the faults of the test that it began in, however late its object wakes: so no test is met by what the
 * objects of an earlier one still have to do.
 */
import type { Clock } from "../../src/contract/clock.ts";
import { systemClock } from "../../src/contract/clock.ts";
import type { CoordinatorTimes } from "../../src/coordinator/coordinated-run.ts";
import type { D1DatabaseLike } from "../../src/stores/d1/database.ts";

interface Faults {
  clock: Clock;
  /** Stands between the coordinators and D1. */
  wrap: (db: D1DatabaseLike) => D1DatabaseLike;
  times: Partial<CoordinatorTimes>;
}

let current: Faults = none();
const byRun = new Map<string, Faults>();

/** Those of the test at hand, read at every call. */
export const faults: Faults = {
  get clock() {
    return current.clock;
  },
  set clock(clock) {
    current.clock = clock;
  },
  get wrap() {
    return current.wrap;
  },
  set wrap(wrap) {
    current.wrap = wrap;
  },
  get times() {
    return current.times;
  },
  set times(times) {
    current.times = times;
  },
};

export function faultsOf(runId: string): Faults {
  const known = byRun.get(runId) ?? current;
  byRun.set(runId, known);
  return known;
}

export function resetFaults(): void {
  current = none();
}

function none(): Faults {
  return { clock: systemClock, wrap: (db) => db, times: {} };
}
