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
  /** Flushes that failed in a row. */
  readonly failures: number;
  /** The expiry of the lapsed lease that D1 has been told of. */
  readonly lapseRecorded: number | null;
  readonly retainMs: number;
}

/** What is not yet in D1 is brought there by an alarm after this time at the latest, if the object should die. */
const SAFETY_MS = 10_000;

/** In how many milliseconds something is due; `null` when nothing is. */
export function nextAlarmIn({
  now,
  run,
  exists,
  hasWork,
  failures,
  lapseRecorded,
  retainMs,
}: Standing): number | null {
  if (!exists) return null;
  const due: number[] = [];
  if (hasWork) due.push(failures === 0 ? SAFETY_MS : 500 + backoffMs(failures, 1_000, 60_000));
  if (run === null) due.push(retainMs);
  else if (run.completedAt !== null) due.push(run.completedAt + retainMs - now);
  else if (run.leaseExpiresAt !== null && run.leaseExpiresAt !== lapseRecorded)
    due.push(run.leaseExpiresAt - now);
  return due.length === 0 ? null : Math.max(0, Math.min(...due));
}

/**
 * Whether the object's storage may be deleted: all of it is in D1, and the run has ended a while ago, or never began
 * (then there are only events, which wait in D1 as well).
 */
export function mayGo({ now, run, exists, hasWork, retainMs }: Standing): boolean {
  if (!exists || hasWork) return false;
  if (run === null) return true;
  return run.completedAt !== null && now >= run.completedAt + retainMs;
}
