/**
 * What an attempt waits for: each call of the store is given up at its own deadline, and everything at once when the
 * lease is lost. Whatever is given up goes on; what it comes to is dropped.
 *
 * Owns one timer for all calls instead of one for each. It lasts until the earliest deadline, and a call that is
 * answered leaves it alone: deadlines are far away and answers quick, so it outlives many calls. Knows neither lease
 * nor store.
 */
import type { Clock } from "../contract/clock.ts";
import { startTimer } from "../contract/clock.ts";
import { DurableStoreUnavailableError } from "../contract/errors.ts";

interface Pending {
  /** Epoch milliseconds. */
  readonly deadline: number;
  readonly reject: (error: Error) => void;
}

export class PendingCalls {
  readonly #clock: Clock;
  readonly #lost: AbortSignal;
  readonly #pending = new Set<Pending>();
  #cancelWatchdog = (): void => {};
  /** When the watchdog looks next; Infinity while there is none. */
  #looksAt = Infinity;
  #isStopped = false;

  /** `lost`: aborts when nothing is to be waited for any more. */
  constructor(clock: Clock, lost: AbortSignal) {
    this.#clock = clock;
    this.#lost = lost;
    lost.addEventListener("abort", () => this.#rejectAll(lost.reason as Error), { once: true });
  }

  /**
   * Settles like `work`, or rejects with {@link noAnswer} once `ms` have passed, or with the reason of the loss as
   * soon as there is one.
   */
  wait<T>(work: Promise<T>, ms = Infinity): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const call: Pending = { deadline: this.#clock.now() + ms, reject };
      if (this.#lost.aborted) reject(this.#lost.reason as Error);
      else this.#pending.add(call);
      // A store that is written in JavaScript may answer no promise.
      Promise.resolve(work).then(
        (value) => {
          this.#pending.delete(call);
          resolve(value);
        },
        (error: Error) => {
          this.#pending.delete(call);
          reject(error);
        },
      );
      this.#watch(call.deadline);
    });
  }

  /** Ends the watchdog: from here on no call has a deadline, for nobody waits for one. */
  stop(): void {
    this.#isStopped = true;
    this.#cancelWatchdog();
  }

  #watch(deadline: number): void {
    if (this.#isStopped || deadline >= this.#looksAt) return;
    this.#cancelWatchdog();
    this.#looksAt = deadline;
    const ms = Math.max(0, deadline - this.#clock.now());
    this.#cancelWatchdog = startTimer(this.#clock, ms, () => this.#look());
  }

  #look(): void {
    const now = this.#clock.now();
    let next = Infinity;
    for (const call of this.#pending) {
      if (call.deadline > now) {
        next = Math.min(next, call.deadline);
        continue;
      }
      this.#pending.delete(call);
      call.reject(noAnswer());
    }
    this.#looksAt = Infinity;
    this.#watch(next);
  }

  #rejectAll(error: Error): void {
    for (const call of this.#pending) call.reject(error);
    this.#pending.clear();
  }
}

export function noAnswer(): Error {
  return new DurableStoreUnavailableError("the store did not answer in time");
}
