/**
 * What tests of group commit and recorder objects share: instances of a run's object, and a database that is watched.
 */
import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { systemClock } from "../../src/contract/clock.ts";
import type { DurableRunManifest } from "../../src/contract/types.ts";
import { RunCache } from "../../src/coordinator/cache.ts";
import { rebuild } from "../../src/coordinator/rebuild.ts";
import type {
  RecordEntry,
  RecorderLike,
  RecorderNamespaceLike,
  RecorderSession,
  Told,
} from "../../src/coordinator/record-entry.ts";
import { entryOf } from "../../src/coordinator/record-entry.ts";
import { newRunId } from "../../src/identity.ts";
import { decide } from "../../src/ledger/decide.ts";
import type { Request } from "../../src/ledger/requests.ts";
import type { D1DatabaseLike, D1PreparedStatementLike } from "../../src/stores/d1/database.ts";
import {
  beginRequest,
  claimRequest,
  completeRequest,
  emitRequest,
  endRequest,
} from "../../src/stores/to-request.ts";
import { aStep, MANIFEST } from "../../src/testing/harness.ts";

export const LIMITS_OF_TESTS = { clock: systemClock, deadlineMs: 10_000 };

/** One life of a run's object as D1 sees it: a real cache over real storage, which the ledger's rules change. */
export class RunInstance {
  readonly runId: string;
  readonly cache: RunCache;
  readonly #storage: ReturnType<typeof env.RUNS.getByName>;
  readonly #now: number;
  #changes = 0;

  private constructor(
    runId: string,
    storage: ReturnType<typeof env.RUNS.getByName>,
    cache: RunCache,
    now: number,
  ) {
    this.runId = runId;
    this.#storage = storage;
    this.cache = cache;
    this.#now = now;
  }

  /** `now`: when its life begins. Its storage is empty, and lies in an object that nothing else uses. */
  static async of(runId = newRunId(), now = Date.now()): Promise<RunInstance> {
    const stub = env.RUNS.getByName(`storage-${newRunId()}`);
    const cache = await runInDurableObject(stub, (_object, { storage }) => new RunCache(storage));
    return new RunInstance(runId, stub, cache, now);
  }

  get fence(): number {
    return this.cache.run?.fence ?? 0;
  }

  /** Takes over what D1 holds. */
  async rebuilt(): Promise<this> {
    const record = { runId: this.runId, db: env.DB, ...LIMITS_OF_TESTS };
    await this.#inside(() => rebuild(this.cache, record));
    return this;
  }

  /** As a refused object does. */
  async discard(): Promise<void> {
    await this.#inside(() => this.cache.discard());
    await this.rebuilt();
  }

  /** A claim that finds any earlier lease lapsed. */
  claim({ manifest = MANIFEST, requestId }: { manifest?: DurableRunManifest; requestId?: string } = {}) {
    const leaseMs = 1;
    const input = {
      runId: this.runId,
      workerId: "worker-1",
      manifest,
      leaseMs,
      ...(requestId && { requestId }),
    };
    return this.change(claimRequest(input));
  }

  complete(stepIndex: number, result: unknown): Promise<this> {
    const { runId, fence } = this;
    return this.change(
      beginRequest(aStep(runId, stepIndex, { fence })),
      completeRequest({ runId, fence, stepIndex, result }),
    );
  }

  end(): Promise<this> {
    const { runId, fence } = this;
    return this.change(
      endRequest({ runId, fence, workerId: "worker-1", status: "completed", result: "done" }),
    );
  }

  emit(key: string): Promise<this> {
    return this.change(emitRequest({ runId: this.runId, key, payload: key }));
  }

  /** Carries requests out as the coordinator does under `ack: "record"`. Throws what the ledger refuses. */
  async change(...requests: readonly Request[]): Promise<this> {
    await this.#inside(() => {
      for (const request of requests) this.#apply(request);
    });
    return this;
  }

  /** What it has to tell D1. */
  told(): Promise<Told> {
    return this.#inside(() => {
      const told = entryOf(this.cache, this.runId, { lagMs: 0, isAwaited: true });
      if (told === null) throw new Error("that is too much for an entry");
      return told;
    });
  }

  async entry(): Promise<RecordEntry> {
    return (await this.told()).entry;
  }

  /** Once D1 has answered that it holds what it was told. */
  holds(told: Told): Promise<void> {
    return this.#inside(() => this.cache.markRecorded(told.holds, this.#now));
  }

  #apply(request: Request): void {
    this.#changes += 1;
    const now = this.#now + 10 * this.#changes;
    const decision = decide(this.cache.slice(request), request, now);
    if (!decision.ok) throw new Error(decision.error.message);
    const { change } = decision;
    if (change.step && request.op === "begin" && !change.run) this.cache.applyLazily(change.step);
    else if (this.cache.mayDefer(change)) this.cache.defer(change, now);
    else this.cache.commit(change, now, { mayTrail: true });
  }

  #inside<T>(work: () => T | Promise<T>): Promise<T> {
    return runInDurableObject(this.#storage, work);
  }
}

export interface D1Call {
  readonly queries: readonly string[];
  /** The parameters of each query. */
  readonly values: readonly (readonly unknown[])[];
}

/** D1, each call of which is noted, and passes `before` first. */
export class WatchedDatabase implements D1DatabaseLike {
  readonly calls: D1Call[] = [];
  before: (call: D1Call) => Promise<void> = async () => {};

  prepare(query: string): WatchedStatement {
    return new WatchedStatement(this, env.DB.prepare(query), query, []);
  }

  batch(statements: D1PreparedStatementLike[]): Promise<unknown[]> {
    const watched = statements as WatchedStatement[];
    const call = { queries: watched.map((one) => one.query), values: watched.map((one) => one.values) };
    return this.pass(call, () => env.DB.batch(watched.map((one) => one.inner)));
  }

  async pass<T>(call: D1Call, work: () => Promise<T>): Promise<T> {
    this.calls.push(call);
    await this.before(call);
    return work();
  }
}

class WatchedStatement implements D1PreparedStatementLike {
  readonly query: string;
  readonly values: readonly unknown[];
  readonly inner: D1PreparedStatement;
  readonly #database: WatchedDatabase;

  constructor(
    database: WatchedDatabase,
    inner: D1PreparedStatement,
    query: string,
    values: readonly unknown[],
  ) {
    this.#database = database;
    this.inner = inner;
    this.query = query;
    this.values = values;
  }

  bind(...values: unknown[]): WatchedStatement {
    return new WatchedStatement(this.#database, this.inner.bind(...values), this.query, values);
  }

  first<T = unknown>(): Promise<T | null> {
    return this.#pass(() => this.inner.first<T>());
  }

  all<T = unknown>(): Promise<{ results: T[] }> {
    return this.#pass(() => this.inner.all<T>());
  }

  run(): Promise<{ success: boolean; meta?: { changes?: number } }> {
    return this.#pass(() => this.inner.run());
  }

  #pass<T>(work: () => Promise<T>): Promise<T> {
    return this.#database.pass({ queries: [this.query], values: [this.values] }, work);
  }
}

/** Recorder objects that no other test uses; `around` stands between a coordinator and each of them, sessions too. */
export function ownRecorders(
  around: (recorder: RecorderSession, name: string) => RecorderSession,
): RecorderNamespaceLike & { readonly prefix: string } {
  const prefix = newRunId();
  return {
    prefix,
    getByName(name): RecorderLike {
      const stub = env.RECORDERS.getByName(`${prefix}-${name}`);
      const called = around(stub, name);
      return {
        record: (entry) => called.record(entry),
        isKnown: (runId) => called.isKnown(runId),
        open: () => {
          const session = stub.open() as unknown as RecorderSession & Disposable;
          // Each call tells it by itself.
          Promise.resolve(session).catch(() => {});
          return { ...around(session, name), [Symbol.dispose]: () => session[Symbol.dispose]() };
        },
      };
    },
  };
}

export async function rowsOf(table: string, runId: string): Promise<Record<string, unknown>[]> {
  const { results } = await env.DB.prepare(`SELECT * FROM durable_${table} WHERE run_id = ?1`)
    .bind(runId)
    .all();
  return results;
}
