/**
 * Cases in which a coordinator once went wrong, or could have: the edges of recording, retention and rebuilding.
 */
import { abortAllDurableObjects, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, it } from "vitest";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { aRun, aStep } from "../../src/testing/harness.ts";
import { claim, recordedRun, saved, store, stubOf, wait, woken } from "./coordinator-world.ts";
import { drained, evict } from "./disasters.ts";
import { faults } from "./faults.ts";
import { gate } from "./gated-database.ts";
import { clock, db, useGatedWorld } from "./gated-world.ts";
import { RECORD_DEADLINE_MS, refusedInTime } from "./passing-time.ts";

useGatedWorld();

const settle = (p: Promise<unknown>) =>
  p.then(
    () => "accepted",
    (e: { code?: string }) => e.code ?? "untyped",
  );

it("an emit that was recorded as the object goes is acknowledged", async () => {
  const { runId, fence } = await claim();
  await store().endRun({ runId, workerId: "worker-1", fence, status: "completed", result: 1 });
  clock.advance(3_600_001);
  const held = gate();
  db.before = async (queries) => {
    if (held.reached === 0 && queries.some((q) => /INSERT INTO durable_events/.test(q))) await held.pass();
  };
  const first = settle(store().emitEvent({ runId, key: "a", payload: 1 }));
  await expect.poll(() => held.reached).toBe(1);
  await wait(100);
  const second = settle(store().emitEvent({ runId, key: "b", payload: 2 }));
  await wait(50);
  held.open = true;
  const answers = [await first, await second];
  await wait(100);
  const inD1 = await env.DB.prepare("SELECT count(*) AS n FROM durable_events WHERE run_id = ?1")
    .bind(runId)
    .first<{ n: number }>();
  expect({ answers, inD1: inD1?.n }).toEqual({ answers: ["accepted", "accepted"], inD1: 2 });
});

it("a restart after 30 steps and no heartbeat takes only the last few for unrecorded", async () => {
  const { runId, fence } = await claim();
  for (let i = 0; i < 30; i += 1) {
    await store().beginStep(aStep(runId, i, { fence }));
    await store().completeStep({ runId, stepIndex: i, fence, attempt: 1, result: "r".repeat(200_000) });
  }
  await drained(runId);
  await evict(runId);
  const lag = await stubOf(runId).lag();
  expect(lag.ok && lag.value.rows).toBeLessThanOrEqual(16);
});

it("begin of a step that D1 lacks is not answered completed under ack: record", async () => {
  faults.times = { recordDeadlineMs: RECORD_DEADLINE_MS };
  const { runId, fence } = await claim();
  await store().beginStep(aStep(runId, 0, { fence }));
  let failures = 0;
  db.before = async (queries) => {
    if (!queries.some((q) => /^\s*INSERT/.test(q))) return;
    failures += 1;
    throw new Error("D1_ERROR: Network connection lost.");
  };
  const failing = { clock, failures: () => failures };
  const completion = { runId, stepIndex: 0, fence, attempt: 1, result: "paid" };
  expect(await refusedInTime(failing, () => store().completeStep(completion))).toBe("store_unavailable");
  const begin = await refusedInTime(failing, () => store().beginStep(aStep(runId, 0, { fence })));
  expect(begin).toBe("store_unavailable");
});

it("D1 never says that a run has completed before it holds the steps", async () => {
  const { runId, fence } = await claim("coordinator");
  await drained(runId);
  let sent = 0;
  let up = 0;
  db.before = async (queries) => {
    if (queries.some((q) => /^\s*INSERT/.test(q))) {
      sent += 1;
      if (sent > up) throw new Error("D1_ERROR: Network connection lost.");
    }
  };
  for (let i = 0; i < 30; i += 1) {
    await store("coordinator").beginStep(aStep(runId, i, { fence }));
    await store("coordinator").completeStep({
      runId,
      stepIndex: i,
      fence,
      attempt: 1,
      result: "r".repeat(250_000),
    });
  }
  await store("coordinator").endRun({ runId, workerId: "worker-1", fence, status: "completed", result: 1 });
  await wait(300);
  sent = 0;
  up = 1;
  await woken(runId);
  const steps = await env.DB.prepare(
    "SELECT count(*) AS n FROM durable_steps WHERE run_id = ?1 AND status = 'completed'",
  )
    .bind(runId)
    .first<{ n: number }>();
  const status = (await recordedRun(runId))?.["status"];
  up = 1_000;
  expect(status === "completed" ? `completed with ${steps?.n} steps` : "running").toBe("running");
});

it("a clock that gives fractions of a millisecond is no defect", async () => {
  const d1 = new D1DurableRunStore(env.DB);
  d1.now = () => Date.now() + 0.5;
  expect(await settle(d1.startOrResume(aRun()))).toBe("accepted");
});

it("a lapsed lease is not revived by the loss of the storage (R8)", async () => {
  const { runId, fence } = await claim();
  await saved(runId);
  clock.advance(600_000);
  await woken(runId);
  expect((await store().renewLease({ runId, workerId: "worker-1", fence })).ok).toBe(false);
  await runInDurableObject(stubOf(runId), (_o, state) => state.storage.deleteAll());
  await abortAllDurableObjects();
  const renewed = (await store().renewLease({ runId, workerId: "worker-1", fence })).ok;
  expect(renewed).toBe(false);
});

it("events of more than 2 MB are rebuilt", async () => {
  const { runId } = await claim();
  for (let i = 0; i < 15; i += 1)
    await store().emitEvent({ runId, key: `k${i}`, payload: "p".repeat(200_000) });
  await runInDurableObject(stubOf(runId), (_o, state) => state.storage.deleteAll());
  await abortAllDurableObjects();
  expect(await settle(store().loadRun(runId))).toBe("accepted");
});

it("after retention, a run with 3 MB of results can be read", async () => {
  const { runId, fence } = await claim();
  for (let i = 0; i < 15; i += 1) {
    await store().beginStep(aStep(runId, i, { fence }));
    await store().completeStep({ runId, stepIndex: i, fence, attempt: 1, result: "r".repeat(200_000) });
  }
  await store().endRun({ runId, workerId: "worker-1", fence, status: "failed" });
  clock.advance(3_600_001);
  await woken(runId);
  expect([
    await settle(store().loadRun(runId)),
    await settle(store().startOrResume({ ...aRun(), runId })),
  ]).toEqual(["accepted", "accepted"]);
});

it("a lapsed lease is told to D1 once, not at each wake-up", async () => {
  const { runId } = await claim();
  await saved(runId);
  clock.advance(30_001);
  await woken(runId);
  let told = 0;
  for (let i = 0; i < 3; i += 1) {
    await evict(runId);
    db.log.length = 0;
    await store().emitEvent({ runId, key: `k${i}`, payload: 1 });
    await wait(150);
    told += db.log.filter((queries) => queries.some((q) => /INSERT INTO durable_runs/.test(q))).length;
  }
  expect(told).toBe(0);
});
