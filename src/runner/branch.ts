/**
 * One line of a task's code, in which steps follow each other: the task itself, or a branch of it (R24, R32).
 *
 * Owns the numbering of its steps, what its code has seen fail, and the two ways in which it ends before its time:
 * halted (it begins no further step, its waits end, and what is under way is recorded), or abandoned (what is under way
 * is dropped as well). Knows neither store nor record.
 */
import { DurableBranchStoppedError } from "../contract/errors.ts";
import { unlessAborted } from "../contract/clock.ts";

export class Branch {
  /** Begins the path of each of its steps. */
  readonly prefix: string;
  /** For code: aborts when the attempt is over, or the branch is abandoned. */
  readonly signal: AbortSignal;
  /** Aborts when the branch is to begin no further step. */
  readonly halted: AbortSignal;
  readonly #abandoned: AbortSignal | undefined;
  /** None of the task itself, which is neither ended nor abandoned by another. */
  readonly #halt: AbortController | undefined;
  readonly #abandon: AbortController | undefined;
  /** Failed steps that its code has seen, and that no begun step has put on record yet. */
  readonly #seen: Set<number>;
  /** How often each key was emitted. */
  readonly #emits = new Map<string, number>();
  readonly #outer: Branch | undefined;
  #isOutdone = false;
  #next = 0;

  private constructor(
    prefix: string,
    outer: {
      signal: AbortSignal;
      halted: AbortSignal;
      abandoned?: AbortSignal | undefined;
      seen: Iterable<number>;
      branch?: Branch;
    },
  ) {
    this.prefix = prefix;
    this.#outer = outer.branch;
    this.#seen = new Set(outer.seen);
    if (prefix === "") {
      this.halted = outer.halted;
      this.signal = outer.signal;
      return;
    }
    const [halt, abandon] = [new AbortController(), new AbortController()];
    this.#halt = halt;
    this.#abandon = abandon;
    // Its own first: where nobody listens, Node answers the reason of the first in this list that has aborted by then.
    this.halted = AbortSignal.any([halt.signal, abandon.signal, outer.halted]);
    this.signal = AbortSignal.any([outer.signal, abandon.signal]);
    this.#abandoned = outer.abandoned ? AbortSignal.any([outer.abandoned, abandon.signal]) : abandon.signal;
  }

  /** The task itself. `halted`: aborts when the attempt takes no further step. */
  static root(signal: AbortSignal, halted: AbortSignal): Branch {
    return new Branch("", { signal, halted, seen: [] });
  }

  /** A branch of a group that begins now: what was seen before it, was seen by it. */
  inside(groupPath: string, name: string): Branch {
    const { signal, halted } = this;
    return new Branch(`${groupPath}/${name}/`, {
      signal,
      halted,
      abandoned: this.#abandoned,
      seen: this.#seen,
      branch: this,
    });
  }

  /** Takes the next ordinal. */
  nextOrdinal(): number {
    return this.#next++;
  }

  /** Which emit of a key it is, from 0. */
  nthEmit(key: string): number {
    const nth = this.#emits.get(key) ?? 0;
    this.#emits.set(key, nth + 1);
    return nth;
  }

  /** Its code has ended. */
  end(why: string): void {
    this.#halt?.abort(new DurableBranchStoppedError(why));
  }

  /** Another branch has decided the group: nothing that this one comes to matters to the task any more. */
  outdo(why: string): void {
    this.#isOutdone = true;
    this.end(why);
  }

  get isOutdone(): boolean {
    return this.#isOutdone || this.#outer?.isOutdone === true;
  }

  abandon(why: string): void {
    this.#abandon?.abort(new DurableBranchStoppedError(why));
  }

  /**
   * Calls `work` and settles like it, or rejects as soon as the branch is abandoned: `work` itself goes on then, and is
   * dropped. One that is abandoned already calls nothing.
   */
  unlessAbandoned<T>(work: () => Promise<T>): Promise<T> {
    if (this.#abandoned === undefined) return work();
    if (this.#abandoned.aborted) return Promise.reject(this.#abandoned.reason as Error);
    return unlessAborted(this.#abandoned, work());
  }

  get isAbandoned(): boolean {
    return this.#abandoned?.aborted === true;
  }

  sawFailure(stepIndex: number): void {
    this.#seen.add(stepIndex);
  }

  unreportedFailures(): number[] {
    return [...this.#seen];
  }

  reported(failures: readonly number[]): void {
    for (const position of failures) this.#seen.delete(position);
  }

  /** A branch has ended, and the code goes on out here: what it has seen fail, was seen here. */
  goOnAfter(branch: Branch): void {
    for (const position of branch.#seen) this.#seen.add(position);
  }
}
