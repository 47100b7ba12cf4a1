/** R33, 0028: a step that ends with its event, in one commit: what each policy says of that, whatever befalls D1 and the object. */
import { abortAllDurableObjects, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Counts } from "../../bench/counts/counters.ts";
import { costOf, countedDatabase, countStorage, noCounts } from "../../bench/counts/counters.ts";
import { newRequestId } from "../../src/identity.ts";
import { CoordinatedDurableRunStore } from "../../src/stores/coordinated/store.ts";
import type { AckPolicy } from "../../src/stores/coordinated/wire.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { TestClock } from "../../src/testing/clock.ts";
import { FaultyDatabase } from "../../src/testing/faulty-database.ts";
import { aRun, aStep, refusalOf } from "../../src/testing/harness.ts";
import { claim, recordedRun, recordedStep, saved, store, stubOf } from "./coordinator-world.ts";
import { d1 } from "./d1.ts";
import { drained, evict, wipe, wipeOnceRecorded } from "./disasters.ts";
import { faults, resetFaults } from "./faults.ts";
import { gate, GatedDatabase } from "./gated-database.ts";
import { RECORD_DEADLINE_MS, timeFlies } from "./passing-time.ts";
import { StandingClock } from "./standing-clock.ts";

let clock: TestClock;
beforeEach(() => {
  clock = new TestClock();
  faults.clock = clock;
});
afterEach(resetFaults);

type Disaster = [string, (runId: string) => Promise<void>];

interface Held {
  readonly runId: string;
  readonly fence: number;
}

const ending = ({ runId, fence }: Held, more: object = {}) => ({
  runId,
  key: "k",
  timeoutMs: 60_000,
  step: { stepIndex: 0, fence, attempt: 1, requestId: newRequestId() },
  ...more,
});

const begin = (run: Held, ack: AckPolicy = "record", stepIndex = 0) =>
  store(ack).beginStep(
    aStep(run.runId, stepIndex, {
      fence: run.fence,
      kind: "event",
      waitFor: { kind: "event", key: "k" },
      timeoutMs: 3_600_000,
    }),
  );

/** A run that waits for "k" in its first step, of which D1 knows. */
async function waitingRun(ack: AckPolicy): Promise<Held> {
  const run = await claim(ack);
  await begin(run, ack);
  await saved(run.runId);
  await drained(run.runId);
  return run;
}

/** Holds the call, and resolves once the object has got it. Tells whether it has been answered. */
async function hold(run: Held, ack: AckPolicy) {
  const call = { answer: store(ack).waitForEvent(ending(run)), isSettled: false };
  const settle = () => (call.isSettled = true);
  call.answer.then(settle, settle);
  // Calls of one caller arrive in their order.
  await store().loadRun(run.runId);
  return call;
}

const emit = ({ runId }: Held, ack: AckPolicy, payload: unknown = "here", requestId = newRequestId()) =>
  store(ack).emitEvent({ runId, key: "k", payload, requestId });

function recordedEvent(runId: string): Promise<Record<string, unknown> | null> {
  const query = "SELECT * FROM durable_events WHERE run_id = ?1 AND key = 'k'";
  return env.DB.prepare(query).bind(runId).first();
}

/** D1 has the event, and the step that ended with it. */
async function expectRecorded(runId: string, result = "here"): Promise<void> {
  const stands = { status: "completed", result: JSON.stringify(result), attempts: 1 };
  expect(await recordedStep(runId)).toMatchObject(stands);
  expect(await recordedEvent(runId)).toMatchObject({ payload: JSON.stringify(result) });
  expect(await recordedRun(runId)).toMatchObject({ waits: null });
}

const COMPLETED = { payload: "here", step: { status: "completed", result: "here", attempts: 1 } };

describe.each<[AckPolicy]>([["record"], ["coordinator"]])(
  "under ack: %s, a step that ends with its event",
  (ack) => {
    it("takes one D1 round trip, and under coordinator one row of the object each for step, event and run", async () => {
      // So that D1 is never late, on a busy machine either: then storage would be made.
      if (ack === "record") faults.clock = new StandingClock();
      const counts: Counts = noCounts();
      faults.wrap = (db) => countedDatabase(db, counts);
      const run = await waitingRun(ack);
      await runInDurableObject(stubOf(run.runId), (_object, { storage }) => countStorage(storage, counts));
      const { answer } = await hold(run, ack);
      const before = { ...counts };
      await Promise.all([emit(run, ack), answer]);
      const objectRowsWritten = ack === "record" ? 0 : 3;
      expect(costOf(before, counts).objectRowsWritten).toBe(objectRowsWritten);
      if (ack === "record") expect(costOf(before, counts).d1RoundTrips).toBe(1);
      await drained(run.runId);
      expect(costOf(before, counts)).toMatchObject({ d1RoundTrips: 1, objectRowsWritten });
      await expectRecorded(run.runId);
    });

    it("is answered, and so is the emit, once all is as durable as that says", async () => {
      const db = new GatedDatabase();
      faults.wrap = () => db;
      const run = await waitingRun(ack);
      const held = await hold(run, ack);
      const closed = gate();
      db.before = () => closed.pass();
      let isEmitted = false;
      const emitted = emit(run, ack).finally(() => (isEmitted = true));
      if (ack === "coordinator") {
        expect((await emitted).accepted).toBe(true);
        expect(await held.answer).toMatchObject(COMPLETED);
      } else {
        await expect.poll(() => closed.reached).toBeGreaterThan(0);
        await store().watchLease({ ...run, timeoutMs: 0 });
        expect([isEmitted, held.isSettled]).toEqual([false, false]);
      }
      expect(await recordedEvent(run.runId)).toBeNull();
      closed.open = true;
      expect((await emitted).accepted).toBe(true);
      expect(await held.answer).toMatchObject(COMPLETED);
      await drained(run.runId);
      await expectRecorded(run.runId);
    });

    it.each<["before" | "after"]>([["before"], ["after"]])(
      "is answered and recorded once, though D1 fails %s it has committed",
      async (when) => {
        const db = new FaultyDatabase(d1, clock);
        faults.wrap = () => db;
        const run = await waitingRun(ack);
        const { answer } = await hold(run, ack);
        let failures = 3;
        db.fault = ({ writes }) => (writes && failures-- > 0 ? when : "none");
        const stopTime = timeFlies(clock);
        expect((await emit(run, ack)).accepted).toBe(true);
        expect(await answer).toMatchObject(COMPLETED);
        // By its alarms, which are not waited for.
        for (let alarms = 0; alarms < 5; alarms += 1) await saved(run.runId);
        await drained(run.runId);
        stopTime();
        await expectRecorded(run.runId);
        await db.replayLate("oldest first");
        await db.replayLate("newest first");
        await expectRecorded(run.runId);
      },
    );

    const lost = ack === "record" ? wipe : wipeOnceRecorded;
    it.each<[string, (runId: string) => Promise<void>]>([
      ["reset", () => abortAllDurableObjects()],
      ["put to sleep", evict],
      ["reset, and its storage lost", lost],
    ])("stands when its object is %s after that", async (_what, disaster) => {
      const run = await waitingRun(ack);
      const { answer } = await hold(run, ack);
      const input = ending(run);
      await emit(run, ack);
      const first = await answer;
      expect(first).toMatchObject(COMPLETED);
      await disaster(run.runId);
      expect(await store(ack).waitForEvent(input)).toEqual(first);
      expect(await store(ack).loadStep(run.runId, 0)).toEqual(first?.step);
      await drained(run.runId);
      await expectRecorded(run.runId);
    });

    const reset: Disaster = ["reset", () => abortAllDurableObjects()];
    const emptied: Disaster = ["reset, and its storage lost", wipe];
    it.each<Disaster>([reset, emptied])(
      "ends when it is asked for again, its object having been %s before the event came",
      async (_what, disaster) => {
        const run = await waitingRun(ack);
        const { answer } = await hold(run, ack);
        await disaster(run.runId);
        expect((await emit(run, ack)).accepted).toBe(true);
        expect(await answer).toMatchObject(COMPLETED);
        await saved(run.runId);
        await drained(run.runId);
        await expectRecorded(run.runId);
      },
    );

    // Under "coordinator", what the object's storage alone has is lost with it.
    it.each<Disaster>(ack === "record" ? [reset, emptied] : [reset])(
      "ends once, its object being %s while the event comes",
      async (_what, disaster) => {
        const run = await waitingRun(ack);
        const requestId = newRequestId();
        const { answer } = await hold(run, ack);
        await Promise.all([emit(run, ack, "here", requestId), disaster(run.runId)]);
        expect((await emit(run, ack, "here", requestId)).accepted).toBe(true);
        expect(await answer).toMatchObject(COMPLETED);
        await saved(run.runId);
        await drained(run.runId);
        await expectRecorded(run.runId);
      },
    );

    it("brings its begin along, should that have been lost with its object's memory", async () => {
      const run = await claim(ack);
      await drained(run.runId);
      const client = store(ack);
      const facts = {
        fence: run.fence,
        kind: "event",
        waitFor: { kind: "event", key: "k" },
        timeoutMs: 60_000,
      } as const;
      await client.beginStep(aStep(run.runId, 0, facts));
      await wipe(run.runId);
      const waiting = client.waitForEvent(ending(run, { timeoutMs: 60_000 }));
      await client.loadRun(run.runId);
      await emit(run, ack);
      expect(await waiting).toMatchObject(COMPLETED);
      expect((await waiting)?.step?.deadlineAt).toBeDefined();
    });

    it("shares the chunks of a large payload with it, and can be read whoever lost what", async () => {
      const run = await waitingRun(ack);
      const { answer } = await hold(run, ack);
      const payload = "é🙂".repeat(400_000);
      await emit(run, ack, payload);
      const { payload: told, step } = (await answer) ?? {};
      expect(told === payload && step?.result === payload).toBe(true);
      await abortAllDurableObjects();
      expect((await store().loadStep(run.runId, 0))?.result === payload).toBe(true);
      await saved(run.runId);
      await drained(run.runId);
      const counted = "SELECT count(DISTINCT ref) AS n FROM durable_chunks WHERE run_id = ?1";
      expect(await env.DB.prepare(counted).bind(run.runId).first("n")).toBe(1);
      await wipe(run.runId);
      expect((await store().loadStep(run.runId, 0))?.result === payload).toBe(true);
      const again = await store(ack).waitForEvent(ending(run));
      expect(again?.payload === payload && again?.step?.result === payload).toBe(true);
    });

    it("is left to a caller whose object knows of no such thing", async () => {
      const run = await waitingRun(ack);
      const older = {
        getByName: (runId: string) => ({
          waitForEvent: (key: string, timeoutMs: number) => stubOf(runId).waitForEvent(key, timeoutMs),
        }),
      };
      await emit(run, ack);
      const answer = await new CoordinatedDurableRunStore(older, { ack }).waitForEvent(ending(run));
      expect(answer).toMatchObject({ payload: "here" });
      expect(answer).not.toHaveProperty("step");
      expect(await store(ack).loadStep(run.runId, 0)).toMatchObject({ status: "running" });
    });
  },
);

describe("of a waiter and an emitter with different policies", () => {
  it.each<[AckPolicy, AckPolicy]>([
    ["record", "coordinator"],
    ["coordinator", "record"],
  ])("a waiter under %s and an emitter under %s are each told by their own", async (waits, emits) => {
    const db = new GatedDatabase();
    faults.wrap = () => db;
    const run = await waitingRun("record");
    const held = await hold(run, waits);
    const closed = gate();
    db.before = () => closed.pass();
    let isEmitted = false;
    const emitted = emit(run, emits).finally(() => (isEmitted = true));
    await (waits === "coordinator" ? held.answer : emitted);
    expect([held.isSettled, isEmitted]).toEqual([waits === "coordinator", emits === "coordinator"]);
    closed.open = true;
    expect((await emitted).accepted).toBe(true);
    expect(await held.answer).toMatchObject(COMPLETED);
    await expectRecorded(run.runId);
  });
});

describe("while D1 is out of reach under ack: record", () => {
  it("both are told so, and both find it done when they ask again", async () => {
    const db = new FaultyDatabase(d1, clock);
    faults.wrap = () => db;
    faults.times = { recordDeadlineMs: RECORD_DEADLINE_MS };
    const run = await waitingRun("record");
    const once = { retry: { attempts: 1 } };
    const stub = stubOf(run.runId);
    const input = ending(run);
    const request = { op: "complete", runId: run.runId, begun: null, ...input.step } as const;
    const waiting = stub.waitForEvent("k", 60_000, undefined, { ack: "record", request });
    await store().loadRun(run.runId);
    db.fault = ({ writes }) => (writes ? "before" : "none");
    const client = new CoordinatedDurableRunStore(env.RUNS, { ack: "record", clock, ...once });
    const requestId = newRequestId();
    const emitted = refusalOf(() =>
      client.emitEvent({ runId: run.runId, key: "k", payload: "here", requestId }),
    );
    const stopTime = timeFlies(clock);
    expect(await emitted).toBe("store_unavailable");
    expect(await waiting).toMatchObject({ ok: false, error: { code: "store_unavailable" } });
    db.fault = () => "none";
    expect((await emit(run, "record", "here", requestId)).accepted).toBe(true);
    expect(await store().waitForEvent(input)).toMatchObject(COMPLETED);
    stopTime();
    await expectRecorded(run.runId);
  });
});

describe("of a run that another store has taken over, past the object", () => {
  it("the event stands, and the step is not its former holder's to end", async () => {
    const run = await waitingRun("record");
    const held = await hold(run, "record");
    clock.advance(30_001);
    const elsewhere = new D1DurableRunStore(env.DB, { clock });
    const { fence = 0 } = await elsewhere.startOrResume({ ...aRun("worker-2"), runId: run.runId });
    expect((await emit(run, "record")).accepted).toBe(true);
    expect(await refusalOf(() => held.answer)).toBe("lease_lost");
    expect(await recordedStep(run.runId)).toMatchObject({ status: "running" });
    expect(await recordedEvent(run.runId)).toMatchObject({ payload: '"here"' });
    expect(await store().loadStep(run.runId, 0)).toMatchObject({ status: "running" });
    // Whoever holds the run now ends it.
    await begin({ ...run, fence });
    const step = { stepIndex: 0, fence, attempt: 2 };
    expect(await store().waitForEvent({ ...ending(run), step })).toMatchObject({
      step: { status: "completed" },
    });
  });
});
