/**
 * A clock that does not wait for what a task waits for by itself: its sleeps, and the delays between attempts.
 *
 * While a delay is under way, time moves from one sleeper's due time to the next, and everybody who is due acts before
 * it moves on. So a heartbeat renews its lease on the way, and what is due first happens first. Each delay and each
 * sleeper looks for itself, in the request that it belongs to (see {@link TestClock}): workerd has been seen to crash
 * when an object is aborted that another request has woken.
 */
import { systemClock } from "../contract/clock.ts";
import type { DurableRunStore } from "../contract/types.ts";
import { TestClock } from "./clock.ts";
import { inFrontOf } from "./in-front-of.ts";

/** A sleeper that is due and does not go away for so long, in real time, belongs to a request that is over. */
const GONE_AFTER_MS = 1_000;

interface Sleeper {
  readonly due: number;
  /** In real time. */
  seenLateAt?: number;
}

/** For tests of tasks. Give it to the runner and to the store; time flows as usual while nobody waits for a delay. */
export class SkippingClock extends TestClock {
  readonly #sleepers = new Set<Sleeper>();
  #delays = 0;
  #pauses = 0;
  /** Grows with everything that happens on this clock. */
  #stirs = 0;

  override async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    const due = this.now() + ms;
    const leave = this.#join(due);
    try {
      do {
        signal?.throwIfAborted();
        await (this.#isSkipping ? turn() : super.sleep(Math.min(1, ms), signal));
      } while (this.now() < due);
      signal?.throwIfAborted();
    } finally {
      leave();
    }
  }

  /**
   * Skips `ms`, with everything that is due on the way, so that leases are renewed; {@link advance} moves time at once,
   * and a lease that is shorter lapses. Rejects with the signal's reason when it aborts.
   */
  async delay(ms: number, signal?: AbortSignal): Promise<void> {
    const due = this.now() + ms;
    const leave = this.#join(due);
    this.#delays += 1;
    try {
      for (let seen = -1; ; seen = this.#stirs) {
        signal?.throwIfAborted();
        if (this.now() >= due) return;
        await (this.#isSkipping ? turn() : systemClock.sleep(1, signal));
        if (seen === this.#stirs && this.#isSkipping) this.#skip();
      }
    } finally {
      this.#delays -= 1;
      leave();
    }
  }

  /** Skips no time until `work` settles: for what takes real time, while others sleep. */
  async pauseDuring<T>(work: Promise<T>): Promise<T> {
    this.#pauses += 1;
    try {
      return await work;
    } finally {
      this.#pauses -= 1;
      this.#stirs += 1;
    }
  }

  /** The store, with no time skipped while it answers a call: for any store but one in memory. */
  pauseDuringCalls<S extends DurableRunStore>(store: S): S {
    return inFrontOf(store, (method, _args, call) =>
      method === "waitForEvent" || method === "watchLease" ? call() : this.pauseDuring(call()),
    );
  }

  get #isSkipping(): boolean {
    return this.#delays > 0 && this.#pauses === 0;
  }

  #join(due: number): () => void {
    const sleeper = { due };
    this.#sleepers.add(sleeper);
    this.#stirs += 1;
    return () => {
      this.#sleepers.delete(sleeper);
      this.#stirs += 1;
    };
  }

  /** Moves time to whoever is due next; nowhere, while somebody who is due has still to wake. */
  #skip(): void {
    const [now, realNow] = [this.now(), systemClock.now()];
    let next = Infinity;
    for (const sleeper of this.#sleepers) {
      const { due, seenLateAt = realNow } = sleeper;
      if (due <= now) sleeper.seenLateAt = seenLateAt;
      if (realNow - seenLateAt >= GONE_AFTER_MS) this.#sleepers.delete(sleeper);
      else next = Math.min(next, due);
    }
    this.#stirs += 1;
    this.advance(Math.max(0, next - now));
  }
}

/** Lets everything run that is ready. */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    if (typeof setImmediate === "function") setImmediate(resolve);
    else setTimeout(resolve, 0);
  });
}
