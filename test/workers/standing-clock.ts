import type { Clock } from "../../src/contract/clock.ts";
import { systemClock } from "../../src/contract/clock.ts";

/** Time that stands still until it is moved. Sleepers look for themselves, as a timer belongs to the object that set it. */
export class StandingClock implements Clock {
  #now = Date.now();

  now(): number {
    return this.#now;
  }

  advance(ms: number): void {
    this.#now += ms;
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    const due = this.#now + ms;
    while (this.#now < due) await systemClock.sleep(2, signal);
  }
}
