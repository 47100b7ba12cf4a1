/**
 * The SQL of D1's run tables: constant texts.
 *
 * Writes take rows as one JSON text, an array of arrays in column order, but for the run's own row. R13: an upsert
 * never lets an older (fence, revision) replace a newer one, so that each may be repeated, and may come late.
 */
import { EVENT_COLUMNS, FIXED_RUN_COLUMNS, RUN_COLUMNS, STEP_COLUMNS, TAG_COLUMNS } from "./rows.ts";

/**
 * Endings of an insert, for a row that is there already. What never changes is not set again, so no index is touched
 * (R29).
 */
export const ON_NEWER_RUN = `ON CONFLICT (run_id) DO UPDATE
SET ${assignments(RUN_COLUMNS.filter((column) => !FIXED_RUN_COLUMNS.has(column)))} WHERE ${newer("durable_runs")}`;
export const ON_NEWER_STEP = `ON CONFLICT (run_id, step_index) DO UPDATE
SET ${assignments(STEP_COLUMNS)} WHERE ${newer("durable_steps")}`;
/** A row that a Worker of version 2 wrote gets its instant. */
export const ON_TAG = `ON CONFLICT (key, value, run_id) DO UPDATE
SET created_at = excluded.created_at WHERE durable_tags.created_at = 0`;

/**
 * The cells of one row, in order. A run's row may hold four texts of 256 KiB, too much for one parameter once escaped,
 * so this one statement takes a parameter for each cell.
 */
export const UPSERT_RUN = `
INSERT INTO durable_runs (${RUN_COLUMNS.join(", ")})
VALUES (${RUN_COLUMNS.map((_column, i) => `?${i + 1}`).join(", ")})
${ON_NEWER_RUN}`;

/**
 * ?1: run id, ?2: fence, ?3: revision, ?4: lease, ?5: its end, ?6: now, ?7: when the run is due. A renewal changes
 * nothing else, and so no other index. What writes it is no coordinator, so no lag is left of one.
 */
export const UPDATE_LEASE = `
UPDATE durable_runs SET revision = ?3, lease_ms = ?4, lease_expires_at = ?5, updated_at = ?6, due_at = ?7, lag_ms = NULL
WHERE run_id = ?1 AND fence = ?2 AND revision < ?3`;

/** ?1: rows. */
export const UPSERT_STEPS = `
INSERT INTO durable_steps (${STEP_COLUMNS.join(", ")})
SELECT ${cells(STEP_COLUMNS)} FROM json_each(?1) WHERE true
${ON_NEWER_STEP}`;

/**
 * ?1: run id, ?2: position, ?3: fence. Steps from a position on that are older than the restart which dropped them.
 */
export const DELETE_STEPS = `
DELETE FROM durable_steps WHERE run_id = ?1 AND step_index >= ?2 AND fence < ?3`;

/** ?1: rows. The first emit stands. */
export const INSERT_EVENTS = `
INSERT INTO durable_events (${EVENT_COLUMNS.join(", ")})
SELECT ${cells(EVENT_COLUMNS)} FROM json_each(?1) WHERE true
ON CONFLICT (run_id, key) DO NOTHING`;

/** ?1: rows. */
export const INSERT_TAGS = `
INSERT INTO durable_tags (${TAG_COLUMNS.join(", ")})
SELECT ${cells(TAG_COLUMNS)} FROM json_each(?1) WHERE true
${ON_TAG}`;

/** ?1: run id, ?2: ref, ?3: chunk, ?4: text. */
export const INSERT_CHUNK = `
INSERT INTO durable_chunks (run_id, ref, chunk, text) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (run_id, ref, chunk) DO NOTHING`;

/** ?1: run id. */
export const SELECT_RUN = `
SELECT ${RUN_COLUMNS.join(", ")}, (SELECT count(*) FROM durable_steps WHERE run_id = ?1) AS step_count
FROM durable_runs WHERE run_id = ?1`;

/**
 * ?1: run id, ?2: the number that D1 is taken to stand at. Answers `incarnation`, that of a coordinator's instance which has just begun:
 * from then on, nothing is written that an earlier one has sent. Answers nothing where D1 is further: so one that comes late does
 * nothing either.
 */
export const TAKE_INCARNATION = `
UPDATE durable_runs SET incarnation = ?2 + 1 WHERE run_id = ?1 AND incarnation <= ?2 RETURNING incarnation`;

/** ?1: run id. */
export const SELECT_INCARNATION = "SELECT incarnation FROM durable_runs WHERE run_id = ?1";

/** ?1: run id, ?2: step index. */
export const SELECT_STEP = `
SELECT ${STEP_COLUMNS.join(", ")} FROM durable_steps WHERE run_id = ?1 AND step_index = ?2`;

/** A page of steps ends after so many rows, or so many bytes of long texts, and has at least one row. */
const PAGE_STEPS = 500;
const PAGE_BYTES = 4_000_000;

/**
 * ?1: run id, ?2: the first step index. A page of steps; `last_index` is that of the run's last step. Where the page
 * ends is found from the lengths alone, so that no long text is read for nothing.
 */
export const SELECT_STEPS = `
SELECT ${STEP_COLUMNS.join(", ")}, (SELECT max(step_index) FROM durable_steps WHERE run_id = ?1) AS last_index
FROM durable_steps WHERE run_id = ?1 AND step_index BETWEEN ?2 AND (
  SELECT max(step_index) FROM (
    SELECT step_index, sum(bytes) OVER (ORDER BY step_index) - bytes AS bytes_before FROM (
      SELECT step_index, coalesce(octet_length(result), 0) + coalesce(octet_length(error), 0)
        + coalesce(octet_length(caught), 0) AS bytes
      FROM durable_steps WHERE run_id = ?1 AND step_index >= ?2 ORDER BY step_index LIMIT ${PAGE_STEPS}
    )
  ) WHERE bytes_before < ${PAGE_BYTES}
) ORDER BY step_index`;

/** ?1: run id, ?2: key. */
export const SELECT_EVENT = `
SELECT ${EVENT_COLUMNS.join(", ")} FROM durable_events WHERE run_id = ?1 AND key = ?2`;

/** ?1: run id, ?2: ref, ?3 and ?4: the first and last chunk. */
export const SELECT_CHUNKS = `
SELECT text FROM durable_chunks WHERE run_id = ?1 AND ref = ?2 AND chunk BETWEEN ?3 AND ?4 ORDER BY chunk`;

/** `value` is one row of the JSON. */
export function cells(columns: readonly string[]): string {
  return columns.map((_column, i) => `value->>${i}`).join(", ");
}

function assignments(columns: readonly string[]): string {
  return columns.map((column) => `${column} = excluded.${column}`).join(", ");
}

function newer(table: string): string {
  return `excluded.fence > ${table}.fence OR (excluded.fence = ${table}.fence AND excluded.revision > ${table}.revision)`;
}
