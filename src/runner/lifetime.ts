/**
 * How long an attempt lasts, for what goes on beside its task: pauses that end with it, and a signal for calls.
 *
 * Owns the timers of the pauses, and no more than those: an AbortSignal is made for whoever asks for one, since to make
 * and to abort it takes workerd as long as a short step. Knows neither lease nor store.
 */
import type { Clock } from "../contract/clock.ts";
import { startTimer } from "../contract/clock.ts";

export class Lifetime {
  readonly #clock: Clock;
  /** Each ends a pause. */
  readonly #pauses = new Set<() => void>();
  #controller: AbortController | undefined;
  #isOver = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Aborts when it is over. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#isOver) this.#controller.abort(attemptIsOver());
    }
    return this.#controller.signal;
  }

  /** Resolves after `ms`, or as soon as it is over. */
  pause(ms: number): Promise<void> {
    if (this.#isOver) return Promise.resolve();
    return new Promise((resolve) => {
      let cancel: (() => void) | undefined;
      const end = (): void => {
        cancel?.();
        this.#pauses.delete(end);
        resolve();
      };
      this.#pauses.add(end);
      // A clock may call at once.
      cancel = startTimer(this.#clock, ms, end);
    });
  }

  /** More than once is the same as once. */
  end(): void {
    this.#isOver = true;
    this.#controller?.abort(attemptIsOver());
    for (const end of this.#pauses) end();
  }
}

function attemptIsOver(): Error {
  return new Error("the attempt is over");
}
