/** R32: branches of a task run side by side, each with steps of its own, and replay whatever their timing was. */
import { describe, expect, expectTypeOf, test } from "vitest";
import { stepId } from "../src/identity.ts";
import type { DurableContext, StepInfo } from "../src/runner/types.ts";
import { recorded, Turns } from "./helpers/branches.ts";
import {
  counted,
  crash,
  never,
  newWorld,
  rejection,
  RUN_ID,
  until,
  whileTimeFlies,
} from "./support/world.ts";

describe("ctx.all resolves to what its branches returned", () => {
  test("by name, for an object", async () => {
    const world = newWorld();
    const { result } = await world.run(async (ctx) => {
      const both = await ctx.all({
        page: (c) => c.step("fetch", async () => ({ text: "hi" })),
        count: async (c) => (await c.step("one", async () => 1)) + (await c.step("two", async () => 2)),
      });
      expectTypeOf(both).toEqualTypeOf<{ page: { text: string }; count: number }>();
      return both;
    });
    expect(result).toEqual({ page: { text: "hi" }, count: 3 });
  });

  test("in order, for a list, in which a branch may have a name", async () => {
    const world = newWorld();
    const { result } = await world.run(async (ctx) => {
      const three = await ctx.all([
        (c) => c.step("a", async () => 1),
        ["named", (c) => c.step("b", async () => "two")],
        async () => true,
      ]);
      expectTypeOf(three).toEqualTypeOf<[number, string, boolean]>();
      return three;
    });
    expect(result).toEqual([1, "two", true]);
    expect(await recorded(world)).toEqual({ "0/0/0": "a: completed, 1", "0/named/0": "b: completed, 1" });
  });

  test("in a list that was made of another one", async () => {
    const world = newWorld();
    const { result } = await world.run(async (ctx) => {
      const named = (text: string) =>
        [text, (c: DurableContext) => c.step("measure", async () => text.length)] as const;
      const lengths = await ctx.all(["x", "yy"].map(named));
      expectTypeOf(lengths).toEqualTypeOf<number[]>();
      return lengths;
    });
    expect(result).toEqual([1, 2]);
  });

  test("as it is: only what steps return goes through JSON", async () => {
    const date = new Date(0);
    const { result } = await newWorld().run(async (ctx) => {
      const [one, two] = await ctx.all([async () => date, async () => undefined]);
      return [one === date, two === undefined];
    });
    expect(result).toEqual([true, true]);
  });

  test("when there are none, and when they take no steps: then nothing is recorded", async () => {
    const world = newWorld();
    const { result } = await world.run(async (ctx) => {
      const none = await ctx.all([]);
      expectTypeOf(none).toEqualTypeOf<[]>();
      return [
        none,
        await ctx.all({}),
        await ctx.all({ a: async () => 1 }),
        await ctx.step("after", async () => 2),
      ];
    });
    expect(result).toEqual([[], {}, { a: 1 }, 2]);
    expect(await recorded(world)).toEqual({ "3": "after: completed, 1" });
  });

  test("under any name, also one that every object has", async () => {
    const names = ["__proto__", "constructor", "ключ 🔑", "1"];
    const branches = Object.fromEntries(names.map((name) => [name, async () => name]));
    const { result } = await newWorld().run(async (ctx) => Object.entries(await ctx.all(branches)));
    expect(new Map(result)).toEqual(new Map(names.map((name) => [name, name])));
  });
});

describe("the steps of branches", () => {
  /** Two branches of three steps with the same intents, and a step after them in which the first worker dies. */
  function twoLines(turns: Turns, last: () => Promise<string | undefined>) {
    return async (ctx: DurableContext) => {
      const line = (name: string) => async (c: DurableContext) => {
        const values: string[] = [];
        for (const i of [0, 1, 2]) values.push(await c.step("work", turns.of(`${name}${i}`)));
        return values;
      };
      return { ...(await ctx.all({ a: line("a"), b: line("b") })), last: await ctx.step("last", last) };
    };
  }
  const expected = { a: ["a0", "a1", "a2"], b: ["b0", "b1", "b2"], last: "end" };

  test("replay whatever order they had, and have positions in the order in which they first began", async () => {
    const world = newWorld();
    const turns = new Turns();
    const last = counted((call) => (call === 1 ? never<string>() : "end"));
    const crashed = crash(world, twoLines(turns, last), () => last.calls === 1);
    await turns.end("b0", "b1", "b2", "a0", "a1", "a2");
    await crashed;
    const { result, steps } = await world.run(twoLines(turns, last));
    expect(result).toEqual(expected);
    expect(turns.called).toEqual(["a0", "b0", "b1", "b2", "a1", "a2"]);
    expect(steps.map(({ path }) => path)).toEqual([
      "0/a/0",
      "0/b/0",
      "0/b/1",
      "0/b/2",
      "0/a/1",
      "0/a/2",
      "1",
    ]);
    expect(steps.map(({ stepIndex }) => stepIndex)).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  test("go on in each branch from where it was, in the opposite order too", async () => {
    const world = newWorld();
    const turns = new Turns();
    const last = counted(() => "end");
    const crashed = crash(world, twoLines(turns, last), () => turns.called.length === 4);
    await turns.end("b0", "b1");
    await crashed;
    turns.forget();
    const running = world.run(twoLines(turns, last));
    await turns.end("a0", "a1", "a2", "b2");
    expect((await running).result).toEqual(expected);
    expect(turns.called).toEqual(["a0", "b0", "b1", "b2", "a0", "b2", "a1", "a2"]);
    expect(await recorded(world)).toMatchObject({
      "0/a/0": "work: completed, 2",
      "0/b/2": "work: completed, 2",
    });
  });

  test("may stand before, between and after groups, beside them, and in groups in branches", async () => {
    const world = newWorld();
    const last = counted((call) => (call === 1 ? never<string>() : "end"));
    const effects = counted((call) => call);
    const task = async (ctx: DurableContext) => {
      const before = await ctx.step("s", effects);
      const inner = (c: DurableContext) =>
        c.all([(d) => d.step("s", effects), (d) => d.race([(e) => e.step("s", effects)])]);
      const groups = await Promise.all([
        ctx.all({ x: inner, y: async (c) => [await c.step("s", effects), await inner(c)] }),
        ctx.all({ x: (c) => c.step("s", effects) }),
        ctx.step("s", effects),
      ]);
      const between = await ctx.step("s", effects);
      const again = await ctx.all({ x: (c) => c.step("s", effects) });
      return { before, groups, between, again, last: await ctx.step("last", last) };
    };
    await crash(world, task, () => last.calls === 1);
    const { calls } = effects;
    const first = await recorded(world);
    const { result } = await world.run(task);
    expect(effects.calls).toBe(calls);
    expect(await recorded(world)).toEqual({ ...first, "6": "last: completed, 2" });
    const one = expect.any(Number) as number;
    const two = [one, one];
    expect(result).toEqual({
      before: 1,
      groups: [{ x: two, y: [one, two] }, { x: one }, one],
      between: one,
      again: { x: one },
      last: "end",
    });
    expect(Object.keys(first).sort()).toEqual([
      "0",
      "1/x/0/0/0",
      "1/x/0/1/0",
      "1/x/0/1/0/0/0",
      "1/y/0",
      "1/y/1/0/0",
      "1/y/1/1/0",
      "1/y/1/1/0/0/0",
      "2/x/0",
      "3",
      "4",
      "5/x/0",
      "6",
    ]);
  });

  test("answer ctx.now, ctx.uuid and ctx.sleep as at first", async () => {
    const world = newWorld();
    const last = counted((call) => (call === 1 ? never() : null));
    const seen: unknown[] = [];
    const task = async (ctx: DurableContext) => {
      const line = async (c: DurableContext) => [
        await c.uuid(),
        await c.now(),
        await c.sleep(5_000),
        await c.now(),
      ];
      seen.push(await ctx.all({ a: line, b: line }));
      await ctx.step("last", last);
    };
    await whileTimeFlies(
      world.clock,
      crash(world, task, () => last.calls === 1),
    );
    await world.run(task);
    expect(seen[1]).toEqual(seen[0]);
    const { a, b } = seen[0] as Record<string, [string, Date, undefined, Date]>;
    expect(a?.[0]).not.toBe(b?.[0]);
    expect(Number(a?.[3]) - Number(a?.[1])).toBeGreaterThanOrEqual(5_000);
  });

  test("have a key that is the same at each attempt, and no other step's", async () => {
    const world = newWorld();
    const keys: string[][] = [];
    const broken = counted((call) => (call < 3 ? Promise.reject(new Error("broken")) : null));
    const task = async (ctx: DurableContext) => {
      const own: string[] = [];
      keys.push(own);
      const note = async ({ idempotencyKey }: StepInfo) => own.push(idempotencyKey);
      const line = async (c: DurableContext) => [
        await c.step("s", note),
        await c.all([(d) => d.step("s", note)]),
      ];
      // Recorded steps are not called again, so that each group is to fail before its steps are recorded.
      await ctx.all({ a: (c) => c.step("s", async (info) => (await note(info), broken())) });
      await ctx.all({ a: line, b: line });
      await ctx.step("s", note);
    };
    for (const _ of [1, 2]) await rejection(world.run(task));
    await world.run(task);
    const [first, second, third = []] = keys;
    expect(first).toEqual([stepId(RUN_ID, "0/a/0", "s")]);
    expect(second).toEqual(first);
    expect(third[0]).toBe(first?.[0]);
    expect(new Set(third).size).toBe(6);
    // One outside of branches has that of its place among those outside, whatever its position is.
    expect(third.at(-1)).toBe(stepId(RUN_ID, 2, "s"));
  });

  test("are refused inside the function of a step, and so are groups", async () => {
    const world = newWorld();
    const { result } = await world.run((ctx) =>
      ctx.all({
        a: (c) =>
          c.step("outer", async () => {
            const inner = [
              () => c.step("inner", async () => 1),
              () => ctx.all({}),
              () => ctx.race([async () => 1]),
            ];
            return Promise.all(inner.map(async (call) => (await rejection(call())).code));
          }),
      }),
    );
    expect(result).toEqual({ a: ["nested_step", "nested_step", "nested_step"] });
    expect(await recorded(world)).toEqual({ "0/a/0": "outer: completed, 1" });
  });
});

describe("events in branches", () => {
  test("are waited for side by side, and the run says for which", async () => {
    const world = newWorld();
    const task = (ctx: DurableContext) =>
      ctx.all({ a: (c) => c.awaitEvent("k1"), b: (c) => c.awaitEvent("k2") });
    const running = world.run(task);
    await until(() => world.record().waitingFor?.length === 2);
    expect(world.record().waitingFor).toMatchObject([
      { for: "event", key: "k1" },
      { for: "event", key: "k2" },
    ]);
    await world.memory.emitEvent({ runId: RUN_ID, key: "k2", payload: "two" });
    await whileTimeFlies(
      world.clock,
      until(() => world.record().waitingFor?.length === 1),
    );
    await world.memory.emitEvent({ runId: RUN_ID, key: "k1", payload: "one" });
    const { result, record } = await whileTimeFlies(world.clock, running);
    expect(result).toEqual({ a: "one", b: "two" });
    expect(record.waitingFor).toBeUndefined();
  });

  test("emitted under one key by two branches are accepted once, and at each replay by the same", async () => {
    const world = newWorld();
    const seen: unknown[] = [];
    const last = counted((call) => (call === 1 ? never() : null));
    const task = async (ctx: DurableContext) => {
      const emit = async (c: DurableContext) => (await c.emitEvent("k", 1)).accepted;
      const twice = async (c: DurableContext) => [await emit(c), await emit(c)];
      seen.push(
        await ctx.all({
          slow: async (c) => [await c.step("s", async () => 1), ...(await twice(c))],
          quick: twice,
        }),
      );
      await ctx.step("last", last);
    };
    await crash(world, task, () => last.calls === 1);
    await world.run(task);
    expect(seen[0]).toEqual({ slow: [1, false, false], quick: [true, false] });
    expect(seen[1]).toEqual(seen[0]);
  });
});
