/**
 * The rows of a coordinator's own SQLite: reads and writes, all synchronous.
 *
 * Knows no rules, and of the run no more than its id. Keeps nothing in memory but whether there are tables, and how
 * far the steps go. Tables are made at the first write.
 */
import type { EventState, RunState, StepState } from "../ledger/state.ts";
import type { StepPage } from "../stores/journal.ts";
import type { Chunk } from "../stores/sql/bodies.ts";
import { inParams } from "../stores/sql/params.ts";
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
import type { DroppedSteps } from "./dirty.ts";
import type { MetaKey, SyncStorage } from "./schema.ts";
import { deleteMeta, migrate, readMeta, schemaVersion, writeMeta } from "./schema.ts";

/** ?1: run id, ?2: lease, ?3: its end, ?4: now. A renewal is no revision: D1 does not hear of it. */
const UPDATE_LEASE = `
UPDATE durable_runs SET lease_ms = ?2, lease_expires_at = ?3, updated_at = ?4 WHERE run_id = ?1`;

export class RunTables {
  readonly #storage: SyncStorage;
  readonly #runId: string;
  #exist: boolean;
  /** No step lies beyond it. */
  #lastStep = -1;

  constructor(storage: SyncStorage, runId: string) {
    this.#storage = storage;
    this.#runId = runId;
    this.#exist = schemaVersion(storage) > 0;
    if (!this.#exist) return;
    migrate(storage);
    this.#findLastStep();
  }

  get exist(): boolean {
    return this.#exist;
  }

  /** Makes the tables if need be. What `writes` does is kept whole, or not at all. */
  write(writes: () => void): void {
    if (!this.#exist) {
      migrate(this.#storage);
      this.#exist = true;
    }
    this.#storage.transactionSync(writes);
  }

  /** After the object's storage was deleted. */
  forget(): void {
    this.#exist = false;
    this.#lastStep = -1;
  }

  run(): (RunState & Revised) | null {
    const [row] = this.#rows<RunRow>(statements.SELECT_RUN, this.#runId);
    return row ? fromRunRow(row) : null;
  }

  step(stepIndex: number): (StepState & Revised) | null {
    if (stepIndex > this.#lastStep) return null;
    const [row] = this.#rows<StepRow>(statements.SELECT_STEP, this.#runId, stepIndex);
    return row ? fromStepRow(row) : null;
  }

  event(key: string): (EventState & Revised) | null {
    const [row] = this.#rows<EventRow>(statements.SELECT_EVENT, this.#runId, key);
    return row ? { ...fromEventRow(row), revision: Number(row.revision) } : null;
  }

  stepCount(): number {
    const [row] = this.#rows<{ n: number }>(
      "SELECT count(*) AS n FROM durable_steps WHERE run_id = ?1",
      this.#runId,
    );
    return row?.n ?? 0;
  }

  page(from: number): StepPage {
    const rows = this.#rows<StepRow & { last_index: number }>(statements.SELECT_STEPS, this.#runId, from);
    const steps = rows.map(fromStepRow);
    const last = steps.at(-1)?.stepIndex;
    return { steps, next: last !== undefined && last < Number(rows[0]?.last_index) ? last + 1 : null };
  }

  /** Chunks `first` to before `end` of a body, or `null` where they are not all here. */
  chunks(ref: string, first: number, end: number): string[] | null {
    const rows = this.#rows<{ text: string }>(statements.SELECT_CHUNKS, this.#runId, ref, first, end - 1);
    return rows.length === end - first ? rows.map((row) => row.text) : null;
  }

  /** Of all rows; 0 where there are none. */
  highestRevision(): number {
    const [row] = this.#rows<{ revision: number | null }>(
      `SELECT max(revision) AS revision FROM (
        SELECT max(revision) AS revision FROM durable_runs UNION ALL
        SELECT max(revision) FROM durable_steps UNION ALL SELECT max(revision) FROM durable_events)`,
    );
    return row?.revision ?? 0;
  }

  stepsAbove(revision: number): { step_index: number; revision: number }[] {
    return this.#rows("SELECT step_index, revision FROM durable_steps WHERE revision > ?1", revision);
  }

  eventsAbove(revision: number): { key: string; revision: number }[] {
    return this.#rows("SELECT key, revision FROM durable_events WHERE revision > ?1", revision);
  }

  saveRun(run: RunState & Revised): void {
    this.#storage.sql.exec(statements.UPSERT_RUN, ...toRunRow(run, run.revision));
  }

  saveLease({ leaseMs, leaseExpiresAt, updatedAt }: RunState): void {
    this.#storage.sql.exec(UPDATE_LEASE, this.#runId, leaseMs, leaseExpiresAt, updatedAt);
  }

  saveStep(step: StepState & Revised): void {
    this.#storage.sql.exec(statements.UPSERT_STEP, ...toStepRow(this.#runId, step, step.revision));
    this.#lastStep = Math.max(this.#lastStep, step.stepIndex);
  }

  saveEvents(events: readonly (EventState & Revised)[]): void {
    for (const { json } of inParams(events, (event) => toEventRow(this.#runId, event, event.revision)))
      this.#storage.sql.exec(statements.INSERT_EVENTS, json);
  }

  saveChunk({ ref, chunk, text }: Chunk): void {
    this.#storage.sql.exec(statements.INSERT_CHUNK, this.#runId, ref, chunk, text);
  }

  dropSteps({ from, belowFence }: DroppedSteps): void {
    this.#storage.sql.exec(statements.DELETE_STEPS, this.#runId, from, belowFence);
    this.#findLastStep();
  }

  /** All but the bodies of those events, and what `durable_meta` says. */
  clear(refs: readonly string[]): void {
    const { sql } = this.#storage;
    sql.exec("DELETE FROM durable_runs");
    sql.exec("DELETE FROM durable_steps");
    sql.exec(
      "DELETE FROM durable_chunks WHERE ref NOT IN (SELECT value FROM json_each(?1))",
      JSON.stringify(refs),
    );
    sql.exec("DELETE FROM durable_events");
    this.#lastStep = -1;
  }

  meta(key: MetaKey): number | undefined {
    return this.#exist ? readMeta(this.#storage.sql, key) : undefined;
  }

  setMeta(key: MetaKey, value: number): void {
    writeMeta(this.#storage.sql, key, value);
  }

  deleteMeta(...keys: readonly MetaKey[]): void {
    deleteMeta(this.#storage.sql, ...keys);
  }

  #rows<Row extends Record<string, SqlStorageValue>>(query: string, ...values: (string | number)[]): Row[] {
    return this.#exist ? this.#storage.sql.exec<Row>(query, ...values).toArray() : [];
  }

  #findLastStep(): void {
    const [row] = this.#rows<{ last: number | null }>(
      "SELECT max(step_index) AS last FROM durable_steps WHERE run_id = ?1",
      this.#runId,
    );
    this.#lastStep = row?.last ?? -1;
  }
}
