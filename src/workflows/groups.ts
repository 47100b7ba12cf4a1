/**
 * Groups of branches on Workflows: all of them, or the first (R32).
 *
 * What a group came to is decided once and put on record, before the code sees it: at a replay a failed or a raced group
 * answers that without calling a branch, since a branch that was stopped might otherwise get further than it had.
 * Invariants: no branch takes a further step once the group is decided; nothing is decided by what the platform throws
 * when it pauses or stops the instance.
 */
import { toJsonText } from "../contract/payload.ts";
import { sha256Hex } from "../identity.ts";
import type { Line } from "./line.ts";
import { MAX_PAYLOAD_BYTES, type Platform, valueOf, type Work } from "./platform.ts";

/** A named piece of code, to be called with its branch. */
export interface NamedWork {
  readonly name: string;
  readonly run: (line: Line) => Promise<unknown>;
}

export interface GroupPlace {
  /** The code that the group is in. */
  readonly outer: Line;
  readonly intent: "ctx.all" | "ctx.race";
  /** Throws why the task takes no further step, if it does not. */
  readonly assertOpen: () => void;
}

export class Group {
  readonly #platform: Platform;
  readonly #place: GroupPlace;
  readonly #works: readonly NamedWork[];
  readonly #lines: readonly Line[];
  readonly #name: string;

  /** Throws `invalid_input` for names that leave no room for the names of steps. */
  constructor(platform: Platform, place: GroupPlace, works: readonly NamedWork[]) {
    const { outer, intent } = place;
    this.#platform = platform;
    this.#place = place;
    this.#works = works;
    const group = outer.numbered("group", groupLabel(works));
    this.#lines = works.map(({ name }) => outer.inside(group, name));
    this.#name = outer.labelName("path", `${intent}(${group})`);
  }

  /** What each returned, in order. Rejects with the first failure. */
  async all(): Promise<unknown[]> {
    let values: Promise<unknown[]> | undefined;
    const ready = async (): Promise<void> => {
      values = Promise.all(this.#start());
      await values.catch(() => this.#halt("failed"));
      this.#place.assertOpen();
    };
    const decision: Work = async () => {
      await values;
      return { text: "null" };
    };
    const decided = await this.#platform.decide(this.#name, { ready, decision });
    if (decided.error) this.#close();
    valueOf(decided);
    // On record is that all have succeeded; their steps say with what.
    return values ?? Promise.all(this.#start());
  }

  /** What the first to settle returned, or its failure. The others are dropped, with the steps that they are in. */
  async race(): Promise<unknown> {
    let first: Promise<unknown> | undefined;
    const ready = async (): Promise<void> => {
      first = Promise.race(this.#start());
      await first.catch(() => {});
      this.#halt("come first");
      this.#place.assertOpen();
    };
    const decision: Work = async () => ({
      text: toJsonText("the outcome of ctx.race", await first, MAX_PAYLOAD_BYTES),
    });
    try {
      const decided = await this.#platform.decide(this.#name, { ready, decision });
      this.#close();
      return valueOf(decided);
    } finally {
      for (const { branch } of this.#lines) branch.abandon(this.#because("come first"));
    }
  }

  #start(): Promise<unknown>[] {
    return this.#works.map(({ name, run }, i) => {
      const line = this.#lines[i] as Line;
      const outcome = (async () => run(line))();
      const close = (): void => line.branch.end(`branch "${name}" of ${this.#place.intent} has ended`);
      outcome.then(close, close);
      return outcome;
    });
  }

  #halt(what: string): void {
    for (const { branch } of this.#lines) branch.outdo(this.#because(what));
  }

  #because(what: string): string {
    return `another branch of ${this.#place.intent} has ${what}`;
  }

  /** From now on no replay calls a branch, so that what is under way need not be tried again. */
  #close(): void {
    for (const line of this.#lines) line.decided();
  }
}

const PLAIN_NAMES = /^[A-Za-z0-9_.,-]{0,40}$/;

/** The names of the branches, so that a group is known by what it is of. Long or odd ones are hashed. */
function groupLabel(works: readonly NamedWork[]): string {
  const names = works.map(({ name }) => name);
  const list = names.join();
  const isPlain = PLAIN_NAMES.test(list) && !names.some((name) => name.includes(","));
  return isPlain ? list : `#${sha256Hex(JSON.stringify(names)).slice(0, 16)}`;
}
