/** R31: "park": the run waits, suspended, until somebody has decided on a step that a worker died in. */
import { describe, expect, test } from "vitest";
import type { DurableContext } from "../src/runner/types.ts";
import type { World } from "./support/world.ts";
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

const PARK = { onInterrupted: "park" } as const;
const DECISION = { status: "suspended", waitingFor: [{ stepIndex: 0, for: "decision" }] };

/** A payment whose first worker dies in it, beside whatever else the task does. */
async function interrupted(world: World, beside: (ctx: DurableContext) => Promise<unknown> = async () => {}) {
  const pay = counted((call) => (call === 1 ? never<string>() : "paid"));
  const alone = (ctx: DurableContext) => ctx.step("pay", pay, PARK);
  const task = async (ctx: DurableContext) => {
    const paying = alone(ctx);
    const [paid, other] = await Promise.all([paying, beside(ctx)]);
    return other === undefined ? paid : [paid, other];
  };
  await crash(world, alone, () => pay.calls === 1);
  return { pay, task, suspended: () => world.record().status === "suspended" };
}

describe("a run whose worker died in a step that is to be parked", () => {
  test("is suspended, says which step it waits for, and has no holder", async () => {
    const world = newWorld();
    const { task, pay } = await interrupted(world);
    const error = await rejection(world.run(task));
    expect(error).toMatchObject({ code: "run_suspended", stepIndex: 0, name: "DurableRunSuspendedError" });
    expect(error.message).toMatch(/step 0 \("pay"\).*resolveStep/);
    expect(pay.calls).toBe(1);
    expect(await world.step(0)).toMatchObject({ status: "pending", inDoubt: true, attempts: 1 });
    expect(world.record()).toMatchObject(DECISION);
    expect(world.record()).not.toHaveProperty("leaseHolderId");
    expect(world.record()).not.toHaveProperty("error");
    expect(world.clock.sleepers).toBe(0);
  });

  test("is suspended again at every run until it is decided", async () => {
    const world = newWorld();
    const { task, pay } = await interrupted(world);
    for (let i = 0; i < 3; i += 1) {
      expect(await rejection(world.run(task))).toMatchObject({ code: "run_suspended" });
      expect(world.record()).toMatchObject(DECISION);
    }
    expect(pay.calls).toBe(1);
    expect(await world.step(0)).toMatchObject({ attempts: 1 });
  });

  test.each<[string, { result: unknown }]>([
    ["a result", { result: { receipt: 7 } }],
    ["nothing", { result: undefined }],
  ])("goes on with what the step is resolved with: %s", async (_what, resolution) => {
    const world = newWorld();
    const { task, pay } = await interrupted(world);
    await rejection(world.run(task));
    await world.memory.resolveStep(RUN_ID, 0, resolution);
    expect(world.record().status).toBe("pending");
    expect(world.record()).not.toHaveProperty("waitingFor");
    expect((await world.run(task)).result).toEqual(resolution.result);
    expect(pay.calls).toBe(1);
  });

  test("runs the step again when that is decided, and parks again should a worker die in it again", async () => {
    const world = newWorld();
    const pay = counted((call) => (call < 3 ? never<string>() : "paid"));
    const task = (ctx: DurableContext) => ctx.step("pay", pay, PARK);
    for (const calls of [1, 2]) {
      await crash(world, task, () => pay.calls === calls);
      expect(await rejection(world.run(task))).toMatchObject({ code: "run_suspended" });
      expect(world.record()).toMatchObject(DECISION);
      await world.memory.resolveStep(RUN_ID, 0, { rerun: true });
    }
    expect((await world.run(task)).result).toBe("paid");
    expect(await world.step(0)).toMatchObject({ attempts: 3 });
  });

  test("that fails by itself is retried and failed like any other", async () => {
    const world = newWorld();
    const pay = counted(() => Promise.reject(new Error("declined")));
    const task = (ctx: DurableContext) =>
      ctx.step("pay", pay, { ...PARK, retries: { limit: 1, delayMs: 0 } });
    expect((await rejection(world.run(task))).message).toBe("declined");
    expect(pay.calls).toBe(2);
  });

  test("waits for both of two such steps", async () => {
    const world = newWorld();
    const pays = [0, 1].map(() => counted((call) => (call === 1 ? never<string>() : "paid")));
    const task = (ctx: DurableContext) => Promise.all(pays.map((pay) => ctx.step("pay", pay, PARK)));
    await crash(world, task, () => pays.every((pay) => pay.calls === 1));
    expect(await rejection(world.run(task))).toMatchObject({ code: "run_suspended" });
    expect(world.record()).toMatchObject({
      status: "suspended",
      waitingFor: [
        { stepIndex: 0, for: "decision" },
        { stepIndex: 1, for: "decision" },
      ],
    });
    await world.memory.resolveStep(RUN_ID, 1, { rerun: true });
    expect(world.record()).toMatchObject(DECISION);
    expect(await rejection(world.run(task))).toMatchObject({ code: "run_suspended", stepIndex: 0 });
    await world.memory.resolveStep(RUN_ID, 0, { result: "paid before" });
    expect((await world.run(task)).result).toEqual(["paid before", "paid"]);
  });
});

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

describe("a task that catches whatever comes", () => {
  test.each<[string, (paying: Promise<unknown>, ctx: DurableContext) => Promise<unknown>]>([
    ["by catch", (paying) => paying.catch(() => "nothing")],
    ["by allSettled", (paying) => Promise.allSettled([paying])],
    [
      "by finally",
      async (paying) => {
        try {
          await paying;
        } finally {
          // oxlint-disable-next-line no-unsafe-finally -- as a task may well do
          throw new Error("cleaned up");
        }
      },
    ],
    ["and goes on to a step", (paying, ctx) => paying.catch(() => ctx.step("instead", async () => 1))],
    ["and begins a step that it does not wait for", (paying, ctx) => (void ctx.now(), paying)],
  ])("does not see that it was parked: %s", async (_how, handle) => {
    const world = newWorld();
    const { pay } = await interrupted(world);
    const seen = counted(() => {});
    const task = async (ctx: DurableContext) => {
      await handle(ctx.step("pay", pay, PARK), ctx);
      await seen();
    };
    expect(await rejection(world.run(task))).toMatchObject({ code: "run_suspended" });
    await tick();
    expect(seen.calls).toBe(0);
    expect(pay.calls).toBe(1);
  });

  test("is parked also when it has returned without waiting for that step", async () => {
    const world = newWorld();
    const { pay } = await interrupted(world);
    const task = async (ctx: DurableContext) => void ctx.step("pay", pay, PARK);
    expect(await rejection(world.run(task))).toMatchObject({ code: "run_suspended" });
    expect(world.record()).toMatchObject(DECISION);
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
