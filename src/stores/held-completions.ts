/**
 * Completions that wait for their event, in the process that accepts it. Whoever commits an event has those that wait
 * for it decided with it (completeWith), and says so here; whoever holds one looks here before it completes the step
 * by itself. Knows no rules.
 */
import type { EventCompletion } from "../ledger/requests.ts";

export interface HeldCompletion<Outcome> {
  readonly request: EventCompletion;
  /** What became of it, once it was decided with the event. */
  outcome?: Outcome;
}

export class HeldCompletions<H extends HeldCompletion<unknown>> {
  readonly #byKey = new Map<string, Set<H>>();

  /** Those that wait for an event. */
  of(key: string): readonly H[] {
    return [...(this.#byKey.get(key) ?? [])];
  }

  /** Has a completion decided with the event, should that come while `work` is under way. */
  async during<T>(key: string, held: H, work: () => Promise<T>): Promise<T> {
    const all = this.#byKey.get(key) ?? new Set();
    this.#byKey.set(key, all.add(held));
    try {
      return await work();
    } finally {
      all.delete(held);
      if (all.size === 0 && this.#byKey.get(key) === all) this.#byKey.delete(key);
    }
  }
}
