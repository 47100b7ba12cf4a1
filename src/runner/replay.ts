/**
 * What an attempt finds on record, and what it has visited of it: the bookkeeping behind replay (R23, R24, R32).
 *
 * No I/O. Invariants: a divergence, once found, is never forgotten, though the task should catch it; every step that is
 * recorded for good is visited before the task ends, but for those below a group whose outcome is on record.
 */
import { DurableRunDivergenceError, errorFromData } from "../contract/errors.ts";
import { mismatch } from "../contract/replay.ts";
import type { BeginStepInput, StartOrResumeResult, StepKind, StepRecord } from "../contract/types.ts";
import { pathOf } from "./positions.ts";

export interface StepPlan {
  readonly stepIndex: number;
  readonly path: string;
  readonly intent: string;
  readonly kind: StepKind;
  readonly inputHash: string;
  /** For a step that waits. */
  readonly timeoutMs?: number;
  readonly waitFor?: NonNullable<BeginStepInput["waitFor"]>;
  readonly onInterrupted?: NonNullable<BeginStepInput["onInterrupted"]>;
}

export class Replay {
  readonly #runId: string;
  /** Completed steps, and failures that the task moved past, by path. */
  readonly #recorded = new Map<string, StepRecord>();
  /** Steps that are to run again, by path. */
  readonly #open = new Map<string, StepRecord>();
  /** The names of branches below which steps are on record, by the paths of their groups. */
  readonly #groups = new Map<string, Set<string>>();
  /** What is recorded below each branch, however deep, by the branch's path. */
  readonly #below = new Map<string, StepRecord[]>();
  /** What this attempt replayed or ran, by position. */
  readonly #visited = new Map<number, StepRecord>();
  /** Groups whose branches are not replayed. */
  readonly #decided = new Set<string>();
  #divergence: Error | undefined;

  constructor(runId: string, { completedSteps, caughtSteps = [], openSteps = [] }: StartOrResumeResult) {
    this.#runId = runId;
    for (const step of [...completedSteps, ...caughtSteps]) {
      this.#recorded.set(pathOf(step), step);
      for (const { group, name } of branchesOf(pathOf(step))) {
        this.#noteBranch(group, name);
        const below = this.#below.get(`${group}/${name}`);
        if (below) below.push(step);
        else this.#below.set(`${group}/${name}`, [step]);
      }
    }
    for (const step of openSteps) {
      this.#open.set(pathOf(step), step);
      for (const { group, name } of branchesOf(pathOf(step))) this.#noteBranch(group, name);
    }
  }

  /** After one, no step is answered: what the task would do next is on no record. */
  get divergence(): Error | undefined {
    return this.#divergence;
  }

  recorded(path: string): StepRecord | undefined {
    return this.#recorded.get(path);
  }

  /** A step that is to run again. */
  open(path: string): StepRecord | undefined {
    return this.#open.get(path);
  }

  visit(step: StepRecord): void {
    this.#visited.set(step.stepIndex, step);
  }

  /** Every step that this attempt replayed or ran, in order of position. */
  visited(): StepRecord[] {
    return [...this.#visited.values()].sort((a, b) => a.stepIndex - b.stepIndex);
  }

  /** The outcome of a group is on record: its branches are not replayed. */
  skipBranches(groupPath: string): void {
    this.#decided.add(groupPath);
  }

  /** Throws when the record is of another step than the task comes with. */
  assertSame(step: StepRecord, plan: StepPlan): void {
    const error = mismatch(this.#runId, step.stepIndex, step, plan);
    if (error) throw this.diverge(errorFromData(error));
  }

  /** Throws when branches are on record where the task comes with a single step. */
  assertNoBranches({ path, kind, intent }: StepPlan): void {
    if (!this.#groups.has(path)) return;
    this.#refuse(
      `at path ${path} of run "${this.#runId}" branches were recorded, but the code now comes with ${kind} "${intent}".`,
    );
  }

  /** Throws when a branch is on record that the task no longer has. */
  assertBranches(path: string, names: readonly string[]): void {
    for (const name of this.#groups.get(path) ?? []) {
      if (names.includes(name)) continue;
      this.#refuse(
        `branch "${name}" at path ${path} of run "${this.#runId}" was recorded, but the code now has the branches ` +
          `${names.map((one) => `"${one}"`).join(", ")} there.`,
      );
    }
  }

  /** The task ended: was all that is recorded asked for again, and answered? */
  assertAllReplayed(): void {
    if (this.#divergence) throw this.#divergence;
    const missing = this.#firstMissing(this.#recorded.values());
    if (missing) throw this.#endedWithout(missing, `the task of run "${this.#runId}"`);
  }

  /** A branch ended: the same, of the steps in it and in the branches below it. */
  assertBranchReplayed(groupPath: string, name: string): void {
    const missing = this.#firstMissing(this.#below.get(`${groupPath}/${name}`) ?? []);
    if (missing === undefined) return;
    throw this.diverge(
      this.#endedWithout(missing, `branch "${name}" at path ${groupPath} of run "${this.#runId}"`),
    );
  }

  diverge<E extends Error>(error: E): E {
    this.#divergence ??= error;
    return error;
  }

  #refuse(what: string): never {
    throw this.diverge(new DurableRunDivergenceError(`${what} Restore them, or start a new run.`));
  }

  #firstMissing(steps: Iterable<StepRecord>): StepRecord | undefined {
    for (const step of steps) {
      if (this.#visited.has(step.stepIndex)) continue;
      if (branchesOf(pathOf(step)).some(({ group }) => this.#decided.has(group))) continue;
      return step;
    }
    return undefined;
  }

  #endedWithout({ stepIndex, intent }: StepRecord, what: string): DurableRunDivergenceError {
    return new DurableRunDivergenceError(
      `${what} ended without step ${stepIndex} ("${intent}"), which is on record. Restore the step, or start a new run.`,
    );
  }

  #noteBranch(group: string, name: string): void {
    this.#groups.set(group, (this.#groups.get(group) ?? new Set()).add(name));
  }
}

/** The branches that a step lies in. Its path is an ordinal, or a group's path, a branch's name and an ordinal. */
function branchesOf(path: string): { group: string; name: string }[] {
  const parts = path.split("/");
  const branches: { group: string; name: string }[] = [];
  for (let end = 1; end + 1 < parts.length; end += 2) {
    branches.push({ group: parts.slice(0, end).join("/"), name: parts[end] ?? "" });
  }
  return branches;
}
