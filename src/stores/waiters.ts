/**
 * Callers that wait for something to happen to a run, in the process that it happens in.
 *
 * A caller looks for itself, and waits only if what it came for is not there; it looks again when it is woken, or its
 * time is over. So a wake-up too many does no harm, and to look and to begin to wait must be one synchronous block.
 */
import type { Clock } from "../contract/clock.ts";
import { startTimer } from "../contract/clock.ts";

export class Waiters {
  readonly #waiting = new Map<string, Set<() => void>>();

  /** Wakes all who wait on a topic. */
  wake(topic: string): void {
    const waiting = this.#waiting.get(topic);
    this.#waiting.delete(topic);
    for (const wake of waiting ?? []) wake();
  }

  /** Wakes all, whatever they wait for. */
  wakeAll(): void {
    for (const topic of this.#waiting.keys()) this.wake(topic);
  }

  /**
   * Answers what `look` finds, as soon as it finds anything but `undefined`, or what it finds after `timeoutMs`, or once
   * the signal aborts. It looks again each time that the topic is woken.
   */
  async until<T>(
    topic: string,
    { clock, timeoutMs, signal }: { clock: Clock; timeoutMs: number; signal?: AbortSignal | undefined },
    look: () => T | undefined,
  ): Promise<T | undefined> {
    let late = timeoutMs <= 0 || signal?.aborted === true;
    const timeUp = Promise.withResolvers<void>();
    const stop = (): void => {
      late = true;
      timeUp.resolve();
    };
    const cancel = late ? stop : startTimer(clock, timeoutMs, stop);
    signal?.addEventListener("abort", stop, { once: true });
    try {
      for (;;) {
        const found = look();
        if (found !== undefined || late) return found;
        await this.#woken(topic, timeUp.promise);
      }
    } finally {
      signal?.removeEventListener("abort", stop);
      cancel();
    }
  }

  async #woken(topic: string, timeUp: Promise<void>): Promise<void> {
    let wake = (): void => {};
    const woken = new Promise<void>((resolve) => (wake = resolve));
    const waiting = this.#waiting.get(topic) ?? new Set();
    this.#waiting.set(topic, waiting.add(wake));
    await Promise.race([woken, timeUp]);
    waiting.delete(wake);
    if (waiting.size === 0 && this.#waiting.get(topic) === waiting) this.#waiting.delete(topic);
  }
}

/** Woken when an event of this key is accepted. */
export function eventTopic(key: string): string {
  return `event:${key}`;
}

/** Woken when a run changes hands, or ends. */
export const LEASE_TOPIC = "lease";
