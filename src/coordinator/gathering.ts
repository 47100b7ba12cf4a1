/**
 * When a coordinator saves what lies in memory, brings to D1 what nobody waits for (R14, R16), and arms its alarm (R18):
 * a look every 100 ms or so, as long as there is anything.
 */
import type { Clock } from "../contract/clock.ts";
import type { RunCache } from "./cache.ts";
import { retryInMs } from "./schedule.ts";

export interface GatheringInput {
  readonly cache: RunCache;
  readonly clock: Clock;
  /** How long a change may wait for others to share its commit or its flush. */
  readonly gatherMs: number;
  /** How long a change that D1 holds may wait to be saved as well. */
  readonly deferMs: number;
  /** Epoch milliseconds: since when D1 has been at work on what it was sent; Infinity where it is not. */
  readonly sendingSince: () => number;
  /** Flushes that failed since one succeeded. Then the alarm tries again. */
  readonly failures: () => number;
  readonly flush: () => Promise<void>;
  /** Whether D1 has refused a claim that was assumed, and has not been read since. */
  readonly mustLook: () => boolean;
  /** Sets the alarm to what is due next. */
  readonly arm: () => void;
}

/** With growing delays, which comes to a minute or two. */
const MAX_ASKED = 8;

export class Gathering {
  readonly #input: GatheringInput;
  #isOn = false;
  /** Epoch milliseconds: since when there has been anything. */
  #onSince = 0;
  /** How often D1 was asked again for an assumed claim, and the epoch milliseconds of the next time. */
  #asked = 0;
  #askAgainAt = 0;

  constructor(input: GatheringInput) {
    this.#input = input;
  }

  /**
   * To be called after each change. Sets the alarm once there is nothing more to do, after a second, or when D1 is late:
   * a commit that brings an alarm forward waits for that, so the changes of one who comes again set none themselves (0032).
   */
  start(): void {
    if (this.#isOn) return;
    this.#asked = 0;
    if (!this.#hasWork()) return this.#input.arm();
    this.#isOn = true;
    this.#onSince = this.#input.clock.now();
    // What could not be saved is tried again by the alarm.
    this.#lookAgain().catch(() => {});
  }

  async #lookAgain(): Promise<void> {
    const { cache, clock, gatherMs, failures, flush, arm } = this.#input;
    try {
      while (this.#hasWork()) {
        await clock.sleep(gatherMs);
        this.#saveWhatIsDue();
        // A flush that fails arms the alarm. It is not waited for: D1 may stall.
        if ((cache.isDirty && failures() === 0) || this.#asksAgain()) flush().catch(() => {});
      }
    } finally {
      this.#isOn = false;
      arm();
    }
  }

  #hasWork(): boolean {
    const { cache, failures, mustLook } = this.#input;
    if (cache.needsNoStorage) return false;
    const mayAsk = (cache.isAssumed || mustLook()) && this.#asked < MAX_ASKED;
    return cache.hasUnsaved || mayAsk || (cache.isDirty && failures() === 0);
  }

  /**
   * A claim that is assumed has no alarm: if its caller gives up, nobody else finds out whether D1 has taken it, or what
   * D1 has instead. Not for ever, for an object that looks is awake.
   */
  #asksAgain(): boolean {
    const { cache, clock, failures, mustLook } = this.#input;
    const isUnanswered = mustLook() || (cache.isAssumed && failures() > 0);
    if (!isUnanswered || clock.now() < this.#askAgainAt) return false;
    this.#asked += 1;
    this.#askAgainAt = clock.now() + retryInMs(this.#asked);
    return this.#asked <= MAX_ASKED;
  }

  /**
   * Begins that are not over soon, changes that D1 is slow to take or refuses, and, much later, those that it holds.
   */
  #saveWhatIsDue(): void {
    const { cache, clock, gatherMs, deferMs, sendingSince, failures, arm } = this.#input;
    if (cache.needsNoStorage) return;
    const now = clock.now();
    const isLate = now - sendingSince() >= gatherMs || failures() > 0;
    if (isLate || now - cache.begunSince >= gatherMs / 2 || now - cache.deferredSince >= deferMs)
      cache.saveUnsaved();
    if (isLate || now - this.#onSince >= deferMs) arm();
  }
}
