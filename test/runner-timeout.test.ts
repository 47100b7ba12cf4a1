/** How long one attempt of a step may take. */
import { describe, expect, test } from "vitest";
import type { DurableContext, StepInfo } from "../src/runner/types.ts";
import { counted, never, newWorld, rejection, tick, until, whileTimeFlies } from "./support/world.ts";

describe("a step with a timeout", () => {
  test("fails with step_timeout when its function does not end in time, and its signal aborts with that error", async () => {
    const world = newWorld();
    let signal: AbortSignal | undefined;
    const slow = async (info: StepInfo) => ((signal = info.signal), never<string>());
    const attempt = world.run((ctx) => ctx.step("slow", slow, { timeoutMs: 5_000 }));
    const error = await rejection(whileTimeFlies(world.clock, attempt));
    expect(error).toMatchObject({ code: "step_timeout", name: "DurableStepTimeoutError" });
    expect(error.message).toMatch(/"slow".*5000 ms/);
    expect(signal?.reason).toBe(error);
    expect(await world.step(0)).toMatchObject({ status: "failed", error: { code: "step_timeout" } });
    expect(world.record()).toMatchObject({ status: "failed", error: { code: "step_timeout" } });
  });

  test("is told of the timeout, whatever its function makes of the abort", async () => {
    const world = newWorld();
    const slow = ({ signal }: StepInfo) =>
      new Promise<never>((_resolve, reject) => {
        signal.addEventListener("abort", () => reject(new DOMException("stopped", "AbortError")));
      });
    const attempt = world.run((ctx) => ctx.step("slow", slow, { timeoutMs: 5_000 }));
    expect(await rejection(whileTimeFlies(world.clock, attempt))).toMatchObject({ code: "step_timeout" });
  });

  test("drops a result that its function makes of the abort", async () => {
    const world = newWorld();
    const slow = ({ signal }: StepInfo) =>
      new Promise<string>((resolve) => signal.addEventListener("abort", () => resolve("half of it")));
    const attempt = world.run((ctx) => ctx.step("slow", slow, { timeoutMs: 5_000 }));
    expect(await rejection(whileTimeFlies(world.clock, attempt))).toMatchObject({ code: "step_timeout" });
    expect((await world.step(0))?.status).toBe("failed");
  });

  test("drops a late result of the attempt that timed out", async () => {
    const world = newWorld();
    const late = Promise.withResolvers<string>();
    const slow = counted((call) => (call === 1 ? late.promise : "in time"));
    const task = (ctx: DurableContext) => ctx.step("slow", slow, { timeoutMs: 5_000 });
    expect(await rejection(whileTimeFlies(world.clock, world.run(task)))).toMatchObject({
      code: "step_timeout",
    });
    late.resolve("too late");
    await tick();
    expect((await world.step(0))?.status).toBe("failed");
    const { result, steps } = await world.run(task);
    expect(result).toBe("in time");
    expect(steps).toMatchObject([{ attempts: 2, result: "in time" }]);
  });

  test("that the task had caught replays as the same timeout", async () => {
    const world = newWorld();
    const slow = counted(() => never<string>());
    let fail = true;
    const task = async (ctx: DurableContext) => {
      const seen = await ctx.step("slow", slow, { timeoutMs: 5_000 }).catch((error: Error) => error.name);
      await ctx.step("after", async () => {
        if (fail) throw new Error("once");
      });
      return seen;
    };
    await rejection(whileTimeFlies(world.clock, world.run(task)));
    fail = false;
    expect((await world.run(task)).result).toBe("DurableStepTimeoutError");
    expect(slow.calls).toBe(1);
  });

  test("that ends in time leaves no timer behind, and is no slower", async () => {
    const world = newWorld();
    const { result } = await world.run((ctx) => ctx.step("quick", async () => "done", { timeoutMs: 5_000 }));
    expect(result).toBe("done");
    await until(() => world.clock.sleepers === 0);
  });

  test("refuses a timeout that is no whole number of milliseconds from 1 on", async () => {
    for (const timeoutMs of [0, -1, 0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      const world = newWorld();
      const attempt = world.run((ctx) => ctx.step("any", async () => 1, { timeoutMs }));
      expect(await rejection(attempt)).toMatchObject({ code: "invalid_input", field: "timeoutMs" });
      expect(await world.step(0)).toBeUndefined();
    }
  });
});
