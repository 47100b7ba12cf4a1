/** A runner that was written to the plain declaration, over our store: no fence, no request id, only a worker id. */
import { describe, expect, test } from "vitest";
import { runDurable } from "../src/runner/run-durable.ts";
import { InMemoryDurableRunStore } from "../src/stores/memory.ts";
import { ManualClock } from "./support/manual-clock.ts";
import type { DurableContext } from "./support/plain-declarations.ts";
import { runPlain } from "./support/plain-runner.ts";
import { counted, LEASE_MS, MANIFEST, never, rejection, RUN_ID, until } from "./support/world.ts";

function plainWorld() {
  const clock = new ManualClock();
  const store = new InMemoryDurableRunStore();
  store.now = () => clock.now();
  const run = <T>(workerId: string, taskFn: (ctx: DurableContext) => Promise<T>) =>
    runPlain({ runId: RUN_ID, manifest: MANIFEST, store, workerId, leaseMs: LEASE_MS, taskFn });
  return { clock, store, run };
}

test("a plain runner completes a run over our store", async () => {
  const { store, run } = plainWorld();
  const { result, record } = await run("worker-1", async (ctx) => {
    const { accepted } = await ctx.emitEvent("k", { n: 1 });
    return [accepted, await ctx.awaitEvent("k"), await ctx.step("add", async () => 2, { kind: "tool" })];
  });
  expect(result).toEqual([true, { n: 1 }, 2]);
  expect(record).toMatchObject({ status: "completed", stepCount: 1 });
  expect(await store.loadStep(RUN_ID, 0)).toMatchObject({ kind: "tool", status: "completed", attempts: 1 });
});

test("a plain runner resumes after a crash, and repeats no recorded step", async () => {
  const { clock, run } = plainWorld();
  const paid = counted(() => "paid");
  const last = counted((call) => (call === 1 ? never() : "end"));
  const task = async (ctx: DurableContext) => [
    await ctx.step("pay", paid),
    await ctx.uuid(),
    await ctx.step("last", last),
  ];
  run("worker-1", task).catch(() => {});
  await until(() => last.calls === 1);
  expect(await rejection(run("worker-2", task))).toMatchObject({ code: "lease_held" });
  clock.advance(LEASE_MS);
  const { result, record } = await run("worker-2", task);
  expect(result).toEqual(["paid", expect.any(String), "end"]);
  expect([paid.calls, last.calls]).toEqual([1, 2]);
  expect(record).toMatchObject({ status: "completed", takeovers: 1, stepCount: 3 });
});

test("a plain runner that fails leaves the run for the next", async () => {
  const { store, run } = plainWorld();
  const flaky = counted((call) => (call === 1 ? Promise.reject(new Error("flaky")) : "fine"));
  const task = (ctx: DurableContext) => ctx.step("flaky", flaky);
  expect((await rejection(run("worker-1", task))).message).toBe("flaky");
  expect(store._inspect(RUN_ID)?.status).toBe("failed");
  expect((await run("worker-2", task)).result).toBe("fine");
});

describe("a plain zombie, told by its worker id,", () => {
  async function takenOver() {
    const world = plainWorld();
    const { clock, store } = world;
    const claim = { runId: RUN_ID, manifest: MANIFEST, leaseMs: LEASE_MS };
    await store.startOrResume({ ...claim, workerId: "zombie" });
    clock.advance(LEASE_MS);
    await store.startOrResume({ ...claim, workerId: "heir" });
    return { ...world, before: store._inspect(RUN_ID) };
  }

  test("cannot renew the lease", async () => {
    const { store, before } = await takenOver();
    expect(await store.renewLease({ runId: RUN_ID, workerId: "zombie" })).toEqual({ ok: false });
    expect(store._inspect(RUN_ID)).toEqual(before);
  });

  test.each(["completed", "failed"] as const)("cannot end the run as %s", async (status) => {
    const { store, before } = await takenOver();
    expect(await rejection(store.endRun({ runId: RUN_ID, workerId: "zombie", status }))).toMatchObject({
      code: "lease_lost",
    });
    expect(store._inspect(RUN_ID)).toEqual(before);
    expect((await store.renewLease({ runId: RUN_ID, workerId: "heir" })).ok).toBe(true);
  });

  test("cannot touch a run that its heir has ended", async () => {
    const { store } = await takenOver();
    await store.endRun({ runId: RUN_ID, workerId: "heir", status: "completed" });
    const ended = store._inspect(RUN_ID);
    const step = { runId: RUN_ID, stepIndex: 0 };
    const begin = { ...step, intent: "late", kind: "logic", inputHash: "" } as const;
    expect(await rejection(store.beginStep(begin))).toMatchObject({ code: "lease_lost" });
    expect(await rejection(store.completeStep({ ...step, result: 1 }))).toMatchObject({
      code: "step_not_running",
    });
    expect(await store.renewLease({ runId: RUN_ID, workerId: "heir" })).toEqual({ ok: false });
    expect(store._inspect(RUN_ID)).toEqual(ended);
  });
});

describe("a run that a plain runner began", () => {
  test("is taken over by ours", async () => {
    const { clock, store, run } = plainWorld();
    const paid = counted(() => "paid");
    const last = counted((call) => (call === 1 ? never() : "end"));
    const task = async (ctx: DurableContext) => [await ctx.step("pay", paid), await ctx.step("last", last)];
    run("plain", task).catch(() => {});
    await until(() => last.calls === 1);
    clock.advance(LEASE_MS);
    const { result } = await runDurable({ runId: RUN_ID, manifest: MANIFEST, store, clock, taskFn: task });
    expect(result).toEqual(["paid", "end"]);
    expect(paid.calls).toBe(1);
  });

  test("and completed, without recording its result, is replayed by ours to find it, and left as it is", async () => {
    const { clock, store, run } = plainWorld();
    const paid = counted(() => "paid");
    const task = (ctx: DurableContext) => ctx.step("pay", paid);
    await run("plain", task);
    const ended = store._inspect(RUN_ID);
    const { result, record } = await runDurable({
      runId: RUN_ID,
      manifest: MANIFEST,
      store,
      clock,
      taskFn: task,
    });
    expect(result).toBe("paid");
    expect(paid.calls).toBe(1);
    expect(record).toEqual(ended);
    expect(store._inspect(RUN_ID)).toEqual(ended);
  });
});
