/**
 * Defects that engines of this shape are known to have had, and that this one must not have: those of the stores, over
 * memory, D1 and the coordinator. A test each, named for the defect's absence.
 */
import { env } from "cloudflare:workers";
import { afterEach, describe, expect, it } from "vitest";
import type { DurableRunStore } from "../../src/contract/types.ts";
import { newRunId } from "../../src/identity.ts";
import { runDurable } from "../../src/runner/run-durable.ts";
import { CoordinatedDurableRunStore } from "../../src/stores/coordinated/store.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { InMemoryDurableRunStore } from "../../src/stores/memory.ts";
import { TestClock } from "../../src/testing/clock.ts";
import { aRun, aStep, MANIFEST, refusalOf } from "../../src/testing/harness.ts";
import { faults, resetFaults } from "./faults.ts";

const homes: Record<string, (clock: TestClock) => DurableRunStore> = {
  memory: (clock) => {
    const store = new InMemoryDurableRunStore();
    store.now = () => clock.now();
    return store;
  },
  D1: (clock) => new D1DurableRunStore(env.DB, { clock }),
  "the coordinator": (clock) => {
    faults.clock = clock;
    return new CoordinatedDurableRunStore(env.RUNS);
  },
};

afterEach(resetFaults);

describe.each(Object.entries(homes))("over %s", (_name, open) => {
  async function takenOver(): Promise<{ store: DurableRunStore; runId: string; old: number; fence: number }> {
    const clock = new TestClock();
    const store = open(clock);
    const first = aRun();
    const { fence: old = 0 } = await store.startOrResume(first);
    await store.beginStep(aStep(first.runId, 0, { fence: old }));
    clock.advance(first.leaseMs + 1);
    const { fence = 0 } = await store.startOrResume({ ...first, workerId: "worker-2" });
    return { store, runId: first.runId, old, fence };
  }

  it("a zombie's step write does not flip a completed row back to running", async () => {
    const { store, runId, old, fence } = await takenOver();
    await store.beginStep(aStep(runId, 0, { fence }));
    const done = await store.completeStep({ runId, stepIndex: 0, fence, result: "kept" });
    expect(await refusalOf(() => store.beginStep(aStep(runId, 0, { fence: old })))).toBe("lease_lost");
    // A zombie of a plain runner knows no fence; it is answered the record.
    expect(await store.beginStep(aStep(runId, 0))).toEqual(done);
    expect(await store.loadStep(runId, 0)).toEqual(done);
  });

  it("a zombie does not end the run, whether it knows fences or not", async () => {
    const { store, runId, old } = await takenOver();
    for (const known of [{ fence: old }, {}]) {
      const end = { runId, workerId: "worker-1", status: "failed", ...known } as const;
      expect(await refusalOf(() => store.endRun(end))).toBe("lease_lost");
    }
    expect(await store.loadRun?.(runId)).toMatchObject({ status: "running", leaseHolderId: "worker-2" });
  });

  it("the worker id is not taken for a fence", async () => {
    const store = open(new TestClock());
    const input = aRun("same-id");
    const { fence: first = 0 } = await store.startOrResume(input);
    const { fence: second = 0 } = await store.startOrResume(input);
    expect(second).toBe(first + 1);
    const end = { runId: input.runId, workerId: "same-id", status: "completed", fence: first } as const;
    expect(await refusalOf(() => store.endRun(end))).toBe("lease_lost");
    expect(await store.renewLease({ runId: input.runId, workerId: "same-id", fence: first })).toEqual({
      ok: false,
    });
  });

  it("a renewal extends neither somebody else's lease nor that of a finished run", async () => {
    const { store, runId, fence } = await takenOver();
    const before = (await store.loadRun?.(runId))?.leaseExpiresAt;
    expect(await store.renewLease({ runId, workerId: "worker-1", leaseMs: 60_000 })).toEqual({ ok: false });
    expect((await store.loadRun?.(runId))?.leaseExpiresAt).toBe(before);
    await store.endRun({ runId, workerId: "worker-2", fence, status: "completed" });
    expect(await store.renewLease({ runId, workerId: "worker-2", fence })).toEqual({ ok: false });
    expect((await store.loadRun?.(runId))?.leaseExpiresAt).toBeUndefined();
  });

  it("the loser of a start race gets lease_held, not a raw UNIQUE error", async () => {
    const store = open(new TestClock());
    const { runId } = aRun();
    const claims = Array.from({ length: 8 }, (_, i) =>
      refusalOf(() => store.startOrResume({ ...aRun(`w-${i}`), runId })),
    );
    const codes = (await Promise.all(claims)).toSorted();
    expect(codes).toEqual(["accepted", ...Array.from({ length: 7 }, () => "lease_held")]);
  });

  it("a failed run that is entered again does not stay failed while it runs", async () => {
    const store = open(new TestClock());
    const runId = newRunId();
    const seen: unknown[] = [];
    const attempt = (fail: boolean) =>
      runDurable({
        runId,
        store,
        manifest: MANIFEST,
        taskFn: async () => {
          seen.push((await store.loadRun?.(runId))?.status);
          if (fail) throw new Error("once");
        },
      });
    expect(await refusalOf(() => attempt(true))).toMatch(/once/);
    expect((await store.loadRun?.(runId))?.status).toBe("failed");
    await attempt(false);
    expect(seen).toEqual(["running", "running"]);
  });

  it("an event that comes before its run is kept, as by every store", async () => {
    const store = open(new TestClock());
    const input = aRun();
    expect(await store.emitEvent({ runId: input.runId, key: "early", payload: 1 })).toMatchObject({
      accepted: true,
    });
    await store.startOrResume(input);
    expect(await store.loadEvent(input.runId, "early")).toMatchObject({ payload: 1 });
  });

  it("what is stored is what JSON gives back, as by every store", async () => {
    const store = open(new TestClock());
    const { result } = await runDurable({
      runId: newRunId(),
      store,
      manifest: MANIFEST,
      taskFn: (ctx) => ctx.step("dates", async () => ({ at: new Date(0), gone: undefined, zero: -0 })),
    });
    expect(result).toStrictEqual({ at: "1970-01-01T00:00:00.000Z", zero: 0 });
  });
});

it.each(["D1", "the coordinator"] as const)("over %s, results, inputs and tags are stored", async (home) => {
  const store = homes[home]?.(new TestClock());
  if (!store) throw new Error("no such home");
  const runId = newRunId();
  await runDurable({
    runId,
    store,
    manifest: MANIFEST,
    taskFn: (ctx) => ctx.step("one", async () => ({ a: 1 })),
  });
  const run = await env.DB.prepare("SELECT input, task, tags, result FROM durable_runs WHERE run_id = ?1")
    .bind(runId)
    .first();
  expect(run).toEqual({
    input: JSON.stringify(MANIFEST.input),
    task: JSON.stringify(MANIFEST.task),
    tags: JSON.stringify(MANIFEST.tags),
    result: '{"a":1}',
  });
  const step = await env.DB.prepare("SELECT result FROM durable_steps WHERE run_id = ?1").bind(runId).first();
  expect(step).toEqual({ result: '{"a":1}' });
  const tags = await env.DB.prepare("SELECT key, value FROM durable_tags WHERE run_id = ?1")
    .bind(runId)
    .all();
  expect(tags.results).toEqual([{ key: "suite", value: "conformance" }]);
});
