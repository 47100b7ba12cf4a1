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
import { inParams } from "../stores/sql/params.ts";
import * as statements from "../stores/sql/statements.ts";
import type { DroppedSteps, HeldRows } from "./dirty.ts";
import { DirtyRows } from "./dirty.ts";
import type { SyncStorage } from "./schema.ts";
import { deleteMeta, migrate, readMeta, schemaVersion, writeMeta } from "./schema.ts";

/**
 * Revisions that a rebuilt cache leaves out: more than an object can have used without D1 hearing of it, so that a batch
 * of the object's earlier life, come late, is never newer than what was written since.
 */
const REBUILD_GAP = 1_000_000;

/** What a rebuild found in D1, and the revision above which all revisions are this object's own. */
export interface Adopted {
  readonly runRevision: number;
  readonly base: number;
}

/** How far D1 may run ahead of the watermark on record before a commit takes it along. */
const WATERMARK_STRIDE = 16;

export class RunCache {
  readonly #storage: SyncStorage;
  readonly #runId: string;
  #exists: boolean;
  #run: (RunState & Revised) | null = null;
  #revision = 0;
  /** R16: begins that no commit has taken along yet. */
  readonly #unsaved = new Map<number, StepState & Revised>();
  readonly #dirty = new DirtyRows();
  /** D1 holds every revision up to here; and what storage says of that. */
  #recordedRevision = 0;
  #savedWatermark = 0;
  #adopted: Adopted = { runRevision: 0, base: 0 };
  #isOnRecord = false;
  #madeAt = 0;
  /** What storage says of since when the run's row is dirty. */
  #savedRunSince: number | null = null;
  #epoch = 0;

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

  /** Counts how often the cache was emptied: whoever awaited something looks whether it still stands. */
  get epoch(): number {
    return this.#epoch;
  }

  get run(): (RunState & Revised) | null {
    return this.#run;
  }

  get adopted(): Adopted {
    return this.#adopted;
  }

  /** Whether the run is as a rebuild found it in D1. */
  get isAdopted(): boolean {
    return this.#run !== null && this.#run.revision <= this.#adopted.runRevision;
  }

  /** Whether D1 is known to have held the run's row: if it is gone from there, it was deleted. */
  get isOnRecord(): boolean {
    return this.#isOnRecord;
  }

  /** Epoch milliseconds: when storage was made, or rebuilt. 0 where an earlier version made it. */
  get madeAt(): number {
    return this.#madeAt;
  }

  /** Of the latest change, also of one in memory. */
  get revision(): number {
    return this.#revision;
  }

  get dirty(): HeldRows & Pick<DirtyRows, "size" | "runSince"> {
    return this.#dirty;
  }

  get isDirty(): boolean {
    return this.#dirty.size > 0;
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
  commit(change: Change, now: number, chunks: readonly Chunk[] = [], { record = true } = {}): void {
    const revision = this.#revision + 1;
    const dropped = this.#droppedBy(change);
    const begun = [...this.#unsaved.values()].filter(
      ({ stepIndex }) => stepIndex !== change.step?.stepIndex && stepIndex < (change.dropFrom ?? Infinity),
    );
    const mark = this.#recordedRevision >= this.#savedWatermark + WATERMARK_STRIDE;
    this.#write(() => {
      for (const chunk of chunks) this.#saveChunk(chunk);
      this.#saveSteps(begun);
      if (change.run) this.#saveRun({ ...change.run, revision });
      if (dropped) this.#dropSteps(dropped);
      if (change.step) this.#saveSteps([{ ...change.step, revision }]);
      if (change.event) this.#saveEvents([{ ...change.event, revision }]);
      if (mark) writeMeta(this.#storage.sql, "recorded_revision", this.#recordedRevision);
    });
    if (mark) this.#savedWatermark = this.#recordedRevision;
    this.#revision = revision;
    this.#unsaved.clear();
    for (const step of begun) this.#dirty.noteStep(step.stepIndex, step.revision);
    if (change.run) this.#run = { ...change.run, revision };
    if (dropped) this.#dirty.noteDropped(dropped);
    if (record) this.#dirty.noteChange(change, revision, now);
  }

  /** Saves begins that are in memory alone. */
  saveUnsaved(): void {
    const begun = [...this.#unsaved.values()];
    if (begun.length === 0) return;
    this.#write(() => this.#saveSteps(begun));
    this.#unsaved.clear();
    for (const step of begun) this.#dirty.noteStep(step.stepIndex, step.revision);
  }

  /** Takes over rows from D1, as recorded. The run's row goes in last, with `finishAdopting`, and makes them count. */
  adopt(rows: { steps?: (StepState & Revised)[]; events?: (EventState & Revised)[] }): void {
    const { steps = [], events = [] } = rows;
    this.#write(() => {
      this.#saveSteps(steps);
      this.#saveEvents(events);
    });
    for (const { revision } of [...steps, ...events]) this.#revision = Math.max(this.#revision, revision);
  }

  /** Ends a rebuild. `run` is null when D1 knows of events alone, or of nothing. */
  finishAdopting(run: (RunState & Revised) | null, now: number): void {
    this.#madeAt = now;
    if (run === null && this.#revision === 0) return;
    const runRevision = run?.revision ?? 0;
    const base = Math.max(this.#revision, runRevision) + REBUILD_GAP;
    this.#revision = base;
    if (!this.isDirty) this.#recordedRevision = base;
    this.#write(() => {
      if (run) this.#saveRun(run);
      writeMeta(this.#storage.sql, "recorded_revision", this.#recordedRevision);
      writeMeta(this.#storage.sql, "adopted_run_revision", runRevision);
      writeMeta(this.#storage.sql, "base_revision", base);
      writeMeta(this.#storage.sql, "made_at", now);
    });
    this.#adopted = { runRevision, base };
    this.#isOnRecord = run !== null;
    this.#savedWatermark = this.#recordedRevision;
    if (run) this.#run = run;
  }

  /** Marks rows as held by D1, unless they have changed since those revisions were read, at `readAt`. */
  markRecorded(held: HeldRows, readAt: number): void {
    if (held.dropped !== null && held.dropped === this.#dirty.dropped) {
      this.#write(() => deleteMeta(this.#storage.sql, "dropped_from", "dropped_below_fence"));
    }
    this.#dirty.settle(held, readAt);
    if (held.run !== null) this.#isOnRecord = true;
    if (this.#savedRunSince === null || this.#savedRunSince === this.#dirty.runSince) return;
    this.#write(() => deleteMeta(this.#storage.sql, "run_dirty_since"));
    this.#savedRunSince = null;
  }

  /**
   * Puts on record since when D1 lacks the run's row, for a reset would forget it. To be called when a flush has failed: in
   * the steady state that would be a row for nothing.
   */
  saveRunSince(now: number): void {
    const { run } = this.#dirty;
    if (run === null) return;
    this.#dirty.noteRun(run, now);
    const since = this.#dirty.runSince;
    if (since === null || since === this.#savedRunSince) return;
    this.#write(() => writeMeta(this.#storage.sql, "run_dirty_since", since));
    this.#savedRunSince = since;
  }

  /** D1 holds every revision up to this one. */
  setRecorded(through: number): void {
    this.#recordedRevision = Math.max(this.#recordedRevision, through);
  }

  /**
   * Throws away what D1 knows better, to be rebuilt from there. Events that D1 lacks stay: they need no claim, and were
   * acknowledged. Revisions go on, so that none is given out twice.
   */
  discard(): void {
    const kept = [...this.#dirty.events.keys()]
      .map((key) => this.event(key))
      .filter((event) => event !== null);
    const refs = kept.flatMap(({ payload }) => ("ref" in payload ? [payload.ref] : []));
    this.#write(() => {
      const { sql } = this.#storage;
      sql.exec("DELETE FROM durable_runs");
      sql.exec("DELETE FROM durable_steps");
      sql.exec(
        "DELETE FROM durable_chunks WHERE ref NOT IN (SELECT value FROM json_each(?1))",
        JSON.stringify(refs),
      );
      sql.exec("DELETE FROM durable_events");
      this.#saveEvents(kept);
      deleteMeta(sql, "dropped_from", "dropped_below_fence", "run_dirty_since");
      writeMeta(sql, "base_revision", this.#revision);
    });
    this.#epoch += 1;
    this.#dirty.clearClaimed();
    this.#forgetRun();
  }

  /** Forgets what is in memory, after storage was deleted. */
  forget(): void {
    this.#epoch += 1;
    this.#exists = false;
    this.#revision = 0;
    this.#recordedRevision = 0;
    this.#savedWatermark = 0;
    this.#dirty.clear();
    this.#forgetRun();
  }

  step(stepIndex: number): (StepState & Revised) | null {
    return this.#unsaved.get(stepIndex) ?? this.savedStep(stepIndex);
  }

  /** As storage has it: what D1 may be told. */
  savedStep(stepIndex: number): (StepState & Revised) | null {
    if (!this.#exists) return null;
    const [row] = this.#storage.sql.exec<StepRow>(statements.SELECT_STEP, this.#runId, stepIndex).toArray();
    return row ? fromStepRow(row) : null;
  }

  event(key: string): (EventState & Revised) | null {
    if (!this.#exists) return null;
    const [row] = this.#storage.sql.exec<EventRow>(statements.SELECT_EVENT, this.#runId, key).toArray();
    return row ? { ...fromEventRow(row), revision: Number(row.revision) } : null;
  }

  stepCount(): number {
    const saved = this.#exists
      ? this.#storage.sql
          .exec<{ n: number }>("SELECT count(*) AS n FROM durable_steps WHERE run_id = ?1", this.#runId)
          .one().n
      : 0;
    const fresh = [...this.#unsaved.keys()].filter((stepIndex) => this.savedStep(stepIndex) === null);
    return saved + fresh.length;
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
    if (!this.#exists || this.#savedWatermark === this.#recordedRevision) return;
    this.#write(() => writeMeta(this.#storage.sql, "recorded_revision", this.#recordedRevision));
    this.#savedWatermark = this.#recordedRevision;
  }

  #forgetRun(): void {
    this.#run = null;
    this.#unsaved.clear();
    this.#adopted = { runRevision: 0, base: 0 };
    this.#isOnRecord = false;
    this.#savedRunSince = null;
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
    this.#recordedRevision = readMeta(sql, "recorded_revision") ?? 0;
    this.#savedWatermark = this.#recordedRevision;
    this.#isOnRecord = this.#run !== null && this.#run.revision <= this.#recordedRevision;
    this.#madeAt = readMeta(sql, "made_at") ?? 0;
    const base = readMeta(sql, "base_revision") ?? 0;
    this.#adopted = { runRevision: readMeta(sql, "adopted_run_revision") ?? 0, base };
    this.#revision = Math.max(Number(highest.one().revision ?? 0), this.#recordedRevision, base);
  }

  /** R13: after a restart, what lies above the watermark is taken for unrecorded. */
  #loadDirty(): void {
    const { sql } = this.#storage;
    const mark = this.#recordedRevision;
    this.#savedRunSince = readMeta(sql, "run_dirty_since") ?? null;
    if (this.#run && this.#run.revision > mark) this.#dirty.noteRun(this.#run.revision, this.#savedRunSince);
    const from = readMeta(sql, "dropped_from");
    const belowFence = readMeta(sql, "dropped_below_fence");
    if (from !== undefined && belowFence !== undefined) this.#dirty.noteDropped({ from, belowFence });
    const steps = sql.exec<{ step_index: number; revision: number }>(
      "SELECT step_index, revision FROM durable_steps WHERE revision > ?1",
      mark,
    );
    for (const row of steps) this.#dirty.noteStep(row.step_index, row.revision);
    const events = sql.exec<{ key: string; revision: number }>(
      "SELECT key, revision FROM durable_events WHERE revision > ?1",
      mark,
    );
    for (const row of events) this.#dirty.noteEvent(row.key, row.revision);
  }

  #droppedBy({ run, dropFrom }: Change): DroppedSteps | null {
    if (run === undefined || dropFrom === undefined) return null;
    return { from: dropFrom, belowFence: run.fence };
  }

  #dropSteps({ from, belowFence }: DroppedSteps): void {
    const { sql } = this.#storage;
    sql.exec(statements.DELETE_STEPS, this.#runId, from, belowFence);
    writeMeta(sql, "dropped_from", from);
    writeMeta(sql, "dropped_below_fence", belowFence);
  }

  #write(writes: () => void): void {
    if (!this.#exists) {
      migrate(this.#storage);
      writeMeta(this.#storage.sql, "made_at", this.#madeAt);
      this.#exists = true;
    }
    this.#storage.transactionSync(writes);
  }

  #saveRun(run: RunState & Revised): void {
    this.#storage.sql.exec(statements.UPSERT_RUN, ...toRunRow(run, run.revision));
  }

  #saveSteps(steps: readonly (StepState & Revised)[]): void {
    for (const { json } of inParams(steps, (step) => toStepRow(this.#runId, step, step.revision))) {
      this.#storage.sql.exec(statements.UPSERT_STEPS, json);
    }
  }

  #saveEvents(events: readonly (EventState & Revised)[]): void {
    for (const { json } of inParams(events, (event) => toEventRow(this.#runId, event, event.revision))) {
      this.#storage.sql.exec(statements.INSERT_EVENTS, json);
    }
  }

  #saveChunk({ ref, chunk, text }: Chunk): void {
    this.#storage.sql.exec(statements.INSERT_CHUNK, this.#runId, ref, chunk, text);
  }
}
