/**
 * Deferred commits (0026): a batch of an earlier instance that reaches D1 late, and what was acknowledged under
 * `coordinator` on a run that others use with `record`.
 */
import { runInDurableObject } from "cloudflare:test";
import { afterEach, beforeEach, expect, it } from "vitest";
import { systemClock } from "../../src/contract/clock.ts";
import type { D1PreparedStatementLike } from "../../src/stores/d1/database.ts";
import { TestClock } from "../../src/testing/clock.ts";
import { aRun, aStep, refusalOf } from "../../src/testing/harness.ts";
import { claim, recordedRun, recordedStep, saved, store, stubOf } from "./coordinator-world.ts";
import { abort, drained } from "./disasters.ts";
import { faults, resetFaults } from "./faults.ts";
import { GatedDatabase } from "./gated-database.ts";

/**
 * What is written can fail, or be caught on its way: then D1 gets it when it is delivered, if ever. "down": reads
 * fail too.
 */
class CatchingDatabase extends GatedDatabase {
  mode: "open" | "fails" | "catches" | "down" = "open";
  readonly #caught: D1PreparedStatementLike[][] = [];
  readonly #queries = new WeakMap<object, string>();

  get caught(): number {
    return this.#caught.length;
  }

  override prepare(query: string): D1PreparedStatementLike {
    return this.#noted(super.prepare(query), query);
  }

  override async batch(statements: D1PreparedStatementLike[]): Promise<unknown[]> {
    const isWrite = statements.some((one) => /^\s*(INSERT|UPDATE|DELETE)/.test(this.#queries.get(one) ?? ""));
    if (this.mode === "open" || (!isWrite && this.mode !== "down")) return super.batch(statements);
    if (this.mode !== "catches") throw new Error("D1_ERROR: Network connection lost.");
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

let db: CatchingDatabase;
beforeEach(() => {
  db = new CatchingDatabase();
  faults.clock = new TestClock();
  // Nothing is saved or sent that nobody waits for.
  faults.times = { gatherMs: 600_000, recordDeadlineMs: 300 };
  const own = db;
  faults.wrap = () => own;
});
afterEach(resetFaults);

/** Makes a change whose batch is caught, and lets the object die before it saves anything. */
async function caught(runId: string, change: () => Promise<unknown>): Promise<void> {
  db.mode = "catches";
  const before = db.caught;
  const answer = refusalOf(change);
  await expect.poll(() => db.caught).toBeGreaterThan(before);
  // What the caller sends again meanwhile finds D1 out of reach.
  db.mode = "down";
  await abort(runId);
  expect(await answer).toBe("store_unavailable");
  db.mode = "open";
}

/** A run whose storage says that it may trail, and D1 holds it all. */
async function trailing() {
  const run = await claim();
  await store().emitEvent({ runId: run.runId, key: "first", payload: 1 });
  return run;
}

const completion = (run: { runId: string; fence: number }, stepIndex: number, result: unknown) => ({
  ...run,
  stepIndex,
  attempt: 1,
  result,
});

it.each([
  ["without storage", claim],
  ["with storage that may trail", trailing],
] as const)("a late batch does not win over the same step's later end: %s", async (_what, begin) => {
  const run = await begin();
  const { runId, fence } = run;
  await store().beginStep(aStep(runId, 0, { fence }));
  await caught(runId, () => store().completeStep(completion(run, 0, "of an earlier life")));
  await store().beginStep(aStep(runId, 0, { fence }));
  await store().failStep({ runId, stepIndex: 0, fence, attempt: 1, error: { message: "no" } });
  await db.deliver();
  expect(await recordedStep(runId)).toMatchObject({ status: "failed" });
  await abort(runId);
  expect(await store().loadStep(runId, 0)).toMatchObject({ status: "failed" });
});

it("a late batch with the run's row takes nothing from what was acknowledged under coordinator since", async () => {
  const run = await trailing();
  const { runId, fence } = run;
  const wait = { kind: "event", timeoutMs: 60_000, waitFor: { kind: "event", key: "k" } } as const;
  await store().beginStep(aStep(runId, 0, { fence, ...wait }));
  await saved(runId);
  await drained(runId);
  await caught(runId, () => store().completeStep(completion(run, 0, "of an earlier life")));
  await store("coordinator").beginStep(aStep(runId, 1, { fence }));
  await store("coordinator").completeStep(completion(run, 1, "paid"));
  const before = await recordedRun(runId);
  await db.deliver();
  expect((await recordedRun(runId))?.["revision"]).not.toBe(before?.["revision"]);
  expect(await refusalOf(() => store().beginStep(aStep(runId, 2, { fence })))).toBe("accepted");
  expect(await refusalOf(() => store().completeStep(completion(run, 2, "paid too")))).toBe("accepted");
  expect(await recordedStep(runId, 1)).toMatchObject({ result: '"paid"' });
  await abort(runId);
  const { completedSteps } = await store().startOrResume({ ...aRun(), runId });
  const results = completedSteps.map(({ stepIndex, result }) => [stepIndex, result]);
  expect(results).toEqual([
    [0, "of an earlier life"],
    [1, "paid"],
    [2, "paid too"],
  ]);
});

it("what was acknowledged under coordinator in the middle of deferrals outlives the object and an outage", async () => {
  const run = await trailing();
  const { runId, fence } = run;
  for (const stepIndex of [0, 1]) {
    await store().beginStep(aStep(runId, stepIndex, { fence }));
    await store().completeStep(completion(run, stepIndex, "paid"));
  }
  db.mode = "fails";
  await store("coordinator").beginStep(aStep(runId, 2, { fence }));
  await store("coordinator").completeStep(completion(run, 2, "paid"));
  await abort(runId);
  db.mode = "open";
  await store().beginStep(aStep(runId, 3, { fence }));
  await store().completeStep(completion(run, 3, "paid"));
  await abort(runId);
  const { completedSteps } = await store().startOrResume({ ...aRun(), runId });
  expect(completedSteps.map(({ stepIndex }) => stepIndex)).toEqual([0, 1, 2, 3]);
});

it("no revision is given out twice, however often the object dies", async () => {
  const run = await trailing();
  const { runId, fence } = run;
  const revisions: number[] = [];
  for (let stepIndex = 0; stepIndex < 4; stepIndex += 1) {
    await store().beginStep(aStep(runId, stepIndex, { fence }));
    await store().completeStep(completion(run, stepIndex, "paid"));
    revisions.push(Number((await recordedStep(runId, stepIndex))?.["revision"]));
    await abort(runId);
    // It catches up, and dies again before it has changed anything.
    await store().loadRun(runId);
    await abort(runId);
  }
  for (const [i, revision] of revisions.entries()) expect(revision).toBeGreaterThan(revisions[i - 1] ?? 0);
});

it("storage that was restored to before an event does not take another one in its place", async () => {
  const { runId } = await trailing();
  await runInDurableObject(stubOf(runId), (_object, { storage }) => {
    storage.sql.exec("DELETE FROM durable_rows WHERE kind = 'event'");
    storage.sql.exec("DELETE FROM durable_rows WHERE id = 'recorded_revision'");
  });
  await abort(runId);
  const again = await store().emitEvent({ runId, key: "first", payload: 2 });
  expect(again).toMatchObject({ accepted: false, record: { payload: 1 } });
});

it("storage that was restored to before the end of its run says that it has ended", async () => {
  const { runId, fence } = await trailing();
  const before = await runInDurableObject(stubOf(runId), (_object, { storage }) =>
    storage.sql
      .exec(
        "SELECT revision, row->>'$.leaseExpiresAt' AS lease_expires_at FROM durable_rows WHERE kind = 'run'",
      )
      .one(),
  );
  await store().endRun({ runId, workerId: "worker-1", fence, status: "completed", result: 7 });
  await runInDurableObject(stubOf(runId), (_object, { storage }) => {
    storage.sql.exec(
      "UPDATE durable_rows SET row = json_set(row, '$.status', 'running', '$.completedAt', NULL, '$.result', NULL, '$.revision', ?1, '$.leaseExpiresAt', ?2), revision = ?1 WHERE kind = 'run'",
      ...Object.values(before),
    );
    storage.sql.exec("DELETE FROM durable_rows WHERE id = 'recorded_revision'");
  });
  await abort(runId);
  const { run } = await store().startOrResume({ ...aRun(), runId });
  expect(run).toMatchObject({ status: "completed", result: 7 });
  expect(run.leaseExpiresAt).toBeUndefined();
});

it("a late batch brings nothing back that a restart has dropped since", async () => {
  const run = await trailing();
  const { runId, fence } = run;
  await store().beginStep(aStep(runId, 0, { fence }));
  await store().completeStep(completion(run, 0, "kept"));
  const wait = { kind: "event", timeoutMs: 60_000, waitFor: { kind: "event", key: "k" } } as const;
  await store().beginStep(aStep(runId, 1, { fence, ...wait }));
  await saved(runId);
  await drained(runId);
  await caught(runId, () => store().completeStep(completion(run, 1, "of an earlier life")));
  let deliveries = 0;
  db.before = async (queries) => {
    if (!queries.some((query) => /DELETE FROM durable_steps/.test(query)) || deliveries > 0) return;
    deliveries += 1;
    await db.deliver();
  };
  await store().restartRun(runId, { fromStep: 1, dropLater: true });
  expect(deliveries).toBe(1);
  expect([await store().loadStep(runId, 1), await recordedStep(runId, 1)]).toEqual([undefined, null]);
  const { completedSteps } = await store().startOrResume({ ...aRun(), runId });
  expect(completedSteps.map(({ result }) => result)).toEqual(["kept"]);
});
