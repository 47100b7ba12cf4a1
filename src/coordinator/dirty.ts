/**
 * Which rows of a coordinator's cache D1 may not hold yet (R13), by key, with the revision that it lacks; and which steps
 * it has still to delete.
 */
import type { Change } from "../ledger/state.ts";

/** Steps that were dropped: from a position on, those that are older than the fence of whoever dropped them. */
export interface DroppedSteps {
  readonly from: number;
  readonly belowFence: number;
}

/** Rows that D1 holds, each with its revision, and what it has deleted. */
export interface HeldRows {
  readonly run: number | null;
  readonly dropped: DroppedSteps | null;
  readonly steps: ReadonlyMap<number, number>;
  readonly events: ReadonlyMap<string, number>;
}

export class DirtyRows implements HeldRows {
  #run: number | null = null;
  #runSince: number | null = null;
  #dropped: DroppedSteps | null = null;
  readonly #steps = new Map<number, number>();
  readonly #events = new Map<string, number>();

  get run(): number | null {
    return this.#run;
  }

  /** Since when D1 has lacked the run's row; `null` where it lacks nothing, or where that is not known after a reset. */
  get runSince(): number | null {
    return this.#runSince;
  }

  get dropped(): DroppedSteps | null {
    return this.#dropped;
  }

  get steps(): ReadonlyMap<number, number> {
    return this.#steps;
  }

  get events(): ReadonlyMap<string, number> {
    return this.#events;
  }

  /** How many rows D1 lacks, a deletion counted as one. */
  get size(): number {
    const single = (this.#run === null ? 0 : 1) + (this.#dropped === null ? 0 : 1);
    return single + this.#steps.size + this.#events.size;
  }

  noteRun(revision: number, since: number | null): void {
    this.#run = revision;
    this.#runSince ??= since;
  }

  noteStep(stepIndex: number, revision: number): void {
    this.#steps.set(stepIndex, revision);
  }

  noteEvent(key: string, revision: number): void {
    this.#events.set(key, revision);
  }

  noteChange({ run, step, steps = [], event }: Change, revision: number, now: number): void {
    if (run) this.noteRun(revision, now);
    for (const { stepIndex } of step ? [step, ...steps] : steps) this.noteStep(stepIndex, revision);
    if (event) this.noteEvent(event.key, revision);
  }

  /** One deletion at a time: two do not add up to one, since steps were recorded between them. */
  noteDropped(dropped: DroppedSteps): void {
    if (this.#dropped) throw new Error("a deletion has to be in D1 before the next one");
    this.#dropped = dropped;
    for (const stepIndex of this.#steps.keys()) {
      if (stepIndex >= dropped.from) this.#steps.delete(stepIndex);
    }
  }

  /** Takes off what D1 holds, unless it has changed since it was read, at `readAt`. */
  settle(held: HeldRows, readAt: number): void {
    if (this.#run !== null && held.run !== null) {
      if (this.#run <= held.run) this.#run = null;
      this.#runSince = this.#run === null ? null : readAt;
    }
    if (this.#dropped === held.dropped) this.#dropped = null;
    settle(this.#steps, held.steps);
    settle(this.#events, held.events);
  }

  /** All but the events, which need no claim. */
  clearClaimed(): void {
    this.#run = null;
    this.#runSince = null;
    this.#dropped = null;
    this.#steps.clear();
  }

  clear(): void {
    this.clearClaimed();
    this.#events.clear();
  }
}

function settle<K>(dirty: Map<K, number>, held: ReadonlyMap<K, number>): void {
  for (const [key, revision] of held) {
    if ((dirty.get(key) ?? Infinity) <= revision) dirty.delete(key);
  }
}
