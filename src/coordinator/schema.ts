/**
 * The coordinator's own SQLite: its tables, their version, and the way from one version to the next.
 *
 * The run tables are those of D1 (migrations/), so that rows and statements serve both; test/workers/schema.test.ts
 * compares them. They have no indexes here: nobody looks across runs. `durable_meta` is the object's own. Tables are
 * made at the first write: reading a run that does not exist leaves no object behind.
 */
export interface SyncStorage {
  readonly sql: SqlStorage;
  transactionSync<T>(closure: () => T): T;
}

/** From nothing to version 1, from there to version 2, and so on. */
const MIGRATIONS: readonly string[] = [
  `
CREATE TABLE durable_meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;

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
`,
  `
ALTER TABLE durable_runs ADD COLUMN waits TEXT;
ALTER TABLE durable_runs ADD COLUMN forked_from TEXT;
ALTER TABLE durable_runs ADD COLUMN interventions TEXT;
ALTER TABLE durable_steps ADD COLUMN path TEXT;
ALTER TABLE durable_steps ADD COLUMN tries INTEGER NOT NULL DEFAULT 1;
ALTER TABLE durable_steps ADD COLUMN next_attempt_at INTEGER;
ALTER TABLE durable_steps ADD COLUMN in_doubt INTEGER NOT NULL DEFAULT 0;
`,
  `
ALTER TABLE durable_runs ADD COLUMN due_at INTEGER;
ALTER TABLE durable_runs ADD COLUMN lag_ms INTEGER;
ALTER TABLE durable_runs ADD COLUMN counted_at INTEGER;
ALTER TABLE durable_runs ADD COLUMN task_id TEXT GENERATED ALWAYS AS (task ->> '$.id') VIRTUAL;
ALTER TABLE durable_runs ADD COLUMN outcome_pass INTEGER GENERATED ALWAYS AS (CASE json_type(outcome, '$.pass') WHEN 'true' THEN 1 WHEN 'false' THEN 0 END) VIRTUAL;
ALTER TABLE durable_runs ADD COLUMN outcome_score REAL GENERATED ALWAYS AS (CASE WHEN json_type(outcome, '$.score') IN ('integer', 'real') THEN outcome ->> '$.score' END) VIRTUAL;
`,
];

/**
 * What MIGRATIONS come to, made at once: in a new object, each that adds a column would rewrite what the one before has
 * made. A column is put where SQLite puts it: after the last one, before what holds of the table.
 */
const NEWEST = MIGRATIONS.slice(1)
  .join("")
  .split("\n")
  .reduce((tables, line) => {
    if (line === "") return tables;
    const [, table = "", column = ""] = /^ALTER TABLE (\w+) ADD COLUMN (.*);$/.exec(line) ?? [];
    if (column === "") throw new Error(`not a column that is added: ${line}`);
    const at = tables.indexOf(`CREATE TABLE ${table} (`);
    const end = at + tables.slice(at).search(/,\n {2}PRIMARY KEY|\) STRICT/);
    return `${tables.slice(0, end)}, ${column}${tables.slice(end)}`;
  }, MIGRATIONS[0] ?? "");

/** 0 where there are no tables. */
export function schemaVersion({ sql }: SyncStorage): number {
  const [found] = sql
    .exec("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'durable_meta'")
    .toArray();
  return found === undefined ? 0 : (readMeta(sql, "schema_version") ?? 0);
}

/**
 * Makes the tables, or brings them to the newest version. Tables that are newer than this code, after a rollback, are
 * left alone.
 */
export function migrate(storage: SyncStorage): void {
  const from = schemaVersion(storage);
  if (from >= MIGRATIONS.length) return;
  storage.transactionSync(() => {
    for (const statements of from === 0 ? [NEWEST] : MIGRATIONS.slice(from)) storage.sql.exec(statements);
    writeMeta(storage.sql, "schema_version", MIGRATIONS.length);
  });
}

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
  | "dropped_from"
  | "dropped_below_fence";

export function readMeta(sql: SqlStorage, key: MetaKey): number | undefined {
  const [row] = sql.exec<{ value: number }>("SELECT value FROM durable_meta WHERE key = ?1", key).toArray();
  return row?.value;
}

export function writeMeta(sql: SqlStorage, key: MetaKey, value: number): void {
  sql.exec(
    "INSERT INTO durable_meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    key,
    value,
  );
}

export function deleteMeta(sql: SqlStorage, ...keys: readonly MetaKey[]): void {
  for (const key of keys) sql.exec("DELETE FROM durable_meta WHERE key = ?1", key);
}
