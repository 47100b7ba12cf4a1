/** R31: "park": the run waits, suspended, until somebody has decided on a step that a worker died in. */
import { describe, expect, test } from "vitest";
import type { DurableContext } from "../src/runner/types.ts";
import { DECISION, interrupted, PARK } from "./support/parked.ts";
import { counted, crash, never, newWorld, rejection, RUN_ID, tick } from "./support/world.ts";

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

  test("runs the step again when that is decided, though its retries allow no further attempt", async () => {
    for (const onInterrupted of ["park", "fail"] as const) {
      const world = newWorld();
      const pay = counted((call) => (call === 1 ? never<string>() : "paid"));
      const task = (ctx: DurableContext) => ctx.step("pay", pay, { onInterrupted, retries: { limit: 0 } });
      await crash(world, task, () => pay.calls === 1);
      await rejection(world.run(task));
      await world.memory.resolveStep(RUN_ID, 0, { rerun: true });
      expect((await world.run(task)).result).toBe("paid");
    }
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

describe("a task that catches whatever comes", () => {
  test.each<[string, (paying: Promise<unknown>, ctx: DurableContext) => Promise<unknown>]>([
    ["by catch", (paying) => paying.catch(() => "nothing")],
    ["by allSettled", (paying) => Promise.allSettled([paying])],
    ["at a wait beside it", (paying, ctx) => (void paying, ctx.awaitEvent("k").catch(() => "nothing"))],
    ["at a sleep beside it", (paying, ctx) => (void paying, ctx.sleep(60_000).catch(() => {}))],
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
