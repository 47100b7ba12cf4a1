/** R32: a run with branches whose worker dies, loses its lease, or is cancelled, and one that is parked. */
import { describe, expect, test } from "vitest";
import type { DurableContext } from "../src/runner/types.ts";
import { killable } from "../src/testing/kill-points.ts";
import { recorded, Turns } from "./helpers/branches.ts";
import { hanging } from "./support/wrapped-store.ts";
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
  until,
} from "./support/world.ts";

describe.each([
  ["begins that are told first", 0, 21],
  ["begins that come with the ends", 100, 14],
] as const)("a worker that dies at any of its store calls, with %s,", (_which, beginAfterMs, least) => {
  const OUTPUT = {
    both: { a: ["a0", "a1"], b: { deep: ["b0"], deeper: { x: "b1" } } },
    won: "quick",
    caught: "E_NO: no",
    last: "last",
  };

  /** Groups of every kind and outcome, with one output whatever the timing. Notes each call of a step's function. */
  function taskOf(calls: string[]) {
    const step = (c: DurableContext, name: string) => c.step("step", async () => (calls.push(name), name));
    const fail = () => Promise.reject(Object.assign(new Error("no"), { code: "E_NO" }));
    return async (ctx: DurableContext) => {
      const deeper = (c: DurableContext) => c.all({ x: (d) => step(d, "b1") });
      const both = await ctx.all({
        a: async (c) => [await step(c, "a0"), await step(c, "a1")],
        b: (c) => c.all({ deep: async (d) => [await step(d, "b0")], deeper }),
      });
      const won = await ctx.race({
        quick: (c) => step(c, "quick"),
        slow: async (c) => [await c.sleep(86_400_000), await step(c, "slow")],
      });
      const caught = await ctx
        .all([(c) => c.sleep(86_400_000), (c) => c.step("fail", fail)])
        .catch(({ code, message }: Error & { code: string }) => `${code}: ${message}`);
      return { both, won, caught, last: await step(ctx, "last") };
    };
  }

  async function undisturbed(): Promise<{ calls: number; steps: Record<string, string> }> {
    const world = newWorld({ beginAfterMs });
    const worker = killable(world.store);
    expect((await world.run(taskOf([]), { store: worker.store })).result).toEqual(OUTPUT);
    return { calls: worker.calls, steps: await recorded(world) };
  }

  test.each(["before", "after"] as const)(
    "(%s) leaves a run that comes to the same, and repeats nothing",
    async (when) => {
      const { calls: most, steps } = await undisturbed();
      expect(most).toBeGreaterThanOrEqual(least);
      for (let call = 1; call <= most; call += 1) {
        const world = newWorld({ beginAfterMs });
        const victim = killable(world.store, { call, when });
        world.run(taskOf([]), { store: victim.store }).catch(() => {});
        await victim.died;
        const acknowledged = [...victim.acknowledged];
        const done = await Promise.all(
          acknowledged.map(async (position) => (await world.step(position))?.result),
        );
        world.clock.advance(LEASE_MS + 1);
        const calls: string[] = [];
        const { result, record } = await world.run(taskOf(calls));
        expect(result, `killed ${when} call ${call}`).toEqual(OUTPUT);
        for (const name of done) expect(calls, `killed ${when} call ${call}`).not.toContain(name);
        expect(new Set(calls).size).toBe(calls.length);
        expect(record.waitingFor).toBeUndefined();
        expect(Object.keys(await recorded(world)).sort()).toEqual(Object.keys(steps).sort());
      }
    },
  );
});

describe("in the midst of branches", () => {
  /** Two lines of steps, whose code catches everything and tries again. */
  function stubborn(turns: Turns, seen: string[]) {
    const line = (name: string) => async (c: DurableContext) => {
      for (const i of [0, 1]) {
        await c.step(name, turns.of(`${name}${i}`)).catch((error: { code: string }) => seen.push(error.code));
      }
      seen.push(`${name}: ${c.signal.aborted}`);
      return "ended";
    };
    return (ctx: DurableContext) =>
      ctx.all([
        ["a", line("a")],
        ["b", (c) => c.race({ b: line("b") })],
      ]);
  }

  test("a cancelled run stops in every branch, whatever its code catches", async () => {
    const world = newWorld();
    const turns = new Turns();
    const seen: string[] = [];
    const running = rejection(world.run(stubborn(turns, seen)));
    await until(() => turns.called.length === 2);
    await world.memory.cancelRun(RUN_ID, "enough");
    await turns.end("a0");
    expect(await running).toMatchObject({ code: "run_cancelled" });
    await turns.end("b0");
    await until(() => seen.length === 6);
    expect(seen.sort()).toEqual(["a: true", "b: true", ...Array<string>(4).fill("run_cancelled")]);
    expect(turns.called).toEqual(["a0", "b0"]);
    expect(world.record()).toMatchObject({ status: "cancelled", error: { message: "enough" } });
  });

  test("a lost lease stops every branch, and the worker that took over goes on from what was recorded", async () => {
    const world = newWorld();
    const turns = new Turns();
    const seen: string[] = [];
    const running = rejection(world.run(stubborn(turns, seen)));
    await turns.end("a0");
    await until(() => turns.called.length === 3);
    await seize(world);
    await turns.end("b0");
    expect(await running).toMatchObject({ code: "lease_lost" });
    await turns.end("a1");
    await until(() => seen.length === 5);
    expect(seen.sort()).toEqual(["a: true", "b: true", ...Array<string>(3).fill("lease_lost")]);
    expect(await recorded(world)).toEqual({
      "0/a/0": "a: completed, 1",
      "0/b/0/b/0": "b: running, 1",
      "0/a/1": "a: running, 1",
    });
    world.memory._expireLease(RUN_ID);
    turns.forget();
    const again = world.run(stubborn(turns, []));
    await turns.end("a1", "b0", "b1");
    await again;
    expect(turns.called.filter((name) => name === "a0")).toHaveLength(1);
  });

  test("the caller's signal lets what is in flight be recorded, and nothing else begin", async () => {
    const world = newWorld();
    const turns = new Turns();
    const caller = new AbortController();
    const reason = new Error("enough");
    const line = (name: string) => async (c: DurableContext) => [
      await c.step(name, turns.of(`${name}0`)),
      await c.step(name, turns.of(`${name}1`)),
    ];
    const task = (ctx: DurableContext) => ctx.all({ a: line("a"), b: (c) => c.race([line("b"), line("c")]) });
    const running = rejection(world.run(task, { signal: caller.signal }));
    await until(() => turns.called.length === 3);
    caller.abort(reason);
    await turns.end("a0", "b0", "c0");
    expect(await running).toBe(reason);
    expect(turns.called).toEqual(["a0", "b0", "c0"]);
    expect(Object.values(await recorded(world))).toEqual([
      "a: completed, 1",
      "b: completed, 1",
      "c: completed, 1",
    ]);
  });
});

test("a branch that gives up since the caller's signal has aborted has not diverged: the signal's reason is what counts", async () => {
  const world = newWorld();
  const caller = new AbortController();
  const hang = counted((call) => (call === 1 ? never<string>() : "made"));
  const task = async (ctx: DurableContext) => {
    const both = await ctx.all({
      z: async () => hang.calls > 0 && caller.abort(new Error("enough")),
      a: async (c) => {
        try {
          return [await c.step("a0", async () => "made"), await c.step("a1", hang)];
        } catch {
          return "gave up";
        }
      },
    });
    return { ...both, last: await ctx.step("last", hang) };
  };
  await crash(world, task, () => hang.calls === 1);
  expect((await rejection(world.run(task, { signal: caller.signal }))).message).toBe("enough");
  expect((await world.run(task)).result).toMatchObject({ a: ["made", "made"], last: "made" });
});

describe("a run that is parked in one branch", () => {
  /** Its first worker dies in a payment, beside other work. */
  async function parked(world: World, turns: Turns, task: (ctx: DurableContext) => Promise<unknown>) {
    const seen: unknown[] = [];
    const watched = (ctx: DurableContext) => task(ctx).catch((error: unknown) => (seen.push(error), "seen"));
    await crash(world, watched, () => turns.called.length === 2);
    turns.forget();
    seen.length = 0;
    return { running: rejection(world.run(watched)), watched, seen };
  }
  const pay = (turns: Turns) => (c: DurableContext) =>
    c.step("pay", turns.of("pay"), { onInterrupted: "park" });

  test.each(["all", "race"] as const)(
    "waits for the steps of others (ctx.%s), which are recorded, and begins no other",
    async (kind) => {
      const world = newWorld();
      const turns = new Turns();
      const stopped: unknown[] = [];
      const task = (ctx: DurableContext) =>
        ctx[kind]({
          pay: pay(turns),
          other: async (c) => {
            const one = await c.step("one", turns.of("one"));
            return [one, await c.step("two", turns.of("two")).catch((error: unknown) => stopped.push(error))];
          },
        });
      const { running, watched, seen } = await parked(world, turns, task);
      await until(() => turns.called.length === 3);
      for (let i = 0; i < 5; i += 1) await tick();
      expect(world.record().status).toBe("running");
      await turns.end("one");
      expect(await running).toMatchObject({ code: "run_suspended", stepIndex: 0 });
      expect(world.record()).toMatchObject({
        status: "suspended",
        waitingFor: [{ stepIndex: 0, for: "decision" }],
      });
      // No code of the task has seen that it was parked.
      await tick();
      expect([seen, stopped]).toEqual([[], []]);
      await world.memory.resolveStep(RUN_ID, 0, { result: "paid" });
      const again = world.run(watched);
      if (kind === "all") await turns.end("two");
      expect((await again).result).toEqual(kind === "all" ? { pay: "paid", other: ["one", "two"] } : "paid");
      expect(turns.called.filter((name) => name === "pay" || name === "one")).toEqual(["pay", "one", "one"]);
    },
  );

  test("and in another one is freed when both are resolved", async () => {
    const world = newWorld();
    const turns = new Turns();
    const { running, watched } = await parked(world, turns, (ctx) =>
      ctx.all([pay(turns), (c) => c.all([pay(turns)])]),
    );
    expect(await running).toMatchObject({ code: "run_suspended" });
    await world.memory.resolveStep(RUN_ID, 0, { result: "paid" });
    // The attempt stopped at the first, if not at both.
    const next = await rejection(world.run(watched));
    expect(next).toMatchObject({ code: "run_suspended", stepIndex: 1 });
    await world.memory.resolveStep(RUN_ID, 1, { rerun: true });
    const last = world.run(watched);
    await turns.end("pay");
    expect((await last).result).toEqual(["paid", ["pay"]]);
  });
});

test("a step in a branch whose begin was lost takes another position at the next attempt, and keeps its key", async () => {
  const world = newWorld();
  const keys: string[] = [];
  const hang = counted((call) => (call === 1 ? never<string>() : "b"));
  const task = (ctx: DurableContext) =>
    ctx.all({
      a: (c) => c.step("a", async ({ idempotencyKey }) => keys.push(idempotencyKey)),
      b: (c) => c.step("b", hang),
    });
  // As over an object that keeps a begin in memory for a moment, and dies.
  world.store.hooks.beginStep = async (pass, input) => {
    if (input.intent === "b") return pass();
    return { ...input, kind: "logic", status: "running", attempts: 1 };
  };
  world.store.inject("completeStep", hanging());
  await crash(world, task, () => hang.calls === 1 && keys.length === 1);
  expect(await recorded(world)).toEqual({ "0/b/0": "b: running, 1" });
  for (const method of ["beginStep", "completeStep"] as const) delete world.store.hooks[method];
  expect((await world.run(task)).result).toEqual({ a: 2, b: "b" });
  expect((await world.step(1))?.path).toBe("0/b/0");
  expect((await world.step(2))?.path).toBe("0/a/0");
  expect(keys[1]).toBe(keys[0]);
});

test("a thousand branches, and a thousand groups, are run and resumed", async () => {
  const world = newWorld();
  const effects = counted((call) => call);
  const last = counted((call) => (call === 1 ? never() : "end"));
  const many = Array.from({ length: 1_000 }, () => (c: DurableContext) => c.step("s", effects));
  const task = async (ctx: DurableContext) => {
    let sum = 0;
    for (const one of await ctx.all(many)) sum += one;
    for (const branch of many) sum += await ctx.race([branch]);
    return [sum, await ctx.step("last", last)];
  };
  await crash(world, task, () => last.calls === 1);
  expect((await world.run(task)).result).toEqual([(2_000 * 2_001) / 2, "end"]);
  expect(effects.calls).toBe(2_000);
});
