-- What queries across runs need: columns to ask by, indexes, and statistics that outlive the runs.
--
-- due_at: when somebody ought to have acted, if nobody has: the earliest of a lapsed lease and of the ends of waits. NULL
-- where nothing is due. lag_ms: how long the row waited to be brought here by the run's coordinator, from the first change
-- that was lacking here; 0 once anything of the run has come in time since; NULL where no coordinator stands between.
-- counted_at: the completion that the statistics have counted.

ALTER TABLE durable_runs ADD COLUMN due_at INTEGER;
ALTER TABLE durable_runs ADD COLUMN lag_ms INTEGER;
ALTER TABLE durable_runs ADD COLUMN counted_at INTEGER;
ALTER TABLE durable_runs ADD COLUMN task_id TEXT GENERATED ALWAYS AS (task ->> '$.id') VIRTUAL;
ALTER TABLE durable_runs ADD COLUMN outcome_pass INTEGER GENERATED ALWAYS AS (CASE json_type(outcome, '$.pass') WHEN 'true' THEN 1 WHEN 'false' THEN 0 END) VIRTUAL;
ALTER TABLE durable_runs ADD COLUMN outcome_score REAL GENERATED ALWAYS AS (CASE WHEN json_type(outcome, '$.score') IN ('integer', 'real') THEN outcome ->> '$.score' END) VIRTUAL;

ALTER TABLE durable_tags ADD COLUMN created_at INTEGER NOT NULL DEFAULT 0;
UPDATE durable_tags SET created_at = (SELECT created_at FROM durable_runs WHERE durable_runs.run_id = durable_tags.run_id)
WHERE EXISTS (SELECT 1 FROM durable_runs WHERE durable_runs.run_id = durable_tags.run_id);

-- What earlier versions knew of what is due. Of a lease that was set they did not say whether it was renewed.
UPDATE durable_runs SET due_at = (SELECT min(value ->> '$.until') FROM json_each(durable_runs.waits))
WHERE waits IS NOT NULL AND completed_at IS NULL;
UPDATE durable_runs SET due_at = min(updated_at, coalesce(due_at, updated_at))
WHERE status = 'running' AND lease_expires_at IS NULL;

-- RunHistory.list, newest first: each ends in the order of the pages. The key of the table follows by itself.
CREATE INDEX durable_runs_by_created ON durable_runs (created_at);
CREATE INDEX durable_runs_by_project ON durable_runs (project_id, created_at);
CREATE INDEX durable_runs_by_scenario ON durable_runs (scenario_id, created_at) WHERE scenario_id IS NOT NULL;
-- Its project_id is for RunHistory.stats, which counts by this index alone.
CREATE INDEX durable_runs_by_status ON durable_runs (status, created_at, run_id, project_id);
-- The expression and not the generated column, by which SQLite would not see that the index has all it takes.
CREATE INDEX durable_runs_by_task ON durable_runs (task ->> '$.id', created_at);
CREATE INDEX durable_runs_by_outcome ON durable_runs (outcome_pass, created_at) WHERE outcome IS NOT NULL;
CREATE INDEX durable_runs_taken_over ON durable_runs (created_at, run_id, takeovers) WHERE takeovers > 0;
CREATE INDEX durable_tags_by_created ON durable_tags (key, value, created_at);
-- RunHistory.list by completion, and RunHistory.purge.
CREATE INDEX durable_runs_by_completed ON durable_runs (status, completed_at) WHERE completed_at IS NOT NULL;
-- RunHistory.stuck.
CREATE INDEX durable_runs_due ON durable_runs (due_at) WHERE due_at IS NOT NULL AND completed_at IS NULL;
CREATE INDEX durable_runs_late ON durable_runs (updated_at) WHERE lag_ms >= 1000 AND completed_at IS NULL;
-- RunHistory.rollUp, and the part of RunHistory.stats that is not rolled up yet.
CREATE INDEX durable_runs_uncounted ON durable_runs (completed_at)
WHERE completed_at IS NOT NULL AND completed_at > coalesce(counted_at, -1);

-- Runs that ended, by the hour and the day (UTC) in which they did; project_id '' is all projects together. durations:
-- those of the completed ones, a JSON array of [class, runs]: class 0 is below 1 ms, class n is from 1.1^(n-1) ms to
-- 1.1^n ms. One row holds them all, so that a month by the hour is 744 rows, however many runs there were.
CREATE TABLE durable_run_stats (
  unit       TEXT NOT NULL CHECK (unit IN ('hour', 'day')),
  project_id TEXT NOT NULL,
  began_at   INTEGER NOT NULL,
  completed  INTEGER NOT NULL,
  failed     INTEGER NOT NULL,
  cancelled  INTEGER NOT NULL,
  durations  TEXT NOT NULL,
  PRIMARY KEY (unit, project_id, began_at)
) STRICT, WITHOUT ROWID;

-- Steps that ended, by the hour, the day and the month (UTC) in which their runs did; project_id '' is all projects
-- together, intent '' all intents for which a period had no room.
CREATE TABLE durable_step_stats (
  unit        TEXT NOT NULL CHECK (unit IN ('hour', 'day', 'month')),
  project_id  TEXT NOT NULL,
  began_at    INTEGER NOT NULL,
  kind        TEXT NOT NULL,
  intent      TEXT NOT NULL,
  steps       INTEGER NOT NULL,
  failed      INTEGER NOT NULL,
  attempts    INTEGER NOT NULL,
  duration_ms INTEGER NOT NULL,
  PRIMARY KEY (unit, project_id, began_at, kind, intent)
) STRICT, WITHOUT ROWID;

INSERT INTO durable_schema_info (version) VALUES (3);
