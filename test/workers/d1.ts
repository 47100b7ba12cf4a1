/**
 * D1 as the coordinators of the tests reach it: who is at work is counted, and with TEST_D1_LATE_MS in the environment each
 * answer is that late, which no test may mind. Tests ask it by `env.DB`, at once.
 */
import { env } from "cloudflare:workers";
import type { D1DatabaseLike, D1PreparedStatementLike } from "../../src/stores/d1/database.ts";

const LATE_MS = env.TEST_D1_LATE_MS;

/** An object that is reset hears no answer: a call that is out for longer than this is taken for one of those. */
const LOST_MS = 2_000 + LATE_MS;

const calls = new Set<{ from: number }>();

/** Whether D1 has calls that it has not answered. What a test holds back has not reached it. */
export function isAtWork(): boolean {
  for (const { from } of calls) if (Date.now() - from < LOST_MS) return true;
  return false;
}

/** A statement that is run by itself becomes a batch of one, of `db`. */
export function asBatchOf(
  db: Pick<D1DatabaseLike, "batch">,
  statement: D1PreparedStatementLike,
  bound: (statement: D1PreparedStatementLike) => void = () => {},
): D1PreparedStatementLike {
  bound(statement);
  const bind = statement.bind.bind(statement);
  statement.bind = (...values) => asBatchOf(db, bind(...values), bound);
  const alone = async <T>(): Promise<T> => (await db.batch([statement]))[0] as T;
  statement.run = alone;
  statement.all = alone;
  return statement;
}

export const d1: D1DatabaseLike = {
  prepare: (query) => asBatchOf(d1, env.DB.prepare(query) as unknown as D1PreparedStatementLike),
  async batch(statements) {
    const call = { from: Date.now() };
    calls.add(call);
    try {
      if (LATE_MS > 0) await new Promise((resolve) => setTimeout(resolve, LATE_MS));
      return await env.DB.batch(statements as never);
    } finally {
      calls.delete(call);
    }
  },
};
