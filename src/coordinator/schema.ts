/**
 * The one table of a coordinator's own SQLite: whether it is there, how it is made, and the way to it from earlier
 * ones.
 *
 * It is made at the first write: reading a run that does not exist leaves no object behind.
 */
import { takeOverEarlierTables } from "./earlier-tables.ts";
import { CREATE_ROWS, putMeta } from "./rows.ts";

export interface SyncStorage {
  readonly sql: SqlStorage;
  transactionSync<T>(closure: () => T): T;
}

/** Versions 1 to 3 were tables of columns. */
const VERSION = 4;

/**
 * Whether the table is there, be it of a newer version, which a rollback leaves alone. Tables of earlier versions are
 * brought to this one. Where both are there, code that knows the earlier ones alone has run since, after a rollback.
 */
export function hasRows(storage: SyncStorage): boolean {
  const tables = storage.sql
    .exec<{ name: string }>("SELECT name FROM sqlite_master WHERE name IN ('durable_rows', 'durable_meta')")
    .toArray()
    .map(({ name }) => name);
  if (!tables.includes("durable_meta")) return tables.includes("durable_rows");
  storage.transactionSync(() => {
    storage.sql.exec("DROP TABLE IF EXISTS durable_rows");
    makeRows(storage.sql);
    takeOverEarlierTables(storage.sql);
  });
  return true;
}

export function makeRows(sql: SqlStorage): void {
  sql.exec(CREATE_ROWS);
  sql.exec(...putMeta("schema_version", VERSION));
}
