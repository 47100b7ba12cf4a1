/** A step begun inside another step's function is refused: no replay would come by. */
import { describe, expect, test } from "vitest";
import { DurableNestedStepError } from "../src/contract/errors.ts";
import { RERUN } from "../src/runner/types.ts";
import type { DurableContext } from "../src/runner/types.ts";
import { counted, crash, never, newWorld, rejection, tick } from "./support/world.ts";

const NESTED = { code: "nested_step", name: "DurableNestedStepError", retryable: false };

/** Lets some time pass, with a real timer. */
const pause = () => new Promise<void>((resolve) => setTimeout(resolve, 1));

describe("inside a step's function", () => {
  test.each<[string, (ctx: DurableContext) => Promise<unknown>]>([
    ["ctx.step", (ctx) => ctx.step("inner", async () => 1)],
    ["ctx.sleep", (ctx) => ctx.sleep(0)],
    ["ctx.sleepUntil", (ctx) => ctx.sleepUntil(new Date(0))],
    ["ctx.awaitEvent", (ctx) => ctx.awaitEvent("k")],
    ["ctx.now", (ctx) => ctx.now()],
    ["ctx.uuid", (ctx) => ctx.uuid()],
    ["ctx.all", (ctx) => ctx.all({ a: async () => 1 })],
    ["ctx.race", (ctx) => ctx.race({ a: async () => 1 })],
  ])("%s is refused, and fails the step that does not catch it, once", async (_what, call) => {
    const world = newWorld();
    const outer = counted(() => 1);
    const attempt = world.run((ctx) =>
      ctx.step("outer", async () => (await outer(), call(ctx)), { retries: { limit: 5 } }),
    );
    const error = await rejection(attempt);
    expect(error).toMatchObject(NESTED);
    expect(error.message).toMatch(/^ctx\.\w+ was called inside the function of step "outer"/);
    expect(outer.calls).toBe(1);
    expect(world.record()).toMatchObject({ stepCount: 1, status: "failed", error: { code: "nested_step" } });
    expect(await world.step(0)).toMatchObject({ intent: "outer", status: "failed", attempts: 1 });
  });

  test.each<[string, (call: () => Promise<unknown>) => Promise<unknown>]>([
    ["before its first await", (call) => call()],
    ["after an await", async (call) => (await tick(), call())],
    ["in a promise's then", (call) => Promise.resolve().then(call)],
    ["in a timer", (call) => new Promise((resolve) => setTimeout(() => resolve(call()), 1))],
    ["in a microtask", (call) => new Promise((resolve) => queueMicrotask(() => resolve(call())))],
    ["beside other work", (call) => Promise.all([tick(), pause().then(call)])],
  ])("a step is refused %s", async (_where, inside) => {
    const world = newWorld();
    const inner = counted(() => 1);
    const attempt = world.run((ctx) => ctx.step("outer", () => inside(() => ctx.step("inner", inner))));
    expect(await rejection(attempt)).toBeInstanceOf(DurableNestedStepError);
    expect(inner.calls).toBe(0);
    expect(world.record().stepCount).toBe(1);
  });

  test("a refusal that is caught harms nothing: it takes no place, so a replay agrees", async () => {
    const world = newWorld();
    const last = counted((call) => (call === 1 ? never() : "end"));
    const outer = counted(() => 1);
    const task = async (ctx: DurableContext) => {
      const seen = await ctx.step("outer", async () => {
        await outer();
        return (await rejection(ctx.step("inner", async () => 1))).code;
      });
      return [seen, await ctx.step("last", last)];
    };
    await crash(world, task, () => last.calls === 1);
    const { result, steps } = await world.run(task);
    expect(result).toEqual(["nested_step", "end"]);
    expect(steps.map(({ stepIndex, intent }) => [stepIndex, intent])).toEqual([
      [0, "outer"],
      [1, "last"],
    ]);
    expect(outer.calls).toBe(1);
  });

  test("a refusal that failed the step replays as the same error once the task has moved past it", async () => {
    const world = newWorld();
    const last = counted((call) => (call === 1 ? never() : "end"));
    const seen: unknown[] = [];
    const task = async (ctx: DurableContext) => {
      await ctx.step("outer", () => ctx.uuid()).catch((error: unknown) => seen.push(error));
      await ctx.step("last", last);
    };
    await crash(world, task, () => last.calls === 1);
    await world.run(task);
    expect(seen).toHaveLength(2);
    for (const error of seen) {
      expect(error).toBeInstanceOf(DurableNestedStepError);
      expect(error).toMatchObject({ ...NESTED, message: (seen[0] as Error).message });
    }
  });

  test("a step is refused in reconcile too", async () => {
    const world = newWorld();
    const pay = counted((call) => (call === 1 ? never() : "paid"));
    const reconcile = (ctx: DurableContext) => async () => {
      const { code } = await rejection(ctx.step("look", async () => RERUN));
      return code;
    };
    const task = (ctx: DurableContext) =>
      ctx.step("pay", pay, { onInterrupted: { reconcile: reconcile(ctx) } });
    await crash(world, task, () => pay.calls === 1);
    expect((await world.run(task)).result).toBe("nested_step");
  });

  test("an event may be emitted", async () => {
    const world = newWorld();
    const { result } = await world.run((ctx) => ctx.step("outer", () => ctx.emitEvent("k", 1)));
    expect(result).toEqual({ accepted: true });
  });

  test("an emitted event counts for no emit outside: that answers the same at a replay", async () => {
    const world = newWorld();
    const last = counted((call) => (call === 1 ? never() : "end"));
    const seen: unknown[] = [];
    const task = async (ctx: DurableContext) => {
      const inside = await ctx.step("outer", async () => [
        await ctx.emitEvent("k", 1),
        await ctx.emitEvent("k", 2),
      ]);
      seen.push([...inside, await ctx.emitEvent("k", 3)].map(({ accepted }) => accepted));
      await ctx.step("last", last);
    };
    await crash(world, task, () => last.calls === 1);
    await world.run(task);
    expect(seen).toEqual([
      [true, false, false],
      [true, false, false],
    ]);
  });
});

describe("after a step's function has ended", () => {
  test("what it left running is still inside, and its refusal reaches nobody else", async () => {
    const world = newWorld();
    const gate = Promise.withResolvers<void>();
    const late = counted(() => "late");
    const left: Promise<unknown>[] = [];
    const { result } = await world.run(async (ctx) => {
      await ctx.step("outer", async () => {
        left.push(rejection(gate.promise.then(() => ctx.step("late", late))));
        setTimeout(() => void ctx.step("later", late), 1);
      });
      gate.resolve();
      expect(await left[0]).toMatchObject(NESTED);
      await pause();
      return ctx.step("after", async () => "after");
    });
    expect(result).toBe("after");
    expect(late.calls).toBe(0);
    expect(world.record().stepCount).toBe(2);
  });

  test("what it made and the task calls is outside", async () => {
    const world = newWorld();
    const { result } = await world.run(async (ctx) => {
      const made: (() => Promise<string>)[] = [];
      await ctx.step("outer", async () => void made.push(() => ctx.step("made", async () => "made")));
      return made[0]?.();
    });
    expect(result).toBe("made");
  });
});

describe("outside is also", () => {
  test("what waits for something that a step's function does", async () => {
    const world = newWorld();
    const done = Promise.withResolvers<string>();
    const { result } = await world.run(async (ctx) => {
      const waiting = done.promise.then((value) => ctx.step("waiting", async () => `${value}!`));
      const outer = ctx.step("outer", async () => {
        done.resolve("done");
        await pause();
        return "outer";
      });
      return Promise.all([waiting, outer]);
    });
    expect(result).toEqual(["done!", "outer"]);
  });

  test("the task itself, while steps are in flight", async () => {
    const world = newWorld();
    const gate = Promise.withResolvers<void>();
    const { result } = await world.run(async (ctx) => {
      const first = ctx.step("first", async () => (await gate.promise, 1));
      const second = await ctx.step("second", async () => (await pause(), 2));
      gate.resolve();
      return [await first, second, await ctx.step("third", async () => 3)];
    });
    expect(result).toEqual([1, 2, 3]);
  });

  test("a step's next attempt, and what follows a step that failed", async () => {
    const world = newWorld();
    const flaky = counted((call) => (call === 1 ? Promise.reject(new Error("no")) : "yes"));
    const { result } = await world.run(async (ctx) => {
      const value = await ctx.step("flaky", flaky, { retries: { limit: 1, delayMs: 0 } });
      return ctx
        .step("bad", () => Promise.reject(new Error("bad")))
        .catch(() => ctx.step("instead", async () => value));
    });
    expect(result).toBe("yes");
  });
});

describe("another run, inside a step's function,", () => {
  test("takes steps of its own", async () => {
    const world = newWorld();
    const { result } = await world.run((ctx) =>
      ctx.step("outer", async () => {
        const child = await world.run(
          async (inner) => [
            await inner.step("inner", async () => (await pause(), 1)),
            await inner.step("next", async () => 2),
          ],
          { runId: "child" },
        );
        return child.result;
      }),
    );
    expect(result).toEqual([1, 2]);
    expect(world.record().stepCount).toBe(1);
    expect(world.memory._inspect("child")).toMatchObject({ status: "completed", stepCount: 2 });
  });

  test("does not lead out of it: neither its task, its steps nor what comes after it may take one of the outer run", async () => {
    const world = newWorld();
    const refused: unknown[] = [];
    await world.run((ctx) =>
      ctx.step("outer", async () => {
        const attempt = async () =>
          refused.push((await rejection(ctx.step("sneaked in", async () => 1))).code);
        await world.run(async (inner) => (await attempt(), inner.step("inner", attempt)), { runId: "child" });
        await attempt();
      }),
    );
    expect(refused).toEqual(Array(3).fill("nested_step"));
    expect(world.record().stepCount).toBe(1);
  });

  test("and that is the run itself, is refused: it is held", async () => {
    const world = newWorld();
    const attempt = world.run((ctx) => ctx.step("outer", () => world.run(async () => 1)));
    expect(await rejection(attempt)).toMatchObject({ code: "lease_held" });
  });
});
