/**
 * A D1 database that fails on demand, by wrapping a real one: before the commit, after it, or not at all for a while. A
 * statement that is run by itself counts as a batch of one.
 */
import type { Clock } from "../contract/clock.ts";
import type { D1DatabaseLike, D1PreparedStatementLike } from "../stores/d1/database.ts";

/**
 * What befalls a batch. "before": it fails and nothing is committed. "after": it is committed, and the answer is lost.
 * "stall": nothing is heard for `stallMs`; then it is committed, late, and answered.
 */
export type DatabaseFault = "none" | "before" | "after" | "stall";

export interface BatchInfo {
  /** From 1. */
  readonly number: number;
  /** Whether it writes. */
  readonly writes: boolean;
}

export class FaultyDatabase implements D1DatabaseLike {
  /** Decides what befalls each batch. */
  fault: (batch: BatchInfo) => DatabaseFault = () => "none";
  readonly stallMs: number;
  readonly #inner: D1DatabaseLike;
  readonly #clock: Clock;
  readonly #sent: D1PreparedStatementLike[][] = [];
  readonly #stalled = new Set<Promise<unknown>>();
  #batches = 0;
  #faults = 0;

  constructor(inner: D1DatabaseLike, clock: Clock, stallMs = 60_000) {
    this.#inner = inner;
    this.#clock = clock;
    this.stallMs = stallMs;
  }

  get batches(): number {
    return this.#batches;
  }

  /** How many batches were made to fail or stall. */
  get faults(): number {
    return this.#faults;
  }

  prepare(query: string): D1PreparedStatementLike {
    return new Prepared(this.#inner.prepare(query), query, this);
  }

  async batch(statements: D1PreparedStatementLike[]): Promise<unknown[]> {
    const prepared = statements.map((one) => one as Prepared);
    const real = prepared.map((one) => one.inner);
    const writes = prepared.some((one) => /^\s*(INSERT|UPDATE)/i.test(one.query));
    this.#batches += 1;
    if (writes) this.#sent.push(real);
    const fault = this.fault({ number: this.#batches, writes });
    if (fault !== "none") this.#faults += 1;
    if (fault === "before") throw new Error("D1_ERROR: Network connection lost.");
    if (fault === "stall") {
      const answer = this.#clock.sleep(this.stallMs).then(() => this.#inner.batch(real));
      this.#stalled.add(answer);
      return answer;
    }
    const answer = await this.#inner.batch(real);
    if (fault === "after") throw new Error("D1_ERROR: Network connection lost.");
    return answer;
  }

  /** Sends every write batch again, newest first or oldest first, as a network might deliver duplicates late. */
  async replayLate(order: "newest first" | "oldest first"): Promise<void> {
    const batches = order === "newest first" ? this.#sent.toReversed() : this.#sent;
    for (const statements of batches) {
      // A duplicate may be refused by its guard: that is what it is for.
      await this.#inner.batch(statements).catch(() => {});
    }
  }

  /** Resolves when every stalled batch has settled. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#stalled);
  }
}

class Prepared implements D1PreparedStatementLike {
  readonly inner: D1PreparedStatementLike;
  readonly query: string;
  readonly #database: FaultyDatabase;

  constructor(inner: D1PreparedStatementLike, query: string, database: FaultyDatabase) {
    this.inner = inner;
    this.query = query;
    this.#database = database;
  }

  bind(...values: unknown[]): D1PreparedStatementLike {
    return new Prepared(this.inner.bind(...values), this.query, this.#database);
  }

  first<T = unknown>(): Promise<T | null> {
    return this.inner.first<T>();
  }

  async all<T = unknown>(): Promise<{ results: T[] }> {
    const [answer] = await this.#database.batch([this]);
    return answer as { results: T[] };
  }

  async run(): Promise<{ success: boolean; meta?: { changes?: number } }> {
    const [answer] = await this.#database.batch([this]);
    return answer as { success: boolean; meta?: { changes?: number } };
  }
}
