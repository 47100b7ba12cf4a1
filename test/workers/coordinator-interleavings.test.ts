/**
 * Cases in which a coordinator once went wrong, or could have: what happens between a flush and its answer, and sizes
 * that add up.
 */
import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, it } from "vitest";
import { newRequestId, newRunId } from "../../src/identity.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { aRun, aStep, MANIFEST, refusalOf } from "../../src/testing/harness.ts";
import { claim, store, stubOf, wait, woken } from "./coordinator-world.ts";
import { drained, evict } from "./disasters.ts";
import { faults } from "./faults.ts";
import { gate } from "./gated-database.ts";
import { clock, db, useGatedWorld } from "./gated-world.ts";
import { whileTimeFlies } from "./passing-time.ts";

useGatedWorld();

it("an alarm during a rebuild does not lose an early event", async () => {
  const runId = newRunId();
  await store().emitEvent({ runId, key: "k", payload: "first" });
  await evict(runId);
  const held = gate();
  let reads = 0;
  db.before = async (queries) => {
    if (queries.length === 1 && /FROM durable_events/.test(queries[0] ?? "")) {
      reads += 1;
      if (reads === 1) await held.pass();
    }
  };
  const reading = store().loadEvent(runId, "k");
  await expect.poll(() => held.reached).toBe(1);
  await woken(runId);
  held.open = true;
  const first = await reading;
  const again = await store().emitEvent({ runId, key: "k", payload: "second" });
  const inD1 = await env.DB.prepare("SELECT payload FROM durable_events WHERE run_id = ?1")
    .bind(runId)
    .first();
  expect({ first: first?.payload, again: again.accepted, inD1 }).toEqual({
    first: "first",
    again: false,
    inD1: { payload: '"first"' },
  });
});

it("a run with 500 long failures can be claimed again", async () => {
  const { runId, fence } = await claim("coordinator");
  const one = store("coordinator");
  const text = "Ошибка".repeat(100) + 'line "quoted"\n'.repeat(2_000);
  for (let at = 0; at < 500; at += 50) {
    await Promise.all(
      Array.from({ length: 50 }, async (_, i) => {
        await one.beginStep(aStep(runId, at + i, { fence }));
        await one.failStep({
          runId,
          stepIndex: at + i,
          fence,
          attempt: 1,
          error: { message: text, stack: text },
        });
      }),
    );
  }
  await drained(runId);
  let message = "accepted";
  try {
    await one.startOrResume({ ...aRun(), runId });
  } catch (error) {
    message = String(error);
  }
  expect(message).toBe("accepted");
}, 120_000);

it("claims and refusals of a run with a large input leave no chunks behind", async () => {
  const manifest = { ...MANIFEST, input: { text: "x".repeat(1_500_000) } };
  const count = async (runId: string) =>
    await env.DB.prepare(
      "SELECT count(*) AS n, sum(length(text)) AS bytes FROM durable_chunks WHERE run_id = ?1",
    )
      .bind(runId)
      .first<{ n: number; bytes: number }>();
  const d1 = new D1DurableRunStore(env.DB, { clock });
  const a = { ...aRun(), manifest };
  await d1.startOrResume(a);
  const first = await count(a.runId);
  for (let i = 0; i < 5; i += 1)
    expect(await refusalOf(() => d1.startOrResume({ ...a, workerId: "other" }))).toBe("lease_held");
  const { fence = 0 } = await d1.startOrResume(a);
  const afterClaims = await count(a.runId);
  await d1.beginStep(aStep(a.runId, 0, { fence }));
  const complete = {
    runId: a.runId,
    stepIndex: 0,
    fence,
    attempt: 1,
    result: "y".repeat(1_500_000),
    requestId: newRequestId(),
  };
  for (let i = 0; i < 3; i += 1) await d1.completeStep(complete);
  const afterCompletes = await count(a.runId);
  const b = { ...aRun(), manifest };
  await store().startOrResume(b);
  for (let i = 0; i < 3; i += 1) await store().startOrResume(b);
  const inObject = await runInDurableObject(
    stubOf(b.runId),
    (_o, state) =>
      state.storage.sql.exec("SELECT count(*) AS n FROM durable_rows WHERE kind = 'chunk'").one()["n"],
  );
  expect({
    first: first?.n,
    afterClaims: afterClaims?.n,
    afterCompletes: afterCompletes?.n,
    inObject,
    inD1: (await count(b.runId))?.n,
  }).toEqual({ first: 2, afterClaims: 2, afterCompletes: 4, inObject: 2, inD1: 2 });
});

it("ending a run with a large input does not send the input again", async () => {
  const manifest = { ...MANIFEST, input: { text: "x".repeat(8_000_000) } };
  const b = { ...aRun(), manifest };
  const { fence = 0 } = await store().startOrResume(b);
  await drained(b.runId);
  db.log.length = 0;
  await store().endRun({ runId: b.runId, workerId: b.workerId, fence, status: "completed", result: 1 });
  expect(db.log.filter((queries) => queries.some((q) => /INSERT INTO durable_chunks/.test(q))).length).toBe(
    0,
  );
});

it("reading a run that is long over rebuilds it once", async () => {
  const { runId, fence } = await claim();
  for (let i = 0; i < 10; i += 1) {
    await store().beginStep(aStep(runId, i, { fence }));
    await store().completeStep({ runId, stepIndex: i, fence, attempt: 1, result: i });
  }
  await store().endRun({ runId, workerId: "worker-1", fence, status: "completed", result: 1 });
  clock.advance(3_600_001);
  await woken(runId);
  db.log.length = 0;
  for (let i = 0; i < 10; i += 1) {
    await store().loadStep(runId, i);
    await wait(30);
  }
  // The first question of a rebuild is whether D1 knows the run at all.
  expect(
    db.log.filter((queries) => queries.some((q) => /FROM durable_runs WHERE run_id = \?1/.test(q))).length,
  ).toBe(1);
});

it("an answer that comes after the cache was emptied marks nothing as recorded", async () => {
  const { runId, fence } = await claim();
  await drained(runId);
  await evict(runId);
  // A flush is committed, and its answer is late.
  const late = gate();
  db.after = async (queries) => {
    if (late.reached === 0 && queries.some((q) => /INSERT INTO durable_steps/.test(q))) await late.pass();
  };
  await store("coordinator").beginStep(aStep(runId, 0, { fence }));
  for (let i = 0; i < 6; i += 1)
    await store("coordinator").renewLease({ runId, workerId: "worker-1", fence });
  await expect.poll(() => late.reached).toBe(1);
  // Meanwhile another store takes the run over, and fails it; then the run comes back here.
  clock.advance(31_000);
  const elsewhere = new D1DurableRunStore(env.DB, { clock });
  const taken = await elsewhere.startOrResume({ ...aRun("worker-2"), runId });
  await elsewhere.endRun({ runId, workerId: "worker-2", fence: taken.fence ?? 0, status: "failed" });
  const back = await store("coordinator").startOrResume({ ...aRun("worker-3"), runId });
  db.before = async (queries) => {
    if (queries.some((q) => /^\s*INSERT/.test(q))) throw new Error("D1_ERROR: Network connection lost.");
  };
  await store("coordinator").beginStep(aStep(runId, 0, { fence: back.fence ?? 0 }));
  await store("coordinator").completeStep({
    runId,
    stepIndex: 0,
    fence: back.fence ?? 0,
    attempt: 2,
    result: "paid",
  });
  late.open = true;
  await wait(200);
  const complete = await Promise.race([
    refusalOf(() =>
      store().completeStep({ runId, stepIndex: 0, fence: back.fence ?? 0, attempt: 2, result: "paid" }),
    ),
    wait(1_500).then(() => "waits for D1"),
  ]);
  expect(complete).not.toBe("accepted");
});

it("under ack: record a caller is told so after recordDeadlineMs, though the call to D1 is still out", async () => {
  faults.times = { d1DeadlineMs: 3_600_000, recordDeadlineMs: 15_000 };
  const { runId, fence } = await claim();
  await store().beginStep(aStep(runId, 0, { fence }));
  const held = gate();
  db.before = async (queries) => {
    if (queries.some((q) => /INSERT INTO/.test(q))) await held.pass();
  };
  const complete = { runId, stepIndex: 0, fence, attempt: 1, result: 1 };
  const refusal = refusalOf(() => store().completeStep(complete));
  expect(await whileTimeFlies(clock, refusal, 100)).toBe("store_unavailable");
  expect(held.reached).toBe(1);
  held.open = true;
  expect(await refusalOf(() => store().completeStep(complete))).toBe("accepted");
});

it("under ack: record a caller is told so after recordDeadlineMs, though each of many calls to D1 is in time", async () => {
  const { runId, fence } = await claim();
  await store().beginStep(aStep(runId, 0, { fence }));
  await drained(runId);
  db.before = async (queries) => {
    if (queries.some((q) => /INSERT INTO/.test(q))) await clock.sleep(9_000);
  };
  const complete = { runId, stepIndex: 0, fence, attempt: 1, result: "x".repeat(15_000_000) };
  const refusal = refusalOf(() => store().completeStep(complete));
  expect(await whileTimeFlies(clock, refusal, 100)).toBe("store_unavailable");
  clock.advance(600_000);
});

it("a chunk that is missing from the record is named, not cut out", async () => {
  const { runId, fence } = await claim();
  await store().beginStep(aStep(runId, 0, { fence }));
  await store().completeStep({ runId, stepIndex: 0, fence, attempt: 1, result: "x".repeat(2_500_000) });
  await env.DB.prepare("DELETE FROM durable_chunks WHERE run_id = ?1 AND chunk = 1").bind(runId).run();
  const error = await new D1DurableRunStore(env.DB).loadStep(runId, 0).then(
    (s) => `length ${(s?.result as string | undefined)?.length}`,
    (e: unknown) => String(e),
  );
  expect(error).toMatch(/chunk|missing/);
});
