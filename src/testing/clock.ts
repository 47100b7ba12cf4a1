/**
 * A clock that tests move: time flows as usual, and jumps when told to. Sleepers whose time has come by a jump wake
 * within a few real milliseconds.
 *
 * They look for themselves rather than being woken, because in workerd a timer belongs to the request or object that
 * set it, and nobody else may touch it.
 */
import type { Clock } from "../contract/clock.ts";
import { systemClock } from "../contract/clock.ts";

const LOOK_EVERY_MS = 4;

export class TestClock implements Clock {
  #skippedMs = 0;

  now(): number {
    return Date.now() + this.#skippedMs;
  }

  /** Moves time forward. */
  advance(ms: number): void {
    this.#skippedMs += ms;
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    const due = this.now() + ms;
    do {
      await systemClock.sleep(Math.min(LOOK_EVERY_MS, Math.max(0, due - this.now())), signal);
    } while (this.now() < due);
  }
}
