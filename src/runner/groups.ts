/**
 * Groups of branches: all of them, or the first (R32).
 *
 * A group takes one ordinal of the code that it is in, and is on record as a step only when it has decided what its
 * branches do not say again: which came first in a race, or which failure ended it. Then its branches are not replayed.
 * Invariants: what the code sees of a group, it sees again; no branch takes a further step once the group has decided.
 */
import { DurableInvalidInputError } from "../contract/errors.ts";
import { checkText, LIMITS } from "../contract/limits.ts";
import type { StepRecord } from "../contract/types.ts";
import type { Attempt } from "./attempt.ts";
import type { Branch } from "./branch.ts";
import { inBranch } from "./nesting.ts";
import type { StepPlan } from "./replay.ts";
import type { StepRunner } from "./step-runner.ts";
import type { Branches, DurableContext } from "./types.ts";

/** A named piece of code, to be called with its branch. */
export interface NamedWork {
  readonly name: string;
  readonly run: (branch: Branch) => Promise<unknown>;
}

interface Running {
  readonly branch: Branch;
  readonly outcome: Promise<unknown>;
}

export interface GroupPlace {
  /** The code that the group is in. */
  readonly outer: Branch;
  readonly path: string;
  readonly intent: "ctx.all" | "ctx.race";
}

export class Group {
  readonly #attempt: Attempt;
  readonly #steps: StepRunner;
  readonly #place: GroupPlace;

  constructor(attempt: Attempt, steps: StepRunner, place: GroupPlace) {
    this.#attempt = attempt;
    this.#steps = steps;
    this.#place = place;
  }

  /** What each returned, in order. Rejects with the first failure: the others finish the steps that they are in. */
  async all(works: readonly NamedWork[]): Promise<unknown[]> {
    const { replay } = this.#attempt;
    const { outer, path, intent } = this.#place;
    const recorded = this.#recorded();
    if (recorded?.status === "failed") return this.#decide<unknown[]>(recall);
    if (recorded) replay.visit(recorded);
    const running = this.#start(works);
    try {
      const values = await this.#attempt.unlessClosed(Promise.all(running.map(({ outcome }) => outcome)));
      for (const { branch } of running) outer.goOnAfter(branch);
      // It failed at an earlier attempt, and has not now.
      if (!recorded && replay.open(path)) await this.#record(async () => undefined);
      return values;
    } catch (error) {
      if (this.#isOver()) throw error;
      for (const { branch } of running) branch.outdo(`another branch of ${intent} has failed`);
      if (recorded) throw error;
      return this.#decide<unknown[]>(() => Promise.reject(error as Error));
    }
  }

  /** What the first to settle returned, or its failure. The others are dropped, with the steps that they are in. */
  async race(works: readonly NamedWork[]): Promise<unknown> {
    if (this.#recorded()) return this.#decide(recall);
    const running = this.#start(works);
    const first = this.#attempt.unlessClosed(Promise.race(running.map(({ outcome }) => outcome)));
    await first.catch(() => {});
    if (this.#isOver()) return first;
    const why = `another branch of ${this.#place.intent} came first`;
    for (const { branch } of running) branch.outdo(why);
    try {
      return await this.#decide(() => first);
    } finally {
      // Not before the outcome is on record: until then, another attempt may need what they have under way.
      for (const { branch } of running) branch.abandon(why);
    }
  }

  /** Whether the attempt ends here, or the group's own branch does: then nothing was decided. */
  #isOver(): boolean {
    return this.#place.outer.halted.aborted || this.#attempt.replay.divergence !== undefined;
  }

  #recorded(): StepRecord | undefined {
    const { replay } = this.#attempt;
    const { path } = this.#place;
    const recorded = replay.recorded(path);
    // Also what is to run again: a begin would find out, but branches have run by then.
    const known = recorded ?? replay.open(path);
    if (known) replay.assertSame(known, this.#plan(known.stepIndex));
    return recorded;
  }

  #start(works: readonly NamedWork[]): Running[] {
    const { replay } = this.#attempt;
    const { outer, path, intent } = this.#place;
    replay.assertBranches(
      path,
      works.map(({ name }) => name),
    );
    return works.map(({ name, run }) => {
      const branch = outer.inside(path, name);
      const outcome = (async () => {
        const value = await inBranch(this.#attempt, branch, name, () => run(branch));
        if (!branch.halted.aborted) replay.assertBranchReplayed(path, name);
        return value;
      })();
      const close = (): void => branch.end(`branch "${name}" of ${intent} has ended`);
      outcome.then(close, close);
      return { branch, outcome };
    });
  }

  /** Puts the outcome on record, or answers the one that is: from now on, the branches are not replayed. */
  #decide<T>(outcome: () => Promise<T>): Promise<T> {
    this.#attempt.replay.skipBranches(this.#place.path);
    return this.#record(outcome);
  }

  #record<T>(run: () => Promise<T>): Promise<T> {
    const { positions } = this.#attempt;
    const { outer, path } = this.#place;
    return this.#steps.answer<T>(outer, this.#plan(positions.of(path, null)), { run });
  }

  #plan(stepIndex: number): StepPlan {
    const { path, intent } = this.#place;
    return { stepIndex, path, intent, kind: "logic", inputHash: "" };
  }
}

/** For an outcome that is on record. */
function recall(): Promise<never> {
  throw new Error("an outcome that is on record is not decided again");
}

/** The branches of an object or an array, in order, with their names. Throws `invalid_input`. */
export function namedBranches<T>(
  branches: Branches<T>,
): { name: string; run: (ctx: DurableContext) => Promise<T> }[] {
  if (typeof branches !== "object" || branches === null) {
    throw new DurableInvalidInputError("branches", "must be an object or an array of functions");
  }
  const named = Array.isArray(branches)
    ? Array.from(branches, (one: unknown, i): [string, unknown] =>
        Array.isArray(one) ? [one[0] as string, one[1]] : [String(i), one],
      )
    : Object.entries(branches);
  if (named.length > LIMITS.branches) {
    throw new DurableInvalidInputError(
      "branches",
      `are ${named.length}; at most ${LIMITS.branches} are allowed`,
    );
  }
  const names = new Set<string>();
  return named.map(([name, run]) => {
    checkText("the name of a branch", name, LIMITS.branchNameBytes);
    if (name.includes("/"))
      throw new DurableInvalidInputError(`branch "${name}"`, 'must not have a "/" in its name');
    if (names.has(name)) throw new DurableInvalidInputError(`branch "${name}"`, "is there twice");
    if (typeof run !== "function")
      throw new DurableInvalidInputError(`branch "${name}"`, "must be a function");
    names.add(name);
    return { name, run: run as (ctx: DurableContext) => Promise<T> };
  });
}
