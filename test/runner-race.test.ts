/** R32: of the branches of ctx.race the first to settle decides, for good. */
import { describe, expect, expectTypeOf, test } from "vitest";
import type { DurableContext } from "../src/runner/types.ts";
import { recorded, Turns } from "./helpers/branches.ts";
import {
  counted,
  crash,
  lapse,
  never,
  newWorld,
  rejection,
  RUN_ID,
  until,
  whileTimeFlies,
} from "./support/world.ts";

const no = Object.assign(new Error("no"), { code: "E_NO", name: "NoError" });

describe("ctx.race resolves to what its first branch returned", () => {
  test("of an object or a list, with or without names", async () => {
    const world = newWorld();
    const { result } = await world.run(async (ctx) => {
      const one = await ctx.race({
        slow: (c) => c.step("a", () => never<number>()),
        fast: async () => "fast",
      });
      expectTypeOf(one).toEqualTypeOf<number | string>();
      const two = await ctx.race([
        () => never<boolean>(),
        ["named", (c) => c.step("b", async () => ({ n: 2 }))],
      ]);
      expectTypeOf(two).toEqualTypeOf<boolean | { n: number }>();
      return [one, two];
    });
    expect(result).toEqual(["fast", { n: 2 }]);
    expect(await recorded(world)).toMatchObject({
      "0": "ctx.race: completed, 1",
      "1/named/0": "b: completed, 1",
      "1": "ctx.race: completed, 1",
    });
  });

  test("as JSON gives it back, on the first run as at each replay (R25)", async () => {
    const world = newWorld();
    const last = counted((call) => (call === 1 ? never() : null));
    const seen: unknown[] = [];
    const task = async (ctx: DurableContext) => {
      seen.push([
        await ctx.race([async () => ({ at: new Date(0), gone: undefined })]),
        await ctx.race([async () => undefined]),
      ]);
      await ctx.step("last", last);
    };
    await crash(world, task, () => last.calls === 1);
    await world.run(task);
    expect(seen).toStrictEqual(Array(2).fill([{ at: "1970-01-01T00:00:00.000Z" }, undefined]));
  });

  test("whichever would come first at a replay: no branch is called again", async () => {
    const world = newWorld();
    const turns = new Turns();
    const entered = counted(() => {});
    const last = counted((call) => (call === 1 ? never() : null));
    const task = async (ctx: DurableContext) => {
      const line = (name: string) => async (c: DurableContext) => (
        await entered(),
        c.step(name, turns.of(name))
      );
      return [await ctx.race({ a: line("a"), b: line("b") }), await ctx.step("last", last)];
    };
    const crashed = crash(world, task, () => last.calls === 1);
    await turns.end("b");
    await crashed;
    expect((await world.run(task)).result).toEqual(["b", null]);
    expect(entered.calls).toBe(2);
    expect(turns.called).toEqual(["a", "b"]);
  });

  test("or rejects with its failure, which replays when the task goes on from it", async () => {
    const world = newWorld();
    const entered = counted(() => {});
    const last = counted((call) => (call === 1 ? never() : null));
    const seen: Error[] = [];
    const task = async (ctx: DurableContext) => {
      const fail = async (c: DurableContext) => (await entered(), c.step("fail", () => Promise.reject(no)));
      seen.push(await rejection(ctx.race({ fail, slow: (c) => c.sleep(60_000) })));
      return ctx.step("last", last);
    };
    await crash(world, task, () => last.calls === 1);
    await world.run(task);
    expect(seen[0]).toBe(no);
    expect(seen[1]).toMatchObject({ name: "NoError", message: "no", code: "E_NO" });
    expect(entered.calls).toBe(1);
  });

  test("and is run again where its failure ended the attempt: recorded steps replay", async () => {
    const world = newWorld();
    const turns = new Turns();
    const first = counted(() => 1);
    const task = (ctx: DurableContext) =>
      ctx.race({
        a: async (c) => [await c.step("first", first), await c.step("a", turns.of("a"))],
        b: (c) => c.step("b", turns.of("b")),
      });
    const failing = rejection(world.run(task));
    await turns.fail("a", no);
    expect(await failing).toBe(no);
    turns.forget();
    const again = world.run(task);
    await turns.end("b");
    expect((await again).result).toBe("b");
    expect(first.calls).toBe(1);
    expect(await recorded(world)).toMatchObject({
      "0": "ctx.race: completed, 2",
      "0/b/0": "b: completed, 2",
    });
  });

  test("or has failed, if that is no JSON", async () => {
    const world = newWorld();
    const last = counted((call) => (call === 1 ? never() : null));
    const codes: unknown[] = [];
    const task = async (ctx: DurableContext) => {
      codes.push((await rejection(ctx.race([async () => [1n]]))).code);
      await ctx.step("last", last);
    };
    await crash(world, task, () => last.calls === 1);
    await world.run(task);
    expect(codes).toEqual(["payload_not_json", "payload_not_json"]);
  });

  test("but is refused without a branch, and the task may go on", async () => {
    const world = newWorld();
    const task = async (ctx: DurableContext) => {
      for (const none of [[], {}]) {
        expect(await rejection(ctx.race(none))).toMatchObject({ code: "invalid_input", field: "branches" });
      }
      return ctx.step("after", async () => "after");
    };
    expect((await world.run(task)).result).toBe("after");
    expect(await recorded(world)).toEqual({ "2": "after: completed, 1" });
  });
});

describe("a race against a sleep", () => {
  const race = (work: () => Promise<string>) => (ctx: DurableContext) =>
    ctx.race({
      work: (c) => c.step("work", work),
      timeout: async (c) => (await c.sleep(60_000), Promise.reject(new Error("took too long"))),
    });

  test("is won by work that ends in time", async () => {
    const { result, record } = await newWorld().run(race(async () => "done"));
    expect(result).toBe("done");
    expect(record.waitingFor).toBeUndefined();
  });

  test("is lost by work that does not", async () => {
    const world = newWorld();
    const error = await rejection(whileTimeFlies(world.clock, world.run(race(() => never()))));
    expect(error.message).toBe("took too long");
  });

  test("is over when it would have been, for whoever resumes the run", async () => {
    const world = newWorld();
    const work = counted(() => never<string>());
    await crash(world, race(work), () => work.calls === 1);
    const started = world.clock.now();
    await rejection(whileTimeFlies(world.clock, world.run(race(work)), 100));
    // Half of it had passed when the first worker's lease lapsed.
    expect(world.clock.now() - started).toBeGreaterThanOrEqual(30_000);
    expect(world.clock.now() - started).toBeLessThan(31_000);
  });

  test("may be for an event, which comes, or does not", async () => {
    const wait = (ctx: DurableContext) =>
      ctx.race([(c) => c.awaitEvent("k"), async (c) => (await c.sleep(60_000), "nobody came")]);
    const world = newWorld();
    await world.memory.emitEvent({ runId: RUN_ID, key: "k", payload: "here" });
    expect((await world.run(wait)).result).toBe("here");
    const other = newWorld();
    expect((await whileTimeFlies(other.clock, other.run(wait))).result).toBe("nobody came");
  });
});

test("a race whose worker died before its outcome was recorded is open again: what was recorded replays, the rest runs", async () => {
  const world = newWorld();
  const turns = new Turns();
  const first = counted(() => 1);
  const task = (ctx: DurableContext) =>
    ctx.race({
      a: async (c) => [await c.step("first", first), await c.step("a", turns.of("a"))],
      b: async (c) => [await c.step("first", first), await c.step("b", turns.of("b"))],
    });
  const gate = Promise.withResolvers<never>();
  world.store.hooks.beginStep = (pass, { intent }) => (intent === "ctx.race" ? gate.promise : pass());
  const dying = world.run(task);
  await turns.end("a");
  await until(() =>
    world.store.calls.some(({ args }) => (args[0] as { intent?: string }).intent === "ctx.race"),
  );
  await lapse(world, dying);
  delete world.store.hooks.beginStep;
  turns.forget();
  expect((await world.run(task)).result).toEqual([1, "a"]);
  expect(turns.called).toEqual(["a", "b", "b"]);
  expect(first.calls).toBe(2);
});
