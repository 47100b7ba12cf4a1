/**
 * Claims that are made as if D1 held nothing of the run (0030): one call of D1 both looks and records, and where it
 * finds something, the claim is decided again over that.
 */
import { runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { runDurable } from "../../src/runner/run-durable.ts";
import { CoordinatedDurableRunStore } from "../../src/stores/coordinated/store.ts";
import type { AckPolicy } from "../../src/stores/coordinated/wire.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { TestClock } from "../../src/testing/clock.ts";
import type { DatabaseFault } from "../../src/testing/faulty-database.ts";
import { FaultyDatabase } from "../../src/testing/faulty-database.ts";
import { aRun, aStep, MANIFEST, refusalOf } from "../../src/testing/harness.ts";
import { claim, recordedRun, recordedStep, store, stubOf, wait } from "./coordinator-world.ts";
import { d1 } from "./d1.ts";
import { abort, drained } from "./disasters.ts";
import { faults, resetFaults } from "./faults.ts";
import { RECORD_DEADLINE_MS, refusedInTime, timeFlies } from "./passing-time.ts";
import { StandingClock } from "./standing-clock.ts";

let clock: TestClock;
let db: FaultyDatabase;
beforeEach(() => {
  clock = new TestClock();
  db = new FaultyDatabase(d1, clock);
  faults.clock = clock;
  faults.times = { gatherMs: 20 };
  const own = db;
  faults.wrap = () => own;
});
afterEach(resetFaults);

const elsewhere = (): D1DurableRunStore => new D1DurableRunStore(env.DB);

/** What is not asked again by itself. */
const inOneAttempt = (ack: AckPolicy = "coordinator"): CoordinatedDurableRunStore =>
  new CoordinatedDurableRunStore(env.RUNS, { ack, retry: { attempts: 1 } });

/** What a call is refused with, by a clock that goes far faster once D1 fails. */
const refusal = (call: () => Promise<unknown>): Promise<string> =>
  refusedInTime({ clock, failures: () => db.faults }, call);

/** When the lease expires, as D1 has it. An alarm that is set goes off now: else it would by real time. */
async function expiryOf(runId: string): Promise<unknown> {
  await runDurableObjectAlarm(stubOf(runId));
  return (await recordedRun(runId))?.["lease_expires_at"];
}

/** Resolves once so much time has passed by the clock. */
async function passed(moving: TestClock, ms: number): Promise<void> {
  const due = moving.now() + ms;
  while (moving.now() < due) await wait(4);
}

async function hasStorage(runId: string): Promise<boolean> {
  return runInDurableObject(
    stubOf(runId),
    (_object, { storage: { sql } }) =>
      sql.exec("SELECT 1 FROM sqlite_master WHERE name = 'durable_rows'").toArray().length > 0,
  );
}

describe.each(["record", "coordinator"] as const)("a claim of a run that is new, under `%s`", (ack) => {
  it("costs one call of D1, with its tags", async () => {
    const input = aRun();
    const { fence = 0, run } = await store(ack).startOrResume(input);
    expect(db.batches).toBe(1);
    expect(fence).toBe(1);
    expect(await recordedRun(input.runId)).toMatchObject({ fence: 1, status: "running" });
    const tags = await env.DB.prepare("SELECT key, value, created_at FROM durable_tags WHERE run_id = ?1")
      .bind(input.runId)
      .all();
    const created_at = Date.parse(run.createdAt);
    expect(tags.results).toEqual(
      Object.entries(MANIFEST.tags ?? {}).map(([key, value]) => ({ key, value, created_at })),
    );
  });

  it("is one of two that come at once: the other is told who holds the run", async () => {
    const input = aRun("worker-1");
    const answers = await Promise.all([
      refusalOf(() => store(ack).startOrResume(input)),
      refusalOf(() => store(ack).startOrResume({ ...aRun("worker-2"), runId: input.runId })),
    ]);
    expect(answers).toEqual(["accepted", "lease_held"]);
    expect(await recordedRun(input.runId)).toMatchObject({ worker_id: "worker-1", fence: 1 });
  });

  it("is seen by nobody before D1 has it, and then by those who have asked meanwhile", async () => {
    const input = aRun();
    let isAsked = false;
    db.fault = () => ((isAsked = true), "none");
    const claim = store(ack).startOrResume(input);
    // Who asks before the claim has arrived is told that there is no such run.
    await expect.poll(() => isAsked, { interval: 1 }).toBe(true);
    const seen = await Promise.all([
      store(ack).loadRun(input.runId),
      store(ack).renewLease({ runId: input.runId, workerId: input.workerId }),
      claim,
    ]);
    expect(seen).toMatchObject([{ status: "running", fence: 1 }, { ok: true }, { fence: 1 }]);
  });

  it.each(["before", "after"] as const)("is one claim, though D1 fails %s its first call", async (fault) => {
    db.fault = ({ number }) => (number === 1 ? fault : "none");
    const input = aRun();
    const { fence = 0, run } = await store(ack).startOrResume(input);
    expect(fence).toBe(1);
    expect(await recordedRun(input.runId)).toMatchObject({
      fence: 1,
      created_at: Date.parse(run.createdAt),
      takeovers: 0,
    });
    expect(await store(ack).loadRun(input.runId)).toMatchObject({ fence: 1, status: "running" });
  });

  it("that D1 does not take is told so, leaves nothing behind, and holds when it is made again", async () => {
    faults.times = { gatherMs: 20, recordDeadlineMs: RECORD_DEADLINE_MS };
    db.fault = () => "before";
    const input = { ...aRun(), requestId: "claim-1" };
    const refused = new Set<string>();
    for (let i = 0; i < 3; i += 1) refused.add(await refusal(() => store(ack).startOrResume(input)));
    expect([...refused]).toEqual(["store_unavailable"]);
    expect(await hasStorage(input.runId)).toBe(false);
    expect(await recordedRun(input.runId)).toBeNull();
    db.fault = () => "none";
    const { fence = 0 } = await store(ack).startOrResume(input);
    expect(fence).toBe(1);
    await store(ack).beginStep(aStep(input.runId, 0, { fence }));
    await store(ack).completeStep({ runId: input.runId, stepIndex: 0, fence, result: 1 });
    await expect.poll(() => recordedStep(input.runId)).toMatchObject({ status: "completed" });
  });

  it("that D1 was slow to take is saved all the same, and its lapse will be noted", async () => {
    faults.times = { gatherMs: 20, deferMs: 100 };
    let failures = 0;
    db.fault = () => (failures++ < 3 ? "before" : "none");
    const { runId } = await claim(ack);
    expect(failures).toBeGreaterThan(3);
    await expect.poll(() => hasStorage(runId)).toBe(true);
    const alarm = await runInDurableObject(stubOf(runId), (_object, { storage }) => storage.getAlarm());
    expect(alarm).not.toBeNull();
  });

  it.each<[string, DatabaseFault]>([
    ["does not answer its next call", "before"],
    ["refuses it the next time, and then does not say what it has", "none"],
  ])(
    "that its caller has given up, as D1 took it and %s, is watched: its lapse is noted",
    async (_what, second) => {
      faults.times = { gatherMs: 20, recordDeadlineMs: RECORD_DEADLINE_MS };
      const befalls: DatabaseFault[] = ["after", second];
      db.fault = () => befalls.shift() ?? "before";
      const input = { ...aRun(), leaseMs: 500 };
      expect(await refusal(() => inOneAttempt(ack).startOrResume(input))).toBe("store_unavailable");
      expect(await recordedRun(input.runId)).toMatchObject({ status: "running" });
      db.fault = () => "none";
      timeFlies(clock);
      await expect.poll(() => expiryOf(input.runId)).toBeNull();
    },
  );

  it("is watched again once D1 has refused it, though D1 was long asked in vain, and then does not say what it has", async () => {
    faults.times = { gatherMs: 20, recordDeadlineMs: RECORD_DEADLINE_MS };
    const befalls: DatabaseFault[] = ["after"];
    db.fault = () => befalls.shift() ?? "before";
    const input = { ...aRun(), leaseMs: 500 };
    expect(await refusal(() => inOneAttempt(ack).startOrResume(input))).toBe("store_unavailable");
    timeFlies(clock);
    const asked = async () => {
      const before = db.batches;
      await passed(clock, 70_000);
      return db.batches - before;
    };
    await expect.poll(asked).toBe(0);
    befalls.push("none");
    expect(await refusalOf(() => inOneAttempt(ack).loadRun(input.runId))).toBe("store_unavailable");
    expect(befalls).toEqual([]);
    db.fault = () => "none";
    await expect.poll(() => expiryOf(input.runId)).toBeNull();
  });

  it("that was recorded late is late no more once something is recorded in time", async () => {
    const from = clock.now();
    let taken = 0;
    // Nothing comes after the claim until its lag was read.
    db.fault = () => (clock.now() - from < 1_200 || taken++ > 0 ? "before" : "none");
    const { runId, fence } = await claim(ack);
    expect(Number((await recordedRun(runId))?.["lag_ms"])).toBeGreaterThan(1_000);
    db.fault = () => "none";
    for (const stepIndex of [0, 1]) {
      await store(ack).beginStep(aStep(runId, stepIndex, { fence }));
      await store(ack).completeStep({ runId, stepIndex, fence, result: 1 });
      await drained(runId);
    }
    await expect.poll(() => recordedRun(runId)).toMatchObject({ lag_ms: 0 });
  });

  it("may have a long id and many tags, which are more than goes along with others", async () => {
    const id = aRun().runId;
    const runId = id + '"'.repeat(1_024 - id.length);
    const tags = Object.fromEntries(Array.from({ length: 64 }, (_, i) => [`tag-${i}`, "v"]));
    const claimed = await store(ack).startOrResume({ ...aRun(), runId, manifest: { ...MANIFEST, tags } });
    expect(claimed.fence).toBe(1);
    expect(await recordedRun(runId)).toMatchObject({ fence: 1 });
  });

  it("whose object dies before D1 answers is made again by whoever comes next", async () => {
    db.fault = ({ number }) => (number === 1 ? "stall" : "none");
    const input = aRun();
    const lost = refusalOf(() => store(ack).startOrResume(input));
    await expect.poll(() => db.batches).toBe(1);
    await abort(input.runId);
    expect(["accepted", "store_unavailable"]).toContain(await lost);
    const { fence = 0 } = await store(ack).startOrResume(input);
    await expect.poll(() => recordedRun(input.runId)).toMatchObject({ fence, status: "running" });
    // What stalled comes late, and changes nothing.
    await db.replayLate("newest first");
    expect(await recordedRun(input.runId)).toMatchObject({ fence, status: "running" });
  });
});

describe("what comes after it", () => {
  // So that D1 is never late, on a busy machine either: then storage would be made.
  beforeEach(() => {
    faults.clock = new StandingClock();
  });

  it("under `record` is deferred at once: no mark of a trail is in the way", async () => {
    const { runId, fence } = await claim();
    await store().beginStep(aStep(runId, 0, { fence }));
    await store().completeStep({ runId, stepIndex: 0, fence, result: 1 });
    expect(await hasStorage(runId)).toBe(false);
  });

  it("under `coordinator` makes storage, which trails behind nothing: it goes on through an outage of D1", async () => {
    const { runId, fence } = await claim("coordinator");
    expect(await hasStorage(runId)).toBe(false);
    db.fault = () => "before";
    for (const stepIndex of [0, 1]) {
      await store("coordinator").beginStep(aStep(runId, stepIndex, { fence }));
      await store("coordinator").completeStep({ runId, stepIndex, fence, result: stepIndex });
      await abort(runId);
    }
    expect(await store("coordinator").loadRun(runId)).toMatchObject({ fence, stepCount: 2 });
    expect(await recordedStep(runId)).toBeNull();
    db.fault = () => "none";
    expect((await store("coordinator").startOrResume({ ...aRun(), runId })).completedSteps).toHaveLength(2);
  });

  it("finds the claim in D1, where the object dies before it has storage", async () => {
    const { runId, fence } = await claim("coordinator");
    await abort(runId);
    await store("coordinator").beginStep(aStep(runId, 0, { fence }));
    const done = { runId, stepIndex: 0, fence, result: 1 };
    expect(await store("coordinator").completeStep(done)).toMatchObject({ status: "completed" });
    expect(await hasStorage(runId)).toBe(true);
  });
});

describe("a claim of a run that D1 knows", () => {
  it("by its row answers what is on record, and takes it over", async () => {
    const input = aRun();
    const { fence = 0 } = await elsewhere().startOrResume(input);
    await elsewhere().beginStep(aStep(input.runId, 0, { fence }));
    await elsewhere().completeStep({ runId: input.runId, stepIndex: 0, fence, result: "paid" });
    const taken = await store().startOrResume(input);
    expect(taken.completedSteps).toMatchObject([{ stepIndex: 0, result: "paid" }]);
    expect(taken.fence).toBe(2);
    expect(await recordedRun(input.runId)).toMatchObject({ fence: 2, takeovers: 1 });
  });

  it("that another worker holds is refused", async () => {
    const input = aRun("worker-1");
    await elsewhere().startOrResume(input);
    const other = { ...aRun("worker-2"), runId: input.runId };
    expect(await refusalOf(() => store().startOrResume(other))).toBe("lease_held");
    expect(await recordedRun(input.runId)).toMatchObject({ fence: 1, worker_id: "worker-1" });
  });

  it("with another manifest is refused", async () => {
    const input = aRun();
    await elsewhere().startOrResume(input);
    const manifest = { ...MANIFEST, input: { other: true } };
    expect(await refusalOf(() => store().startOrResume({ ...input, manifest }))).toBe("manifest_mismatch");
  });

  it("that has completed answers its result, in as many calls as it took to look first", async () => {
    const input = { runId: aRun().runId, manifest: MANIFEST };
    await runDurable({ ...input, store: elsewhere(), taskFn: async () => "done" });
    const again = await runDurable({ ...input, store: store(), taskFn: async () => "anew" });
    expect(again.result).toBe("done");
    expect(db.batches).toBe(2);
  });

  it("by an event alone has that event: the first emit stands", async () => {
    const input = aRun();
    await elsewhere().emitEvent({ runId: input.runId, key: "go", payload: "first" });
    const { fence = 0 } = await store().startOrResume(input);
    expect(fence).toBe(1);
    const second = await store().emitEvent({ runId: input.runId, key: "go", payload: "second" });
    expect(second).toMatchObject({ accepted: false, record: { payload: "first" } });
    expect(await recordedRun(input.runId)).toMatchObject({ status: "running" });
  });

  it("by a step alone, which somebody's purge has left, answers as before", async () => {
    const input = aRun();
    const { fence = 0 } = await elsewhere().startOrResume(input);
    await elsewhere().beginStep(aStep(input.runId, 0, { fence }));
    await elsewhere().completeStep({ runId: input.runId, stepIndex: 0, fence, result: "left" });
    await env.DB.prepare("DELETE FROM durable_runs WHERE run_id = ?1").bind(input.runId).run();
    const { completedSteps } = await store().startOrResume(input);
    const byLooking = await store("coordinator").loadStep(input.runId, 0);
    expect(completedSteps.map(({ stepIndex }) => stepIndex)).toEqual(byLooking ? [0] : []);
  });
});

describe("a claim that is not assumed", () => {
  it.each<[string, (runId: string) => Promise<unknown>]>([
    ["a read", (runId) => store("coordinator").loadRun(runId)],
    ["an event", (runId) => store("coordinator").emitEvent({ runId, key: "go", payload: 1 })],
  ])(
    "for %s has looked before, is answered once D1 has it: an insert that comes late may win",
    async (_what, look) => {
      const one = { ...aRun("worker-1"), requestId: "claim-1" };
      const { runId } = one;
      db.fault = () => "stall";
      const lost = refusalOf(() => inOneAttempt().startOrResume(one));
      await expect.poll(() => db.batches).toBe(1);
      await abort(runId);
      expect(await lost).toBe("store_unavailable");
      db.fault = ({ writes }) => (writes ? "before" : "none");
      await look(runId);
      const { faults: before } = db;
      let answer = "none yet";
      const two = refusalOf(() => store("coordinator").startOrResume({ ...aRun("worker-2"), runId }));
      void two.then((refusal) => (answer = refusal));
      await expect.poll(() => db.faults).toBeGreaterThan(before + 1);
      expect(answer).toBe("none yet");
      await db.replayLate("oldest first");
      db.fault = () => "none";
      expect(await two).toBe("lease_held");
      expect(await recordedRun(runId)).toMatchObject({ worker_id: "worker-1", fence: 1 });
      expect((await store("coordinator").startOrResume(one)).fence).toBe(1);
    },
  );

  it("brings a long input, which lies in D1 in chunks", async () => {
    const manifest = { ...MANIFEST, input: { text: "x".repeat(300_000) } };
    const input = { ...aRun(), manifest };
    const { fence = 0 } = await store().startOrResume(input);
    expect(fence).toBe(1);
    expect(String((await recordedRun(input.runId))?.["input_ref"])).toMatch(/\/1$/);
  });

  it("brings an input that is longer than what goes along with others", async () => {
    const manifest = { ...MANIFEST, input: { text: "x".repeat(200_000) } };
    const input = { ...aRun(), manifest };
    await store().startOrResume(input);
    expect(String((await recordedRun(input.runId))?.["input"]).length).toBeGreaterThan(200_000);
  });
});
