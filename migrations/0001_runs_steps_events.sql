-- Durable runs in D1, the system of record. Instants are epoch milliseconds; payloads are JSON text.
--
-- A payload of more than 256 KiB lies in durable_chunks, and its column is NULL beside a *_ref. A payload that is the
-- empty text stands for "returned nothing".
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
  task             TEXT NOT NULL,
  input            TEXT,
  input_ref        TEXT,
  tags             TEXT,
  status           TEXT NOT NULL CHECK (status IN ('pending', 'running', 'completed', 'failed', 'suspended', 'cancelled')),
  fence            INTEGER NOT NULL CHECK (fence > 0),
  takeovers        INTEGER NOT NULL CHECK (takeovers >= 0),
  worker_id        TEXT NOT NULL,
  claim_request_id TEXT NOT NULL,
  lease_ms         INTEGER NOT NULL,
  lease_expires_at INTEGER,
  created_at       INTEGER NOT NULL,
  updated_at       INTEGER NOT NULL,
  completed_at     INTEGER,
  outcome          TEXT,
  result           TEXT,
  result_ref       TEXT,
  error            TEXT,
  revision         INTEGER NOT NULL CHECK (revision > 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE durable_steps (
  run_id           TEXT NOT NULL,
  step_index       INTEGER NOT NULL CHECK (step_index >= 0),
  intent           TEXT NOT NULL,
  kind             TEXT NOT NULL CHECK (kind IN ('logic', 'llm', 'tool', 'readiness', 'deterministic', 'event')),
  input_hash       TEXT NOT NULL,
  status           TEXT NOT NULL CHECK (status IN ('pending', 'running', 'completed', 'failed')),
  attempts         INTEGER NOT NULL CHECK (attempts > 0),
  result           TEXT,
  result_ref       TEXT,
  error            TEXT,
  caught           TEXT,
  deadline_at      INTEGER,
  started_at       INTEGER NOT NULL,
  completed_at     INTEGER,
  worker_id        TEXT NOT NULL,
  fence            INTEGER NOT NULL CHECK (fence > 0),
  begin_request_id TEXT NOT NULL,
  revision         INTEGER NOT NULL CHECK (revision > 0),
  PRIMARY KEY (run_id, step_index)
) STRICT, WITHOUT ROWID;

CREATE TABLE durable_events (
  run_id      TEXT NOT NULL,
  key         TEXT NOT NULL,
  payload     TEXT,
  payload_ref TEXT,
  emitted_at  INTEGER NOT NULL,
  request_id  TEXT NOT NULL,
  revision    INTEGER NOT NULL CHECK (revision > 0),
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
