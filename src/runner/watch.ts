/**
 * Watches for the loss of a lease, where the store can tell of one at once (R33): a cancelled run stops without waiting
 * for the next heartbeat. Only an addition to the heartbeat: it fails without harm.
 */
import type { Clock } from "../contract/clock.ts";
import type { DurableRunStore, RunStatus } from "../contract/types.ts";
import { unlessAborted } from "../contract/clock.ts";
import type { Lifetime } from "./lifetime.ts";

/** Not watched: a run that is over by then, and one whose store has answered within that time. */
const FIRST_MS = 100;
/** A store that does not hold the call is not asked more often. */
const INTERVAL_MS = 1_000;
const HOLD_MS = 30_000;
const AFTER_FAILURE_MS = 5_000;

export interface Watched {
  readonly runId: string;
  readonly fence: number;
  readonly store: DurableRunStore;
  readonly clock: Clock;
  readonly lifetime: Lifetime;
  /** Whether the store has said in the last `ms` that the lease is held. */
  readonly isConfirmedWithin: (ms: number) => boolean;
}

/** Calls `onLost` once, if ever. Never rejects. */
export async function watchLease(
  { runId, fence, store, clock, lifetime, isConfirmedWithin }: Watched,
  onLost: (status: RunStatus | undefined) => void,
): Promise<void> {
  const watch = store.watchLease?.bind(store);
  if (watch === undefined) return;
  for (let pause = FIRST_MS; ;) {
    await lifetime.pause(pause);
    // Asked first: it may find that the lease is over, and end the attempt.
    const isConfirmed = isConfirmedWithin(FIRST_MS);
    if (lifetime.isOver) return;
    if (isConfirmed) {
      pause = FIRST_MS;
      continue;
    }
    try {
      const askedAt = clock.now();
      const { signal } = lifetime;
      const watching = watch({ runId, fence, timeoutMs: HOLD_MS, signal });
      const { held, status } = await unlessAborted(signal, watching);
      if (!held) return onLost(status);
      pause = Math.max(0, INTERVAL_MS - (clock.now() - askedAt));
    } catch {
      pause = AFTER_FAILURE_MS;
    }
  }
}
