/**
 * The SQL that records what many runs have changed in one batch, each run under a guard of its own (R10, R13).
 *
 * ?1 of what follows, but for what is new and SELECT_KNOWN, is the guards, as a JSON array of rows: run id, fence, the request that
 * claimed under it, the latest revision, the run's highest known revision below the base, the base, manifest hash,
 * creation, 1 if D1 has held the run, else 0, and the object's incarnation. A guard refuses when D1 knows of another
 * claim, later or as late, of a change to the run that its object never made, of a later incarnation of the object, or of
 * another run under this id; or when D1 has let the run go.
 * A refused run's rows are left out, and no others.
 */
import { EVENT_COLUMNS, RUN_COLUMNS, STEP_COLUMNS, TAG_COLUMNS } from "./rows.ts";
import { cells, ON_NEWER_RUN, ON_NEWER_STEP, ON_TAG } from "./statements.ts";

/** Answers the ids of the runs that are refused, as `run_id`. */
export const SELECT_REFUSED = `
SELECT guard.value->>0 AS run_id
FROM json_each(?1) AS guard LEFT JOIN durable_runs AS run ON run.run_id = guard.value->>0
WHERE coalesce(
  run.fence > guard.value->>1
    OR (run.fence = guard.value->>1 AND run.claim_request_id <> guard.value->>2)
    OR run.revision > guard.value->>3
    OR (run.revision > guard.value->>4 AND run.revision <= guard.value->>5)
    OR run.manifest_hash <> guard.value->>6
    OR run.created_at <> guard.value->>7
    OR run.incarnation > coalesce(guard.value->>9, 0),
  guard.value->>8 = 1)`;

/** ?1: run ids, as a JSON array. Answers those that D1 holds anything of, as `run_id`. */
export const SELECT_KNOWN = `
SELECT value AS run_id FROM json_each(?1)
WHERE EXISTS (SELECT 1 FROM durable_runs WHERE run_id = value)
  OR EXISTS (SELECT 1 FROM durable_events WHERE run_id = value)
  OR EXISTS (SELECT 1 FROM durable_steps WHERE run_id = value)`;

/** ?1: rows of runs that D1 is to hold nothing of: none is written for a run that has a row, an event or a step. */
export const INSERT_NEW_RUNS = `
INSERT INTO durable_runs (${RUN_COLUMNS.join(", ")})
SELECT ${cells(RUN_COLUMNS)} FROM json_each(?1)
WHERE NOT EXISTS (SELECT 1 FROM durable_runs WHERE run_id = value->>0)
  AND NOT EXISTS (SELECT 1 FROM durable_events WHERE run_id = value->>0)
  AND NOT EXISTS (SELECT 1 FROM durable_steps WHERE run_id = value->>0)`;

/** ?1: rows of tags. They come after the rows of their new runs, and only with them. */
export const INSERT_NEW_TAGS = `
INSERT INTO durable_tags (${TAG_COLUMNS.join(", ")})
SELECT ${cells(TAG_COLUMNS)} FROM json_each(?1)
WHERE EXISTS (SELECT 1 FROM durable_runs WHERE run_id = value->>2 AND created_at = value->>3)
${ON_TAG}`;

/** ?1: as of INSERT_NEW_RUNS. Answers the ids of the runs that D1 does not hold by these rows, as `run_id`. */
export const SELECT_NOT_NEW = `
SELECT value->>0 AS run_id FROM json_each(?1)
WHERE NOT EXISTS (
  SELECT 1 FROM durable_runs
  WHERE run_id = value->>0 AND claim_request_id = value->>${RUN_COLUMNS.indexOf("claim_request_id")}
    AND created_at = value->>${RUN_COLUMNS.indexOf("created_at")})`;

/** ?2: rows. */
export const UPSERT_RUNS = `
INSERT INTO durable_runs (${RUN_COLUMNS.join(", ")})
SELECT ${cells(RUN_COLUMNS)} FROM json_each(?2) WHERE value->>0 NOT IN (${SELECT_REFUSED})
${ON_NEWER_RUN}`;

/** ?2: rows. */
export const UPSERT_STEPS_OF_RUNS = `
INSERT INTO durable_steps (${STEP_COLUMNS.join(", ")})
SELECT ${cells(STEP_COLUMNS)} FROM json_each(?2) WHERE value->>0 NOT IN (${SELECT_REFUSED})
${ON_NEWER_STEP}`;

/** ?2: rows. The first emit of a key stands. */
export const INSERT_EVENTS_OF_RUNS = `
INSERT INTO durable_events (${EVENT_COLUMNS.join(", ")})
SELECT ${cells(EVENT_COLUMNS)} FROM json_each(?2) WHERE value->>0 NOT IN (${SELECT_REFUSED})
ON CONFLICT (run_id, key) DO NOTHING`;

/** ?2: rows. */
export const INSERT_TAGS_OF_RUNS = `
INSERT INTO durable_tags (${TAG_COLUMNS.join(", ")})
SELECT ${cells(TAG_COLUMNS)} FROM json_each(?2) WHERE value->>2 NOT IN (${SELECT_REFUSED})
${ON_TAG}`;
