/**
 * What tests inject into the coordinators of their own isolate: time, and a database that fails.
 *
 * A run keeps the faults of the test that it began in, however late its object wakes: so no test is met by what the
 * objects of an earlier one still have to do.
 */
import type { Clock } from "../../src/contract/clock.ts";
import { systemClock } from "../../src/contract/clock.ts";
import type { CoordinatorTimes } from "../../src/coordinator/coordinated-run.ts";
import type { RecorderNamespaceLike } from "../../src/coordinator/record-entry.ts";
import type { D1DatabaseLike } from "../../src/stores/d1/database.ts";

export interface Faults {
  clock: Clock;
  /** Stands between the coordinators and D1. */
  wrap: (db: D1DatabaseLike) => D1DatabaseLike;
  times: Partial<CoordinatorTimes>;
  /** `null`: coordinators go to D1 by themselves. */
  recorders: RecorderNamespaceLike | null;
  recorderShards: number;
}

let current: Faults = none();
const byName = new Map<string, Faults>();

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
  get recorders() {
    return current.recorders;
  },
  set recorders(recorders) {
    current.recorders = recorders;
  },
  get recorderShards() {
    return current.recorderShards;
  },
  set recorderShards(shards) {
    current.recorderShards = shards;
  },
};

/** By a run's id, or a recorder object's name. */
export function faultsOf(name: string): Faults {
  const known = byName.get(name) ?? current;
  byName.set(name, known);
  return known;
}

export function resetFaults(): void {
  current = none();
}

function none(): Faults {
  return { clock: systemClock, wrap: (db) => db, times: {}, recorders: null, recorderShards: 1 };
}
