/**
 * A coordinator's way to its recorder object: with a deadline, and left alone for a while after it could not answer,
 * for D1 can be asked without it (0026).
 */
import type { Clock } from "../contract/clock.ts";
import { withDeadline } from "../contract/clock.ts";
import type { RecorderLike } from "./record-entry.ts";

const ALONE_MS = 10_000;

export interface RecorderWayInput {
  /** A fresh stub: one that saw a reset stays broken. */
  readonly stub: () => RecorderLike;
  readonly clock: Clock;
  /** For one call, and longer than the recorder object's own for D1: what D1 is slow to answer, it says itself. */
  readonly deadlineMs: number;
}

export class RecorderWay {
  readonly #input: RecorderWayInput;
  /** Epoch milliseconds. */
  #aloneUntil = 0;

  constructor(input: RecorderWayInput) {
    this.#input = input;
  }

  get isOpen(): boolean {
    return this.#input.clock.now() >= this.#aloneUntil;
  }

  /** Rejects where the recorder object throws or does not answer. Whether D1 has heard of it is not known then. */
  async ask<T>(call: (recorder: RecorderLike) => Promise<T>): Promise<T> {
    const { stub, clock, deadlineMs } = this.#input;
    const late = (): Error => new Error(`a recorder object did not answer within ${deadlineMs} ms`);
    try {
      return await withDeadline(clock, deadlineMs, call(stub()), late);
    } catch (error) {
      this.#aloneUntil = clock.now() + ALONE_MS;
      throw error;
    }
  }
}
