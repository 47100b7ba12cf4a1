/** Events: emitted before, during and after; waits, their deadlines, and what all of it replays as. */
import { describe, expect, test } from "vitest";
import { DurableAwaitEventTimeoutError } from "../src/contract/errors.ts";
import type { DurableContext } from "../src/runner/types.ts";
import type { World } from "./support/world.ts";
import {
  counted,
  crash,
  LEASE_MS,
  never,
  newWorld,
  plainError,
  rejection,
  RUN_ID,
  tick,
  until,
  whileTimeFlies,
} from "./support/world.ts";
import { failing } from "./support/wrapped-store.ts";

function emit(world: World, key: string, payload: unknown): Promise<{ accepted: boolean }> {
  return world.memory.emitEvent({ runId: RUN_ID, key, payload });
}

describe("an event reaches its wait", () => {
  test("when it was emitted before the run existed", async () => {
    const world = newWorld();
    await emit(world, "approved", { by: "ann" });
    const { result } = await world.run((ctx) => ctx.awaitEvent("approved"));
    expect(result).toEqual({ by: "ann" });
    expect(world.store.count("loadEvent")).toBe(1);
  });

  test("when it was emitted by the run itself, before the wait", async () => {
    const world = newWorld();
    const { result } = await world.run(async (ctx) => {
      await ctx.emitEvent("approved", { by: "me" });
      return ctx.awaitEvent("approved");
    });
    expect(result).toEqual({ by: "me" });
  });

  test("when it comes while the wait polls, every pollMs", async () => {
    const world = newWorld();
    const attempt = world.run((ctx) => ctx.awaitEvent("approved", { pollMs: 5_000 }));
    await until(() => world.store.count("loadEvent") === 1);
    for (const polls of [2, 3, 4]) {
      world.clock.advance(4_000);
      await tick();
      world.clock.advance(1_000);
      await until(() => world.store.count("loadEvent") === polls);
    }
    await emit(world, "approved", "yes");
    world.clock.advance(5_000);
    expect((await attempt).result).toBe("yes");
    expect(world.store.count("loadEvent")).toBe(5);
  });

  test("when it was emitted while nobody waited any more", async () => {
    const world = newWorld();
    const task = (ctx: DurableContext) => ctx.awaitEvent("approved");
    await crash(world, task, () => world.store.count("loadEvent") === 1);
    await emit(world, "approved", "late");
    expect((await world.run(task)).result).toBe("late");
  });

  test("at each of two waits, and through parallel ones", async () => {
    const world = newWorld();
    await emit(world, "a", 1);
    await emit(world, "b", 2);
    const { result } = await world.run(async (ctx) => [
      ...(await Promise.all([ctx.awaitEvent("a"), ctx.awaitEvent("b")])),
      await ctx.awaitEvent("a"),
    ]);
    expect(result).toEqual([1, 2, 1]);
  });

  test.each([undefined, null, 0, "", { nested: [new Date(0)] }])(
    "with the payload that JSON gives: %j",
    async (payload) => {
      const world = newWorld();
      await emit(world, "k", payload);
      const seen: unknown[] = [];
      const last = counted((call) => (call === 1 ? never() : null));
      const task = async (ctx: DurableContext) => {
        seen.push(await ctx.awaitEvent("k"));
        await ctx.step("last", last);
      };
      await crash(world, task, () => last.calls === 1);
      await world.run(task);
      const expected: unknown = payload === undefined ? undefined : JSON.parse(JSON.stringify(payload));
      expect(seen).toStrictEqual([expected, expected]);
    },
  );
});

test("a wait that was answered replays without asking for the event", async () => {
  const world = newWorld();
  await emit(world, "k", "once");
  const last = counted((call) => (call === 1 ? never() : null));
  const task = async (ctx: DurableContext) => {
    const value = await ctx.awaitEvent("k");
    await ctx.step("last", last);
    return value;
  };
  await crash(world, task, () => last.calls === 1);
  const { result, steps } = await world.run(task);
  expect(result).toBe("once");
  expect(world.store.count("loadEvent")).toBe(1);
  expect(steps[0]).toMatchObject({ intent: "event:k", kind: "event", status: "completed", result: "once" });
});

describe("a wait that times out", () => {
  test("does so at its deadline, with a typed error, after a last look", async () => {
    const world = newWorld();
    const begunAt = world.clock.now();
    let failedAt = 0;
    world.store.hooks.failStep = (pass) => {
      failedAt = world.clock.now();
      return pass();
    };
    const attempt = world.run((ctx) => ctx.awaitEvent("k", { timeoutMs: 10_000, pollMs: 3_000 }));
    const error = await rejection(whileTimeFlies(world.clock, attempt, 500));
    expect(error).toBeInstanceOf(DurableAwaitEventTimeoutError);
    const { deadlineAt, startedAt, ...step } = (await world.step(0)) ?? {};
    expect(error.message).toBe(`no event "k" came to run "${RUN_ID}" by ${deadlineAt}.`);
    expect(Date.parse(deadlineAt as string) - Date.parse(startedAt as string)).toBe(10_000);
    expect(step).toMatchObject({ status: "failed", error: { code: "await_event_timeout" } });
    expect(failedAt - begunAt).toBe(10_000);
  });

  test("of 0 ms looks once", async () => {
    const world = newWorld();
    expect(await rejection(world.run((ctx) => ctx.awaitEvent("k", { timeoutMs: 0 })))).toMatchObject({
      code: "await_event_timeout",
    });
    expect(world.store.count("loadEvent")).toBe(1);
    await emit(world, "k2", 1);
    const other = await world.run((ctx) =>
      ctx.awaitEvent("k", { timeoutMs: 0 }).catch(() => ctx.awaitEvent("k2")),
    );
    expect(other.result).toBe(1);
  });

  test("and is caught replays as a timeout, though the event came since (R24)", async () => {
    const world = newWorld();
    const last = counted((call) => (call === 1 ? never() : null));
    const seen: unknown[] = [];
    const task = async (ctx: DurableContext) => {
      const decision = await ctx.awaitEvent("k", { timeoutMs: 1_000 }).catch((error: unknown) => {
        seen.push(error);
        return "nobody came";
      });
      await ctx.step("last", last);
      return decision;
    };
    const attempt = rejection(world.run(task));
    await whileTimeFlies(
      world.clock,
      until(() => last.calls === 1),
    );
    world.clock.advance(LEASE_MS);
    expect(await attempt).toMatchObject({ code: "lease_lost" });
    await emit(world, "k", "too late");

    const looks = world.store.count("loadEvent");
    expect((await world.run(task)).result).toBe("nobody came");
    expect(world.store.count("loadEvent")).toBe(looks);
    expect(seen).toHaveLength(2);
    for (const error of seen) expect(error).toBeInstanceOf(DurableAwaitEventTimeoutError);
    expect((seen[1] as Error).message).toBe((seen[0] as Error).message);
  });

  test("and is not caught succeeds when it is resumed after the event came late", async () => {
    const world = newWorld();
    const task = (ctx: DurableContext) => ctx.awaitEvent("k", { timeoutMs: 5_000 });
    expect(await rejection(whileTimeFlies(world.clock, world.run(task)))).toMatchObject({
      code: "await_event_timeout",
    });
    expect(await rejection(world.run(task))).toMatchObject({ code: "await_event_timeout" });
    await emit(world, "k", "better late");
    const { result, steps } = await world.run(task);
    expect(result).toBe("better late");
    expect(steps).toMatchObject([{ status: "completed", attempts: 3 }]);
  });

  test("has the deadline of its first begin, whoever resumes it, and whatever the code then says", async () => {
    const world = newWorld();
    await crash(
      world,
      (ctx) => ctx.awaitEvent("k", { timeoutMs: 45_000 }),
      () => world.store.count("loadEvent") === 1,
    );
    const deadline = (await world.step(0))?.deadlineAt as string;
    const error = await rejection(
      whileTimeFlies(
        world.clock,
        world.run((ctx) => ctx.awaitEvent("k", { timeoutMs: 3_600_000 })),
      ),
    );
    expect(error.message).toContain(`by ${deadline}`);
    expect((await world.step(0))?.deadlineAt).toBe(deadline);
  });

  test("waits for a day when it is not told otherwise", async () => {
    const world = newWorld();
    await crash(
      world,
      (ctx) => ctx.awaitEvent("k"),
      () => world.store.count("loadEvent") === 1,
    );
    const { deadlineAt, startedAt } = (await world.step(0)) ?? {};
    expect(Date.parse(deadlineAt as string) - Date.parse(startedAt as string)).toBe(86_400_000);
  });
});

describe("emitEvent", () => {
  test("answers the same at replay: yes to the first, no to a later one", async () => {
    const world = newWorld();
    await emit(world, "taken", "theirs");
    const seen: boolean[][] = [];
    const last = counted((call) => (call === 1 ? never() : null));
    const task = async (ctx: DurableContext) => {
      const answers = [
        await ctx.emitEvent("mine", 1),
        await ctx.emitEvent("mine", 2),
        await ctx.emitEvent("taken", 3),
      ];
      seen.push(answers.map((answer) => answer.accepted));
      await ctx.step("last", last);
    };
    await crash(world, task, () => last.calls === 1);
    await world.run(task);
    expect(seen).toEqual([
      [true, false, false],
      [true, false, false],
    ]);
    expect((await world.memory.loadEvent(RUN_ID, "mine"))?.payload).toBe(1);
    expect((await world.memory.loadEvent(RUN_ID, "taken"))?.payload).toBe("theirs");
  });

  test("answers the same at replay also when parallel branches come to it in another order", async () => {
    const world = newWorld();
    const seen: boolean[][] = [];
    const last = counted((call) => (call === 1 ? never() : null));
    const task = async (ctx: DurableContext) => {
      // The steps of the first attempt take a while, and the second one's slower; those of a replay take none.
      const branch = async (name: string, ticks: number) => {
        await ctx.step(name, async () => {
          for (let i = 0; i < ticks; i += 1) await tick();
        });
        return (await ctx.emitEvent(name, 1)).accepted;
      };
      seen.push(await Promise.all([branch("slow", 5), branch("quick", 1)]));
      await ctx.step("last", last);
    };
    await crash(world, task, () => last.calls === 1);
    await world.run(task);
    const emitted = world.store.calls.filter((call) => call.method === "emitEvent");
    expect(emitted.map((call) => (call.args[0] as { key: string }).key)).toEqual([
      "quick",
      "slow",
      "slow",
      "quick",
    ]);
    expect(seen).toEqual([
      [true, true],
      [true, true],
    ]);
  });

  test("is no step, and takes no position", async () => {
    const world = newWorld();
    const { steps } = await world.run(async (ctx) => {
      await ctx.emitEvent("k", 1);
      await ctx.step("only", async () => 1);
    });
    expect(steps).toMatchObject([{ stepIndex: 0, intent: "only" }]);
  });

  test("sends the payload as it was at the call, also when it has to be repeated", async () => {
    const world = newWorld();
    world.store.inject("emitEvent", failing(1, plainError));
    const payload = { n: 1 };
    const attempt = world.run((ctx) => {
      const emitted = ctx.emitEvent("k", payload);
      payload.n = 2;
      return emitted;
    });
    expect((await whileTimeFlies(world.clock, attempt)).result).toEqual({ accepted: true });
    expect(world.store.count("emitEvent")).toBe(2);
    expect((await world.memory.loadEvent(RUN_ID, "k"))?.payload).toEqual({ n: 1 });
  });

  test.each<[string, string, unknown, object]>([
    ["an empty key", "", 1, { code: "invalid_input", field: "key" }],
    ["a key of 2 KB", "k".repeat(2_048), 1, { code: "invalid_input", field: "key" }],
    ["a key that is not well-formed", "\ud800", 1, { code: "invalid_input", field: "key" }],
    ["a payload that JSON cannot carry", "k", [Number.NaN], { code: "payload_not_json" }],
  ])("refuses %s, and the task may go on", async (_what, key, payload, expected) => {
    const world = newWorld();
    const { result } = await world.run(async (ctx) => {
      expect(await rejection(ctx.emitEvent(key, payload))).toMatchObject(expected);
      return (await ctx.emitEvent("fine", 1)).accepted;
    });
    expect(result).toBe(true);
    expect(world.store.count("emitEvent")).toBe(1);
  });
});
