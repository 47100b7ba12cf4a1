/**
 * The events of a run that lie in a coordinator's memory alone: those that were deferred, until they are saved.
 *
 * Bounded, as long ones are never deferred. Knows neither storage nor D1.
 */
import type { EventState } from "../ledger/state.ts";
import type { Revised } from "../stores/sql/rows.ts";

export type Event = EventState & Revised;

/** In UTF-16 code units, of a payload that may be deferred. */
export const SMALL_PAYLOAD = 4_096;
const DEFERRED_EVENTS = 32;

/** Whether an event may be deferred. */
export function isSmallEvent({ payload }: EventState): boolean {
  return "text" in payload && payload.text.length <= SMALL_PAYLOAD;
}

export class RecentEvents {
  readonly #deferred = new Map<string, Event>();

  get hasUnsaved(): boolean {
    return this.#deferred.size > 0;
  }

  get takesMore(): boolean {
    return this.#deferred.size < DEFERRED_EVENTS;
  }

  /** What storage lacks. */
  get unsaved(): readonly Event[] {
    return [...this.#deferred.values()];
  }

  get(key: string): Event | undefined {
    return this.#deferred.get(key);
  }

  defer(event: Event): void {
    this.#deferred.set(event.key, event);
  }

  /** All was saved, or is forgotten. */
  clear(): void {
    this.#deferred.clear();
  }
}
