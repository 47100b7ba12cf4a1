/**
 * When somebody ought to have acted on a run, if nobody has: what `due_at` of its row says, for RunHistory.stuck.
 *
 * Derived from the run as it stands; no rule looks at it.
 */
import type { RunState } from "../../ledger/state.ts";

/**
 * The earliest of the ends of the run's waits and of its lease's lapse; `null` where nothing is due.
 *
 * Where heartbeats are recorded, the lapse is known ahead. Elsewhere a lease that is set says nothing, for it may have been
 * renewed: there the lapse is due once it was noted, by a run that is running without a lease.
 */
export function dueAt(run: RunState, { recordsHeartbeats }: { recordsHeartbeats: boolean }): number | null {
  if (run.completedAt !== null) return null;
  const due = run.waits.flatMap(({ until }) => until ?? []);
  if (run.status === "running" && run.leaseExpiresAt === null) due.push(run.updatedAt);
  if (run.leaseExpiresAt !== null && recordsHeartbeats) due.push(run.leaseExpiresAt);
  return due.length === 0 ? null : Math.min(...due);
}
