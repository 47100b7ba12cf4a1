/** D1 down, stalled, forgetful or late: the same run, over D1 alone and over the coordinator with either policy (R15). */
import { env } from "cloudflare:workers";
import { afterEach, describe, expect, it } from "vitest";
import type { DurableRunStore } from "../../src/contract/types.ts";
import { newRunId } from "../../src/identity.ts";
import { runDurable } from "../../src/runner/run-durable.ts";
import { CoordinatedDurableRunStore } from "../../src/stores/coordinated/store.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { TestClock } from "../../src/testing/clock.ts";
import type { BatchInfo, DatabaseFault } from "../../src/testing/faulty-database.ts";
import { FaultyDatabase } from "../../src/testing/faulty-database.ts";
import { MANIFEST } from "../../src/testing/harness.ts";
import { armed, woken } from "./coordinator-world.ts";
import { d1 } from "./d1.ts";
import { drained } from "./disasters.ts";
import { faults, resetFaults } from "./faults.ts";
import { timeFlies } from "./passing-time.ts";

const STEPS = 4;

interface Home {
  open(): DurableRunStore;
  /** D1 holds what the store has acknowledged. */
  settle(runId: string): Promise<void>;
}

const homes: Record<string, (db: FaultyDatabase, clock: TestClock) => Home> = {
  D1DurableRunStore: (db, clock) => ({
    open: () => new D1DurableRunStore(db, { clock }),
    settle: async () => {},
  }),
  "the coordinator, ack: record": (db, clock) => coordinated("record", db, clock),
  "the coordinator, ack: coordinator": (db, clock) => coordinated("coordinator", db, clock),
};

function coordinated(ack: "record" | "coordinator", db: FaultyDatabase, clock: TestClock): Home {
  faults.clock = clock;
  faults.wrap = () => db;
  return { open: () => new CoordinatedDurableRunStore(env.RUNS, { ack }), settle: drained };
}

describe.each(Object.entries(homes))("over %s", (_name, makeHome) => {
  afterEach(resetFaults);

  /** Runs four steps while batches fail as told, and checks that each ran once and that D1 has it all. */
  async function survives(
    fault: (batch: BatchInfo) => DatabaseFault,
    hurry = false,
  ): Promise<FaultyDatabase> {
    const clock = new TestClock();
    const db = new FaultyDatabase(d1, clock);
    db.fault = fault;
    const home = makeHome(db, clock);
    const runId = newRunId();
    const ran: number[] = [];
    const stopTime = hurry ? timeFlies(clock, 400) : () => {};
    try {
      const { result, record } = await runDurable({
        runId,
        store: home.open(),
        manifest: MANIFEST,
        // Long beside the real time that a hurried heartbeat takes on a busy machine.
        leaseMs: 600_000,
        clock,
        taskFn: async (ctx) => {
          for (let i = 0; i < STEPS; i += 1) await ctx.step(`step-${i}`, async () => (ran.push(i), { i }));
          return "done";
        },
      });
      await home.settle(runId);
      await db.settled();
      expect(result).toBe("done");
      expect(record).toMatchObject({ status: "completed", takeovers: 0, stepCount: STEPS });
    } finally {
      stopTime();
    }
    expect(ran).toEqual([0, 1, 2, 3]);
    const kept = await rows(runId);
    expect(kept.run).toMatchObject({ status: "completed", fence: 1, result: '"done"' });
    expect(kept.steps).toMatchObject(
      [0, 1, 2, 3].map((i) => ({ step_index: i, status: "completed", attempts: 1 })),
    );
    expect(kept.steps.map((step) => step["result"])).toEqual([0, 1, 2, 3].map((i) => `{"i":${i}}`));
    return db;
  }

  it.each(["before", "after"] as const)(
    "a run survives each D1 call failing once %s its commit",
    async (when) => {
      const { batches } = await survives(() => "none");
      let failed = 0;
      for (let number = 1; number <= batches; number += 1) {
        const db = await survives((batch) => (batch.number === number ? when : "none"));
        failed += db.faults;
      }
      // Group commit may need fewer calls than the run without faults did.
      expect(failed).toBeGreaterThan(batches / 2);
    },
  );

  it.each(["before", "after"] as const)(
    "a run survives two of five D1 calls failing %s their commit",
    async (when) => {
      let failed = 0;
      for (let seed = 1; seed <= 5; seed += 1) {
        const random = seededRandom(seed);
        const db = await survives(() => (random() < 0.4 ? when : "none"), true);
        failed += db.faults;
      }
      expect(failed).toBeGreaterThan(5);
    },
  );

  it("a run survives a D1 call that stalls for 60 s, whichever it is, and its late commit", async () => {
    const { batches } = await survives(() => "none");
    for (let number = 1; number <= batches; number += 1) {
      await survives((batch) => (batch.number === number ? "stall" : "none"), true);
    }
  });

  it("late duplicates of every old batch, in either order, change nothing", async () => {
    const clock = new TestClock();
    const db = new FaultyDatabase(d1, clock);
    const home = makeHome(db, clock);
    const runId = newRunId();
    const store = home.open();
    await store.emitEvent({ runId, key: "early", payload: 1 });
    const attempt = (workerId: string, fail: boolean) =>
      runDurable({
        runId,
        store,
        workerId,
        manifest: MANIFEST,
        clock,
        taskFn: async (ctx) => {
          await ctx.step("first", async () => 1);
          await ctx.step("second", async () => {
            if (fail) throw new Error("the first attempt fails here");
            return 2;
          });
          return ctx.awaitEvent("early");
        },
      });
    await expect(() => attempt("worker-1", true)).rejects.toThrow("the first attempt fails here");
    await home.settle(runId);
    await attempt("worker-2", false);
    await home.settle(runId);
    const before = await rows(runId);
    expect(before.run).toMatchObject({ status: "completed", fence: 2 });
    await db.replayLate("oldest first");
    expect(await rows(runId)).toEqual(before);
    await db.replayLate("newest first");
    expect(await rows(runId)).toEqual(before);
  });
});

describe("with D1 down after the claim", () => {
  afterEach(resetFaults);

  it("ack: coordinator goes on, shows its lag, and D1 catches up when it is back", async () => {
    const clock = new TestClock();
    const db = new FaultyDatabase(d1, clock);
    const home = coordinated("coordinator", db, clock);
    const runId = newRunId();
    let claimedAndRecorded = false;
    db.fault = ({ writes }) => (writes && claimedAndRecorded ? "before" : "none");
    const { record } = await runDurable({
      runId,
      store: home.open(),
      manifest: MANIFEST,
      taskFn: async (ctx) => {
        await drained(runId);
        claimedAndRecorded = true;
        return ctx.step("only", async () => "kept in the object");
      },
    });
    expect(record.status).toBe("completed");
    expect(await new CoordinatedDurableRunStore(env.RUNS).lag(runId)).toBe(2);
    expect((await rows(runId)).run).toMatchObject({ status: "running" });
    db.fault = () => "none";
    clock.advance(60_000);
    await armed(runId);
    await woken(runId);
    await drained(runId);
    const kept = await rows(runId);
    expect(kept.run).toMatchObject({ status: "completed" });
    expect(kept.steps).toMatchObject([{ status: "completed", result: '"kept in the object"' }]);
  });

  it("ack: record refuses with a retryable error after the deadline, and the same call succeeds later", async () => {
    const clock = new TestClock();
    const db = new FaultyDatabase(d1, clock);
    const store = coordinated("record", db, clock).open();
    const runId = newRunId();
    const { fence = 0 } = await store.startOrResume({ runId, workerId: "w", manifest: MANIFEST });
    await store.beginStep({ runId, stepIndex: 0, intent: "only", kind: "logic", inputHash: "", fence });
    db.fault = ({ writes }) => (writes ? "before" : "none");
    const complete = { runId, stepIndex: 0, fence, attempt: 1, result: "paid for", requestId: newRunId() };
    const stopTime = timeFlies(clock, 400);
    const error: unknown = await store.completeStep(complete).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "store_unavailable", retryable: true });
    expect((await rows(runId)).steps.filter((step) => step["status"] === "completed")).toEqual([]);
    // Heartbeats never wait for D1.
    expect((await store.renewLease({ runId, workerId: "w", fence })).ok).toBe(true);
    db.fault = () => "none";
    expect(await store.completeStep(complete)).toMatchObject({
      status: "completed",
      result: "paid for",
      attempts: 1,
    });
    stopTime();
    expect((await rows(runId)).steps).toMatchObject([{ status: "completed", result: '"paid for"' }]);
  });
});

/** Numbers from 0 to 1, the same for each seed. "mulberry32", Tommy Ettinger. */
function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

async function rows(runId: string): Promise<{
  run: Record<string, unknown> | undefined;
  steps: Record<string, unknown>[];
  events: Record<string, unknown>[];
}> {
  const read = async (query: string) =>
    (await env.DB.prepare(query).bind(runId).all<Record<string, unknown>>()).results;
  return {
    run: (await read("SELECT * FROM durable_runs WHERE run_id = ?1"))[0],
    steps: await read("SELECT * FROM durable_steps WHERE run_id = ?1 ORDER BY step_index"),
    events: await read("SELECT * FROM durable_events WHERE run_id = ?1 ORDER BY key"),
  };
}
