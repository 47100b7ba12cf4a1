/**
 * A session that many calls share: how long it owes an answer, and when it is disposed of, which is once it is let go of
 * and its last call has settled. Knows no method.
 */
import type { Clock } from "../../contract/clock.ts";

interface UnderWay {
  readonly since: number;
  readonly reject: (error: Error) => void;
}

export class HeldSession<S extends object> {
  readonly #opening: S & Partial<Disposable>;
  #session: S & Partial<Disposable>;
  readonly #clock: Clock;
  /** The oldest first. */
  readonly #calls = new Set<UnderWay>();
  #isLetGo = false;
  #hasAnswered = false;

  /** Over RPC, what `open` answers is a promise: calls are sent along, and fail as it does. Then what it brings is quicker. */
  constructor(session: S, clock: Clock) {
    this.#opening = session;
    this.#session = session;
    this.#clock = clock;
    Promise.resolve(session).then(
      (opened) => (this.#session = opened),
      () => {},
    );
  }

  call<T>(call: (session: S) => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const answer = call(this.#session);
      const underWay: UnderWay = { since: this.#clock.now(), reject };
      this.#calls.add(underWay);
      answer.then(
        (value) => {
          this.#hasAnswered = true;
          this.#settled(underWay);
          resolve(value);
        },
        (error: Error) => {
          this.#settled(underWay);
          reject(error);
        },
      );
    });
  }

  /** Whether it worked once. */
  get hasAnswered(): boolean {
    return this.#hasAnswered;
  }

  /** How long the oldest call that is under way has been; 0 where there is none. */
  get unansweredMs(): number {
    for (const { since } of this.#calls) return this.#clock.now() - since;
    return 0;
  }

  /** Calls under way are not disturbed. */
  letGo(): void {
    this.#isLetGo = true;
    this.#disposeIdle();
  }

  /** The same, and calls under way reject: whoever made them may make them elsewhere. What they come to is dropped. */
  giveUp(): void {
    for (const { reject } of this.#calls) reject(new Error("the session does not answer"));
    this.letGo();
  }

  #settled(underWay: UnderWay): void {
    this.#calls.delete(underWay);
    if (this.#isLetGo) this.#disposeIdle();
  }

  #disposeIdle(): void {
    if (this.#calls.size > 0) return;
    this.#session[Symbol.dispose]?.();
    if (this.#session !== this.#opening) this.#opening[Symbol.dispose]?.();
  }
}
