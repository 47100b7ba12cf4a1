/**
 * The tables that a coordinator's SQLite had in versions 1 to 3: those of D1, column by column, and one of numbers.
 * What they hold becomes rows, and they are dropped. Goes when no such object can be left.
 */
import type { EventRow, RunRow, StepRow } from "../stores/sql/rows.ts";
import { fromEventRow, fromRunRow, fromStepRow } from "../stores/sql/rows.ts";
import type { MetaKey, Statement } from "./rows.ts";
import { putChunk, putEvent, putManifest, putMeta, putRun, putStep } from "./rows.ts";

/** What version 1 did not have yet. */
const LATER_RUN_COLUMNS = { waits: null, forked_from: null, interventions: null };
const LATER_STEP_COLUMNS = { path: null, tries: 1, next_attempt_at: null, in_doubt: 0 };

type Values = Record<string, SqlStorageValue>;

/** To be called in the transaction that has made the rows' table. */
export function takeOverEarlierTables(sql: SqlStorage): void {
  const take = <Row extends Values>(table: string, put: (row: Row) => Statement[]): void => {
    for (const row of sql.exec<Row>(`SELECT * FROM ${table}`)) {
      for (const statement of put(row)) sql.exec(...statement);
    }
    sql.exec(`DROP TABLE ${table}`);
  };
  take<{ key: MetaKey; value: number }>("durable_meta", ({ key, value }) =>
    key === "schema_version" ? [] : [putMeta(key, value)],
  );
  take<RunRow & Values>("durable_runs", (row) => {
    const run = fromRunRow({ ...LATER_RUN_COLUMNS, ...row });
    return [putManifest(run), putRun(run)];
  });
  take<StepRow & Values>("durable_steps", (row) => [putStep(fromStepRow({ ...LATER_STEP_COLUMNS, ...row }))]);
  take<EventRow & Values>("durable_events", (row) => [
    putEvent({ ...fromEventRow(row), revision: Number(row.revision) }),
  ]);
  take<{ ref: string; chunk: number; text: string }>("durable_chunks", (chunk) => [putChunk(chunk)]);
}
