/**
 * Group commit across runs: what many coordinators have to record goes to D1 in one batch, each run under its own guard
 * (R12, 0026).
 *
 * One batch at a time; what comes meanwhile goes into the next. Keeps nothing: what is in memory here lies in the objects
 * that sent it, or is in nobody's hands yet, and is sent again when no answer comes.
 */
import type { Clock } from "../contract/clock.ts";
import { DurableStoreUnavailableError } from "../contract/errors.ts";
import type { D1DatabaseLike } from "../stores/d1/database.ts";
import { runBatch } from "../stores/d1/database.ts";
import {
  INSERT_TAGS_OF_RUNS,
  SELECT_REFUSED,
  UPSERT_RUNS,
  UPSERT_STEPS_OF_RUNS,
} from "../stores/sql/grouped.ts";
import { PARAM_BYTES } from "../stores/sql/params.ts";
import { INSERT_EVENTS } from "../stores/sql/statements.ts";
import type { RecordAnswer, RecordEntry } from "./record-entry.ts";
import { sizeOf } from "./record-entry.ts";

export interface GroupCommitInput {
  readonly db: D1DatabaseLike;
  readonly clock: Clock;
  /** For one batch. */
  readonly deadlineMs: number;
}

interface Waiting {
  readonly entry: RecordEntry;
  readonly bytes: number;
  readonly answer: (answer: RecordAnswer) => void;
  readonly fail: (error: unknown) => void;
}

export class GroupCommit {
  readonly #input: GroupCommitInput;
  #waiting: Waiting[] = [];
  #isOn = false;

  constructor(input: GroupCommitInput) {
    this.#input = input;
  }

  /** Resolves once D1 has answered. Rejects when the batch is wrong in itself, which is a defect. */
  record(entry: RecordEntry): Promise<RecordAnswer> {
    return new Promise((answer, fail) => {
      this.#waiting.push({ entry, bytes: sizeOf(entry), answer, fail });
      if (!this.#isOn) void this.#commitAll();
    });
  }

  async #commitAll(): Promise<void> {
    this.#isOn = true;
    while (this.#waiting.length > 0) await this.#answer(this.#takeGroup());
    this.#isOn = false;
  }

  async #answer(group: readonly Waiting[]): Promise<void> {
    try {
      const refused = await this.#commit(group.map(({ entry }) => entry));
      for (const { entry, answer } of group) answer({ ok: true, refused: refused.has(entry.runId) });
    } catch (error) {
      if (error instanceof DurableStoreUnavailableError) {
        for (const { answer } of group) answer({ ok: false, message: error.message });
      } else if (group.length === 1) {
        group[0]?.fail(error);
      } else {
        // One of them is wrong in itself, and the others are not to fail with it.
        for (const one of group) await this.#answer([one]);
      }
    }
  }

  /** As many as one parameter takes, each run once: two instances of one object each have a guard of their own. */
  #takeGroup(): Waiting[] {
    const group: Waiting[] = [];
    const later: Waiting[] = [];
    const runs = new Set<string>();
    let bytes = 0;
    for (const one of this.#waiting) {
      const fits = bytes + one.bytes <= PARAM_BYTES && !runs.has(one.entry.runId);
      if (!fits && group.length > 0) {
        later.push(one);
        continue;
      }
      group.push(one);
      runs.add(one.entry.runId);
      bytes += one.bytes;
    }
    this.#waiting = later;
    return group;
  }

  async #commit(entries: readonly RecordEntry[]): Promise<Set<string>> {
    const { db } = this.#input;
    const guards = joined(entries, ({ guard }) => guard ?? "");
    const writes = [
      { statement: UPSERT_RUNS, rows: joined(entries, ({ runs }) => runs) },
      { statement: INSERT_TAGS_OF_RUNS, rows: joined(entries, ({ tags }) => tags) },
      { statement: UPSERT_STEPS_OF_RUNS, rows: joined(entries, ({ steps }) => steps) },
    ].filter(({ rows }) => rows !== "[]");
    const events = joined(entries, (entry) => entry.events);
    const statements = writes.map(({ statement, rows }) => db.prepare(statement).bind(guards, rows));
    const eventStatements = events === "[]" ? [] : [db.prepare(INSERT_EVENTS).bind(events)];
    const all = [db.prepare(SELECT_REFUSED).bind(guards), ...statements, ...eventStatements];
    const [refused] = await runBatch(db, all, this.#input);
    return new Set((refused as { run_id: string }[]).map((row) => row.run_id));
  }
}

function joined(entries: readonly RecordEntry[], rowsOf: (entry: RecordEntry) => string): string {
  return `[${entries
    .map(rowsOf)
    .filter((rows) => rows !== "")
    .join(",")}]`;
}
