/** A database that can lose what is written, or deliver it late, when the object that sent it is dead. */
import { afterEach, beforeEach, expect } from "vitest";
import { systemClock } from "../../src/contract/clock.ts";
import type { D1PreparedStatementLike } from "../../src/stores/d1/database.ts";
import { TestClock } from "../../src/testing/clock.ts";
import { abort } from "./disasters.ts";
import { faults, resetFaults } from "./faults.ts";
import { GatedDatabase } from "./gated-database.ts";
import { RECORD_DEADLINE_MS, refusedInTime } from "./passing-time.ts";

/**
 * What is written can fail, or be caught on its way: then D1 gets it when it is delivered, if ever. "down": reads
 * fail too.
 */
class CatchingDatabase extends GatedDatabase {
  mode: "open" | "fails" | "catches" | "down" = "open";
  readonly #caught: D1PreparedStatementLike[][] = [];
  #failed = 0;
  readonly #queries = new WeakMap<object, string>();

  get caught(): number {
    return this.#caught.length;
  }

  get failed(): number {
    return this.#failed;
  }

  override prepare(query: string): D1PreparedStatementLike {
    return this.#noted(super.prepare(query), query);
  }

  override async batch(statements: D1PreparedStatementLike[]): Promise<unknown[]> {
    const isWrite = statements.some((one) => /^\s*(INSERT|UPDATE|DELETE)/.test(this.#queries.get(one) ?? ""));
    if (this.mode === "open" || (!isWrite && this.mode !== "down")) return super.batch(statements);
    if (this.mode !== "catches") {
      this.#failed += 1;
      throw new Error("D1_ERROR: Network connection lost.");
    }
    this.#caught.push(statements);
    await systemClock.sleep(3_600_000);
    throw new Error("nobody waits for this");
  }

  /** In the order in which they were sent. A guard may refuse one. */
  async deliver(): Promise<void> {
    await this.replay(this.#caught.splice(0));
  }

  #noted(one: D1PreparedStatementLike, query: string): D1PreparedStatementLike {
    this.#queries.set(one, query);
    const bind = one.bind.bind(one);
    one.bind = (...values) => this.#noted(bind(...values), query);
    return one;
  }
}

/** Those of the test at hand. */
export let db: CatchingDatabase;
let clock: TestClock;

/** To be called once in a test file. */
export function useCatchingWorld(): void {
  beforeEach(() => {
    db = new CatchingDatabase();
    clock = new TestClock();
    faults.clock = clock;
    // Nothing is saved or sent that nobody waits for.
    faults.times = { gatherMs: 600_000, recordDeadlineMs: RECORD_DEADLINE_MS };
    const own = db;
    faults.wrap = () => own;
  });
  afterEach(resetFaults);
}

/** Makes a change whose batch is caught, and lets the object die before it saves anything. */
export async function caught(runId: string, change: () => Promise<unknown>): Promise<void> {
  db.mode = "catches";
  const before = db.caught;
  const answer = refusedInTime({ clock, failures: () => db.failed }, change);
  await expect.poll(() => db.caught).toBeGreaterThan(before);
  // What the caller sends again meanwhile finds D1 out of reach.
  db.mode = "down";
  await abort(runId);
  expect(await answer).toBe("store_unavailable");
  db.mode = "open";
}
