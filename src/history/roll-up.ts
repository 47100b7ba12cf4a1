/**
 * Counts runs that have ended into the tables of statistics.
 *
 * One batch, which D1 makes one transaction: the same runs are chosen by each of its statements, and the last one marks
 * them as counted. So no end is counted twice or by half, whatever comes between two batches: another roll-up, a run that
 * is claimed again, an answer that is lost.
 */
import { DurableForbiddenError } from "../contract/errors.ts";
import { checkInteger } from "../contract/limits.ts";
import type { Access } from "./access.ts";
import { classInSql } from "./duration-classes.ts";
import { checkFields } from "./options.ts";
import { beganInSql } from "./periods.ts";
import type { RollUpOptions, RollUpResult } from "./types.ts";
import { CHOSEN, ENDED_STEPS, FOREVER, IS_UNCOUNTED, STEP_SUMS } from "./uncounted.ts";

const DEFAULT_LIMIT = 200;
const MAX_LIMIT = 500;

/** Of one call, in all. A run may have ten times as many, and is then counted alone. */
const MAX_POSITIONS = 10_000;

/** Rows of steps that a period of a project may have, besides those of the intent "". */
const MAX_INTENTS = 500;

/** A run counts for its project, and for all projects together. */
const SCOPES = "json_each(json_array('', project_id)) AS scope";

/** Parameters: those of CHOSEN, here and below. */
export const COUNT_RUNS = `
WITH ${CHOSEN},
ended AS MATERIALIZED (
  SELECT unit.value AS unit, scope.value AS project_id, ${beganInSql("unit.value", "completed_at")} AS began_at,
    status, ${classInSql("duration_ms")} AS duration_class, count(*) AS runs
  FROM chosen, json_each('["hour", "day"]') AS unit, ${SCOPES}
  GROUP BY 1, 2, 3, 4, 5
)
INSERT INTO durable_run_stats (unit, project_id, began_at, completed, failed, cancelled, durations)
SELECT unit, project_id, began_at,
  coalesce(sum(runs) FILTER (WHERE status = 'completed'), 0), coalesce(sum(runs) FILTER (WHERE status = 'failed'), 0),
  coalesce(sum(runs) FILTER (WHERE status = 'cancelled'), 0),
  json_group_array(json_array(duration_class, runs)) FILTER (WHERE status = 'completed')
FROM ended WHERE true GROUP BY 1, 2, 3
ON CONFLICT (unit, project_id, began_at) DO UPDATE SET
  completed = completed + excluded.completed, failed = failed + excluded.failed,
  cancelled = cancelled + excluded.cancelled,
  durations = (
    SELECT json_group_array(json_array(duration_class, runs)) FROM (
      SELECT value ->> 0 AS duration_class, sum(value ->> 1) AS runs FROM (
        SELECT value FROM json_each(durable_run_stats.durations) UNION ALL SELECT value FROM json_each(excluded.durations)
      ) GROUP BY 1
    )
  )`;

/**
 * An intent gets a row of its own where it has one already, or while there is room, those with the most steps first;
 * `taken` is how many rows the period has. `named` leaves no more than can have one, lest a run whose steps are all called
 * differently be multiplied by units and scopes.
 */
export const COUNT_STEPS = `
WITH ${CHOSEN},
by_hour AS MATERIALIZED (
  SELECT ${beganInSql("'hour'", "run.completed_at")} AS hour, project_id, kind, intent, ${STEP_SUMS}
  FROM ${ENDED_STEPS} GROUP BY 1, 2, 3, 4
),
named AS MATERIALIZED (
  SELECT hour, project_id, kind, steps, failed, attempts, duration_ms, CASE WHEN row_number() OVER (
    PARTITION BY hour, project_id ORDER BY steps DESC, intent, kind
  ) <= ${MAX_INTENTS} THEN intent ELSE '' END AS intent
  FROM by_hour
),
ended AS MATERIALIZED (
  SELECT unit.value AS unit, scope.value AS project_id, ${beganInSql("unit.value", "hour")} AS began_at, kind, intent,
    sum(steps) AS steps, sum(failed) AS failed, sum(attempts) AS attempts, sum(duration_ms) AS duration_ms
  FROM named, json_each('["hour", "day", "month"]') AS unit, ${SCOPES}
  GROUP BY 1, 2, 3, 4, 5
),
periods AS MATERIALIZED (
  SELECT unit, project_id, began_at, (
    SELECT count(*) FROM durable_step_stats AS kept
    WHERE kept.unit = ended.unit AND kept.project_id = ended.project_id AND kept.began_at = ended.began_at
  ) AS taken
  FROM ended GROUP BY 1, 2, 3
),
ranked AS (
  SELECT ended.*, is_kept, row_number() OVER (
    PARTITION BY unit, project_id, began_at, is_kept ORDER BY steps DESC, intent, kind
  ) AS nth
  FROM (
    SELECT *, EXISTS (
      SELECT 1 FROM durable_step_stats AS kept
      WHERE kept.unit = ended.unit AND kept.project_id = ended.project_id AND kept.began_at = ended.began_at
        AND kept.kind = ended.kind AND kept.intent = ended.intent
    ) AS is_kept FROM ended
  ) AS ended
)
INSERT INTO durable_step_stats (unit, project_id, began_at, kind, intent, steps, failed, attempts, duration_ms)
SELECT unit, project_id, began_at, kind, CASE WHEN is_kept OR nth + taken <= ${MAX_INTENTS} THEN intent ELSE '' END,
  sum(steps), sum(failed), sum(attempts), sum(duration_ms)
FROM ranked JOIN periods USING (unit, project_id, began_at) WHERE true GROUP BY 1, 2, 3, 4, 5
ON CONFLICT (unit, project_id, began_at, kind, intent) DO UPDATE SET
  steps = steps + excluded.steps, failed = failed + excluded.failed, attempts = attempts + excluded.attempts,
  duration_ms = duration_ms + excluded.duration_ms`;

/** Last: until then, all statements of the batch choose the same runs. Answers a row for each run. */
export const MARK_COUNTED = `
WITH ${CHOSEN}
UPDATE durable_runs SET counted_at = completed_at WHERE run_id IN (SELECT run_id FROM chosen)
RETURNING 1`;

/** No parameters. */
export const HAS_UNCOUNTED = `
SELECT EXISTS (
  SELECT 1 FROM durable_runs
  WHERE ${IS_UNCOUNTED} AND completed_at >= 0
) AS has_uncounted`;

/**
 * Counts some of the runs that ended, those that ended first before others. For a cron trigger, or after an answer with
 * `waitUntil`; as often as one likes, also at the same time. When it rejects with `store_unavailable`, it has counted or
 * not, and calling again is right in both cases.
 *
 * Throws `invalid_input` for the limit, `forbidden` when history is bound to a project.
 */
export async function rollUp(access: Access, options: RollUpOptions = {}): Promise<RollUpResult> {
  checkFields("rollUp", options, ["limit"]);
  const { limit = DEFAULT_LIMIT } = options;
  checkInteger("limit", limit, 1, MAX_LIMIT);
  if (access.projectId !== undefined) {
    throw new DurableForbiddenError(
      `rollUp counts the runs of all projects, and history is bound to project "${access.projectId}"`,
    );
  }
  const values = [0, FOREVER, limit, MAX_POSITIONS, 1];
  const [, , marked, [left]] = (await access.batch([
    { sql: COUNT_RUNS, values },
    { sql: COUNT_STEPS, values },
    { sql: MARK_COUNTED, values },
    { sql: HAS_UNCOUNTED, values: [] },
  ])) as [unknown[], unknown[], unknown[], [{ has_uncounted: number }]];
  return { counted: marked.length, done: left.has_uncounted === 0 };
}
