/**
 * Deadlines that are rarely reached, for many calls at once: they are looked at every tenth of a second or so, and
 * share one real timer, for to set and clear one for each call takes longer than most of what a call does.
 */
import type { Clock } from "../contract/clock.ts";

const LOOK_MS = 100;

interface Timer {
  /** Epoch milliseconds. */
  readonly dueAt: number;
  readonly onDue: () => void;
}

/** The same clock, whose timers are up to a tenth of a second late. */
export function withCoarseTimers(clock: Clock): Clock {
  const timers = new Set<Timer>();
  let isLooking = false;

  const nextLookMs = (): number => {
    let next = LOOK_MS;
    for (const { dueAt } of timers) next = Math.min(next, dueAt - clock.now());
    return Math.max(0, next);
  };

  const look = async (): Promise<void> => {
    isLooking = true;
    try {
      while (timers.size > 0) {
        await clock.sleep(nextLookMs());
        const now = clock.now();
        for (const timer of timers) {
          if (timer.dueAt > now) continue;
          timers.delete(timer);
          timer.onDue();
        }
      }
    } finally {
      isLooking = false;
    }
  };

  return {
    now: () => clock.now(),
    sleep: (ms, signal) => clock.sleep(ms, signal),
    timer(ms, onDue) {
      const timer: Timer = { dueAt: clock.now() + ms, onDue };
      timers.add(timer);
      if (!isLooking) look().catch(() => {});
      return () => timers.delete(timer);
    },
  };
}
