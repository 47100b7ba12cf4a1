-- What steps and runs need for retries, waits, branches, steps in doubt and forks.
--
-- waits: a JSON array of what a run waits for, or NULL. forked_from: JSON, where a forked run comes from. interventions:
-- a JSON array of the request ids of the latest cancels, restarts and decisions, or NULL. path: NULL where it is the
-- step's position. tries: attempts since the step last failed for good.

ALTER TABLE durable_runs ADD COLUMN waits TEXT;
ALTER TABLE durable_runs ADD COLUMN forked_from TEXT;
ALTER TABLE durable_runs ADD COLUMN interventions TEXT;

ALTER TABLE durable_steps ADD COLUMN path TEXT;
ALTER TABLE durable_steps ADD COLUMN tries INTEGER NOT NULL DEFAULT 1;
ALTER TABLE durable_steps ADD COLUMN next_attempt_at INTEGER;
ALTER TABLE durable_steps ADD COLUMN in_doubt INTEGER NOT NULL DEFAULT 0;

INSERT INTO durable_schema_info (version) VALUES (2);
