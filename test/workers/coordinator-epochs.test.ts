/**
 * Cases in which a coordinator once went wrong: what was begun before the cache was emptied, and ends after.
 */
import { abortAllDurableObjects } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, it } from "vitest";
import { newRunId } from "../../src/identity.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { aRun, aStep } from "../../src/testing/harness.ts";
import { store, claim, wait, recordedRun, recordedStep } from "./coordinator-world.ts";
import { drained, evict } from "./disasters.ts";
import { faults } from "./faults.ts";
import { gate } from "./gated-database.ts";
import { clock, db, useGatedWorld } from "./gated-world.ts";

useGatedWorld();
const isInsert = (q: string[]) => q.some((s) => /^\s*INSERT/.test(s));
const one = () => store("coordinator");

it("a flush of the new epoch does not join a following of the old", async () => {
  const { runId, fence } = await claim("coordinator");
  await drained(runId);
  db.before = async (q) => {
    if (isInsert(q)) throw new Error("D1_ERROR: Network connection lost.");
  };
  await one().beginStep(aStep(runId, 0, { fence }));
  await one().completeStep({ runId, stepIndex: 0, fence, attempt: 1, result: "old" });
  await evict(runId);
  const elsewhere = new D1DurableRunStore(env.DB, { clock });
  const taken = await elsewhere.startOrResume({ ...aRun(), runId });
  const held = gate();
  db.before = async (q) => {
    if (isInsert(q) && held.reached === 0) await held.pass();
  };
  await one().renewLease({ runId, workerId: "worker-1", fence });
  await expect.poll(() => held.reached).toBe(1); // F1 in flight, not compared
  await one().renewLease({ runId, workerId: "worker-1", fence });
  await wait(250); // following of epoch 0
  const back = await one().startOrResume({ ...aRun(), runId });
  await one().beginStep(aStep(runId, 0, { fence: back.fence ?? 0 }));
  await one().completeStep({ runId, stepIndex: 0, fence: back.fence ?? 0, attempt: 1, result: "paid" });
  await wait(250);
  held.open = true;
  await wait(400);
  const step = await one().loadStep(runId, 0);
  const again = await one().startOrResume({ ...aRun(), runId });
  expect({ taken: taken.fence, back: back.fence, result: step?.result, again: again.fence }).toEqual({
    taken: 2,
    back: 3,
    result: "paid",
    again: 4,
  });
});

it("an event acknowledged during a flush that turns out stale is not lost", async () => {
  const { runId, fence } = await claim();
  await drained(runId);
  const elsewhere = new D1DurableRunStore(env.DB, { clock });
  await elsewhere.startOrResume({ ...aRun(), runId });
  const held = gate();
  db.before = async (q) => {
    if (q.some((s) => /INSERT INTO durable_steps/.test(s))) await held.pass();
  };
  await one().beginStep(aStep(runId, 0, { fence }));
  await one().completeStep({ runId, stepIndex: 0, fence, attempt: 1, result: "old" });
  await expect.poll(() => held.reached).toBe(1);
  const emitted = await one().emitEvent({ runId, key: "k", payload: "first" });
  held.open = true;
  await wait(400);
  const event = await one().loadEvent(runId, "k");
  expect({ accepted: emitted.accepted, payload: event?.payload }).toEqual({
    accepted: true,
    payload: "first",
  });
});

it("an acknowledged event outlives a compare that finds D1 ahead", async () => {
  const { runId } = await claim();
  await drained(runId);
  db.before = async (q) => {
    if (isInsert(q)) throw new Error("D1_ERROR: Network connection lost.");
  };
  const emitted = await one().emitEvent({ runId, key: "k", payload: "first" });
  await evict(runId);
  const elsewhere = new D1DurableRunStore(env.DB, { clock });
  await elsewhere.startOrResume({ ...aRun(), runId });
  db.before = async () => {};
  await one().startOrResume({ ...aRun(), runId });
  await wait(300);
  const event = await one().loadEvent(runId, "k");
  expect({ accepted: emitted.accepted, payload: event?.payload }).toEqual({
    accepted: true,
    payload: "first",
  });
});

it("a begin in memory alone is not sent to D1; crash then loses nothing acknowledged", async () => {
  faults.times = { gatherMs: 100 };
  const { runId, fence } = await claim();
  await drained(runId);
  await wait(300);
  const held = gate();
  db.before = async (q) => {
    if (isInsert(q) && held.reached === 0) await held.pass();
  };
  await one().beginStep(aStep(runId, 0, { fence }));
  await one().failStep({ runId, stepIndex: 0, fence, attempt: 1, error: { message: "x" } });
  await one().emitEvent({ runId, key: "a", payload: 1 });
  await expect.poll(() => held.reached, { timeout: 5000, interval: 2 }).toBe(1); // events batch in flight
  const b = await one().emitEvent({ runId, key: "b", payload: 2 }); // committed, acknowledged
  await wait(0);
  // From here on, D1 takes the steps' batch, and no more.
  let steps = 0;
  db.before = async (q) => {
    if (isInsert(q)) {
      if (q.some((s) => /INSERT INTO durable_steps/.test(s)) && steps++ === 0) return;
      throw new Error("D1_ERROR: Network connection lost.");
    }
  };
  await one().beginStep(aStep(runId, 0, { fence })); // lazy, in memory
  held.open = true;
  for (let i = 0; i < 100; i += 1) {
    const row = await recordedStep(runId);
    if (row?.["status"] !== undefined && row !== null) break;
    await wait(2);
  }
  const inD1 = await recordedStep(runId);
  await abortAllDurableObjects();
  db.before = async () => {};
  await one().startOrResume({ ...aRun(), runId });
  await wait(300);
  const event = await one().loadEvent(runId, "b");
  expect({
    inD1: [inD1?.["status"], inD1?.["attempts"]],
    accepted: b.accepted,
    payload: event?.payload,
  }).toEqual({ inD1: ["failed", 1], accepted: true, payload: 2 });
});

for (const isEvicted of [false, true])
  it(`a run that a D1 store ended after a read through the coordinator stays ended, evicted: ${isEvicted}`, async () => {
    const runId = newRunId();
    const d1 = new D1DurableRunStore(env.DB, { clock });
    const { fence = 0 } = await d1.startOrResume({ ...aRun(), runId });
    await store().loadRun(runId); // rebuilds
    await d1.beginStep(aStep(runId, 0, { fence }));
    await d1.completeStep({ runId, stepIndex: 0, fence, attempt: 1, result: "paid" });
    await d1.endRun({ runId, workerId: "worker-1", fence, status: "completed", result: 1 });
    if (isEvicted) await evict(runId);
    clock.advance(40_000);
    const back = await store().startOrResume({ ...aRun(), runId });
    expect({
      status: back.run.status,
      steps: back.completedSteps.length,
      inD1: (await recordedRun(runId))?.["status"],
    }).toEqual({ status: "completed", steps: 1, inD1: "completed" });
  });
