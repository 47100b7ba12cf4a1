/**
 * D1 as the engine uses it: the structural interface, a deadline on every call, and the one function that reads D1's
 * error messages.
 */
import type { Clock } from "../../contract/clock.ts";
import { withDeadline } from "../../contract/clock.ts";
import { DurableStoreUnavailableError } from "../../contract/errors.ts";

/** The part of D1 that the engine uses. Cloudflare's `D1Database` fits. */
export interface D1DatabaseLike {
  prepare(query: string): D1PreparedStatementLike;
  batch(statements: D1PreparedStatementLike[]): Promise<unknown[]>;
}

/** A session of a database: it reads from a replica, never older than what the session has seen. */
export interface D1SessionLike extends D1DatabaseLike {
  /** For a later session that is to have seen as much; `null` before the first answer. */
  getBookmark(): string | null;
}

/** A database that may have replicas. Cloudflare's `D1Database` fits. */
export interface D1ReplicatedLike extends D1DatabaseLike {
  /** "first-unconstrained", "first-primary", or a bookmark. */
  withSession?(constraintOrBookmark?: string): D1SessionLike;
}

export interface D1PreparedStatementLike {
  bind(...values: unknown[]): D1PreparedStatementLike;
  first<T = unknown>(): Promise<T | null>;
  all<T = unknown>(): Promise<{ results: T[] }>;
  run(): Promise<{ success: boolean; meta?: { changes?: number } }>;
}

/** A guard in a batch found that the rows it was decided over have changed (R10). Nothing of the batch was written. */
export class StaleSliceError extends Error {
  override readonly name: string = "StaleSliceError";
}

/** What a guard evaluates to abort its batch: SQLite refuses it as JSON. */
export const STALE = "json('stale slice')";

export interface BatchLimits {
  readonly clock: Clock;
  readonly deadlineMs: number;
}

/**
 * Runs a batch within a deadline and answers the rows of each statement.
 *
 * Throws StaleSliceError when a guard fired; DurableStoreUnavailableError when D1 did not answer in time or said that
 * it cannot now (the batch may have been committed); any other error as it is.
 */
export async function runBatch(
  db: D1DatabaseLike,
  statements: D1PreparedStatementLike[],
  limits: BatchLimits,
): Promise<unknown[][]> {
  const answered = await inTime(() => db.batch(statements), limits);
  return answered.map((one) => (one as { results?: unknown[] }).results ?? []);
}

/** The same for one statement, which takes less by itself than as a batch. */
export async function runQuery(statement: D1PreparedStatementLike, limits: BatchLimits): Promise<unknown[]> {
  const { results } = await inTime(() => statement.all(), limits);
  return results;
}

/** The same for statements that write: answers how many rows each has changed; -1 where D1 does not say. */
export async function runCounted(
  db: D1DatabaseLike,
  statements: D1PreparedStatementLike[],
  limits: BatchLimits,
): Promise<number[]> {
  const [only, ...more] = statements;
  const run = (): Promise<unknown[]> =>
    only && more.length === 0 ? only.run().then((one) => [one]) : db.batch(statements);
  const answered = await inTime(run, limits);
  return answered.map((one) => (one as { meta?: { changes?: number } }).meta?.changes ?? -1);
}

async function inTime<T>(call: () => Promise<T>, { clock, deadlineMs }: BatchLimits): Promise<T> {
  try {
    const late = (): Error => new DurableStoreUnavailableError(`D1 did not answer within ${deadlineMs} ms`);
    return await withDeadline(clock, deadlineMs, call(), late);
  } catch (error) {
    throw classify(error);
  }
}

/**
 * By message, for D1 says it no other way.
 * https://developers.cloudflare.com/d1/observability/debug-d1/#error-list
 */
function classify(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof DurableStoreUnavailableError) return error;
  const { message } = error;
  if (/malformed JSON/i.test(message)) return new StaleSliceError(message);
  if (/no such (table: durable_|column: )/i.test(message)) {
    const help =
      "durable-runs tables or columns are missing: apply migrations/ with `wrangler d1 migrations apply`";
    return new Error(`${help} (${message})`, { cause: error });
  }
  if (/SQLITE_(?!BUSY|LOCKED|SCHEMA|IOERR|FULL|INTERRUPT|NOMEM)/.test(message) || error instanceof TypeError)
    return error;
  return new DurableStoreUnavailableError(`D1 could not answer: ${message}`, { cause: error });
}
