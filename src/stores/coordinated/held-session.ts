/**
 * A session that many calls share: how long it owes an answer, and when it is disposed of, which is once it is let go of
 * and its last call has settled. Knows no method.
 */
import type { Clock } from "../../contract/clock.ts";

export class HeldSession<S extends object> {
  readonly #opening: S & Partial<Disposable>;
  #session: S & Partial<Disposable>;
  readonly #clock: Clock;
  /** Under way: the oldest first. */
  readonly #calls = new Set<{ readonly since: number }>();
  #isLetGo = false;

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

  async call<T>(call: (session: S) => Promise<T>): Promise<T> {
    const underWay = { since: this.#clock.now() };
    this.#calls.add(underWay);
    try {
      return await call(this.#session);
    } finally {
      this.#calls.delete(underWay);
      if (this.#isLetGo) this.#disposeIdle();
    }
  }

  /** Since when the oldest call that is under way has been; 0 where there is none. */
  get unansweredMs(): number {
    for (const { since } of this.#calls) return this.#clock.now() - since;
    return 0;
  }

  /** Calls under way are not disturbed. */
  letGo(): void {
    this.#isLetGo = true;
    this.#disposeIdle();
  }

  #disposeIdle(): void {
    if (this.#calls.size > 0) return;
    this.#session[Symbol.dispose]?.();
    if (this.#session !== this.#opening) this.#opening[Symbol.dispose]?.();
  }
}
