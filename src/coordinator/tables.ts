/**
 * A coordinator's own SQLite as the cache uses it: reads and writes, all synchronous.
 *
 * Knows no rules. Keeps nothing in memory but whether there is a table, how far the steps go, and whether the manifest
 * is there. The table is made at the first write.
 */
import type { EventState, RunState, StepState } from "../ledger/state.ts";
import type { StepPage } from "../stores/journal.ts";
import type { Chunk } from "../stores/sql/bodies.ts";
import type { Revised } from "../stores/sql/rows.ts";
import type { DroppedSteps } from "./dirty.ts";
import type { MetaKey, RowKind, Statement } from "./rows.ts";
import { putChunk, putEvent, putManifest, putMeta, putRun, putStep, toEvent, toRun, toStep } from "./rows.ts";
import type { SyncStorage } from "./schema.ts";
import { hasRows, makeRows } from "./schema.ts";

/** A page of steps ends after so many, or so many bytes, and has at least one. */
const PAGE_STEPS = 500;
const PAGE_BYTES = 4_000_000;

const ABOVE = "SELECT id, revision FROM durable_rows WHERE kind = ?1 AND revision > ?2";

/** What is written together, in order. */
export class Writes {
  readonly statements: Statement[] = [];
  /** The last position that a step was written to; -1 for none. */
  lastStep = -1;
  /** Whether the manifest is there afterwards. */
  hasManifest: boolean;
  dropsSteps = false;

  constructor(hasManifest: boolean) {
    this.hasManifest = hasManifest;
  }

  run(run: RunState & Revised): void {
    if (!this.hasManifest) this.statements.push(putManifest(run));
    this.hasManifest = true;
    this.statements.push(putRun(run));
  }

  step(step: StepState & Revised): void {
    this.statements.push(putStep(step));
    this.lastStep = Math.max(this.lastStep, step.stepIndex);
  }

  /** The first emit stands. */
  event(event: EventState & Revised): void {
    this.statements.push(putEvent(event));
  }

  chunk(chunk: Chunk): void {
    this.statements.push(putChunk(chunk));
  }

  meta(key: MetaKey, value: number): void {
    this.statements.push(putMeta(key, value));
  }

  deleteMeta(...keys: readonly MetaKey[]): void {
    for (const key of keys)
      this.statements.push(["DELETE FROM durable_rows WHERE kind = 'meta' AND id = ?1", key]);
  }

  /** Steps from a position on that are older than the restart which dropped them. */
  dropSteps({ from, belowFence }: DroppedSteps): void {
    this.statements.push([
      "DELETE FROM durable_rows WHERE kind = 'step' AND id >= ?1 AND fence < ?2",
      from,
      belowFence,
    ]);
    this.dropsSteps = true;
  }

  /** All but the bodies of those events, and the meta values. */
  clear(refs: readonly string[]): void {
    this.statements.push(
      ["DELETE FROM durable_rows WHERE kind IN ('manifest', 'run', 'step', 'event')"],
      [
        "DELETE FROM durable_rows WHERE kind = 'chunk' AND id NOT IN (SELECT value FROM json_each(?1))",
        JSON.stringify(refs),
      ],
    );
    this.hasManifest = false;
    this.dropsSteps = true;
  }
}

export class RunTables {
  readonly #storage: SyncStorage;
  #exist: boolean;
  /** No step lies beyond it. */
  #lastStep = -1;
  #hasManifest = false;

  constructor(storage: SyncStorage) {
    this.#storage = storage;
    this.#exist = hasRows(storage);
    if (!this.#exist) return;
    this.#findLastStep();
    this.#hasManifest = this.#rows("manifest", 0).length > 0;
  }

  get exist(): boolean {
    return this.#exist;
  }

  /** Makes the table if need be. What is written is kept whole, or not at all. */
  write(fill: (writes: Writes) => void): void {
    const writes = new Writes(this.#hasManifest);
    fill(writes);
    const { sql } = this.#storage;
    const [only, ...more] = writes.statements;
    // A statement by itself is whole, or not at all, without a savepoint.
    if (this.#exist && only && more.length === 0) sql.exec(...only);
    else {
      this.#storage.transactionSync(() => {
        if (!this.#exist) makeRows(sql);
        for (const statement of writes.statements) sql.exec(...statement);
      });
    }
    this.#exist = true;
    this.#hasManifest = writes.hasManifest;
    if (writes.dropsSteps) this.#findLastStep();
    else this.#lastStep = Math.max(this.#lastStep, writes.lastStep);
  }

  /** After the object's storage was deleted. */
  forget(): void {
    this.#exist = false;
    this.#lastStep = -1;
    this.#hasManifest = false;
  }

  run(): (RunState & Revised) | null {
    const [run] = this.#rows("run", 0);
    const [manifest] = this.#rows("manifest", 0);
    return run === undefined || manifest === undefined ? null : toRun(run, manifest);
  }

  step(stepIndex: number): (StepState & Revised) | null {
    if (stepIndex > this.#lastStep) return null;
    const [row] = this.#rows("step", stepIndex);
    return row === undefined ? null : toStep(row);
  }

  event(key: string): (EventState & Revised) | null {
    const [row] = this.#rows("event", key);
    return row === undefined ? null : toEvent(row);
  }

  stepCount(): number {
    if (this.#lastStep < 0) return 0;
    const [row] = this.#query<{ n: number }>("SELECT count(*) AS n FROM durable_rows WHERE kind = 'step'");
    return row?.n ?? 0;
  }

  page(from: number): StepPage {
    if (from > this.#lastStep) return { steps: [], next: null };
    const last = this.#lastOfPage(from);
    const rows = this.#query<{ row: string }>(
      "SELECT row FROM durable_rows WHERE kind = 'step' AND id BETWEEN ?1 AND ?2 ORDER BY id",
      from,
      last,
    );
    return { steps: rows.map(({ row }) => toStep(row)), next: last < this.#lastStep ? last + 1 : null };
  }

  /** Chunks `first` to before `end` of a body, or `null` where they are not all here. */
  chunks(ref: string, first: number, end: number): string[] | null {
    const rows = this.#query<{ row: string }>(
      "SELECT row FROM durable_rows WHERE kind = 'chunk' AND id = ?1 AND part BETWEEN ?2 AND ?3 ORDER BY part",
      ref,
      first,
      end - 1,
    );
    return rows.length === end - first ? rows.map(({ row }) => row) : null;
  }

  /** Of all rows; 0 where there are none. */
  highestRevision(): number {
    const [row] = this.#query<{ revision: number | null }>(
      "SELECT max(revision) AS revision FROM durable_rows",
    );
    return row?.revision ?? 0;
  }

  stepsAbove(revision: number): { id: number; revision: number }[] {
    return this.#query(ABOVE, "step", revision);
  }

  eventsAbove(revision: number): { id: string; revision: number }[] {
    return this.#query(ABOVE, "event", revision);
  }

  meta(key: MetaKey): number | undefined {
    const [value] = this.#rows<number>("meta", key);
    return value;
  }

  #rows<Value extends string | number = string>(kind: RowKind, id: string | number): Value[] {
    const rows = this.#query<{ row: Value }>(
      "SELECT row FROM durable_rows WHERE kind = ?1 AND id = ?2 AND part = 0",
      kind,
      id,
    );
    return rows.map(({ row }) => row);
  }

  #query<Row extends Record<string, SqlStorageValue>>(...[query, ...values]: Statement): Row[] {
    return this.#exist ? this.#storage.sql.exec<Row>(query, ...values).toArray() : [];
  }

  /** By the lengths alone, so that no long text is read for nothing. */
  #lastOfPage(from: number): number {
    const rows = this.#query<{ id: number; bytes: number }>(
      "SELECT id, octet_length(row) AS bytes FROM durable_rows WHERE kind = 'step' AND id >= ?1 ORDER BY id LIMIT ?2",
      from,
      PAGE_STEPS,
    );
    let [last, bytes] = [rows[0]?.id ?? from, 0];
    for (const row of rows) {
      if (bytes >= PAGE_BYTES) break;
      bytes += row.bytes;
      last = row.id;
    }
    return last;
  }

  #findLastStep(): void {
    const [row] = this.#query<{ last: number | null }>(
      "SELECT max(id) AS last FROM durable_rows WHERE kind = 'step'",
    );
    this.#lastStep = row?.last ?? -1;
  }
}
