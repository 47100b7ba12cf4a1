/**
 * Deferred commits (0026): a run that is over before storage is made for it, and storage that an earlier version
 * made.
 */
import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { RunHistory } from "../../src/history/run-history.ts";
import { newRunId } from "../../src/identity.ts";
import { aRun, aStep, refusalOf } from "../../src/testing/harness.ts";
import { claim, recordedRun, store, stubOf } from "./coordinator-world.ts";
import { abort, drained, evict } from "./disasters.ts";
import { faults } from "./faults.ts";
import { gate } from "./gated-database.ts";
import { clock, db, useGatedWorld } from "./gated-world.ts";
import { StandingClock } from "./standing-clock.ts";

useGatedWorld();

const tables = (runId: string) =>
  runInDurableObject(
    stubOf(runId),
    (_object, { storage }) =>
      storage.sql.exec("SELECT name FROM sqlite_master WHERE name LIKE 'durable_%'").toArray().length,
  );

/** By a clock that stands: where D1 is late, on a busy machine, storage would be made. */
async function over() {
  const standing = new StandingClock();
  faults.clock = standing;
  const run = await claim();
  for (let stepIndex = 0; stepIndex < 3; stepIndex += 1) {
    await store().beginStep(aStep(run.runId, stepIndex, { fence: run.fence }));
    await store().completeStep({ ...run, stepIndex, attempt: 1, result: `paid ${stepIndex}` });
  }
  await store().endRun({ ...run, workerId: "worker-1", status: "completed", result: 7 });
  // The object finds that nothing is left to do, and can be put to sleep.
  standing.advance(1_000);
  faults.clock = clock;
  return run;
}

const befallen = [
  ["awake", async () => {}],
  ["evicted", evict],
  ["aborted", abort],
] as const;

describe.each(befallen)("a run that was over before storage was made, %s", (_what, befall) => {
  it("is read as it ended", async () => {
    const { runId } = await over();
    expect(await tables(runId)).toBe(0);
    await befall(runId);
    expect(await store().loadRun(runId)).toMatchObject({ status: "completed", stepCount: 3, result: 7 });
    expect(await store().loadStep(runId, 2)).toMatchObject({ result: "paid 2" });
    const { completedSteps } = await store().startOrResume({ ...aRun(), runId });
    expect(completedSteps.map(({ result }) => result)).toEqual(["paid 0", "paid 1", "paid 2"]);
  });

  it("is restarted from a step, and goes on", async () => {
    const { runId } = await over();
    await befall(runId);
    await store().restartRun(runId, { fromStep: 1, dropLater: true });
    await befall(runId);
    const { fence = 0, completedSteps } = await store().startOrResume({ ...aRun(), runId });
    expect(completedSteps.map(({ stepIndex }) => stepIndex)).toEqual([0]);
    await store().beginStep(aStep(runId, 1, { fence }));
    await store().completeStep({ runId, stepIndex: 1, fence, attempt: 1, result: "anew" });
    await abort(runId);
    expect(await store().loadStep(runId, 1)).toMatchObject({ result: "anew" });
    expect(await store().loadStep(runId, 2)).toBeUndefined();
  });

  it("takes events, and the first of a key stands", async () => {
    const { runId } = await over();
    await befall(runId);
    expect(await store().emitEvent({ runId, key: "k", payload: 1 })).toMatchObject({ accepted: true });
    await befall(runId);
    expect(await store().emitEvent({ runId, key: "k", payload: 2 })).toMatchObject({ accepted: false });
    expect(await recordedRun(runId)).toMatchObject({ status: "completed" });
  });

  it("is forked", async () => {
    const { runId } = await over();
    await befall(runId);
    const fork = newRunId();
    await store().forkRun(runId, fork, { throughStep: 1 });
    await befall(fork);
    const { completedSteps } = await store().startOrResume({ ...aRun(), runId: fork });
    expect(completedSteps.map(({ result }) => result)).toEqual(["paid 0", "paid 1"]);
  });
});

it("a run that is over and was purged is not answered from memory for ever", async () => {
  const { runId } = await over();
  clock.advance(11 * 3_600_000);
  await new RunHistory(env.DB, { clock }).purge({
    before: new Date(clock.now() - 3 * 3_600_000).toISOString(),
  });
  expect(await recordedRun(runId)).toBeNull();
  expect(await store().loadRun(runId)).toBeUndefined();
  expect((await store().startOrResume({ ...aRun(), runId })).fence).toBe(1);
});

it("hundreds of results at once, while D1 stalls, are saved, and are in D1 once it is back", async () => {
  const { runId, fence } = await claim();
  const held = gate();
  db.before = async (queries) => {
    if (queries.some((query) => /^\s*INSERT/.test(query))) await held.pass();
  };
  const positions = Array.from({ length: 700 }, (_one, stepIndex) => stepIndex);
  const worker = store();
  const answers = positions.map(async (stepIndex) => {
    await worker.beginStep(aStep(runId, stepIndex, { fence }));
    return refusalOf(() =>
      worker.completeStep({ runId, stepIndex, fence, attempt: 1, result: "r".repeat(1_000) }),
    );
  });
  const count = () =>
    runInDurableObject(stubOf(runId), (_object, { storage }) =>
      storage.sql
        .exec("SELECT count(*) AS n FROM durable_rows WHERE kind = 'step' AND row->>'$.status' = 'completed'")
        .one(),
    );
  await expect.poll(() => tables(runId)).toBeGreaterThan(0);
  await expect.poll(count).toEqual({ n: 700 });
  held.open = true;
  expect(new Set(await Promise.all(answers))).toEqual(new Set(["accepted"]));
  await drained(runId);
  const inD1 = env.DB.prepare(
    "SELECT count(*) AS n FROM durable_steps WHERE run_id = ?1 AND status = 'completed'",
  );
  expect(await inD1.bind(runId).first()).toEqual({ n: 700 });
});

it("nothing of a run that was thrown away is written to the one that takes its place", async () => {
  const { runId, fence } = await claim();
  await store().beginStep(aStep(runId, 0, { fence }));
  const held = gate();
  db.before = async (queries) => {
    if (held.reached === 0 && queries.some((query) => /^\s*INSERT/.test(query))) await held.pass();
  };
  const old = refusalOf(() =>
    store().completeStep({ runId, stepIndex: 0, fence, attempt: 1, result: "old" }),
  );
  await expect.poll(() => held.reached).toBe(1);
  // Somebody cancels the run in D1 itself, as a store without coordinators would.
  await env.DB.prepare(
    "UPDATE durable_runs SET fence = fence + 1, revision = revision + 1, status = 'cancelled', lease_expires_at = NULL WHERE run_id = ?1",
  )
    .bind(runId)
    .run();
  held.open = true;
  expect(await old).toMatch(/lease_lost|run_cancelled/);
  await expect.poll(async () => (await store().loadRun(runId))?.status).toBe("cancelled");
  const steps = env.DB.prepare(
    "SELECT count(*) AS n FROM durable_steps WHERE run_id = ?1 AND result IS NOT NULL",
  );
  await drained(runId);
  expect(await steps.bind(runId).first()).toEqual({ n: 0 });
  expect((await store().loadStep(runId, 0))?.status ?? "unknown").not.toBe("completed");
});

it("storage without the mark gets it with the first change that is deferred, and goes on", async () => {
  const { runId, fence } = await claim("coordinator");
  await store("coordinator").beginStep(aStep(runId, 0, { fence }));
  await store("coordinator").completeStep({ runId, stepIndex: 0, fence, attempt: 1, result: "paid" });
  await drained(runId);
  await runInDurableObject(stubOf(runId), (_object, { storage: { sql } }) => {
    expect(sql.exec("SELECT 1 FROM durable_rows WHERE id = 'may_trail'").toArray()).toEqual([]);
  });
  await abort(runId);
  for (const stepIndex of [1, 2]) {
    await store().beginStep(aStep(runId, stepIndex, { fence }));
    await store().completeStep({ runId, stepIndex, fence, attempt: 1, result: "paid" });
  }
  const meta = await runInDurableObject(stubOf(runId), (_object, { storage: { sql } }) =>
    sql.exec("SELECT row FROM durable_rows WHERE id = 'may_trail'").toArray(),
  );
  expect(meta).toEqual([{ row: 1 }]);
  await abort(runId);
  const { completedSteps } = await store().startOrResume({ ...aRun(), runId });
  expect(completedSteps).toHaveLength(3);
});
