/**
 * Group commit across runs: what many coordinators ask of D1, in one call (R12, 0026).
 *
 * One call at a time of each kind; what comes meanwhile goes into the next. Keeps nothing: what is in memory here lies in
 * the objects that sent it, or is in nobody's hands yet, and is sent again when no answer comes.
 */
import { DurableStoreUnavailableError } from "../contract/errors.ts";
import type { BatchLimits, D1DatabaseLike } from "../stores/d1/database.ts";
import { runQuery } from "../stores/d1/database.ts";
import { SELECT_KNOWN } from "../stores/sql/grouped.ts";
import { commitEntries } from "./commit-entries.ts";
import type { RecordAnswer, RecordEntry } from "./record-entry.ts";
import { lengthOf } from "./record-entry.ts";

export interface GroupCommitInput extends BatchLimits {
  readonly db: D1DatabaseLike;
}

/** In UTF-16 code units, of which each is three bytes of UTF-8 at most: D1 takes 2,000,000 in one value. */
const GROUP_LENGTH = 600_000;

export class GroupCommit {
  readonly #entries: Queue<RecordEntry, { readonly ok: true; readonly refused: boolean }>;
  readonly #questions: Queue<string, boolean>;

  constructor(input: GroupCommitInput) {
    const { db } = input;
    this.#entries = new Queue(takeEntries, async (entries) => {
      const refused = await commitEntries(db, entries, input);
      return entries.map(({ runId }) => ({ ok: true as const, refused: refused.has(runId) }));
    });
    this.#questions = new Queue(
      (runIds) => runIds.length,
      async (runIds) => {
        const rows = await runQuery(db.prepare(SELECT_KNOWN).bind(JSON.stringify(runIds)), input);
        const known = new Set((rows as { run_id: string }[]).map((row) => row.run_id));
        return runIds.map((runId) => known.has(runId));
      },
    );
  }

  /** Resolves once D1 has answered. Rejects when the entry is wrong in itself, which is a defect. */
  record(entry: RecordEntry): Promise<RecordAnswer> {
    return this.#entries.ask(entry).catch((error: unknown) => {
      if (error instanceof DurableStoreUnavailableError) return { ok: false, message: error.message };
      throw error;
    });
  }

  /** Whether D1 holds anything of a run. Rejects with `store_unavailable`. */
  isKnown(runId: string): Promise<boolean> {
    return this.#questions.ask(runId);
  }
}

/** As many as one parameter takes, each run once: two instances of one object each have a guard of their own. */
function takeEntries(entries: readonly RecordEntry[]): number {
  const runs = new Set<string>();
  let length = 0;
  for (const entry of entries) {
    length += lengthOf(entry);
    if (runs.size > 0 && (length > GROUP_LENGTH || runs.has(entry.runId))) break;
    runs.add(entry.runId);
  }
  return runs.size;
}

interface Waiting<Item, Answer> {
  readonly item: Item;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
}

class Queue<Item, Answer> {
  /** How many of those that wait go together: one at least. */
  readonly #take: (items: readonly Item[]) => number;
  readonly #carryOut: (items: readonly Item[]) => Promise<readonly Answer[]>;
  #waiting: Waiting<Item, Answer>[] = [];
  #isOn = false;

  constructor(
    take: (items: readonly Item[]) => number,
    carryOut: (items: readonly Item[]) => Promise<readonly Answer[]>,
  ) {
    this.#take = take;
    this.#carryOut = carryOut;
  }

  ask(item: Item): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, resolve, reject });
      if (!this.#isOn) void this.#carryOutAll();
    });
  }

  async #carryOutAll(): Promise<void> {
    this.#isOn = true;
    while (this.#waiting.length > 0) {
      const count = this.#take(this.#waiting.map(({ item }) => item));
      await this.#settle(this.#waiting.splice(0, count));
    }
    this.#isOn = false;
  }

  async #settle(group: readonly Waiting<Item, Answer>[]): Promise<void> {
    try {
      const answers = await this.#carryOut(group.map(({ item }) => item));
      for (const [i, { resolve }] of group.entries()) resolve(answers[i] as Answer);
    } catch (error) {
      // One of them may be wrong in itself, and the others are not to fail with it.
      const isShared = error instanceof DurableStoreUnavailableError || group.length === 1;
      if (isShared) for (const { reject } of group) reject(error);
      else for (const one of group) await this.#settle([one]);
    }
  }
}
