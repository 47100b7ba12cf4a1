/**
 * Cases in which a coordinator once went wrong, or could have: crashes, lost answers, storage lost or restored,
 * stalled databases.
 */
import { abortAllDurableObjects, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, expect, it } from "vitest";
import { newRequestId, newRunId } from "../../src/identity.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { TestClock } from "../../src/testing/clock.ts";
import { FaultyDatabase } from "../../src/testing/faulty-database.ts";
import { aRun, aStep, refusalOf } from "../../src/testing/harness.ts";
import { claim, recordedRun, recordedStep, saved, store, stubOf, wait, woken } from "./coordinator-world.ts";
import { d1 } from "./d1.ts";
import { drained, evict, wipe } from "./disasters.ts";
import { faults, resetFaults } from "./faults.ts";
import { RECORD_DEADLINE_MS, refusedInTime } from "./passing-time.ts";

let clock: TestClock;
let db: FaultyDatabase;
beforeEach(() => {
  clock = new TestClock();
  db = new FaultyDatabase(d1, clock);
  faults.clock = clock;
  const own = db;
  faults.wrap = () => own;
});
afterEach(resetFaults);
const failing = () => ({ clock, failures: () => db.faults });
const writesFail = () => {
  db.fault = ({ writes }) => (writes ? "before" : "none");
};
const ok = () => {
  db.fault = () => "none";
};

/** A step begun and recorded, the watermark saved by an alarm, the object put to sleep. */
async function sleeping() {
  const { runId, fence } = await claim();
  await store().beginStep(aStep(runId, 0, { fence }));
  await wait(200);
  await drained(runId);
  await woken(runId);
  await evict(runId);
  return { runId, fence };
}

it("watermark: an acknowledged (coordinator) completion reaches D1 after a crash", async () => {
  const { runId, fence } = await sleeping();
  // Where others have used `record`, an object that comes back has to write to D1 first.
  await store().loadRun(runId);
  writesFail();
  await store("coordinator").completeStep({ runId, stepIndex: 0, fence, attempt: 1, result: "paid" });
  await abortAllDurableObjects();
  ok();
  await woken(runId);
  await wait(300);
  const lag = await stubOf(runId).lag();
  expect([lag, (await recordedStep(runId))?.["status"]]).toEqual([
    { ok: true, value: { rows: 0 } },
    "completed",
  ]);
});

it("watermark: ack record acknowledges nothing that D1 lacks", async () => {
  faults.times = { recordDeadlineMs: RECORD_DEADLINE_MS };
  const { runId, fence } = await sleeping();
  writesFail();
  const complete = { runId, stepIndex: 0, fence, attempt: 1, result: "paid", requestId: newRequestId() };
  expect(await refusedInTime(failing(), () => store().completeStep(complete))).toBe("store_unavailable");
  await abortAllDurableObjects();
  expect(await refusedInTime(failing(), () => store().completeStep(complete))).toBe("store_unavailable");
});

it("the storage is not deleted while D1 lacks a step", async () => {
  const { runId, fence } = await sleeping();
  // Where others have used `record`, an object that comes back has to write to D1 first.
  await store().loadRun(runId);
  writesFail();
  await store("coordinator").completeStep({ runId, stepIndex: 0, fence, attempt: 1, result: "paid" });
  await abortAllDurableObjects();
  ok();
  await store().endRun({ runId, workerId: "worker-1", fence, status: "completed", result: 1 });
  clock.advance(3_600_001);
  await woken(runId);
  expect(await store().loadStep(runId, 0)).toMatchObject({ status: "completed" });
});

it("no alarm is set for now while D1 is down, though the retention is over", async () => {
  const { runId, fence } = await claim("coordinator");
  await drained(runId);
  writesFail();
  await store("coordinator").endRun({ runId, workerId: "worker-1", fence, status: "completed", result: 7 });
  clock.advance(3_600_001);
  const before = Date.now();
  await woken(runId);
  const armed = await runInDurableObject(stubOf(runId), (_o, state) => state.storage.getAlarm());
  ok();
  expect(armed).toBeGreaterThanOrEqual(before + 500);
});

it("a read through the coordinator does not undo what a D1 store does", async () => {
  const elsewhere = new D1DurableRunStore(env.DB, { clock });
  const input = aRun();
  const { fence = 0 } = await elsewhere.startOrResume(input);
  const { runId } = input;
  await elsewhere.beginStep(aStep(runId, 0, { fence }));
  expect(await store().loadRun(runId)).toMatchObject({ status: "running" });
  await elsewhere.completeStep({ runId, stepIndex: 0, fence, result: 1 });
  await elsewhere.endRun({ runId, workerId: "worker-1", fence, status: "completed", result: "all of it" });
  expect(await recordedRun(runId)).toMatchObject({ status: "completed" });
  clock.advance(31_000);
  await woken(runId);
  expect(await recordedRun(runId)).toMatchObject({ status: "completed", result: '"all of it"' });
});

it("an event acknowledged by the coordinator outlives a stale claim", async () => {
  const { runId } = await claim();
  clock.advance(30_001);
  await new D1DurableRunStore(env.DB, { clock }).startOrResume({ ...aRun("worker-2"), runId });
  expect((await store("coordinator").emitEvent({ runId, key: "k", payload: "approved" })).accepted).toBe(
    true,
  );
  await wait(300);
  expect(await store().loadEvent(runId, "k")).toMatchObject({ payload: "approved" });
});

it("an emit or claim over a stale claim is answered, not refused as lease_lost", async () => {
  const { runId } = await claim();
  clock.advance(30_001);
  const elsewhere = new D1DurableRunStore(env.DB, { clock });
  const { fence = 0 } = await elsewhere.startOrResume({ ...aRun("worker-2"), runId });
  const emit = await refusalOf(() => store().emitEvent({ runId, key: "k", payload: "approved" }));
  const other = await claim();
  clock.advance(30_001);
  const taken = await elsewhere.startOrResume({ ...aRun("worker-2"), runId: other.runId });
  await elsewhere.endRun({
    runId: other.runId,
    workerId: "worker-2",
    fence: taken.fence ?? 0,
    status: "failed",
  });
  const reclaim = await refusalOf(() => store().startOrResume({ ...aRun("worker-3"), runId: other.runId }));
  expect({ emit, reclaim, fence }).toEqual({ emit: "accepted", reclaim: "accepted", fence: 2 });
});

it("a completion that was answered store_unavailable still carries its begin", async () => {
  const { runId, fence } = await claim();
  const worker = store();
  await worker.beginStep(aStep(runId, 0, { fence }));
  await wipe(runId);
  db.fault = () => "before";
  const complete = { runId, stepIndex: 0, fence, attempt: 1, result: "paid", requestId: newRequestId() };
  expect(await refusalOf(() => worker.completeStep(complete))).toBe("store_unavailable");
  ok();
  expect(await refusalOf(() => worker.completeStep(complete))).toBe("accepted");
});

it("the deadline of a wait whose begin was lost is the one that was answered", async () => {
  const { runId, fence } = await claim();
  const worker = store();
  const begun = await worker.beginStep(aStep(runId, 0, { fence, kind: "event", timeoutMs: 60_000 }));
  await abortAllDurableObjects();
  clock.advance(60_000);
  const failed = await worker.failStep({
    runId,
    stepIndex: 0,
    fence,
    attempt: 1,
    error: { message: "late" },
  });
  expect({ d: failed.deadlineAt, s: failed.startedAt }).toEqual({ d: begun.deadlineAt, s: begun.startedAt });
});

it("a caught failure that a begin reported replays as a failure after a reset", async () => {
  const { runId, fence } = await claim();
  const worker = store();
  await worker.beginStep(aStep(runId, 0, { fence }));
  await worker.failStep({ runId, stepIndex: 0, fence, attempt: 1, error: { message: "no" } });
  await worker.beginStep(aStep(runId, 1, { fence, caught: [0] }));
  await abortAllDurableObjects();
  // In flight beside it: its begin says nothing of the failure, for that was reported.
  await worker.beginStep(aStep(runId, 2, { fence }));
  await worker.completeStep({ runId, stepIndex: 2, fence, attempt: 1, result: 1 });
  clock.advance(30_001);
  const { caughtSteps = [], completedSteps } = await store().startOrResume({ ...aRun("worker-2"), runId });
  expect({
    caught: caughtSteps.map((s) => s.stepIndex),
    completed: completedSteps.map((s) => s.stepIndex),
  }).toEqual({ caught: [0], completed: [2] });
});

it("a begin is in storage within about 100 ms although a D1 call stalls", async () => {
  const { runId, fence } = await claim("coordinator");
  await drained(runId);
  db.fault = ({ writes }) => (writes ? "stall" : "none");
  await store("coordinator").emitEvent({ runId, key: "k", payload: 1 });
  await wait(200);
  await store("coordinator").beginStep(aStep(runId, 0, { fence }));
  await wait(600);
  const saved = await runInDurableObject(
    stubOf(runId),
    (_o, state) =>
      state.storage.sql.exec("SELECT count(*) AS n FROM durable_rows WHERE kind = 'step'").one()["n"],
  );
  ok();
  clock.advance(60_001);
  expect(saved).toBe(1);
});

it("a late batch from before the storage was lost does not undo an acknowledged completion", async () => {
  const { runId, fence } = await claim();
  const worker = store();
  for (let i = 0; i < 3; i += 1) await worker.renewLease({ runId, workerId: "worker-1", fence });
  writesFail();
  await worker.beginStep(aStep(runId, 0, { fence }));
  await expect.poll(() => db.faults).toBeGreaterThan(0);
  await wipe(runId);
  ok();
  await worker.completeStep({ runId, stepIndex: 0, fence, attempt: 1, result: "paid" });
  expect(await recordedStep(runId)).toMatchObject({ status: "completed" });
  await db.replayLate("oldest first");
  expect(await recordedStep(runId)).toMatchObject({ status: "completed", result: '"paid"' });
});

it("a restored object that goes on before the next claim does not hide what D1 holds", async () => {
  const { runId, fence } = await claim();
  const worker = store();
  for (let i = 0; i < 3; i += 1) {
    await worker.beginStep(aStep(runId, i, { fence }));
    await worker.completeStep({ runId, stepIndex: i, fence, result: i });
  }
  await saved(runId);
  await runInDurableObject(stubOf(runId), (_o, state) => {
    state.storage.sql.exec("DELETE FROM durable_rows WHERE kind = 'step'");
    state.storage.sql.exec("DELETE FROM durable_rows WHERE id = 'recorded_revision'");
  });
  await evict(runId);
  for (let i = 3; i < 8; i += 1) {
    await worker.beginStep(aStep(runId, i, { fence }));
    await worker.completeStep({ runId, stepIndex: i, fence, result: i });
  }
  const { completedSteps } = await store().startOrResume({ ...aRun(), runId });
  expect(completedSteps.map((s) => s.stepIndex)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
});

it("code that is older than the tables leaves their version alone", async () => {
  const { runId } = await claim();
  await saved(runId);
  await runInDurableObject(stubOf(runId), (_o, state) => {
    state.storage.sql.exec("UPDATE durable_rows SET row = 99 WHERE id = 'schema_version'");
  });
  await evict(runId);
  expect(await store().loadRun(runId)).toMatchObject({ status: "running" });
  const version = await runInDurableObject(
    stubOf(runId),
    (_o, state) =>
      state.storage.sql.exec("SELECT row FROM durable_rows WHERE id = 'schema_version'").one()["row"],
  );
  expect(version).toBe(99);
});

it("a step begun twice at once counts once", async () => {
  const { runId, fence } = await claim();
  await store().beginStep(aStep(runId, 0, { fence }));
  await store().beginStep(aStep(runId, 0, { fence }));
  expect((await store().loadRun(runId))?.stepCount).toBe(1);
});

it("an emit repeated under its request id answers what stands", async () => {
  const runId = newRunId();
  const requestId = newRequestId();
  await store().emitEvent({ runId, key: "k", payload: "first", requestId });
  expect(await store().emitEvent({ runId, key: "k", payload: "second", requestId })).toMatchObject({
    accepted: true,
    record: { payload: "first" },
  });
});

it("a completion of an attempt that is over does not end the next", async () => {
  const { runId, fence } = await claim();
  await store().beginStep(aStep(runId, 0, { fence }));
  await store().failStep({ runId, stepIndex: 0, fence, attempt: 1, error: { message: "x" } });
  await store().beginStep(aStep(runId, 0, { fence }));
  expect(
    await refusalOf(() =>
      store().completeStep({ runId, stepIndex: 0, fence, attempt: 1, result: "of attempt 1" }),
    ),
  ).toBe("step_not_running");
});
