/**
 * A coordinator's way to its recorder object: over a session while it has something to say (0031), with a deadline, and
 * left alone for a while after it could not answer, for D1 can be asked without it (0026).
 */
import type { Clock } from "../contract/clock.ts";
import { withDeadline } from "../contract/clock.ts";
import { HeldSession } from "../stores/coordinated/held-session.ts";
import type { RecorderLike, RecorderSession } from "./record-entry.ts";

const ALONE_MS = 10_000;

/** A session keeps both objects awake. */
const IDLE_MS = 1_000;

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
  #session: HeldSession<RecorderSession> | undefined;
  #usedAt = 0;

  constructor(input: RecorderWayInput) {
    this.#input = input;
  }

  get isOpen(): boolean {
    return this.#input.clock.now() >= this.#aloneUntil;
  }

  /** Rejects where the recorder object throws or does not answer. Whether D1 has heard of it is not known then. */
  async ask<T>(call: (recorder: RecorderSession) => Promise<T>): Promise<T> {
    const { clock, deadlineMs } = this.#input;
    const late = (): Error => new Error(`a recorder object did not answer within ${deadlineMs} ms`);
    this.#usedAt = clock.now();
    try {
      return await withDeadline(clock, deadlineMs, this.#call(call), late);
    } catch (error) {
      this.#aloneUntil = clock.now() + ALONE_MS;
      this.#letGo();
      throw error;
    }
  }

  /** A session that worked may have ended with the instance that it was of: another one is tried. All calls can be repeated. */
  async #call<T>(call: (recorder: RecorderSession) => Promise<T>): Promise<T> {
    const session = this.#opened();
    try {
      return await session.call(call);
    } catch (error) {
      if (this.#session === session) this.#letGo();
      if (!session.hasAnswered) throw error;
    }
    return this.#opened().call(call);
  }

  #opened(): HeldSession<RecorderSession> {
    if (this.#session) return this.#session;
    this.#session = new HeldSession(this.#input.stub().open(), this.#input.clock);
    void this.#endOnceIdle(this.#session);
    return this.#session;
  }

  async #endOnceIdle(session: HeldSession<RecorderSession>): Promise<void> {
    const { clock } = this.#input;
    while (this.#session === session) {
      await clock.sleep(IDLE_MS);
      if (this.#session === session && clock.now() - this.#usedAt >= IDLE_MS) this.#letGo();
    }
  }

  #letGo(): void {
    this.#session?.letGo();
    this.#session = undefined;
  }
}
