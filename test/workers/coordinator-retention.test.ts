/**
 * When an object deletes its storage (R19), also one that slept all the while and is woken by nothing but its alarm.
 */
import { env } from "cloudflare:workers";
import { runInDurableObject } from "cloudflare:test";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { newRunId } from "../../src/identity.ts";
import { RunHistory } from "../../src/history/run-history.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { aRun, aStep, MANIFEST, refusalOf } from "../../src/testing/harness.ts";
import {
  claim,
  recordedRun,
  recordedStep,
  saved,
  store,
  stubOf,
  withSteps,
  woken,
} from "./coordinator-world.ts";
import { drained, evict, wipe } from "./disasters.ts";
import { faults, resetFaults } from "./faults.ts";
import { AT, iso, SetClock } from "./history-world.ts";

const HOUR = 3_600_000;
const MINUTE = 60_000;

let clock = new SetClock(AT);
beforeEach(() => {
  clock = new SetClock(AT);
  faults.clock = clock;
});
afterEach(resetFaults);

/** A run with two steps, which has failed, and which D1 holds. */
async function ended(): Promise<string> {
  const { runId, fence } = await withSteps();
  await store().endRun({ runId, workerId: "worker-1", fence, status: "failed" });
  await saved(runId);
  await drained(runId);
  return runId;
}

async function wakeUp(runId: string, afterMs: number): Promise<void> {
  await evict(runId);
  clock.advance(afterMs);
  await woken(runId);
}

/** Whether the object has storage, and an alarm. */
function standing(runId: string): Promise<{ tables: boolean; alarm: boolean }> {
  return runInDurableObject(stubOf(runId), async (_object, { storage }) => ({
    tables: storage.sql.exec("SELECT 1 FROM sqlite_master WHERE name = 'durable_rows'").toArray().length > 0,
    alarm: (await storage.getAlarm()) !== null,
  }));
}

const KEPT = { tables: true, alarm: true };
const GONE = { tables: false, alarm: false };

describe("an object that slept goes an hour after", () => {
  it("its run has ended", async () => {
    const runId = await ended();
    await wakeUp(runId, HOUR - MINUTE);
    expect(await standing(runId)).toEqual(KEPT);
    await wakeUp(runId, MINUTE);
    expect(await standing(runId)).toEqual(GONE);
    expect(await store().loadRun(runId)).toMatchObject({ status: "failed", stepCount: 2 });
  });

  it("a rebuild, where its run has only been read since", async () => {
    const runId = await ended();
    await wipe(runId);
    clock.advance(100 * HOUR);
    await store().loadRun(runId);
    await wakeUp(runId, HOUR - MINUTE);
    expect(await standing(runId)).toEqual(KEPT);
    await wakeUp(runId, MINUTE);
    expect(await standing(runId)).toEqual(GONE);
  });

  it("its first event, where no run has begun", async () => {
    const runId = newRunId();
    await store().emitEvent({ runId, key: "k", payload: 1 });
    await drained(runId);
    await wakeUp(runId, HOUR - MINUTE);
    expect(await standing(runId)).toEqual(KEPT);
    await wakeUp(runId, MINUTE);
    expect(await standing(runId)).toEqual(GONE);
    expect(await store().loadEvent(runId, "k")).toMatchObject({ payload: 1 });
  });
});

it("an object that was rebuilt stays while its run has a lease, until it has noted that it lapsed", async () => {
  const run = { ...aRun(), leaseMs: 2 * HOUR };
  await store().startOrResume(run);
  await wipe(run.runId);
  await store().loadRun(run.runId);
  await wakeUp(run.runId, HOUR + MINUTE);
  expect(await standing(run.runId)).toEqual(KEPT);
  await wakeUp(run.runId, HOUR);
  await drained(run.runId);
  expect(await recordedRun(run.runId)).toMatchObject({ status: "running", lease_expires_at: null });
});

it("a run that begins under the id of one that is gone, in the same instance, has none of its lag", async () => {
  const { runId, fence } = await claim();
  await store().endRun({ runId, workerId: "worker-1", fence, status: "completed" });
  await saved(runId);
  await drained(runId);
  clock.advance(HOUR);
  await woken(runId);
  clock.advance(10 * HOUR);
  await new RunHistory(env.DB, { clock }).purge({ before: iso(AT + HOUR) });
  // So that its revision is that of the earlier run's end.
  await store().emitEvent({ runId, key: "k", payload: 1 });
  await store().startOrResume({ ...aRun(), runId });
  await drained(runId);
  expect(await recordedRun(runId)).toMatchObject({ lag_ms: 0, revision: 2 });
});

describe.each(["awake", "asleep"])("an object whose run was purged, %s", (state) => {
  const restart = { fromStep: 1, dropLater: true } as const;

  async function purged(): Promise<string> {
    const runId = await ended();
    // So that it knows D1 to hold the run, though it sleeps.
    clock.advance(1_000);
    await woken(runId);
    clock.advance(10 * HOUR);
    await new RunHistory(env.DB, { clock }).purge({ before: iso(AT + HOUR) });
    expect(await recordedRun(runId)).toBeNull();
    if (state === "asleep") await evict(runId);
    return runId;
  }

  it("does not bring half of it back: a restart finds no run, and a claim begins a new one", async () => {
    const runId = await purged();
    expect(await refusalOf(() => store().restartRun(runId, restart))).toBe("run_not_found");
    const { completedSteps, fence } = await store().startOrResume({ ...aRun(), runId });
    expect({ completedSteps, fence }).toEqual({ completedSteps: [], fence: 1 });
    await drained(runId);
    expect(await recordedRun(runId)).toMatchObject({ fence: 1, created_at: clock.now(), status: "running" });
    expect(await recordedStep(runId, 0)).toBeNull();
  });

  it.each([
    ["the same manifest", MANIFEST],
    ["another manifest", { ...MANIFEST, projectId: "other", input: { other: true } }],
  ])("yields to the run that has begun under its id since, with %s", async (_what, manifest) => {
    const runId = await purged();
    const alone = new D1DurableRunStore(env.DB, { clock });
    const { fence = 0 } = await alone.startOrResume({ ...aRun(), runId, manifest });
    await alone.beginStep(aStep(runId, 0, { fence }));
    const { createdAt, projectId } = await store().restartRun(runId, { ...restart, fromStep: 0 });
    await drained(runId);
    expect({ createdAt, projectId }).toEqual({ createdAt: iso(clock.now()), projectId: manifest.projectId });
    expect(await recordedRun(runId)).toMatchObject({ fence: 2, status: "pending", created_at: clock.now() });
  });
});
