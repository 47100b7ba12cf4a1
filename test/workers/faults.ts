/**
 * What tests inject into the coordinators of their own isolate: time, and a database that fails. The test Worker's
 * RunCoordinator reads it at every call.
 */
import { abortAllDurableObjects } from "cloudflare:test";
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

/** Also aborts the objects of the test that is over, so that what they still have to do befalls no other. */
export async function resetFaults(): Promise<void> {
  await abortAllDurableObjects();
  faults.clock = systemClock;
  faults.wrap = (db) => db;
  faults.times = {};
}
