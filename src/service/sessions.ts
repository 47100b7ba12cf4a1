/**
 * The caller's side of sessions: one that all calls share for as long as it works.
 *
 * A call of an entrypoint counts as a Worker invocation, of which a request has 32; a call on a session counts as none.
 * A session that saw a fault may stay broken, so it is let go of, and the next call opens another. This repeats nothing
 * that may have left (R20 is callFresh's), and knows no method.
 */
import type { Clock } from "../contract/clock.ts";
import { HeldSession } from "../stores/coordinated/held-session.ts";
import { classifyFault, isOfAnotherRequest } from "../stores/coordinated/retry.ts";
import type { Envelope } from "../stores/coordinated/wire.ts";
import type { RunServiceMethods, RunSessionMethods, ServiceEnvelope } from "./wire.ts";

/** Longer than any call is held. Of a session that owes an answer for so long, nothing more is asked. */
const UNANSWERED_MS = 90_000;

type Held = HeldSession<RunSessionMethods>;

type Call<T> = (session: RunSessionMethods) => Promise<ServiceEnvelope<T>>;

export class Sessions {
  readonly #service: RunServiceMethods;
  readonly #clock: Clock;
  #current: Held | undefined;

  constructor(service: RunServiceMethods, clock: Clock) {
    this.#service = service;
    this.#clock = clock;
  }

  /** Calls once. Rejects with what befell the session, or the object behind the service, as a stub of the object would. */
  async call<T>(call: Call<T>): Promise<Envelope<T>> {
    for (;;) {
      const usable = this.#usable();
      try {
        return await this.#callOn(usable ?? this.#open(), call);
      } catch (error) {
        // Refused at once, and let go of: the next is this request's own, or that of a call beside this one.
        if (usable === undefined || !isOfAnotherRequest(error)) throw error;
      }
    }
  }

  /** Calls under way are not disturbed. A later call opens another session. */
  close(): void {
    if (this.#current !== undefined) this.#letGo(this.#current);
  }

  async #callOn<T>(held: Held, call: Call<T>): Promise<Envelope<T>> {
    try {
      return heard(await held.call(call));
    } catch (error) {
      // A session that can say that an object is overloaded is well.
      if (classifyFault(error) !== "overloaded") this.#letGo(held);
      throw error;
    }
  }

  #usable(): Held | undefined {
    const held = this.#current;
    if (held !== undefined && held.unansweredMs > UNANSWERED_MS) this.#letGo(held);
    return this.#current;
  }

  /** Does not wait: calls are sent along, and fail as the open does. */
  #open(): Held {
    this.#current = new HeldSession(this.#service.open(), this.#clock);
    return this.#current;
  }

  #letGo(held: Held): void {
    if (held === this.#current) this.#current = undefined;
    held.letGo();
  }
}

/** What befell the object behind the service, thrown as a stub of the object would throw it. */
function heard<T>(envelope: ServiceEnvelope<T>): Envelope<T> {
  if (envelope.ok || envelope.fault === undefined) return envelope;
  const mark = envelope.fault === "overloaded" ? { overloaded: true } : { retryable: true };
  throw Object.assign(new Error(envelope.error.message), mark);
}
