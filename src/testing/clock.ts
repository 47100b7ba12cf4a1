/**
 * A clock that tests move: time flows as usual, and jumps when told to. Sleepers whose time has come by a jump wake at
 * once.
 */
import type { Clock } from "../contract/clock.ts";
import { systemClock } from "../contract/clock.ts";

export class TestClock implements Clock {
  #skippedMs = 0;
  readonly #sleepers = new Set<() => void>();

  now(): number {
    return Date.now() + this.#skippedMs;
  }

  /** Moves time forward. */
  advance(ms: number): void {
    this.#skippedMs += ms;
    for (const wake of this.#sleepers) wake();
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    const due = this.now() + ms;
    while (this.now() < due) {
      const jumped = new AbortController();
      const wake = (): void => jumped.abort(new Error("jumped"));
      this.#sleepers.add(wake);
      try {
        const either = signal ? AbortSignal.any([signal, jumped.signal]) : jumped.signal;
        await systemClock.sleep(due - this.now(), either);
      } catch (error) {
        if (signal?.aborted) throw error;
      } finally {
        this.#sleepers.delete(wake);
      }
    }
  }
}
