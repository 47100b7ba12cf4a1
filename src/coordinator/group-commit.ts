/**
 * Group commit across runs: what many coordinators ask of D1, in one call (R12, 0026).
 *
 * One call at a time of each kind; what comes meanwhile goes into the next. Keeps nothing: what is in memory here
 * lies in the objects that sent it, or is in nobody's hands yet, and is sent again when no answer comes.
 */
import type { Clock } from "../contract/clock.ts";
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
    this.#entries = new Queue({
      lengthOf,
      clock: input.clock,
      isAwaited: (entry) => entry.isAwaited,
      // Two instances of one object each have a guard of their own.
      goesApart: (entry) => entry.runId,
      async carryOut(entries) {
        const refused = await commitEntries(db, entries, input);
        return entries.map(({ runId }) => ({ ok: true as const, refused: refused.has(runId) }));
      },
    });
    this.#questions = new Queue({
      clock: input.clock,
      lengthOf: (runId) => JSON.stringify(runId).length,
      async carryOut(runIds) {
        const rows = await runQuery(db.prepare(SELECT_KNOWN).bind(JSON.stringify(runIds)), input);
        const known = new Set((rows as { run_id: string }[]).map((row) => row.run_id));
        return runIds.map((runId) => known.has(runId));
      },
    });
  }

  /** Resolves once D1 has answered. Rejects when the entry is wrong in itself, which is a defect. */
  record(entry: RecordEntry): Promise<RecordAnswer> {
    return this.#entries.ask(entry).catch((error: unknown) => {
      if (error instanceof DurableStoreUnavailableError) return { ok: false, message: error.message };
      throw error;
    });
  }

  /** Whether D1 holds anything of a run; `null` where D1 cannot answer now. */
  isKnown(runId: string): Promise<boolean | null> {
    return this.#questions.ask(runId).catch((error: unknown) => {
      if (error instanceof DurableStoreUnavailableError) return null;
      throw error;
    });
  }
}

/** Until the event loop has nothing else to do at once: that is when it looks at its timers. */
function untilIdle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

/** How long what nobody waits for may wait for others. */
const GATHER_MS = 25;

interface Kind<Item, Answer> {
  readonly clock: Clock;
  /** Whether it goes as soon as it can. Absent: each does. */
  isAwaited?(item: Item): boolean;
  /** What it adds to a parameter, in UTF-16 code units. Throws where it is no item at all. */
  lengthOf(item: Item): number;
  /** Two items for which this is the same go in two calls; absent: any go together. */
  goesApart?(item: Item): string;
  /** Answers each item, in order. */
  carryOut(items: readonly Item[]): Promise<readonly Answer[]>;
}

interface Waiting<Item, Answer> {
  readonly item: Item;
  readonly length: number;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
}

class Queue<Item, Answer> {
  readonly #kind: Kind<Item, Answer>;
  #waiting: Waiting<Item, Answer>[] = [];
  #isOn = false;
  #isGathering = false;
  /** How many went in the last call. */
  #lastSize = 0;

  constructor(kind: Kind<Item, Answer>) {
    this.#kind = kind;
  }

  ask(item: Item): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, length: this.#kind.lengthOf(item), resolve, reject });
      this.#start(this.#kind.isAwaited?.(item) ?? true);
    });
  }

  /** At once, or after a while in which others may come, and one of them be awaited. */
  #start(atOnce: boolean): void {
    if (this.#isOn) return;
    if (atOnce) {
      void this.#carryOutAll();
      return;
    }
    if (this.#isGathering) return;
    this.#isGathering = true;
    const later = (): void => {
      this.#isGathering = false;
      if (!this.#isOn) void this.#carryOutAll();
    };
    this.#kind.clock.sleep(GATHER_MS).then(later, later);
  }

  async #carryOutAll(): Promise<void> {
    this.#isOn = true;
    while (this.#waiting.length > 0) {
      // Whose answers went out together come back together, the first of them some turns of the event loop before the
      // last. It is not to go alone, with the others behind it: that is two calls for what one can take.
      if (this.#lastSize > 1) await untilIdle();
      const group = this.#waiting.splice(0, this.#groupSize());
      this.#lastSize = group.length;
      await this.#settle(group);
    }
    this.#isOn = false;
  }

  /** How many of those that wait go together: as many as one parameter takes, and one at least. */
  #groupSize(): number {
    const apart = new Set<string>();
    let length = 0;
    for (const [i, one] of this.#waiting.entries()) {
      length += one.length + 1;
      const id = this.#kind.goesApart?.(one.item);
      if (i > 0 && (length > GROUP_LENGTH || (id !== undefined && apart.has(id)))) return i;
      if (id !== undefined) apart.add(id);
    }
    return this.#waiting.length;
  }

  async #settle(group: readonly Waiting<Item, Answer>[]): Promise<void> {
    try {
      const answers = await this.#kind.carryOut(group.map(({ item }) => item));
      for (const [i, { resolve }] of group.entries()) resolve(answers[i] as Answer);
    } catch (error) {
      // One of them may be wrong in itself, and the others are not to fail with it.
      const isShared = error instanceof DurableStoreUnavailableError || group.length === 1;
      if (isShared) for (const { reject } of group) reject(error);
      else await this.#settleEach(group);
    }
  }

  /** Until D1 cannot answer: that holds for the rest as well. */
  async #settleEach(group: readonly Waiting<Item, Answer>[]): Promise<void> {
    let weather: DurableStoreUnavailableError | undefined;
    for (const { item, resolve, reject } of group) {
      if (weather) {
        reject(weather);
        continue;
      }
      try {
        const [answer] = await this.#kind.carryOut([item]);
        resolve(answer as Answer);
      } catch (error) {
        if (error instanceof DurableStoreUnavailableError) weather = error;
        reject(error);
      }
    }
  }
}
