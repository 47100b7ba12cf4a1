/**
 * Counts what a store costs, by wrapping what it uses from outside: its database, its namespace, its object's storage.
 * What is counted does not depend on the machine.
 */
import type { D1DatabaseLike, D1PreparedStatementLike } from "../../src/stores/d1/database.ts";

export interface Counts {
  /** Calls of the database: a batch is one. */
  d1RoundTrips: number;
  d1RowsRead: number;
  /** Indexes included, as they are billed. */
  d1RowsWritten: number;
  /** SQL text, parameters and rows, as JSON. */
  d1Bytes: number;
  /** Indexes included. An alarm is billed as a row, too, but is counted by itself. */
  objectRowsWritten: number;
  alarmsSet: number;
  rpcCalls: number;
  /** Those of them that are billed as requests: all but the calls on a session. */
  requests: number;
  /** Arguments and answers, as JSON; bytes as they are. */
  rpcBytes: number;
}

export interface CountedCost {
  readonly store: string;
  /** Of one step more, in a run of small steps in a row. */
  readonly step: Counts;
  /** Of one step more in each of 50 runs at once: how many share a call depends on how they meet. */
  readonly stepOfMany: Counts;
  /** Of a run of one step, from its claim until D1 holds its end. */
  readonly run: Counts;
  /** Of one heartbeat of a run in which nothing else happens. */
  readonly heartbeat: Counts;
}

export function noCounts(): Counts {
  return {
    d1RoundTrips: 0,
    d1RowsRead: 0,
    d1RowsWritten: 0,
    d1Bytes: 0,
    objectRowsWritten: 0,
    alarmsSet: 0,
    rpcCalls: 0,
    requests: 0,
    rpcBytes: 0,
  };
}

/** What `after` has more than `before`, divided by `by`. */
export function costOf(before: Counts, after: Counts, by = 1): Counts {
  const cost = noCounts();
  for (const name of Object.keys(cost) as (keyof Counts)[]) cost[name] = (after[name] - before[name]) / by;
  return cost;
}

/** A database whose calls are counted. */
export function countedDatabase(inner: D1DatabaseLike, counts: Counts): D1DatabaseLike {
  return {
    prepare: (query) => new CountedStatement(inner.prepare(query), query, [], counts),
    async batch(statements) {
      const counted = statements.map((one) => one as CountedStatement);
      counts.d1RoundTrips += 1;
      for (const one of counted) counts.d1Bytes += one.bytes;
      const answers = await inner.batch(counted.map((one) => one.inner));
      for (const answer of answers) noteAnswer(answer, counts);
      return answers;
    },
  };
}

class CountedStatement implements D1PreparedStatementLike {
  readonly inner: D1PreparedStatementLike;
  readonly #query: string;
  readonly #values: readonly unknown[];
  readonly #counts: Counts;

  constructor(inner: D1PreparedStatementLike, query: string, values: readonly unknown[], counts: Counts) {
    this.inner = inner;
    this.#query = query;
    this.#values = values;
    this.#counts = counts;
  }

  get bytes(): number {
    return this.#query.length + bytesOf(this.#values);
  }

  bind(...values: unknown[]): D1PreparedStatementLike {
    return new CountedStatement(this.inner.bind(...values), this.#query, values, this.#counts);
  }

  async first<T = unknown>(): Promise<T | null> {
    const { results } = await this.all<T>();
    return results[0] ?? null;
  }

  async all<T = unknown>(): Promise<{ results: T[] }> {
    return this.#counted(() => this.inner.all<T>());
  }

  async run(): Promise<{ success: boolean; meta?: { changes?: number } }> {
    return this.#counted(() => this.inner.run());
  }

  async #counted<T>(call: () => Promise<T>): Promise<T> {
    this.#counts.d1RoundTrips += 1;
    this.#counts.d1Bytes += this.bytes;
    const answer = await call();
    noteAnswer(answer, this.#counts);
    return answer;
  }
}

function noteAnswer(answer: unknown, counts: Counts): void {
  const { meta, results } = answer as {
    meta: { rows_read: number; rows_written: number };
    results?: unknown[];
  };
  counts.d1RowsRead += meta.rows_read;
  counts.d1RowsWritten += meta.rows_written;
  counts.d1Bytes += bytesOf(results ?? []);
}

type Methods = Record<string, (...args: unknown[]) => Promise<unknown>>;

/** A namespace the calls of whose objects are counted. */
export function countedNamespace<Namespace extends { getByName(name: string, options?: unknown): unknown }>(
  inner: Namespace,
  counts: Counts,
): Namespace {
  const counted = {
    getByName: (name: string, options?: unknown) => countedStub(inner.getByName(name, options), counts),
  };
  return counted as Namespace;
}

/** A binding to RunService: opening a session is a call, and so is each of the session's. */
export function countedService(inner: object, counts: Counts): object {
  return countedStub(inner, counts) as object;
}

/** An object or an entrypoint. */
function countedStub(stub: unknown, counts: Counts): unknown {
  return counted(stub, counts, () => (counts.requests += 1));
}

function countedSession(session: unknown, counts: Counts): unknown {
  return counted(session, counts, () => {});
}

/** Disposal passes uncounted. */
function counted(stub: unknown, counts: Counts, onCall: () => void): unknown {
  const methods = stub as Methods;
  return new Proxy(methods, {
    get: (_target, name) => {
      // What is waited for would not be counted; calls can be made of a session that is not open yet.
      if (name === "then") return undefined;
      if (typeof name === "symbol") {
        const method: unknown = Reflect.get(methods, name);
        return typeof method === "function" ? method.bind(methods) : method;
      }
      const called = (): void => {
        counts.rpcCalls += 1;
        onCall();
      };
      if (name === "open") return () => (called(), countedSession(methods["open"]?.(), counts));
      return async (...args: unknown[]): Promise<unknown> => {
        called();
        counts.rpcBytes += bytesOf(args);
        const answer = await methods[name]?.(...args);
        const { session, ...rest } = Object(answer) as { session?: object };
        counts.rpcBytes += bytesOf(session ? rest : answer);
        return session ? { ...rest, session: countedSession(session, counts) } : answer;
      };
    },
  });
}

interface CountableStorage {
  readonly sql: { exec(query: string, ...values: unknown[]): { readonly rowsWritten: number } };
  setAlarm(at: number | Date): Promise<void>;
}

/** Counts what an object writes from now on. A statement without RETURNING has written when `exec` returns. */
export function countStorage(storage: CountableStorage, counts: Counts): void {
  const { sql } = storage;
  const exec = sql.exec.bind(sql);
  sql.exec = (query, ...values) => {
    const cursor = exec(query, ...values);
    counts.objectRowsWritten += cursor.rowsWritten;
    return cursor;
  };
  const setAlarm = storage.setAlarm.bind(storage);
  storage.setAlarm = (at) => {
    counts.alarmsSet += 1;
    return setAlarm(at);
  };
}

function bytesOf(value: unknown): number {
  let binary = 0;
  const text = JSON.stringify(value, (_key, item: unknown) => {
    if (!(item instanceof Uint8Array)) return item;
    binary += item.byteLength;
    return 0;
  });
  return (text?.length ?? 0) + binary;
}
