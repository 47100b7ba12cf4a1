-- Durable runs in D1, the system of record. Instants are epoch milliseconds; payloads are JSON text.
--
-- A payload of more than 256 KiB lies in durable_chunks, and its column is NULL beside a *_ref. A payload that is the
-- empty text stands for "returned nothing".
--
-- Long texts come last in a row, so that what is looked at often is read without them.
--
-- fence and revision: a row is only ever replaced by one with a higher (fence, revision), so that a late duplicate of
-- an old write changes nothing.

CREATE TABLE durable_schema_info (
  version    INTEGER PRIMARY KEY,
  applied_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;

CREATE TABLE durable_runs (
  run_id           TEXT PRIMARY KEY,
  manifest_hash    TEXT NOT NULL,
  project_id       TEXT NOT NULL,
  scenario_id      TEXT,
  status           TEXT NOT NULL CHECK (status IN ('pending', 'running', 'completed', 'failed', 'suspended', 'cancelled')),
  fence            INTEGER NOT NULL CHECK (fence > 0),
  takeovers        INTEGER NOT NULL CHECK (takeovers >= 0),
  revision         INTEGER NOT NULL CHECK (revision > 0),
  worker_id        TEXT NOT NULL,
  claim_request_id TEXT NOT NULL,
  lease_ms         INTEGER NOT NULL,
  lease_expires_at INTEGER,
  created_at       INTEGER NOT NULL,
  updated_at       INTEGER NOT NULL,
  completed_at     INTEGER,
  input_ref        TEXT,
  result_ref       TEXT,
  tags             TEXT,
  error            TEXT,
  task             TEXT NOT NULL,
  input            TEXT,
  outcome          TEXT,
  result           TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE durable_steps (
  run_id           TEXT NOT NULL,
  step_index       INTEGER NOT NULL CHECK (step_index >= 0),
  intent           TEXT NOT NULL,
  kind             TEXT NOT NULL CHECK (kind IN ('logic', 'llm', 'tool', 'readiness', 'deterministic', 'event')),
  input_hash       TEXT NOT NULL,
  status           TEXT NOT NULL CHECK (status IN ('pending', 'running', 'completed', 'failed')),
  attempts         INTEGER NOT NULL CHECK (attempts > 0),
  fence            INTEGER NOT NULL CHECK (fence > 0),
  revision         INTEGER NOT NULL CHECK (revision > 0),
  worker_id        TEXT NOT NULL,
  begin_request_id TEXT NOT NULL,
  deadline_at      INTEGER,
  started_at       INTEGER NOT NULL,
  completed_at     INTEGER,
  caught           TEXT,
  result_ref       TEXT,
  error            TEXT,
  result           TEXT,
  PRIMARY KEY (run_id, step_index)
) STRICT, WITHOUT ROWID;

CREATE TABLE durable_events (
  run_id      TEXT NOT NULL,
  key         TEXT NOT NULL,
  emitted_at  INTEGER NOT NULL,
  request_id  TEXT NOT NULL,
  revision    INTEGER NOT NULL CHECK (revision > 0),
  payload_ref TEXT,
  payload     TEXT,
  PRIMARY KEY (run_id, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE durable_chunks (
  run_id TEXT NOT NULL,
  ref    TEXT NOT NULL,
  chunk  INTEGER NOT NULL CHECK (chunk >= 0),
  text   TEXT NOT NULL,
  PRIMARY KEY (run_id, ref, chunk)
) STRICT, WITHOUT ROWID;

-- Finds the runs that bear a tag, newest first where run ids are ULIDs.
CREATE TABLE durable_tags (
  key    TEXT NOT NULL,
  value  TEXT NOT NULL,
  run_id TEXT NOT NULL,
  PRIMARY KEY (key, value, run_id)
) STRICT, WITHOUT ROWID;

INSERT INTO durable_schema_info (version) VALUES (1);
