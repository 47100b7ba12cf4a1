/**
 * What an attempt finds on record, and what it has seen of it: the bookkeeping behind replay (R23, R24).
 *
 * No I/O. Invariants: a divergence, once found, is never forgotten, though the task should catch it; a failure that
 * the task has seen is reported with the next step that it goes on to, and once that is recorded, never again.
 */
import { DurableRunDivergenceError, errorFromData } from "../contract/errors.ts";
import { mismatch } from "../contract/replay.ts";
import type { StartOrResumeResult, StepKind, StepRecord } from "../contract/types.ts";

export interface StepPlan {
  readonly stepIndex: number;
  readonly intent: string;
  readonly kind: StepKind;
  readonly inputHash: string;
  /** For a step that waits. */
  readonly timeoutMs?: number;
}

export class Replay {
  readonly #runId: string;
  /** Completed steps, and failures that the task moved past, by position. */
  readonly #recorded = new Map<number, StepRecord>();
  /** What this attempt replayed or ran. */
  readonly #visited = new Map<number, StepRecord>();
  readonly #seenFailures = new Set<number>();
  #divergence: Error | undefined;

  constructor(runId: string, { completedSteps, caughtSteps = [] }: StartOrResumeResult) {
    this.#runId = runId;
    for (const step of [...completedSteps, ...caughtSteps]) this.#recorded.set(step.stepIndex, step);
  }

  /** After one, no step is answered: what the task would do next is on no record. */
  get divergence(): Error | undefined {
    return this.#divergence;
  }

  recorded(stepIndex: number): StepRecord | undefined {
    return this.#recorded.get(stepIndex);
  }

  visit(step: StepRecord): void {
    this.#visited.set(step.stepIndex, step);
  }

  /** Every step that this attempt replayed or ran, in order of position. */
  visited(): StepRecord[] {
    return [...this.#visited.values()].sort((a, b) => a.stepIndex - b.stepIndex);
  }

  sawFailure(stepIndex: number): void {
    this.#seenFailures.add(stepIndex);
  }

  /** Failures that the task has seen, and that no begun step has put on record yet. */
  unreportedFailures(): number[] {
    return [...this.#seenFailures];
  }

  reported(failures: readonly number[]): void {
    for (const position of failures) this.#seenFailures.delete(position);
  }

  /** Throws when the record at a position is of another step than the task comes with. */
  assertSame(step: StepRecord, plan: StepPlan): void {
    const error = mismatch(this.#runId, plan.stepIndex, step, plan);
    if (error) throw this.diverge(errorFromData(error));
  }

  /** The task ended: was all that is recorded asked for again, and answered? */
  assertAllReplayed(): void {
    if (this.#divergence) throw this.#divergence;
    for (const step of this.#recorded.values()) {
      if (this.#visited.has(step.stepIndex)) continue;
      throw new DurableRunDivergenceError(
        `the task of run "${this.#runId}" ended without step ${step.stepIndex} ("${step.intent}"), which is on ` +
          "record. Restore the step, or start a new run.",
      );
    }
  }

  diverge<E extends Error>(error: E): E {
    this.#divergence ??= error;
    return error;
  }
}
