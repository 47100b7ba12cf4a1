/** R24, R32: a branch of ctx.all fails. What the others do then, and what is seen of it at the next attempt. */
import { describe, expect, test } from "vitest";
import type { DurableContext } from "../src/runner/types.ts";
import { recorded, Turns } from "./helpers/branches.ts";
import type { World } from "./support/world.ts";
import { counted, crash, never, newWorld, rejection, until, whileTimeFlies } from "./support/world.ts";

const no = Object.assign(new Error("no"), { code: "E_NO", name: "NoError" });

/** Which failures each begin named, by the path of the step that began. */
function caughtBy(world: World): Record<string, readonly number[]> {
  const begins = world.store.calls.filter(({ method }) => method === "beginStep");
  const inputs = begins.map(({ args }) => args[0] as { path?: string; stepIndex: number; caught?: number[] });
  return Object.fromEntries(
    inputs.flatMap(({ path, stepIndex, caught }) => (caught ? [[path ?? stepIndex, caught]] : [])),
  );
}

describe("when a branch fails", () => {
  test("the group rejects with its error as it is; the others finish the steps that they are in, and begin no other", async () => {
    const world = newWorld();
    const turns = new Turns();
    const further = counted(() => "further");
    const late: unknown[] = [];
    const task = (ctx: DurableContext) =>
      ctx.all({
        a: (c) => c.step("a", turns.of("a")),
        b: async (c) => {
          await c.step("b", turns.of("b"));
          late.push(c.signal.aborted);
          const calls = [
            () => c.step("b2", further),
            () => c.sleep(1),
            () => c.emitEvent("k", 1),
            () => c.all([]),
          ];
          for (const call of calls) late.push((await rejection(call())).code);
          return "made up";
        },
      });
    const running = rejection(world.run(task));
    await turns.fail("a", no);
    await until(() => world.store.count("failStep") === 2);
    expect(world.record().status).toBe("running");
    await turns.end("b");
    expect(await running).toBe(no);
    expect(late).toEqual([false, ...Array<string>(4).fill("branch_stopped")]);
    expect(further.calls).toBe(0);
    expect(await recorded(world)).toEqual({
      "0/a/0": "a: failed, 1",
      "0/b/0": "b: completed, 1",
      "0": "ctx.all: failed, 1",
    });
    expect(world.record()).toMatchObject({ status: "failed", error: { message: "no", code: "E_NO" } });
  });

  test("and the task goes on from that, the same failure replays, and no branch is called", async () => {
    const world = newWorld();
    const turns = new Turns();
    const last = counted((call) => (call === 1 ? never() : "end"));
    const entered = counted(() => {});
    const seen: unknown[] = [];
    const task = async (ctx: DurableContext) => {
      const line = (name: string) => async (c: DurableContext) => (
        await entered(),
        c.step(name, turns.of(name))
      );
      const error = await rejection(ctx.all({ a: line("a"), b: line("b"), c: line("c") }));
      seen.push([error.name, error.message, error.code]);
      return ctx.step("last", last);
    };
    const crashed = crash(world, task, () => last.calls === 1);
    await turns.fail("b", no);
    await turns.end("c");
    await crashed;
    expect((await world.run(task)).result).toBe("end");
    expect(seen).toEqual([
      ["NoError", "no", "E_NO"],
      ["NoError", "no", "E_NO"],
    ]);
    expect(entered.calls).toBe(3);
    expect(turns.called).toEqual(["a", "b", "c"]);
  });

  test("and nobody catches it, the failed branch runs again, and what has finished replays", async () => {
    const world = newWorld();
    const fine = counted(() => "fine");
    const flaky = counted((call) => (call < 3 ? Promise.reject(no) : "at last"));
    const last = counted((call) => (call === 1 ? never<string>() : "end"));
    const task = async (ctx: DurableContext) => [
      await ctx.all([
        (c) => c.step("fine", fine),
        async (c) => [await c.step("fine", fine), await c.step("flaky", flaky)],
      ]),
      await ctx.step("last", last),
    ];
    for (const _ of [1, 2]) expect(await rejection(world.run(task))).toBe(no);
    await crash(world, task, () => last.calls === 1);
    expect((await world.run(task)).result).toEqual([["fine", ["fine", "at last"]], "end"]);
    expect([fine.calls, flaky.calls]).toEqual([2, 3]);
    expect(await recorded(world)).toMatchObject({
      "0": "ctx.all: completed, 3",
      "0/1/1": "flaky: completed, 3",
    });
  });

  test("after an attempt in which another one did, it is the later failure that the task goes on from", async () => {
    const world = newWorld();
    const failures = ["first", "second"];
    const gives = counted((call) => (call === 1 ? Promise.reject(new Error("first")) : "fine"));
    const last = counted((call) => (call === 1 ? never() : "end"));
    const seen: string[] = [];
    const task = async (ctx: DurableContext) => {
      const group = ctx.all({
        a: (c) => c.step("a", gives),
        b: async (c) => {
          await c.step("b", async () => 1);
          if (seen.length > 0) throw new Error(failures[1]);
        },
      });
      const error = await rejection(group);
      seen.push(error.message);
      if (error.message === "first") throw error;
      return ctx.step("last", last);
    };
    expect((await rejection(world.run(task))).message).toBe("first");
    await crash(world, task, () => last.calls === 1);
    await world.run(task);
    expect(seen).toEqual(["first", "second", "second"]);
  });

  test("and another one at once, the group rejects with one of them, and both are on record", async () => {
    const world = newWorld();
    const fail = (message: string) => async (c: DurableContext) =>
      c.step(message, () => Promise.reject(new Error(message)));
    const { message } = await rejection(
      world.run((ctx) => ctx.all([fail("one"), fail("two"), fail("three")])),
    );
    expect(message).toBe("one");
    expect(await recorded(world)).toEqual({
      "0/0/0": "one: failed, 1",
      "0/1/0": "two: failed, 1",
      "0/2/0": "three: failed, 1",
      "0": "ctx.all: failed, 1",
    });
  });

  test.each([
    ["by itself", () => Promise.reject(no), no],
    [
      "before it returns a promise",
      () => {
        throw no;
      },
      no,
    ],
    ["with what is no error", () => Promise.reject("just text"), "just text"],
  ] as const)("%s, without a step, the group does too", async (_how, branch, thrown) => {
    const world = newWorld();
    const last = counted((call) => (call === 1 ? never() : "end"));
    const entered = counted(() => {});
    const seen: unknown[] = [];
    const task = async (ctx: DurableContext) => {
      seen.push(await rejection(ctx.all({ a: async () => (await entered(), branch() as Promise<never>) })));
      return ctx.step("last", last);
    };
    await crash(world, task, () => last.calls === 1);
    await world.run(task);
    expect(seen[0]).toBe(thrown);
    expect(seen[1]).toMatchObject({ message: typeof thrown === "string" ? thrown : "no" });
    expect(entered.calls).toBe(1);
  });

  test("a wait of another ends, and is no failure: the run waits for it no longer, and its deadline stands", async () => {
    const world = newWorld();
    const flaky = counted((call) => (call === 1 ? Promise.reject(no) : 1));
    const turns = new Turns();
    const task = (ctx: DurableContext) =>
      ctx.all({
        a: async (c) => [await c.step("a", turns.of("a")), await c.step("flaky", flaky)],
        b: (c) => c.awaitEvent("k", { timeoutMs: 60_000 }),
        c: (c) => c.step("retried", () => Promise.reject(new Error("later")), { retries: () => 50_000 }),
      });
    const running = rejection(world.run(task));
    await until(() => world.record().waitingFor?.length === 2);
    await turns.end("a");
    expect(await running).toBe(no);
    expect(world.record().waitingFor).toBeUndefined();
    const { deadlineAt } = (await world.step(1)) ?? {};
    expect(await recorded(world)).toMatchObject({
      "0/b/0": "event:k: running, 1",
      "0/c/0": "retried: pending, 1",
    });
    world.clock.advance(10_000);
    const again = world.run(task);
    again.catch(() => {});
    await until(() => world.record().waitingFor?.length === 1);
    expect(world.record().waitingFor).toMatchObject([{ for: "event", until: deadlineAt }]);
    expect(await rejection(whileTimeFlies(world.clock, again))).toMatchObject({
      code: "await_event_timeout",
    });
  });
});

describe("a failure that a branch has caught", () => {
  /** A branch that goes on from a failed step, which would succeed if it ran again. */
  function wavering(flaky: () => Promise<unknown>, next?: () => Promise<unknown>) {
    return async (c: DurableContext) => {
      const first = await c.step("flaky", flaky).catch((error: Error) => error.message);
      return next ? [first, await c.step("next", next)] : first;
    };
  }
  const flakyOnce = () => counted((call) => (call === 1 ? Promise.reject(no) : "fine"));

  test("replays once the branch has begun another step, and no begin of another branch speaks of it", async () => {
    const world = newWorld();
    const flaky = flakyOnce();
    const turns = new Turns();
    const task = (ctx: DurableContext) =>
      ctx.all({
        a: wavering(flaky, turns.of("a")),
        b: async (c) => [await c.step("b", turns.of("b")), await c.step("b", turns.of("b"))],
      });
    const crashed = crash(world, task, () => turns.called.length === 3);
    await until(() => turns.called.length === 2);
    await turns.end("b");
    await crashed;
    expect(caughtBy(world)).toEqual({ "0/a/1": [0] });
    turns.forget();
    const again = world.run(task);
    await turns.end("a", "b");
    expect((await again).result).toEqual({ a: ["no", "a"], b: ["b", "b"] });
    expect(flaky.calls).toBe(1);
  });

  test("runs again when nothing has gone on from it, whatever other branches did meanwhile", async () => {
    const world = newWorld();
    const flaky = flakyOnce();
    const turns = new Turns();
    const task = (ctx: DurableContext) =>
      ctx.all({
        a: wavering(flaky),
        b: async (c) => [await c.step("b1", turns.of("b1")), await c.step("b2", turns.of("b2"))],
      });
    const crashed = crash(world, task, () => turns.called.length === 2);
    await turns.end("b1");
    await crashed;
    expect(caughtBy(world)).toEqual({});
    const again = world.run(task);
    turns.forget();
    await turns.end("b2");
    expect((await again).result).toEqual({ a: "fine", b: ["b1", "b2"] });
  });

  test("replays once the code after the group has begun a step, also from a branch in a branch", async () => {
    const world = newWorld();
    const flaky = flakyOnce();
    const last = counted((call) => (call === 1 ? never() : "end"));
    const task = async (ctx: DurableContext) => [
      await ctx.all({ a: (c) => c.all({ deep: wavering(flaky) }) }),
      await ctx.step("last", last),
    ];
    await crash(world, task, () => last.calls === 1);
    expect(caughtBy(world)).toEqual({ "1": [0] });
    expect((await world.run(task)).result).toEqual([{ a: { deep: "no" } }, "end"]);
    expect(flaky.calls).toBe(1);
  });

  test("before the group, replays once any branch has begun a step", async () => {
    const world = newWorld();
    const flaky = flakyOnce();
    const hang = counted((call) => (call < 2 ? never() : "end"));
    const task = async (ctx: DurableContext) => [
      await ctx.step("flaky", flaky).catch((error: Error) => error.message),
      await ctx.all({ a: (c) => c.all({ deep: (d) => d.step("hang", hang) }) }),
    ];
    await crash(world, task, () => hang.calls === 1);
    expect((await world.run(task)).result).toEqual(["no", { a: { deep: "end" } }]);
    expect(flaky.calls).toBe(1);
  });

  test("is that of a group, where the group failed", async () => {
    const world = newWorld();
    const flaky = flakyOnce();
    const hang = counted((call) => (call === 1 ? never() : "end"));
    const inner = async (c: DurableContext) => [
      await c.all({ x: (d) => d.step("flaky", flaky) }).catch((error: Error) => error.message),
      await c.step("hang", hang),
    ];
    const task = (ctx: DurableContext) => ctx.all({ a: inner });
    await crash(world, task, () => hang.calls === 1);
    expect((await world.run(task)).result).toEqual({ a: ["no", "end"] });
    expect(flaky.calls).toBe(1);
  });
});

test("a step that is tried again in a branch is, and its group knows nothing of it", async () => {
  const world = newWorld();
  const flaky = counted((call) => (call < 4 ? Promise.reject(no) : "fine"));
  const task = (ctx: DurableContext) =>
    ctx.all({
      a: (c) => c.step("flaky", flaky, { retries: { limit: 5 } }),
      b: (c) => c.step("b", async () => 1),
    });
  const dead = crash(world, task, () => flaky.calls === 2);
  await whileTimeFlies(
    world.clock,
    until(() => flaky.calls === 2),
  );
  await dead;
  const { result } = await whileTimeFlies(world.clock, world.run(task));
  expect(result).toEqual({ a: "fine", b: 1 });
  expect(await recorded(world)).toEqual({ "0/a/0": "flaky: completed, 4", "0/b/0": "b: completed, 1" });
});

test("the context of a branch that has ended takes no step", async () => {
  const world = newWorld();
  const late: DurableContext[] = [];
  const { result } = await world.run(async (ctx) => {
    await ctx.all([async (c) => late.push(c)]);
    return (await rejection(late[0]!.step("late", async () => 1))).code;
  });
  expect(result).toBe("branch_stopped");
});
