/** What tests of history share: a database that notes what is sent to it, and rows made in bulk. */
import { env } from "cloudflare:workers";
import type { Clock } from "../../src/contract/clock.ts";
import { systemClock } from "../../src/contract/clock.ts";
import type { D1DatabaseLike, D1PreparedStatementLike } from "../../src/stores/d1/database.ts";

interface Sent {
  readonly sql: string;
  readonly values: readonly unknown[];
  rowsRead: number;
  rowsWritten: number;
}

/** D1 itself, with what each statement of each batch has read and written. It has no sessions. */
export class MeteredDatabase implements D1DatabaseLike {
  sent: Sent[] = [];
  readonly #statements = new WeakMap<object, Sent>();

  prepare(sql: string): D1PreparedStatementLike {
    return this.#note(env.DB.prepare(sql), { sql, values: [], rowsRead: 0, rowsWritten: 0 });
  }

  async batch(statements: D1PreparedStatementLike[]): Promise<unknown[]> {
    const answers = await env.DB.batch(statements as unknown as D1PreparedStatement[]);
    answers.forEach(({ meta }, i) => {
      const sent = this.#statements.get(statements[i] ?? this);
      if (sent === undefined) throw new Error("a statement that this database has not prepared");
      this.sent.push({ ...sent, rowsRead: meta.rows_read, rowsWritten: meta.rows_written });
    });
    return answers;
  }

  /** What was read, or written, since the last look, by all statements together. */
  taken(): { rowsRead: number; rowsWritten: number; statements: Sent[] } {
    const statements = this.sent;
    this.sent = [];
    const sum = (of: (one: Sent) => number): number => statements.reduce((all, one) => all + of(one), 0);
    return {
      rowsRead: sum((one) => one.rowsRead),
      rowsWritten: sum((one) => one.rowsWritten),
      statements,
    };
  }

  #note(statement: D1PreparedStatement, sent: Sent): D1PreparedStatementLike {
    this.#statements.set(statement, sent);
    const bind = statement.bind.bind(statement);
    statement.bind = (...values: unknown[]) =>
      this.#note(bind(...values), { ...sent, values }) as unknown as D1PreparedStatement;
    // A statement that is run by itself is a batch of one.
    const metered = statement as unknown as D1PreparedStatementLike;
    const alone = async <T>(): Promise<T> => (await this.batch([metered]))[0] as T;
    metered.run = alone;
    metered.all = alone;
    return metered;
  }
}

/** Time as a test sets it; deadlines are real. */
export class SetClock implements Clock {
  #now: number;
  constructor(now: number) {
    this.#now = now;
  }
  now(): number {
    return this.#now;
  }
  advance(ms: number): void {
    this.#now += ms;
  }
  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return systemClock.sleep(ms, signal);
  }
}

/** Looks at what SQLite would do for a statement; answers the lines that go through a whole table or index. */
export async function scansOf({ sql, values }: Pick<Sent, "sql" | "values">): Promise<string[]> {
  const { results } = await env.DB.prepare(`EXPLAIN QUERY PLAN ${sql}`)
    .bind(...values)
    .all<{ detail: string }>();
  // A row of constants, the few rows that the statement has made itself, and the items of a parameter.
  const harmless =
    /^SCAN (CONSTANT ROW$|\(subquery-\d+\)$|page$|kept( LEFT-JOIN)?$|stop$|\w+ VIRTUAL TABLE )/;
  // A minimum or maximum that is looked for everywhere calls itself a search: without a condition in parentheses.
  const isScan = (line: string): boolean =>
    line.startsWith("SCAN") ? !harmless.test(line) : line.startsWith("SEARCH") && !line.includes("(");
  return results.map(({ detail }) => detail).filter(isScan);
}

export const AT = Date.parse("2026-03-01T00:00:00Z");

export function iso(at: number): string {
  return new Date(at).toISOString();
}

export type Cells = Record<string, string | number | null>;

/** A run's row as it might stand, to be changed by a test. */
export function runRow(runId: string, more: Cells = {}): Cells {
  return {
    run_id: runId,
    manifest_hash: "hash",
    project_id: "p",
    status: "completed",
    fence: 1,
    takeovers: 0,
    revision: 1,
    worker_id: "w",
    claim_request_id: "r",
    lease_ms: 30_000,
    created_at: AT,
    updated_at: AT,
    task: JSON.stringify({ id: "t", intent: "test" }),
    input: "{}",
    ...more,
  };
}

export function stepRow(runId: string, stepIndex: number, more: Cells = {}): Cells {
  return {
    run_id: runId,
    step_index: stepIndex,
    intent: `step ${stepIndex}`,
    kind: "logic",
    input_hash: "",
    status: "completed",
    attempts: 1,
    fence: 1,
    revision: 1,
    worker_id: "w",
    begin_request_id: "b",
    started_at: AT,
    completed_at: AT + 1,
    result: "1",
    ...more,
  };
}

export function eventRow(runId: string, key: string, payload = "1"): Cells {
  return { run_id: runId, key, emitted_at: AT, request_id: "e", revision: 1, payload };
}

/** All rows with the same columns, in as few statements as a parameter allows. */
export async function insert(table: string, rows: readonly Cells[]): Promise<void> {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const cells = columns.map((_column, i) => `value ->> ${i}`).join(", ");
  const sql = `INSERT INTO ${table} (${columns.join(", ")}) SELECT ${cells} FROM json_each(?1)`;
  for (let at = 0; at < rows.length; at += 1_000) {
    const some = rows.slice(at, at + 1_000).map((row) => columns.map((column) => row[column] ?? null));
    await env.DB.prepare(sql).bind(JSON.stringify(some)).run();
  }
}

/** The tags of run rows, as the stores write them. */
export async function insertTags(runs: readonly Cells[]): Promise<void> {
  const rows = runs.flatMap((run) =>
    Object.entries(JSON.parse(String(run["tags"] ?? "{}")) as Record<string, string>).map(([key, value]) => ({
      key,
      value,
      run_id: run["run_id"] ?? "",
      created_at: run["created_at"] ?? 0,
    })),
  );
  if (rows.length > 0) await insert("durable_tags", rows);
}
