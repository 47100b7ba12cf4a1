/**
 * The coordinator's own SQLite: its tables, their version, and the way from one version to the next.
 *
 * The run tables are those of D1 (migrations/), so that rows and statements serve both; test/workers/schema.test.ts
 * compares them. `durable_meta` is the object's own. Tables are made at the first write: reading a run that does not
 * exist leaves no object behind.
 */
export interface SyncStorage {
  readonly sql: SqlStorage;
  transactionSync<T>(closure: () => T): T;
}

const MIGRATIONS: readonly string[] = [
  `
CREATE TABLE durable_meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE durable_runs (
  run_id TEXT PRIMARY KEY, manifest_hash TEXT NOT NULL, project_id TEXT NOT NULL, scenario_id TEXT,
  task TEXT NOT NULL, input TEXT, input_ref TEXT, tags TEXT, status TEXT NOT NULL,
  fence INTEGER NOT NULL, takeovers INTEGER NOT NULL, worker_id TEXT NOT NULL, claim_request_id TEXT NOT NULL,
  lease_ms INTEGER NOT NULL, lease_expires_at INTEGER, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,
  completed_at INTEGER, outcome TEXT, result TEXT, result_ref TEXT, error TEXT, revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE durable_steps (
  run_id TEXT NOT NULL, step_index INTEGER NOT NULL, intent TEXT NOT NULL, kind TEXT NOT NULL,
  input_hash TEXT NOT NULL, status TEXT NOT NULL, attempts INTEGER NOT NULL, result TEXT, result_ref TEXT,
  error TEXT, caught TEXT, deadline_at INTEGER, started_at INTEGER NOT NULL, completed_at INTEGER,
  worker_id TEXT NOT NULL, fence INTEGER NOT NULL, begin_request_id TEXT NOT NULL, revision INTEGER NOT NULL,
  PRIMARY KEY (run_id, step_index)
) STRICT, WITHOUT ROWID;

CREATE TABLE durable_events (
  run_id TEXT NOT NULL, key TEXT NOT NULL, payload TEXT, payload_ref TEXT, emitted_at INTEGER NOT NULL,
  request_id TEXT NOT NULL, revision INTEGER NOT NULL,
  PRIMARY KEY (run_id, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE durable_chunks (
  run_id TEXT NOT NULL, ref TEXT NOT NULL, chunk INTEGER NOT NULL, text TEXT NOT NULL,
  PRIMARY KEY (run_id, ref, chunk)
) STRICT, WITHOUT ROWID;
`,
];

/** 0 where there are no tables. */
export function schemaVersion({ sql }: SyncStorage): number {
  const [found] = sql
    .exec("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'durable_meta'")
    .toArray();
  return found === undefined ? 0 : (readMeta(sql, "schema_version") ?? 0);
}

/** Brings the tables to the newest version. */
export function migrate(storage: SyncStorage): void {
  const from = schemaVersion(storage);
  if (from === MIGRATIONS.length) return;
  storage.transactionSync(() => {
    for (const migration of MIGRATIONS.slice(from)) storage.sql.exec(migration);
    writeMeta(storage.sql, "schema_version", MIGRATIONS.length);
  });
}

type MetaKey = "schema_version" | "recorded_revision";

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
