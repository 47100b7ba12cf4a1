/**
 * The coordinator's cache of one run: the run's row and the begins of the last moments in memory, everything else in
 * the object's SQLite (R11, R13, R16, R22).
 *
 * All methods are synchronous, so that a caller can decide, apply and persist with no await between. Invariants: memory
 * changes only after its transaction returned; a row's revision is higher than that of every earlier change; a row is
 * dirty until D1 is known to hold that revision of it; result bodies are read from SQLite, never kept.
 */
import type { Change, EventState, RunState, Slice, StepState } from "../ledger/state.ts";
import type { Request } from "../ledger/requests.ts";
import type { StepPage } from "../stores/journal.ts";
import { subjectOf } from "../stores/journal.ts";
import type { Chunk } from "../stores/sql/bodies.ts";
import type { EventRow, Revised, RunRow, StepRow } from "../stores/sql/rows.ts";
import {
  fromEventRow,
  fromRunRow,
  fromStepRow,
  toEventRow,
  toRunRow,
  toStepRow,
} from "../stores/sql/rows.ts";
import * as statements from "../stores/sql/statements.ts";
import type { SyncStorage } from "./schema.ts";
import { migrate, readMeta, schemaVersion, writeMeta } from "./schema.ts";

/** What D1 may not hold yet, with the revision that it lacks. */
export interface Dirty {
  run: number | null;
  readonly steps: Map<number, number>;
  readonly events: Map<string, number>;
}

export class RunCache {
  readonly #storage: SyncStorage;
  readonly #runId: string;
  #exists: boolean;
  #run: (RunState & Revised) | null = null;
  #revision = 0;
  /** R16: begins that no commit has taken along yet. */
  readonly #unsaved = new Map<number, StepState & Revised>();
  readonly #dirty: Dirty = { run: null, steps: new Map(), events: new Map() };
  #recordedRevision = 0;

  /** Loads what the object's storage holds. */
  constructor(storage: SyncStorage, runId: string) {
    this.#storage = storage;
    this.#runId = runId;
    this.#exists = schemaVersion(storage) > 0;
    if (!this.#exists) return;
    migrate(storage);
    this.#loadRun();
    this.#loadDirty();
  }

  /** Whether storage holds anything. */
  get exists(): boolean {
    return this.#exists;
  }

  get run(): RunState | null {
    return this.#run;
  }

  /** Of the latest change, also of one in memory. */
  get revision(): number {
    return this.#revision;
  }

  get dirty(): Readonly<Dirty> {
    return this.#dirty;
  }

  get dirtyCount(): number {
    return (this.#dirty.run === null ? 0 : 1) + this.#dirty.steps.size + this.#dirty.events.size;
  }

  get hasUnsaved(): boolean {
    return this.#unsaved.size > 0;
  }

  slice(request: Request): Slice {
    const { stepIndex, key } = subjectOf(request);
    return {
      run: this.#run,
      step: stepIndex === undefined ? null : this.step(stepIndex),
      event: key === undefined ? null : this.event(key),
    };
  }

  /** Takes a begin into memory; the next commit saves it. */
  applyLazily(step: StepState): void {
    this.#revision += 1;
    this.#unsaved.set(step.stepIndex, { ...step, revision: this.#revision });
  }

  /** Persists a change, its chunks, and what was begun lazily, in one transaction. `record: false` for what D1 need not know. */
  commit(change: Change, chunks: readonly Chunk[] = [], { record = true } = {}): void {
    const revision = this.#revision + 1;
    if (change.step) this.#unsaved.delete(change.step.stepIndex);
    const begun = [...this.#unsaved.values()];
    this.#write(() => {
      for (const chunk of chunks) this.#saveChunk(chunk);
      for (const step of begun) this.#saveSteps([toStepRow(this.#runId, step, step.revision)]);
      if (change.run) {
        this.#saveRun(change.run, revision);
        writeMeta(this.#storage.sql, "recorded_revision", this.#recordedRevision);
      }
      if (change.step) this.#saveSteps([toStepRow(this.#runId, change.step, revision)]);
      if (change.event)
        this.#save(statements.INSERT_EVENTS, [toEventRow(this.#runId, change.event, revision)]);
    });
    this.#revision = revision;
    this.#unsaved.clear();
    for (const step of begun) this.#dirty.steps.set(step.stepIndex, step.revision);
    if (change.run) this.#run = { ...change.run, revision };
    if (!record) return;
    if (change.run) this.#dirty.run = revision;
    if (change.step) this.#dirty.steps.set(change.step.stepIndex, revision);
    if (change.event) this.#dirty.events.set(change.event.key, revision);
  }

  saveUnsaved(): void {
    if (this.hasUnsaved) this.commit({});
  }

  /** Takes over rows from D1, as recorded. For an empty cache; the run's row goes in last, and makes it count. */
  adopt(rows: {
    run?: RunState & Revised;
    steps?: (StepState & Revised)[];
    events?: (EventState & Revised)[];
  }): void {
    const { run, steps = [], events = [] } = rows;
    this.#write(() => {
      this.#saveSteps(steps.map((step) => toStepRow(this.#runId, step, step.revision)));
      this.#save(
        statements.INSERT_EVENTS,
        events.map((event) => toEventRow(this.#runId, event, event.revision)),
      );
      if (run) this.#saveRun(run, run.revision);
    });
    const revisions = [...steps, ...events, ...(run ? [run] : [])].map((row) => row.revision);
    this.#revision = revisions.reduce((highest, revision) => Math.max(highest, revision), this.#revision);
    if (run) this.#run = run;
    if (this.dirtyCount === 0) this.#recordedRevision = this.#revision;
  }

  /** Marks rows as held by D1, unless they have changed since those revisions were read. */
  markRecorded(recorded: Dirty, through: number): void {
    if (this.#dirty.run !== null && this.#dirty.run === recorded.run) this.#dirty.run = null;
    settle(this.#dirty.steps, recorded.steps);
    settle(this.#dirty.events, recorded.events);
    this.#recordedRevision = Math.max(this.#recordedRevision, through);
  }

  /** Forgets what is in memory, after storage was emptied. */
  forget(): void {
    this.#exists = false;
    this.#run = null;
    this.#revision = 0;
    this.#recordedRevision = 0;
    this.#unsaved.clear();
    this.#dirty.run = null;
    this.#dirty.steps.clear();
    this.#dirty.events.clear();
  }

  step(stepIndex: number): (StepState & Revised) | null {
    const unsaved = this.#unsaved.get(stepIndex);
    if (unsaved || !this.#exists) return unsaved ?? null;
    const [row] = this.#storage.sql.exec<StepRow>(statements.SELECT_STEP, this.#runId, stepIndex).toArray();
    return row ? fromStepRow(row) : null;
  }

  event(key: string): (EventState & Revised) | null {
    if (!this.#exists) return null;
    const [row] = this.#storage.sql.exec<EventRow>(statements.SELECT_EVENT, this.#runId, key).toArray();
    return row ? { ...fromEventRow(row), revision: Number(row.revision) } : null;
  }

  stepCount(): number {
    if (!this.#exists) return 0;
    const count = "SELECT count(*) AS n FROM durable_steps WHERE run_id = ?1";
    const saved = this.#storage.sql.exec<{ n: number }>(count, this.#runId).one().n;
    const fresh = [...this.#unsaved.values()].filter((step) => step.attempts === 1).length;
    return saved + fresh;
  }

  page(from: number): StepPage {
    if (!this.#exists) return { steps: [], next: null };
    this.saveUnsaved();
    const rows = this.#storage.sql
      .exec<StepRow & { last_index: number }>(statements.SELECT_STEPS, this.#runId, from)
      .toArray();
    const steps = rows.map(fromStepRow);
    const last = steps.at(-1)?.stepIndex;
    return { steps, next: last !== undefined && last < Number(rows[0]?.last_index) ? last + 1 : null };
  }

  /** Chunks `first` to before `end` of a body, or `null` where they are not here: after a rebuild, D1 alone has them. */
  chunks(ref: string, first: number, end: number): string[] | null {
    if (!this.#exists) return null;
    const rows = this.#storage.sql
      .exec<{ text: string }>(statements.SELECT_CHUNKS, this.#runId, ref, first, end - 1)
      .toArray();
    return rows.length === end - first ? rows.map((row) => row.text) : null;
  }

  /** Puts on record how far D1 has come, so that a restart sends less again. */
  saveWatermark(): void {
    if (!this.#exists || readMeta(this.#storage.sql, "recorded_revision") === this.#recordedRevision) return;
    this.#write(() => writeMeta(this.#storage.sql, "recorded_revision", this.#recordedRevision));
  }

  #loadRun(): void {
    const { sql } = this.#storage;
    const [row] = sql.exec<RunRow>(statements.SELECT_RUN, this.#runId).toArray();
    this.#run = row ? fromRunRow(row) : null;
    const highest = sql.exec<{ revision: number }>(
      `SELECT max(revision) AS revision FROM (
        SELECT max(revision) AS revision FROM durable_runs UNION ALL
        SELECT max(revision) FROM durable_steps UNION ALL SELECT max(revision) FROM durable_events)`,
    );
    this.#revision = Number(highest.one().revision ?? 0);
  }

  /** R13: after a restart, what lies above the watermark is taken for unrecorded. */
  #loadDirty(): void {
    const { sql } = this.#storage;
    const mark = (this.#recordedRevision = readMeta(sql, "recorded_revision") ?? 0);
    if (this.#run && this.#run.revision > mark) this.#dirty.run = this.#run.revision;
    const steps = sql.exec<{ step_index: number; revision: number }>(
      "SELECT step_index, revision FROM durable_steps WHERE revision > ?1",
      mark,
    );
    for (const row of steps) this.#dirty.steps.set(row.step_index, row.revision);
    const events = sql.exec<{ key: string; revision: number }>(
      "SELECT key, revision FROM durable_events WHERE revision > ?1",
      mark,
    );
    for (const row of events) this.#dirty.events.set(row.key, row.revision);
  }

  #write(writes: () => void): void {
    if (!this.#exists) {
      migrate(this.#storage);
      this.#exists = true;
    }
    this.#storage.transactionSync(writes);
  }

  #saveRun(run: RunState, revision: number): void {
    this.#storage.sql.exec(statements.UPSERT_RUN, ...toRunRow(run, revision));
  }

  #saveSteps(rows: unknown[][]): void {
    this.#save(statements.UPSERT_STEPS, rows);
  }

  #save(statement: string, rows: unknown[][]): void {
    if (rows.length > 0) this.#storage.sql.exec(statement, JSON.stringify(rows));
  }

  #saveChunk({ ref, chunk, text }: Chunk): void {
    this.#storage.sql.exec(statements.INSERT_CHUNK, this.#runId, ref, chunk, text);
  }
}

function settle<K>(dirty: Map<K, number>, recorded: Map<K, number>): void {
  for (const [key, revision] of recorded) {
    if (dirty.get(key) === revision) dirty.delete(key);
  }
}
