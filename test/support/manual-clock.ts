/**
 * A clock that stands still until it is moved, and then wakes at once whoever's time has come: for tests of the runner,
 * in which everything lives in one request, so that even a lease of 30 ms is safe from a busy machine.
 */
import type { Clock } from "../../src/contract/clock.ts";

export class ManualClock implements Clock {
  #now = 1_750_000_000_000;
  readonly #looks = new Set<() => void>();

  now(): number {
    return this.#now;
  }

  advance(ms: number): void {
    this.#now += ms;
    for (const look of this.#looks) look();
  }

  /** The same, but nobody wakes before it is moved again: as in a process that was stopped, and has just gone on. */
  jump(ms: number): void {
    this.#now += ms;
  }

  /** How many sleep. */
  get sleepers(): number {
    return this.#looks.size;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    const due = this.#now + ms;
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (!signal?.aborted && this.#now < due) return;
        this.#looks.delete(look);
        signal?.removeEventListener("abort", look);
        if (signal?.aborted) reject(signal.reason as Error);
        else resolve();
      };
      this.#looks.add(look);
      signal?.addEventListener("abort", look, { once: true });
      look();
    });
  }
}
