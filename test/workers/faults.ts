/**
 * What tests inject into the coordinators of their own isolate: time, and a database that fails. The test Worker's
 * RunCoordinator reads it at every call.
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

export const faults: Faults = { clock: systemClock, wrap: (db) => db, times: {} };

export function resetFaults(): void {
  faults.clock = systemClock;
  faults.wrap = (db) => db;
  faults.times = {};
}
