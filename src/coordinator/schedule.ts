/**
 * When a coordinator's one alarm is due, and when the object may go (R18, R19). Pure: told how things stand.
 */
import { backoffMs } from "../contract/clock.ts";
import type { RunState } from "../ledger/state.ts";

export interface Standing {
  readonly now: number;
  readonly run: RunState | null;
  /** Whether there is anything at all, in memory or in storage. */
  readonly exists: boolean;
  /** Whether anything is not saved, or not in D1. */
  readonly hasWork: boolean;
  /** Flushes, or comparisons with D1, that failed in a row. */
  readonly failures: number;
  /** Whether the run is as a rebuild found it in D1. */
  readonly isAdopted: boolean;
  /** When storage was made, or rebuilt. */
  readonly madeAt: number;
  readonly retainMs: number;
}

/** What is not yet in D1 is brought there by an alarm after this time at the latest, if the object should die. */
const SAFETY_MS = 10_000;

/** When D1 is asked again, after it has failed so many times in a row. */
export function retryInMs(failures: number): number {
  return 500 + backoffMs(failures, 1_000, 60_000);
}

/** In how many milliseconds something is due; `null` when nothing is. */
export function nextAlarmIn(standing: Standing): number | null {
  const { now, run, exists, hasWork, failures } = standing;
  if (!exists) return null;
  const due: number[] = [];
  const retryIn = failures === 0 ? 0 : retryInMs(failures);
  if (hasWork) due.push(failures === 0 ? SAFETY_MS : retryIn);
  else if (mayGoAt(standing) !== null) due.push((mayGoAt(standing) ?? now) - now);
  // To note that it has lapsed, D1 may have to be asked.
  if (run?.status === "running" && run.leaseExpiresAt !== null)
    due.push(Math.max(retryIn, run.leaseExpiresAt - now));
  return due.length === 0 ? null : Math.max(0, Math.min(...due));
}

/** Whether the object's storage may be deleted. */
export function mayGo(standing: Standing): boolean {
  const at = mayGoAt(standing);
  return standing.exists && !standing.hasWork && at !== null && standing.now >= at;
}

/**
 * A while after the run has ended. Events alone, and a run that was only read from D1, lie in D1 as well: they may go
 * a while after they came here. `null` while the run goes on, or its lease may lapse, which somebody has to note. All
 * of these instants are on record: one that an object's own wake-up moved would never come.
 */
function mayGoAt({ run, madeAt, isAdopted, retainMs }: Standing): number | null {
  if (run !== null && run.leaseExpiresAt !== null) return null;
  if (run === null || isAdopted) return madeAt + retainMs;
  return run.completedAt === null ? null : run.completedAt + retainMs;
}
