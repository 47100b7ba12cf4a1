/**
 * Deadlines that are rarely reached, for many calls at once: they are looked at every quarter of a second or so, and share
 * one real timer, for to set and clear one for each call takes longer than most of what a call does.
 */
import type { Clock } from "../contract/clock.ts";

const LOOK_MS = 250;

interface Timer {
  /** Epoch milliseconds. */
  readonly dueAt: number;
  readonly onDue: () => void;
}

/** The same clock, whose timers are up to a quarter of a second late. */
export function withCoarseTimers(clock: Clock): Clock {
  const timers = new Set<Timer>();
  let isLooking = false;

  const look = async (): Promise<void> => {
    isLooking = true;
    while (timers.size > 0) {
      const dues = Array.from(timers, ({ dueAt }) => dueAt - clock.now());
      await clock.sleep(Math.max(0, Math.min(LOOK_MS, ...dues)));
      const now = clock.now();
      for (const timer of timers) {
        if (timer.dueAt > now) continue;
        timers.delete(timer);
        timer.onDue();
      }
    }
    isLooking = false;
  };

  return {
    now: () => clock.now(),
    sleep: (ms, signal) => clock.sleep(ms, signal),
    timer(ms, onDue) {
      const timer: Timer = { dueAt: clock.now() + ms, onDue };
      timers.add(timer);
      if (!isLooking) void look();
      return () => timers.delete(timer);
    },
  };
}
