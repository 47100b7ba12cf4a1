/** Calls that are held, while their object is reset, put to sleep, emptied, or out of D1's reach (R20, R33). */
import { abortAllDurableObjects, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { newRunId } from "../../src/identity.ts";
import { CoordinatedDurableRunStore } from "../../src/stores/coordinated/store.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { TestClock } from "../../src/testing/clock.ts";
import { FaultyDatabase } from "../../src/testing/faulty-database.ts";
import { aRun, aStep, refusalOf } from "../../src/testing/harness.ts";
import { claim, saved, store, stubOf, woken } from "./coordinator-world.ts";
import { d1 } from "./d1.ts";
import { evict, wipe } from "./disasters.ts";
import { faults, resetFaults } from "./faults.ts";
import { whileTimeFlies } from "./passing-time.ts";

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

/** A store that counts the calls which it makes of an object, and how many of them have settled. */
function counting() {
  const calls = { made: 0, settled: 0 };
  const namespace = {
    getByName: (runId: string) => {
      const stub = stubOf(runId);
      const count = async <T>(call: Promise<T>): Promise<T> => {
        calls.made += 1;
        try {
          return await call;
        } finally {
          calls.settled += 1;
        }
      };
      return {
        waitForEvent: (key: string, timeoutMs: number) =>
          count(Promise.resolve(stub.waitForEvent(key, timeoutMs))),
        watchLease: (fence: number, timeoutMs: number) =>
          count(Promise.resolve(stub.watchLease(fence, timeoutMs))),
      };
    },
  };
  return { calls, waiting: new CoordinatedDurableRunStore(namespace) };
}

/** Holds a call of each kind, and resolves once the object has got them. */
async function holdBoth(runId: string, fence: number) {
  const { calls, waiting } = counting();
  const event = waiting.waitForEvent({ runId, key: "k", timeoutMs: 60_000 });
  const lease = waiting.watchLease({ runId, fence, timeoutMs: 60_000 });
  // Calls of one caller arrive in their order.
  await store().loadRun(runId);
  expect(calls).toEqual({ made: 2, settled: 0 });
  return { calls, event, lease };
}

describe("a held call", () => {
  it.each<[string, (runId: string) => Promise<void>]>([
    ["reset", () => abortAllDurableObjects()],
    ["reset, and its storage is lost", wipe],
  ])("goes on over a fresh stub when its object is %s", async (_what, disaster) => {
    const { runId, fence } = await claim();
    const { calls, event, lease } = await holdBoth(runId, fence);
    await disaster(runId);
    await expect.poll(() => calls.made).toBe(4);
    expect(calls.settled).toBe(2);
    const { record } = await store().emitEvent({ runId, key: "k", payload: "after the disaster" });
    await store().cancelRun(runId);
    expect(await event).toEqual(record);
    expect(await lease).toEqual({ held: false, status: "cancelled" });
  });

  it("is answered before its object is put to sleep, or after", async () => {
    const { runId, fence } = await claim();
    const { event, lease } = await holdBoth(runId, fence);
    const asleep = evict(runId);
    const { record } = await store().emitEvent({ runId, key: "k", payload: "in between" });
    await store().startOrResume({ ...aRun(), runId });
    expect(await event).toEqual(record);
    expect(await lease).toEqual({ held: false, status: "running" });
    await asleep;
    expect(await store().waitForEvent({ runId, key: "k", timeoutMs: 60_000 })).toEqual(record);
  });

  it("ends at its time however often its object was reset", async () => {
    const { runId, fence } = await claim();
    const { calls, event, lease } = await holdBoth(runId, fence);
    await abortAllDurableObjects();
    await expect.poll(() => calls.made).toBe(4);
    expect(await whileTimeFlies(clock, event)).toBeUndefined();
    expect(await whileTimeFlies(clock, lease)).toEqual({ held: true });
  });
});

describe("a held call of a run whose storage is removed once it is over", () => {
  /** The run has ended an hour ago, and its object lets go of its storage while a call is held. */
  async function removed() {
    const { runId, fence } = await claim();
    await store().beginStep(aStep(runId, 0, { fence }));
    await store().completeStep({ runId, stepIndex: 0, fence, result: 1 });
    await store().endRun({ runId, workerId: "worker-1", fence, status: "completed", result: 1 });
    await saved(runId);
    // An object at work would set its alarm for now when it hears what time it is.
    await evict(runId);
    clock.advance(3_600_001);
    const { calls, waiting } = counting();
    const event = waiting.waitForEvent({ runId, key: "k", timeoutMs: 60_000 });
    await store().loadRun(runId);
    await woken(runId);
    const query = "SELECT count(*) AS n FROM sqlite_master WHERE name LIKE 'durable_%'";
    const tables = await runInDurableObject(stubOf(runId), (_object, { storage: { sql } }) =>
      sql.exec(query).one(),
    );
    expect({ tables, calls }).toEqual({ tables: { n: 0 }, calls: { made: 1, settled: 0 } });
    return { runId, fence, event };
  }

  it("brings an event that comes after that", async () => {
    const { runId, fence, event } = await removed();
    const { record } = await store().emitEvent({ runId, key: "k", payload: "late" });
    expect(await event).toEqual(record);
    expect(await store().loadStep(runId, 0)).toMatchObject({ status: "completed", result: 1 });
    expect(await store().watchLease({ runId, fence, timeoutMs: 60_000 })).toEqual({
      held: false,
      status: "completed",
    });
  });

  it("ends at its time", async () => {
    const { runId, event } = await removed();
    expect(await whileTimeFlies(clock, event)).toBeUndefined();
    expect(await store().loadRun(runId)).toMatchObject({ status: "completed", result: 1 });
  });

  it("is told when D1 is down at its time, rather than that there is nothing", async () => {
    const { event } = await removed();
    db.fault = () => "before";
    expect(await refusalOf(() => whileTimeFlies(clock, event))).toBe("store_unavailable");
  });
});

describe("a held call of a run that another store takes over", () => {
  it("hears of that as soon as its object does", async () => {
    const { runId, fence } = await claim();
    const { calls, event, lease } = await holdBoth(runId, fence);
    clock.advance(30_001);
    const elsewhere = new D1DurableRunStore(env.DB, { clock });
    await elsewhere.emitEvent({ runId, key: "k", payload: "elsewhere" });
    await elsewhere.startOrResume({ ...aRun("worker-2"), runId });
    // Its next change meets D1's guard; then it is rebuilt from there.
    expect(
      await refusalOf(() => store().failStep({ runId, stepIndex: 0, fence, error: { message: "x" } })),
    ).not.toBe("accepted");
    expect(await refusalOf(() => store().startOrResume({ ...aRun("worker-3"), runId }))).toBe("lease_held");
    await expect.poll(() => calls.settled).toBe(2);
    expect(await event).toMatchObject({ payload: "elsewhere" });
    expect(await lease).toEqual({ held: false, status: "running" });
  });
});

it("waits for events of many runs and keys are each answered by their own", async () => {
  const runIds = Array.from({ length: 5 }, () => newRunId());
  const pairs = runIds.flatMap((runId) => ["a", "b", "c"].map((key) => ({ runId, key })));
  const waits = pairs.map((pair) => store().waitForEvent({ ...pair, timeoutMs: 60_000 }));
  for (const { runId, key } of pairs.toReversed()) {
    await store().emitEvent({ runId, key, payload: `${key} of ${runId}` });
  }
  const payloads = (await Promise.all(waits)).map((event) => event?.payload);
  expect(payloads).toEqual(pairs.map(({ runId, key }) => `${key} of ${runId}`));
});
