/** What is the coordinator's own: gathering, rebuilding, the alarm, retention, resets under load. */
import { abortAllDurableObjects, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { newRunId } from "../../src/identity.ts";
import { runDurable } from "../../src/runner/run-durable.ts";
import { CoordinatedDurableRunStore } from "../../src/stores/coordinated/store.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { TestClock } from "../../src/testing/clock.ts";
import { FaultyDatabase } from "../../src/testing/faulty-database.ts";
import { aRun, aStep, MANIFEST, refusalOf } from "../../src/testing/harness.ts";
import { armed, claim, recordedRun, recordedStep, saved, store, woken } from "./coordinator-world.ts";
import { d1 } from "./d1.ts";
import { drained, evict, wipe } from "./disasters.ts";
import { faults, resetFaults } from "./faults.ts";

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

async function tables(runId: string): Promise<number> {
  const count = "SELECT count(*) AS n FROM sqlite_master WHERE name LIKE 'durable_%'";
  return runInDurableObject(env.RUNS.getByName(runId), (_o, state) =>
    Number(state.storage.sql.exec(count).one()["n"]),
  );
}

describe("recording", () => {
  it("costs one D1 round trip a step under ack: record (R12)", async () => {
    const { runId, fence } = await claim();
    const before = db.batches;
    for (let i = 0; i < 20; i += 1) {
      await store().beginStep(aStep(runId, i, { fence }));
      await store().completeStep({ runId, stepIndex: i, fence, result: i });
    }
    // A begin that lies longer than the gathering time is recorded by itself; on a slow machine some do.
    expect(db.batches - before).toBeGreaterThanOrEqual(20);
    expect(db.batches - before).toBeLessThan(40);
    expect(await recordedStep(runId, 19)).toMatchObject({ status: "completed", result: "19" });
  });

  it("brings what accumulates during one D1 call along in the next (R12)", async () => {
    const { runId, fence } = await claim();
    const positions = Array.from({ length: 50 }, (_, i) => i);
    await Promise.all(positions.map((i) => store().beginStep(aStep(runId, i, { fence }))));
    const before = db.batches;
    await Promise.all(positions.map((i) => store().completeStep({ runId, stepIndex: i, fence, result: i })));
    expect(db.batches - before).toBeLessThan(25);
    expect(await recordedStep(runId, 49)).toMatchObject({ status: "completed" });
  });

  it("has acknowledged nothing under ack: record that D1 does not hold (R14)", async () => {
    const { runId, fence } = await claim();
    expect(await recordedRun(runId)).toMatchObject({ status: "running", fence: 1 });
    await store().beginStep(aStep(runId, 0, { fence }));
    await store().completeStep({ runId, stepIndex: 0, fence, result: "r" });
    expect(await recordedStep(runId)).toMatchObject({ status: "completed", result: '"r"' });
    await store().emitEvent({ runId, key: "k", payload: 1 });
    expect(
      await env.DB.prepare("SELECT payload FROM durable_events WHERE run_id = ?1").bind(runId).first(),
    ).toEqual({
      payload: "1",
    });
    await store().endRun({ runId, workerId: "worker-1", fence, status: "completed", result: null });
    expect(await recordedRun(runId)).toMatchObject({ status: "completed", result: "null" });
  });

  it("follows under ack: coordinator by itself, with no further call", async () => {
    const { runId, fence } = await claim("coordinator");
    await store("coordinator").beginStep(aStep(runId, 0, { fence }));
    await store("coordinator").completeStep({ runId, stepIndex: 0, fence, result: "r" });
    await expect.poll(() => recordedStep(runId)).toMatchObject({ status: "completed", result: '"r"' });
  });

  it("makes a long step visible as running in D1 before it completes (R16)", async () => {
    const { runId, fence } = await claim();
    await store().beginStep(aStep(runId, 0, { fence }));
    await expect.poll(() => recordedStep(runId)).toMatchObject({ status: "running", attempts: 1 });
  });

  it("sends no heartbeat to D1", async () => {
    const { runId, fence } = await claim();
    await drained(runId);
    const before = db.batches;
    for (let i = 0; i < 5; i += 1)
      expect((await store().renewLease({ runId, workerId: "worker-1", fence })).ok).toBe(true);
    expect(db.batches).toBe(before);
  });

  it("keeps tags, task, input and scenario for history (R28)", async () => {
    const { runId } = await claim();
    expect(await recordedRun(runId)).toMatchObject({
      project_id: "conformance",
      scenario_id: "scenario-1",
      task: JSON.stringify(MANIFEST.task),
      input: JSON.stringify(MANIFEST.input),
      tags: JSON.stringify(MANIFEST.tags),
    });
    const tag = await env.DB.prepare("SELECT key, value FROM durable_tags WHERE run_id = ?1")
      .bind(runId)
      .first();
    expect(tag).toEqual({ key: "suite", value: "conformance" });
  });
});

describe("losing the object", () => {
  it("keeps a result whose begin was lost with the object's memory (R16)", async () => {
    const { runId, fence } = await claim();
    const worker = store();
    await worker.beginStep(aStep(runId, 0, { fence, kind: "llm", inputHash: "abc" }));
    await abortAllDurableObjects();
    const done = await worker.completeStep({ runId, stepIndex: 0, fence, attempt: 1, result: "paid for" });
    expect(done).toMatchObject({
      status: "completed",
      attempts: 1,
      kind: "llm",
      inputHash: "abc",
      result: "paid for",
    });
  });

  it("rebuilds from D1 after its storage is wiped, and goes on under the same lease (R17)", async () => {
    const { runId, fence } = await claim();
    const worker = store();
    await worker.beginStep(aStep(runId, 0, { fence }));
    await worker.completeStep({ runId, stepIndex: 0, fence, result: "kept" });
    await worker.emitEvent({ runId, key: "kept", payload: "too" });
    await wipe(runId);
    expect(await worker.loadStep(runId, 0)).toMatchObject({ status: "completed", result: "kept" });
    expect(await worker.loadEvent(runId, "kept")).toMatchObject({ payload: "too" });
    expect((await worker.renewLease({ runId, workerId: "worker-1", fence })).ok).toBe(true);
    await worker.beginStep(aStep(runId, 1, { fence }));
    await worker.completeStep({ runId, stepIndex: 1, fence, result: "more" });
    expect(await refusalOf(() => worker.startOrResume({ ...aRun("worker-2"), runId }))).toBe("lease_held");
  });

  it("reads large bodies from D1 after its storage is wiped (R22)", async () => {
    const { runId, fence } = await claim();
    const result = "🙂".repeat(900_000);
    await store().beginStep(aStep(runId, 0, { fence }));
    await store().completeStep({ runId, stepIndex: 0, fence, result });
    await wipe(runId);
    expect((await store().loadStep(runId, 0))?.result === result).toBe(true);
    const { completedSteps } = await store().startOrResume({ ...aRun(), runId });
    expect(completedSteps[0]?.result === result).toBe(true);
  });

  it("yields to D1 when another store claimed the run there (R10, R17)", async () => {
    const { runId, fence } = await claim();
    await store().beginStep(aStep(runId, 0, { fence }));
    const elsewhere = new D1DurableRunStore(env.DB, { clock });
    clock.advance(30_001);
    const taken = await elsewhere.startOrResume({ ...aRun("worker-2"), runId });
    expect(taken.fence).toBe(2);
    const late = { runId, stepIndex: 0, fence, result: "late" };
    expect(await refusalOf(() => store().completeStep(late))).toBe("lease_lost");
    expect((await recordedStep(runId))?.["status"]).not.toBe("completed");
    expect(await store().loadRun(runId)).toMatchObject({ fence: 2, leaseHolderId: "worker-2" });
  });

  it("yields to D1 when its storage was restored to an older state (R17)", async () => {
    const { runId, fence } = await claim();
    await store().beginStep(aStep(runId, 0, { fence }));
    await store().completeStep({ runId, stepIndex: 0, fence, result: "recorded" });
    await saved(runId);
    await runInDurableObject(env.RUNS.getByName(runId), (_object, state) => {
      state.storage.sql.exec("DELETE FROM durable_rows WHERE kind = 'step'");
      state.storage.sql.exec("DELETE FROM durable_rows WHERE id = 'recorded_revision'");
    });
    await evict(runId);
    const { completedSteps } = await store().startOrResume({ ...aRun(), runId });
    expect(completedSteps).toMatchObject([{ result: "recorded" }]);
  });

  it("answers store_unavailable, not wrongly, when it is empty and D1 is down", async () => {
    const { runId, fence } = await claim();
    await wipe(runId);
    db.fault = () => "before";
    const impatient = new CoordinatedDurableRunStore(env.RUNS);
    expect(await refusalOf(() => impatient.beginStep(aStep(runId, 0, { fence })))).toBe("store_unavailable");
    expect(await refusalOf(() => impatient.loadStep(runId, 0))).toBe("store_unavailable");
    db.fault = () => "none";
    expect(await impatient.beginStep(aStep(runId, 0, { fence }))).toMatchObject({ attempts: 1 });
  });

  it("leaves nothing behind for a run that was only read", async () => {
    const runId = newRunId();
    expect(await store().loadRun(runId)).toBeUndefined();
    expect(await refusalOf(() => store().beginStep(aStep(runId, 0)))).toBe("run_not_found");
    expect(await tables(runId)).toBe(0);
  });

  it("answers callers through resets: runs under load end right while objects are aborted (R20)", async () => {
    const ran = new Map<string, number>();
    const acknowledged = new Set<string>();
    const runs = Array.from({ length: 8 }, async (_, n) => {
      const runId = newRunId();
      return runDurable({
        runId,
        store: store(n % 2 === 0 ? "record" : "coordinator"),
        manifest: MANIFEST,
        taskFn: async (ctx) => {
          for (let i = 0; i < 12; i += 1) {
            const name = `${n}/${i}`;
            await ctx.step(`step-${i}`, async () => {
              expect(acknowledged.has(name), "an acknowledged step ran again").toBe(false);
              ran.set(name, (ran.get(name) ?? 0) + 1);
              return i;
            });
            acknowledged.add(name);
          }
          return n;
        },
      });
    });
    let finished = false;
    const chaos = (async () => {
      for (let i = 0; i < 12 && !finished; i += 1) {
        await new Promise((resolve) => setTimeout(resolve, 15));
        await abortAllDurableObjects();
      }
    })();
    const results = await Promise.all(runs);
    finished = true;
    await chaos;
    expect(results.map(({ result }) => result)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    for (const { record } of results)
      expect(record).toMatchObject({ status: "completed", stepCount: 12, takeovers: 0 });
    expect(ran.size).toBe(96);
  }, 60_000);
});

describe("the alarm (R18)", () => {
  it("notes once, in D1 too, that a lease has lapsed", async () => {
    const { runId, fence } = await claim();
    await saved(runId);
    await store().renewLease({ runId, workerId: "worker-1", fence, leaseMs: 60_000 });
    expect(await recordedRun(runId)).toMatchObject({ lease_expires_at: expect.any(Number) as number });
    await armed(runId);
    clock.advance(60_001);
    await woken(runId);
    expect(await recordedRun(runId)).toMatchObject({ status: "running", lease_expires_at: null });
    expect((await store().loadRun(runId))?.leaseHolderId).toBeUndefined();
    const before = db.batches;
    await woken(runId);
    expect(db.batches).toBe(before);
    expect((await store().startOrResume({ ...aRun("worker-2"), runId })).run).toMatchObject({ takeovers: 1 });
  });

  it("re-arms itself however often D1 fails, and brings everything there in the end", async () => {
    const { runId, fence } = await claim("coordinator");
    await drained(runId);
    db.fault = ({ writes }) => (writes ? "before" : "none");
    await store("coordinator").beginStep(aStep(runId, 0, { fence }));
    await store("coordinator").completeStep({ runId, stepIndex: 0, fence, result: "kept" });
    await armed(runId);
    for (let i = 0; i < 10; i += 1) {
      await woken(runId);
      await armed(runId);
    }
    expect((await recordedStep(runId))?.["status"]).not.toBe("completed");
    db.fault = () => "none";
    await woken(runId);
    expect(await recordedStep(runId)).toMatchObject({ status: "completed", result: '"kept"' });
  });

  it("brings what an aborted object had not recorded to D1 after it is back", async () => {
    const { runId, fence } = await claim("coordinator");
    await drained(runId);
    db.fault = ({ writes }) => (writes ? "before" : "none");
    await store("coordinator").beginStep(aStep(runId, 0, { fence }));
    await store("coordinator").completeStep({ runId, stepIndex: 0, fence, result: "kept" });
    await armed(runId);
    await abortAllDurableObjects();
    db.fault = () => "none";
    await woken(runId);
    expect(await recordedStep(runId)).toMatchObject({ status: "completed", result: '"kept"' });
  });
});

describe("retention (R19)", () => {
  const ended = async (status: "completed" | "failed"): Promise<string> => {
    const { runId, fence } = await claim();
    await store().beginStep(aStep(runId, 0, { fence }));
    await store().completeStep({ runId, stepIndex: 0, fence, result: "kept" });
    await store().endRun({
      runId,
      workerId: "worker-1",
      fence,
      status,
      ...(status === "completed" && { result: 7 }),
    });
    await saved(runId);
    return runId;
  };

  it("deletes the object's storage once the run has ended, D1 holds it, and the grace period is over", async () => {
    const runId = await ended("completed");
    await woken(runId);
    expect(await tables(runId)).toBeGreaterThan(0);
    clock.advance(3_600_001);
    await woken(runId);
    expect(await tables(runId)).toBe(0);
    expect(await store().loadRun(runId)).toMatchObject({ status: "completed", result: 7, stepCount: 1 });
    expect(await store().loadStep(runId, 0)).toMatchObject({ result: "kept" });
  });

  it("keeps the storage while D1 lacks anything", async () => {
    const { runId, fence } = await claim("coordinator");
    await drained(runId);
    db.fault = ({ writes }) => (writes ? "before" : "none");
    await store("coordinator").endRun({ runId, workerId: "worker-1", fence, status: "completed", result: 7 });
    clock.advance(3_600_001);
    await woken(runId);
    expect(await tables(runId)).toBeGreaterThan(0);
    db.fault = () => "none";
    await woken(runId);
    expect(await tables(runId)).toBe(0);
    expect(await recordedRun(runId)).toMatchObject({ status: "completed", result: "7" });
  });

  it("lets a failed run go on after its object is gone, under a higher fence", async () => {
    const runId = await ended("failed");
    clock.advance(3_600_001);
    await woken(runId);
    expect(await tables(runId)).toBe(0);
    const { fence, completedSteps } = await store().startOrResume({ ...aRun("worker-2"), runId });
    expect(fence).toBe(2);
    expect(completedSteps).toMatchObject([{ result: "kept" }]);
  });

  it("keeps events that came before their run, through the loss of the object", async () => {
    const input = aRun();
    await store().emitEvent({ runId: input.runId, key: "early", payload: "bird" });
    clock.advance(3_600_001);
    await woken(input.runId);
    expect(await tables(input.runId)).toBe(0);
    await store().startOrResume(input);
    expect(await store().loadEvent(input.runId, "early")).toMatchObject({ payload: "bird" });
    expect((await store().emitEvent({ runId: input.runId, key: "early", payload: 2 })).accepted).toBe(false);
  });
});

describe("the wire (R20, R21)", () => {
  it("refuses a version that it does not know, and a run that is not its own, in an envelope", async () => {
    const stub = env.RUNS.getByName(newRunId());
    const request = {
      op: "renew",
      runId: "another",
      requestId: "r",
      workerId: "w",
      leaseMs: 1,
      fence: null,
    } as const;
    const unknown = { v: 2, ack: "record", request } as never;
    expect(await stub.submit(unknown)).toMatchObject({ ok: false, error: { code: "invalid_input" } });
    const stray = { v: 1, ack: "record", request } as const;
    expect(await stub.submit(stray)).toMatchObject({ ok: false, error: { code: "invalid_input" } });
  });

  it("offers its own methods to callers, and nothing that is private", async () => {
    const stub = env.RUNS.getByName(newRunId()) as unknown as Record<string, () => Promise<unknown>>;
    for (const name of ["arm", "#arm", "run", "#run", "cache"]) {
      await expect(async () => stub[name]?.()).rejects.toThrow(/does not implement/);
    }
  });
});
