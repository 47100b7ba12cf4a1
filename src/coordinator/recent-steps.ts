/**
 * The steps of a run that lie in a coordinator's memory: begins that nothing has taken along yet, changes that were
 * deferred, and others that D1 lacks, so that they need not be read for it.
 *
 * Bounded: long steps are never deferred, nor kept. Knows neither storage nor D1.
 */
import type { StepState } from "../ledger/state.ts";
import type { Revised } from "../stores/sql/rows.ts";

export type Step = StepState & Revised;

/** In UTF-16 code units, of a result or an error. */
const SMALL = 4_096;
const KEPT_STEPS = 1_000;
const DEFERRED_STEPS = 256;

/** Whether a step may be deferred, and kept. */
export function isSmall({ result, error }: StepState): boolean {
  const isShort = result === null || "ref" in result || result.text.length <= SMALL;
  return isShort && (error?.length ?? 0) <= SMALL;
}

export class RecentSteps {
  /** R16. D1 is not told of them. */
  readonly #begun = new Map<number, Step>();
  readonly #recent = new Map<number, Step>();
  /** Positions of those of `#recent` that storage lacks. */
  readonly #deferred = new Set<number>();

  get hasBegun(): boolean {
    return this.#begun.size > 0;
  }

  get hasUnsaved(): boolean {
    return this.#begun.size > 0 || this.#deferred.size > 0;
  }

  /** Whether so many more may be deferred. */
  takes(count: number): boolean {
    return this.#deferred.size + count <= DEFERRED_STEPS;
  }

  /** Positions of what storage lacks. */
  get unsaved(): number[] {
    return [...new Set([...this.#begun.keys(), ...this.#deferred])];
  }

  /** Epoch milliseconds: of the first begin; Infinity where there is none. */
  get begunSince(): number {
    let since = Infinity;
    for (const { startedAt } of this.#begun.values()) since = Math.min(since, startedAt);
    return since;
  }

  /** Of the earliest change among the begins; Infinity where there is none. */
  get begunRevision(): number {
    let lowest = Infinity;
    for (const { revision } of this.#begun.values()) lowest = Math.min(lowest, revision);
    return lowest;
  }

  get(stepIndex: number): Step | undefined {
    return this.#begun.get(stepIndex) ?? this.#recent.get(stepIndex);
  }

  /** What D1 may be told. */
  tellable(stepIndex: number): Step | undefined {
    return this.#recent.get(stepIndex);
  }

  /** Whether a deferred step fulfils something. */
  someDeferred(test: (stepIndex: number) => boolean): boolean {
    for (const stepIndex of this.#deferred) if (test(stepIndex)) return true;
    return false;
  }

  /** From a position on, in order. */
  from(position: number): Step[] {
    const steps = [...new Map([...this.#recent, ...this.#begun]).values()];
    return steps.filter(({ stepIndex }) => stepIndex >= position).sort((a, b) => a.stepIndex - b.stepIndex);
  }

  begin(step: Step): void {
    this.#begun.set(step.stepIndex, step);
  }

  defer(step: Step): void {
    this.#begun.delete(step.stepIndex);
    this.#recent.set(step.stepIndex, step);
    this.#deferred.add(step.stepIndex);
  }

  /** What storage lacks, in the order in which it is to be saved; and which of it has only begun. */
  toSave(isOutdone: (step: Step) => boolean): { steps: readonly Step[]; begun: readonly Step[] } {
    const deferred = [...this.#deferred].flatMap((stepIndex) => this.#recent.get(stepIndex) ?? []);
    const begun = [...this.#begun.values()].filter((step) => !isOutdone(step));
    return { steps: [...deferred.filter((step) => !isOutdone(step)), ...begun], begun };
  }

  /** Storage has all. What D1 still lacks is kept, as far as there is room. */
  allSaved(isDirty: (stepIndex: number) => boolean): void {
    for (const stepIndex of this.#deferred) {
      if (!isDirty(stepIndex) || this.#recent.size > KEPT_STEPS) this.#recent.delete(stepIndex);
    }
    this.#deferred.clear();
    this.#begun.clear();
  }

  /** A step that storage has and D1 lacks. */
  keep(step: Step): void {
    if (isSmall(step) && this.#recent.size < KEPT_STEPS) this.#recent.set(step.stepIndex, step);
    else this.#recent.delete(step.stepIndex);
  }

  /** Storage and D1 have it. */
  letGo(stepIndex: number): void {
    if (!this.#deferred.has(stepIndex)) this.#recent.delete(stepIndex);
  }

  /** Steps from a position on were deleted. */
  drop(from: number): void {
    for (const stepIndex of this.#recent.keys()) if (stepIndex >= from) this.#recent.delete(stepIndex);
  }

  clear(): void {
    this.#begun.clear();
    this.#recent.clear();
    this.#deferred.clear();
  }
}
