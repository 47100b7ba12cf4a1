/**
 * D1DurableRunStore: runs in a D1 database, without a coordinator.
 *
 * Guarantee: what is acknowledged is in D1. A short step costs one round trip and one row, since its completion brings its
 * begin; one that is begun by itself costs two. A call that D1 does not answer in time rejects with `store_unavailable`,
 * and may be repeated under its request id.
 */
import type { Clock } from "../../contract/clock.ts";
import { systemClock } from "../../contract/clock.ts";
import type { BeginOptions } from "../ledger-store.ts";
import { LedgerStore } from "../ledger-store.ts";
import type { D1DatabaseLike } from "./database.ts";
import { D1Journal } from "./journal.ts";

export interface D1StoreOptions extends BeginOptions {
  /** How long one call to D1 may take. Default 10,000. */
  deadlineMs?: number;
  /** For tests: what the deadlines are measured by. `now` alone decides leases. */
  clock?: Clock;
}

export class D1DurableRunStore extends LedgerStore {
  readonly #db: D1DatabaseLike;

  /** The tables must be there: see migrations/. */
  constructor(db: D1DatabaseLike, options: D1StoreOptions = {}) {
    const { deadlineMs = 10_000, clock = systemClock } = options;
    super(new D1Journal(db, { clock, deadlineMs }), options);
    this.#db = db;
    this.now = () => clock.now();
  }

  /** The version of the tables, or `undefined` where there are none. */
  async getSchemaVersion(): Promise<number | undefined> {
    try {
      const row = await this.#db
        .prepare("SELECT max(version) AS version FROM durable_schema_info")
        .first<{ version: number | null }>();
      return row?.version ?? undefined;
    } catch (error) {
      if (error instanceof Error && /no such table/i.test(error.message)) return undefined;
      throw error;
    }
  }
}
