/**
 * Which position of the run each step of the code has: paths in, positions out (R23, R32).
 *
 * A step's identity is its path. Outside of branches, and until the task first branches off, that is its position; from
 * then on a step takes the next free position when it is first begun, and the record says which. No I/O.
 */
import type { StepRecord } from "../contract/types.ts";

export class Positions {
  readonly #known = new Map<string, number>();
  #next = 0;
  #isLinear = true;

  /** `steps`: all that are on record. */
  constructor(steps: Iterable<StepRecord>) {
    for (const step of steps) this.#note(pathOf(step), step.stepIndex);
  }

  /** The task branches off: from here on, positions go in order of time. */
  leaveLine(): void {
    this.#isLinear = false;
  }

  /** `ordinal`: which step of the task itself it is; `null` in a branch. */
  of(path: string, ordinal: number | null): number {
    const known = this.#known.get(path);
    if (known !== undefined) return known;
    const position = this.#isLinear && ordinal !== null ? ordinal : this.#next;
    this.#note(path, position);
    return position;
  }

  #note(path: string, position: number): void {
    this.#known.set(path, position);
    this.#next = Math.max(this.#next, position + 1);
  }
}

export function pathOf({ path, stepIndex }: Pick<StepRecord, "path" | "stepIndex">): string {
  return path ?? String(stepIndex);
}
