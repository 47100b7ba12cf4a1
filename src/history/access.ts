/**
 * How history reaches D1: one session or database, the scope, and a deadline on every call. All of RunHistory's
 * statements go through here.
 *
 * Relies on stores/d1/database.ts for the deadline and for the meaning of D1's errors. Knows no question and no table.
 */
import type { Clock } from "../contract/clock.ts";
import { DurableForbiddenError } from "../contract/errors.ts";
import type { D1DatabaseLike } from "../stores/d1/database.ts";
import { runBatch } from "../stores/d1/database.ts";
import type { Cell } from "../stores/sql/rows.ts";

/** A constant text and its parameters, `?1` first. */
export interface Statement {
  readonly sql: string;
  readonly values: readonly Cell[];
}

export interface AccessInput {
  /** A session for reads; the database itself, which is the primary, for what writes. */
  readonly db: D1DatabaseLike;
  /** `now` is what answers call now; the deadlines are measured by it, too. */
  readonly clock: Clock;
  /** For one call to D1. */
  readonly deadlineMs: number;
  /** All that the caller may see. Absent: everything. */
  readonly projectId?: string | undefined;
}

export class Access {
  readonly clock: Clock;
  readonly projectId: string | undefined;
  readonly #db: D1DatabaseLike;
  readonly #deadlineMs: number;

  constructor({ db, clock, deadlineMs, projectId }: AccessInput) {
    this.#db = db;
    this.clock = clock;
    this.#deadlineMs = deadlineMs;
    this.projectId = projectId;
  }

  /** One statement in one round trip. Rejects as `runBatch` does. */
  async query<T>(sql: string, ...values: readonly Cell[]): Promise<T[]> {
    const [rows] = await this.batch([{ sql, values }]);
    return (rows ?? []) as T[];
  }

  /** All of them in one round trip and one transaction; the rows of each, in order. At least one statement. */
  batch(statements: readonly Statement[]): Promise<unknown[][]> {
    const prepared = statements.map(({ sql, values }) => this.#db.prepare(sql).bind(...values));
    return runBatch(this.#db, prepared, { clock: this.clock, deadlineMs: this.#deadlineMs });
  }

  /**
   * The project that a question is about: the one asked for, or the caller's own; `undefined` for all. Throws `forbidden`
   * when it is asked for another than the caller's.
   */
  project(asked: string | undefined): string | undefined {
    if (this.projectId === undefined || asked === this.projectId) return asked;
    if (asked === undefined) return this.projectId;
    throw new DurableForbiddenError(
      `history is bound to project "${this.projectId}" and tells nothing of project "${asked}"`,
    );
  }
}
