/**
 * The runs that ended and are not in the statistics yet, as the common table expressions that both the roll-up and the
 * live part of the statistics begin with: what one of them counts is, by construction, what the other one leaves.
 *
 * A run is uncounted while `completed_at > coalesce(counted_at, -1)`: no other column says so, and the index
 * durable_runs_uncounted holds those runs alone.
 */

/** For `?2`: no end. */
export const FOREVER = Number.MAX_SAFE_INTEGER;

/** What the index is made of, to the letter: otherwise SQLite would not use it. */
export const IS_UNCOUNTED = "completed_at IS NOT NULL AND completed_at > coalesce(counted_at, -1)";

/**
 * `candidates` and `chosen`: those that ended first. ?1 and ?2: completed from, and before. ?3: so many runs at most. ?4:
 * so many positions of steps in all, at most. ?5: so many of the first runs however many steps they have.
 *
 * There are more candidates than chosen exactly when something was left out. `since`: steps that ended before are none of
 * these ends': an earlier end has counted them, or the run was forked with them.
 */
export const CHOSEN = `
candidates AS MATERIALIZED (
  SELECT run_id, project_id, status, created_at, completed_at,
    max(created_at, coalesce(counted_at, -1) + 1) AS since,
    coalesce((
      SELECT step_index + 1 FROM durable_steps WHERE durable_steps.run_id = durable_runs.run_id
      ORDER BY step_index DESC LIMIT 1
    ), 0) AS positions
  FROM durable_runs WHERE ${IS_UNCOUNTED} AND completed_at >= ?1 AND completed_at < ?2
  ORDER BY completed_at, run_id LIMIT ?3 + 1
),
chosen AS MATERIALIZED (
  SELECT run_id, project_id, status, completed_at, since, max(0, completed_at - created_at) AS duration_ms
  FROM (
    SELECT *, row_number() OVER in_order AS nth, sum(positions) OVER in_order AS positions_through
    FROM candidates WINDOW in_order AS (ORDER BY completed_at, run_id)
  ) WHERE nth <= ?3 AND (positions_through <= ?4 OR nth <= ?5)
)`;

/** Rows of `SELECT`s over `chosen`: its steps that ended, `run` being a row of it. */
export const ENDED_STEPS = `
chosen AS run CROSS JOIN durable_steps AS step ON step.run_id = run.run_id
WHERE step.status IN ('completed', 'failed') AND step.completed_at >= run.since`;

/** Sums over {@link ENDED_STEPS}. */
export const STEP_SUMS = `
count(*) AS steps, sum(step.status = 'failed') AS failed, sum(step.attempts) AS attempts,
sum(max(0, step.completed_at - step.started_at)) AS duration_ms`;
