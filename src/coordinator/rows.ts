/**
 * The rows of a coordinator's own SQLite: each is one of the ledger's records as JSON text, and what it is found by.
 *
 * A table and statements like those of D1 would be parsed anew by each new object, for longer than a short run takes in
 * it; and nobody but tables.ts looks into this one (0029).
 */
import type { EventState, KeptManifest, RunState, RunView, StepState } from "../ledger/state.ts";
import type { Chunk } from "../stores/sql/bodies.ts";
import type { Revised } from "../stores/sql/rows.ts";

/** What a row is of. */
export type RowKind = "meta" | "manifest" | "run" | "step" | "event" | "chunk";

/** Numbers that are the object's own. */
export type MetaKey =
  | "schema_version"
  | "recorded_revision"
  /** There, and 1, once D1 has held the run's row. */
  | "on_record"
  | "adopted_run_revision"
  | "base_revision"
  | "base_run_revision"
  /** Epoch milliseconds: when storage was made, or rebuilt. */
  | "made_at"
  /** There, and 1, once D1 may hold changes that storage does not. */
  | "may_trail"
  /** Epoch milliseconds. There only after a flush has failed. */
  | "run_dirty_since"
  /** Of the object's life, as D1 counts them; absent for the one in which the run began. */
  | "incarnation"
  | "dropped_from"
  | "dropped_below_fence";

/**
 * `id`: the position of a step, the key of an event, the ref of a chunk, the name of a meta value; 0 where there is but
 * one. `part`: which chunk; else 0. What is long comes last, so that looking at the rest does not read it.
 */
export const CREATE_ROWS = `
CREATE TABLE durable_rows (
  kind     TEXT NOT NULL,
  id       ANY NOT NULL,
  part     INTEGER NOT NULL,
  fence    INTEGER,
  revision INTEGER,
  row      ANY NOT NULL,
  PRIMARY KEY (kind, id, part)
) STRICT, WITHOUT ROWID`;

/** The cells of one row, in order. */
const PUT = "INSERT OR REPLACE INTO durable_rows VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
/** The first emit stands. */
const PUT_IF_NEW = "INSERT OR IGNORE INTO durable_rows VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

/** A query, and its values. */
export type Statement = readonly [query: string, ...values: (string | number | null)[]];

export function putMeta(key: MetaKey, value: number): Statement {
  return [PUT, "meta" satisfies RowKind, key, 0, null, null, value];
}

/** All of a run but what is only kept: that never changes, and may be long. */
export function putRun({ task: _task, input: _input, tags: _tags, ...run }: RunState & Revised): Statement {
  return [PUT, "run" satisfies RowKind, 0, 0, run.fence, run.revision, JSON.stringify(run)];
}

export function putManifest({ task, input, tags }: KeptManifest): Statement {
  const kept: KeptManifest = { task, input, tags };
  return [PUT, "manifest" satisfies RowKind, 0, 0, null, null, JSON.stringify(kept)];
}

export function putStep(step: StepState & Revised): Statement {
  return [PUT, "step" satisfies RowKind, step.stepIndex, 0, step.fence, step.revision, JSON.stringify(step)];
}

export function putEvent(event: EventState & Revised): Statement {
  return [PUT_IF_NEW, "event" satisfies RowKind, event.key, 0, null, event.revision, JSON.stringify(event)];
}

export function putChunk({ ref, chunk, text }: Chunk): Statement {
  return [PUT_IF_NEW, "chunk" satisfies RowKind, ref, chunk, null, null, text];
}

export function toRun(run: string, manifest: string): RunState & Revised {
  return { ...(JSON.parse(run) as RunView & Revised), ...(JSON.parse(manifest) as KeptManifest) };
}

export function toStep(row: string): StepState & Revised {
  return JSON.parse(row) as StepState & Revised;
}

export function toEvent(row: string): EventState & Revised {
  return JSON.parse(row) as EventState & Revised;
}
