/** R31: what is under way, and what comes up, while a run is being parked. */
import { describe, expect, test } from "vitest";
import type { DurableContext } from "../src/runner/types.ts";
import { DECISION, interrupted, PARK } from "./support/parked.ts";
import {
  counted,
  crash,
  LEASE_MS,
  never,
  newWorld,
  rejection,
  RUN_ID,
  seize,
  tick,
  unavailable,
  until,
  whileTimeFlies,
} from "./support/world.ts";
import { failing } from "./support/wrapped-store.ts";

describe("what is under way when a run is parked", () => {
  test("is waited for, and recorded", async () => {
    const world = newWorld();
    const gate = Promise.withResolvers<string>();
    const slow = counted(() => gate.promise);
    const { task, suspended } = await interrupted(world, (ctx) => ctx.step("slow", slow));
    const attempt = rejection(world.run(task));
    await until(() => slow.calls === 1);
    for (let i = 0; i < 5; i += 1) await tick();
    expect(suspended()).toBe(false);
    gate.resolve("slow");
    expect(await attempt).toMatchObject({ code: "run_suspended" });
    expect(await world.step(1)).toMatchObject({ status: "completed", result: "slow" });
    await world.memory.resolveStep(RUN_ID, 0, { rerun: true });
    expect((await world.run(task)).result).toEqual(["paid", "slow"]);
    expect(slow.calls).toBe(1);
  });

  test("is ended when it is a wait, a sleep, or a delay between attempts, and goes on when the run does", async () => {
    const world = newWorld();
    const bad = counted((call) => (call === 1 ? Promise.reject(new Error("bad")) : "good"));
    const { task } = await interrupted(world, async (ctx) => {
      const [event, , flaky] = await Promise.all([
        ctx.awaitEvent("k"),
        ctx.sleep(60_000),
        ctx.step("flaky", bad, { retries: { limit: 1, delayMs: 60_000 } }),
      ]);
      return [event, flaky];
    });
    expect(await rejection(world.run(task))).toMatchObject({ code: "run_suspended" });
    const steps = await Promise.all([1, 2, 3].map((stepIndex) => world.step(stepIndex)));
    expect(steps.map((step) => step?.status)).toEqual(["running", "running", "failed"]);
    await world.memory.resolveStep(RUN_ID, 0, { result: "paid" });
    await world.memory.emitEvent({ runId: RUN_ID, key: "k", payload: "here" });
    const { result } = await whileTimeFlies(world.clock, world.run(task));
    expect(result).toEqual(["paid", ["here", "good"]]);
    expect(bad.calls).toBe(2);
  });

  test("may begin nothing further", async () => {
    const world = newWorld();
    const gate = Promise.withResolvers<void>();
    const late = counted(() => "late");
    const { task } = await interrupted(world, async (ctx) => {
      await ctx.step("slow", () => gate.promise);
      return ctx.step("late", late);
    });
    const attempt = rejection(world.run(task));
    await until(() => world.store.count("beginStep") === 3);
    gate.resolve();
    expect(await attempt).toMatchObject({ code: "run_suspended" });
    expect(late.calls).toBe(0);
    expect(world.record().stepCount).toBe(2);
  });

  test.each<[string, (ctx: DurableContext) => Promise<unknown>]>([
    ["ctx.now", (ctx) => ctx.now()],
    ["ctx.uuid", (ctx) => ctx.uuid()],
    ["ctx.sleep", (ctx) => ctx.sleep(1)],
    ["ctx.awaitEvent", (ctx) => ctx.awaitEvent("k")],
    ["ctx.emitEvent", (ctx) => ctx.emitEvent("k", 1)],
    ["ctx.all", (ctx) => ctx.all({ a: async () => 1 })],
    ["ctx.race", (ctx) => ctx.race({ a: async () => 1 })],
  ])("does not hold it up by a call of %s that comes too late", async (_what, call) => {
    const world = newWorld();
    const gate = Promise.withResolvers<void>();
    const { task } = await interrupted(world, async (ctx) => {
      await ctx.step("slow", () => gate.promise);
      await call(ctx);
    });
    const attempt = rejection(world.run(task));
    await until(() => world.store.count("beginStep") === 3);
    gate.resolve();
    expect(await attempt).toMatchObject({ code: "run_suspended" });
    expect(world.record().stepCount).toBe(2);
  });

  test.each(["all", "race"] as const)("does not hold it up from within ctx.%s", async (group) => {
    const world = newWorld();
    const pay = counted((call) => (call === 1 ? never<string>() : "paid"));
    const task = (ctx: DurableContext): Promise<unknown> =>
      ctx[group]({ pay: (inner) => inner.step("pay", pay, PARK), other: (inner) => inner.awaitEvent("k") });
    await crash(world, task, () => pay.calls === 1);
    expect(await rejection(world.run(task))).toMatchObject({ code: "run_suspended" });
    expect(world.record().status).toBe("suspended");
  });
});

describe("while a run is being parked", () => {
  test("a task that had failed by then fails as it did; the next run is parked", async () => {
    const world = newWorld();
    const { pay } = await interrupted(world);
    const own = new Error("own");
    const failing = async (ctx: DurableContext): Promise<never> => {
      void ctx.step("pay", pay, PARK);
      throw own;
    };
    expect(await rejection(world.run(failing))).toBe(own);
    expect(world.record()).toMatchObject({ status: "failed", error: { message: "own" } });
    const error = await rejection(world.run((ctx) => ctx.step("pay", pay, PARK)));
    expect(error).toMatchObject({ code: "run_suspended" });
    expect(pay.calls).toBe(1);
  });

  test("a store that cannot be told leaves it to the end of the lease; then it is parked again", async () => {
    const world = newWorld();
    const { task, pay } = await interrupted(world);
    world.store.inject("suspendRun", failing(Infinity, unavailable));
    expect(await rejection(whileTimeFlies(world.clock, world.run(task)))).toMatchObject({
      code: "run_suspended",
    });
    expect(world.record()).toMatchObject({ status: "running" });
    world.clock.advance(LEASE_MS);
    world.store.hooks.suspendRun = (pass) => pass();
    expect(await rejection(world.run(task))).toMatchObject({ code: "run_suspended" });
    expect(world.record()).toMatchObject(DECISION);
    expect(pay.calls).toBe(1);
  });

  test("a decision that is made meanwhile is kept: the run is anybody's", async () => {
    const world = newWorld();
    const { task, pay } = await interrupted(world);
    world.store.hooks.suspendRun = async (pass) => {
      await world.memory.resolveStep(RUN_ID, 0, { result: "decided" });
      return pass();
    };
    expect(await rejection(world.run(task))).toMatchObject({ code: "run_suspended" });
    expect(world.record().status).toBe("pending");
    expect((await world.run(task)).result).toBe("decided");
    expect(pay.calls).toBe(1);
  });

  test("a worker that loses the run says so, and leaves it alone", async () => {
    const world = newWorld();
    const gate = Promise.withResolvers<void>();
    const { task } = await interrupted(world, (ctx) => ctx.step("slow", () => gate.promise));
    const attempt = rejection(world.run(task));
    await until(() => world.store.count("beginStep") === 3);
    await seize(world);
    gate.resolve();
    expect(await attempt).toMatchObject({ code: "lease_lost" });
    expect(world.record()).toMatchObject({ status: "running", leaseHolderId: "thief" });
  });

  test("one that is cancelled is said to be cancelled", async () => {
    const world = newWorld();
    const { task } = await interrupted(world);
    world.store.hooks.suspendRun = async (pass) => {
      await world.memory.cancelRun(RUN_ID, "no longer wanted");
      return pass();
    };
    expect(await rejection(world.run(task))).toMatchObject({ code: "run_cancelled" });
    expect(world.record().status).toBe("cancelled");
  });
});
