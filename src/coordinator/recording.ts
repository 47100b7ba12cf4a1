/**
 * The way to D1 as a request sees it (R15): one flush, with what is to be done when D1 stands at a claim that is unknown
 * here, and the wait until D1 holds a change.
 */
import type { Clock } from "../contract/clock.ts";
import { backoffMs, withDeadline } from "../contract/clock.ts";
import { DurableStoreUnavailableError } from "../contract/errors.ts";
import { StaleSliceError } from "../stores/d1/database.ts";
import type { RunCache } from "./cache.ts";
import type { Readiness } from "./readiness.ts";
import type { Recorder } from "./recorder.ts";
import { CacheEmptiedError } from "./recorder.ts";

export interface RecordingInput {
  readonly cache: RunCache;
  readonly recorder: Recorder;
  readonly readiness: Readiness;
  readonly clock: Clock;
  readonly recordDeadlineMs: number;
  /** After a flush, or D1's refusal of a claim that was assumed: what is left is to be seen to. */
  readonly onAnswered: () => void;
  /** After a flush that failed. */
  readonly arm: () => void;
}

/** More looks in a row than other instances of an object take that are about to end. */
const MAX_LOOKS = 4;

export class Recording {
  readonly #input: RecordingInput;

  constructor(input: RecordingInput) {
    this.#input = input;
  }

  /** R15: waits until D1 holds all up to a revision, flushing and retrying; `store_unavailable` after the deadline. */
  recorded(revision: number): Promise<void> {
    const { clock, recordDeadlineMs } = this.#input;
    const late = (): Error =>
      new DurableStoreUnavailableError(`D1 did not hold the change within ${recordDeadlineMs} ms`);
    const giveUpAt = clock.now() + recordDeadlineMs;
    this.#input.recorder.expedite();
    return withDeadline(clock, recordDeadlineMs, this.#untilRecorded(revision, giveUpAt), late);
  }

  async #untilRecorded(revision: number, giveUpAt: number): Promise<void> {
    const { clock } = this.#input;
    const { epoch } = this.#input.cache;
    for (let attempt = 1; this.#input.recorder.recordedThrough < revision; attempt += 1) {
      try {
        return await this.flush();
      } catch (error) {
        const delay = backoffMs(attempt, 50, 2_000);
        if (error instanceof StaleSliceError || clock.now() + delay >= giveUpAt) throw error;
        await clock.sleep(delay);
        if (this.#input.cache.epoch !== epoch) throw new CacheEmptiedError();
      }
    }
  }

  /**
   * Rejects as the recorder does, or as a look at D1. `looks`: how often a guard that has refused, perhaps for another's look alone,
   * is met by looking again.
   */
  async flush(looks = MAX_LOOKS): Promise<void> {
    const { cache, readiness, recorder } = this.#input;
    const { epoch } = cache;
    let { incarnation } = cache;
    try {
      if (readiness.mustLookFirst) {
        await readiness.untilReady();
        // What was to be recorded is not there any more, though what is there may all be recorded.
        if (cache.epoch !== epoch) throw new CacheEmptiedError();
        ({ incarnation } = cache);
      }
      await recorder.flush();
      this.#input.onAnswered();
    } catch (error) {
      this.#input.arm();
      // Many may wait for one flush; the first to hear of its guard empties the cache.
      const guarded = error instanceof StaleSliceError && !(error instanceof CacheEmptiedError);
      if (!guarded || cache.epoch !== epoch) throw error;
      if (cache.isAssumed) {
        readiness.giveUpAssumption();
        this.#input.onAnswered();
        throw error;
      }
      // What was sent under an earlier number was refused by the look since.
      if (cache.incarnation !== incarnation) return this.flush(looks);
      const stands = looks > 0 && cache.run !== null && (await readiness.reconcile());
      if (stands && cache.epoch === epoch) return this.flush(looks - 1);
      if (cache.epoch === epoch) readiness.discard();
      throw error;
    }
  }
}
