/** killable: what a dead worker does not do, and does not hear. */
import { describe, expect, test } from "vitest";
import type { DurableRunStore } from "../src/contract/types.ts";
import { runDurable } from "../src/runner/run-durable.ts";
import type { RunDurableInput } from "../src/runner/types.ts";
import type { BeginOptions } from "../src/stores/ledger-store.ts";
import { InMemoryDurableRunStore } from "../src/stores/memory.ts";
import { FaultyStore } from "../src/testing/faulty-store.ts";
import type { KillPoint } from "../src/testing/kill-points.ts";
import { killable } from "../src/testing/kill-points.ts";
import { SkippingClock } from "../src/testing/skipping-clock.ts";
import { PlainStore } from "./support/plain-store.ts";
import { counted, LEASE_MS, MANIFEST, RUN_ID, tick, unavailable } from "./support/world.ts";

function newWorld(options: BeginOptions = {}) {
  const clock = new SkippingClock();
  const memory = new InMemoryDurableRunStore({ ...options, clock });
  return {
    clock,
    memory,
    run: <T>(store: DurableRunStore, taskFn: Task<T>) =>
      runDurable({ runId: RUN_ID, manifest: MANIFEST, store, clock, leaseMs: LEASE_MS, taskFn }),
  };
}

type Task<T> = RunDurableInput<T>["taskFn"];

/** Whether a promise is still open after everything that was ready has run. */
async function isOpen(work: Promise<unknown>): Promise<boolean> {
  let open = true;
  const settle = (): void => void (open = false);
  work.then(settle, settle);
  for (let i = 0; i < 10; i += 1) await tick();
  return open;
}

describe("calls are counted", () => {
  test("without heartbeats and without the watch over the lease", async () => {
    const { clock, memory, run } = newWorld();
    const watched = new FaultyStore(memory);
    const counting = killable(watched);
    await run(counting.store, (ctx) => ctx.sleep(10 * LEASE_MS));
    expect(watched.count("renewLease")).toBeGreaterThan(0);
    expect(watched.count("watchLease")).toBeGreaterThan(0);
    expect(counting.calls).toBe(4);
    expect([...counting.acknowledged]).toEqual([0]);
    expect(await isOpen(counting.died)).toBe(true);
    expect(clock.now()).toBeGreaterThan(0);
  });

  test("with the optional ones that the store has", async () => {
    const { memory, run } = newWorld();
    const counting = killable(memory);
    const attempt = run(counting.store, (ctx) => ctx.awaitEvent("go"));
    await expect.poll(() => counting.calls, { interval: 1 }).toBe(3);
    await memory.emitEvent({ runId: RUN_ID, key: "go", payload: 1 });
    await attempt;
    expect(counting.calls).toBe(4);
    expect([...counting.acknowledged]).toEqual([0]);
  });

  test("over a store that lacks them, without any", () => {
    expect("waitForEvent" in killable(new PlainStore(Date.now)).store).toBe(false);
    expect("waitForEvent" in killable(newWorld().memory).store).toBe(true);
  });
});

describe("a worker that dies", () => {
  const points: KillPoint[] = [1, 2, 3, 4].flatMap((call) => [
    { call, when: "before" },
    { call, when: "after" },
  ]);

  test.each(points)("$when store call $call, around a wait, leaves a run that goes on", async (point) => {
    const { clock, memory, run } = newWorld();
    const task: Task<unknown> = (ctx) => ctx.awaitEvent("go");
    const victim = killable(memory, point);
    await memory.emitEvent({ runId: RUN_ID, key: "go", payload: 1 });
    run(victim.store, task).catch(() => {});
    await victim.died;
    await clock.delay(LEASE_MS + 1);
    expect((await run(memory, task)).result).toBe(1);
  });

  test("does not hear of what was under way beside the fatal call", async () => {
    const { clock, memory, run } = newWorld({ beginAfterMs: 0 });
    const effect = counted(() => "paid");
    const task: Task<unknown> = (ctx) =>
      ctx.all({
        waits: (own) => own.awaitEvent("go").then(() => own.step("pay", effect)),
        works: (own) => own.step("work", async () => "done"),
      });
    // Claim, two begins, the wait for the event, the completion of the work.
    const victim = killable(memory, { call: 5, when: "after" });
    run(victim.store, task).catch(() => {});
    await victim.died;
    await memory.emitEvent({ runId: RUN_ID, key: "go", payload: 1 });
    for (let i = 0; i < 10; i += 1) await tick();
    expect(victim.calls).toBe(5);
    expect(effect.calls).toBe(0);
    await clock.delay(LEASE_MS + 1);
    expect((await run(memory, task)).result).toEqual({ waits: "paid", works: "done" });
    expect(effect.calls).toBe(1);
  });

  test("does not hear of an acknowledgement that was under way", async () => {
    const { memory } = newWorld();
    const store = new FaultyStore(memory);
    const { fence = 0 } = await store.startOrResume({
      runId: RUN_ID,
      manifest: MANIFEST,
      workerId: "worker-1",
    });
    const step = { runId: RUN_ID, stepIndex: 0, fence };
    await store.beginStep({ ...step, intent: "work", kind: "logic", inputHash: "" });
    const victim = killable(store, { call: 2, when: "before" });
    const completion = victim.store.completeStep({ ...step, result: "done" });
    const fatal = victim.store.loadEvent(RUN_ID, "go");
    expect(await isOpen(completion)).toBe(true);
    expect(await isOpen(fatal)).toBe(true);
    expect([...victim.acknowledged]).toEqual([]);
    expect(await memory.loadStep(RUN_ID, 0)).toMatchObject({ status: "completed" });
  });

  test("after a call that the store refuses, does not hear of the refusal", async () => {
    const { memory } = newWorld();
    const store = new FaultyStore(memory);
    store.fault = () => unavailable();
    const victim = killable(store, { call: 1, when: "after" });
    const call = victim.store.loadEvent(RUN_ID, "go");
    await victim.died;
    expect(await isOpen(call)).toBe(true);
  });

  test("sends no more heartbeats", async () => {
    const { clock, memory, run } = newWorld();
    const store = new FaultyStore(memory);
    const victim = killable(store, { call: 3, when: "before" });
    run(victim.store, (ctx) => ctx.step("work", async () => "done")).catch(() => {});
    await victim.died;
    await clock.delay(LEASE_MS + 1);
    expect(store.count("renewLease")).toBe(0);
    expect(
      await memory.startOrResume({ runId: RUN_ID, manifest: MANIFEST, workerId: "other" }),
    ).toMatchObject({
      fence: 2,
    });
  });
});
