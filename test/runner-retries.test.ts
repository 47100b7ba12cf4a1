/** R30: attempts that fail and are made again: what is recorded of each, what a crash, a loss and a signal leave. */
import { describe, expect, test } from "vitest";
import type { DurableContext, StepInfo, StepOptions } from "../src/runner/types.ts";
import { PlainStore } from "./support/plain-store.ts";
import type { World } from "./support/world.ts";
import {
  counted,
  crash,
  lapse,
  LEASE_MS,
  never,
  newWorld,
  OWN_SLEEPERS,
  plainError,
  rejection,
  seize,
  tick,
  unavailable,
  until,
  whileTimeFlies,
} from "./support/world.ts";
import { failing, losingAnswers } from "./support/wrapped-store.ts";

const RETRIES = { limit: 3, delayMs: 10_000, backoff: "constant" } as const;

/** A step that fails `times` times, and notes when it was called. */
function flaky(world: World, times: number, retries: StepOptions["retries"] = RETRIES) {
  const at: number[] = [];
  const fn = counted((call) => {
    at.push(world.clock.now());
    if (call <= times) throw new Error(`no ${call}`);
    return "yes";
  });
  const task = (ctx: DurableContext) => ctx.step("flaky", fn, { retries });
  /** How long after the first call each one came. */
  const after = () => at.map((ms) => ms - (at[0] as number));
  return { fn, task, after };
}

const inDelay = (world: World) =>
  until(() => world.store.count("failStep") === 1 && world.clock.sleepers > OWN_SLEEPERS);

describe("a step that fails at first", () => {
  test("is attempted again once each delay is over, and answers what the attempt that went well returned", async () => {
    const world = newWorld();
    const { task, fn, after } = flaky(world, 2);
    const { result, steps, record } = await whileTimeFlies(world.clock, world.run(task), 2_500);
    expect(result).toBe("yes");
    expect(after()).toEqual([0, 10_000, 20_000]);
    expect(steps).toMatchObject([{ status: "completed", attempts: 3, tries: 3 }]);
    expect(record).toMatchObject({ status: "completed", stepCount: 1, takeovers: 0 });
    expect((await world.run(task)).result).toBe("yes");
    expect(fn.calls).toBe(3);
  });

  test("is pending meanwhile, with its last error and the time of the next attempt; the run says that it waits", async () => {
    const world = newWorld();
    const { task } = flaky(world, 1);
    const attempt = world.run(task);
    await inDelay(world);
    const nextAttemptAt = new Date(world.clock.now() + 10_000).toISOString();
    const pending = await world.step(0);
    expect(pending).toMatchObject({ status: "pending", nextAttemptAt, lastError: { message: "no 1" } });
    expect(pending).not.toHaveProperty("error");
    expect(world.record()).toMatchObject({
      status: "running",
      waitingFor: [{ stepIndex: 0, for: "retry", until: nextAttemptAt }],
    });
    await whileTimeFlies(world.clock, attempt);
    const completed = await world.step(0);
    expect(completed).toMatchObject({ status: "completed", lastError: { message: "no 1" } });
    expect(completed).not.toHaveProperty("nextAttemptAt");
    expect(world.record()).not.toHaveProperty("waitingFor");
  });

  test("tells its function the attempt, and the same key at each", async () => {
    const world = newWorld();
    const given: StepInfo[] = [];
    const attempt = world.run((ctx) =>
      ctx.step(
        "flaky",
        async (info) => {
          if (given.push(info) < 3) throw new Error("no");
        },
        { retries: RETRIES },
      ),
    );
    await whileTimeFlies(world.clock, attempt);
    expect(given.map((info) => info.attempt)).toEqual([1, 2, 3]);
    expect(new Set(given.map((info) => info.idempotencyKey)).size).toBe(1);
  });

  test("fails with the error of its last attempt, unchanged, when no further one is due", async () => {
    const world = newWorld();
    const { task, fn } = flaky(world, 9);
    const error = await rejection(whileTimeFlies(world.clock, world.run(task)));
    expect(error.message).toBe("no 4");
    expect(fn.calls).toBe(4);
    expect(await world.step(0)).toMatchObject({ status: "failed", error: { message: "no 4" }, tries: 4 });
    expect(world.record()).toMatchObject({ status: "failed", error: { message: "no 4" } });
  });

  test("has a fresh series when the failed run is resumed", async () => {
    const world = newWorld();
    const { task, fn, after } = flaky(world, 5);
    await rejection(whileTimeFlies(world.clock, world.run(task), 2_500));
    const { result } = await whileTimeFlies(world.clock, world.run(task), 2_500);
    expect(result).toBe("yes");
    expect(fn.calls).toBe(6);
    const [fifth = 0, sixth = 0] = after().slice(4);
    expect(sixth - fifth).toBe(10_000);
    expect(await world.step(0)).toMatchObject({ attempts: 6, tries: 2 });
  });

  test("replays as that failure once the task has moved past it, without another attempt", async () => {
    const world = newWorld();
    const { fn } = flaky(world, 9);
    const last = counted((call) => (call === 1 ? never() : null));
    const task = async (ctx: DurableContext) => {
      const retries = { ...RETRIES, delayMs: 0 };
      const seen = await ctx.step("flaky", fn, { retries }).catch((error: Error) => error.message);
      await ctx.step("last", last);
      return seen;
    };
    await crash(world, task, () => last.calls === 1);
    expect((await world.run(task)).result).toBe("no 4");
    expect(fn.calls).toBe(4);
  });

  test("is attempted again after a timeout, whose late result counts for nothing", async () => {
    const world = newWorld();
    const late = Promise.withResolvers<string>();
    const fn = counted((call) => (call === 1 ? late.promise : "in time"));
    const attempt = world.run(async (ctx) => {
      const value = await ctx.step("slow", fn, { timeoutMs: 5_000, retries: RETRIES });
      late.resolve("too late");
      await tick();
      return value;
    });
    expect((await whileTimeFlies(world.clock, attempt)).result).toBe("in time");
    expect(await world.step(0)).toMatchObject({
      result: "in time",
      attempts: 2,
      lastError: { code: "step_timeout" },
    });
  });
});

describe("a worker that dies", () => {
  test("in a delay leaves the next one neither a new count nor an earlier attempt", async () => {
    const world = newWorld();
    const { task, fn, after } = flaky(world, 9, { ...RETRIES, delayMs: 60_000 });
    const attempt = world.run(task);
    await inDelay(world);
    await lapse(world, attempt);
    expect(fn.calls).toBe(1);
    const error = await rejection(whileTimeFlies(world.clock, world.run(task), 2_500));
    expect(error.message).toBe("no 4");
    expect(after()).toEqual([0, 60_000, 120_000, 180_000]);
    // One for each attempt, and the one that was refused.
    expect(world.store.count("beginStep")).toBe(5);
  });

  test("in an attempt has used it up", async () => {
    const world = newWorld();
    const fn = counted((call) => (call === 1 ? never() : Promise.reject(new Error(`no ${call}`))));
    const task = (ctx: DurableContext) => ctx.step("flaky", fn, { retries: { limit: 1 } });
    await crash(world, task, () => fn.calls === 1);
    expect((await rejection(whileTimeFlies(world.clock, world.run(task)))).message).toBe("no 2");
    expect(await world.step(0)).toMatchObject({ attempts: 2, tries: 2 });
  });

  test("in each attempt that the limit allows leaves none: the step fails, uncalled, and then has a fresh series", async () => {
    const world = newWorld();
    const fn = counted((call) => (call < 3 ? never() : "yes"));
    const task = (ctx: DurableContext) => ctx.step("killer", fn, { retries: { limit: 1 } });
    for (const calls of [1, 2]) await crash(world, task, () => fn.calls === calls);
    expect(await rejection(world.run(task))).toMatchObject({ code: "step_interrupted", retryable: false });
    expect(fn.calls).toBe(2);
    expect((await world.run(task)).result).toBe("yes");
    expect(await world.step(0)).toMatchObject({ tries: 1 });
  });

  test("and is replaced while it is in a delay makes no further attempt, and writes nothing", async () => {
    const world = newWorld();
    const { task, fn } = flaky(world, 9);
    const attempt = rejection(world.run(task));
    await inDelay(world);
    await seize(world);
    await whileTimeFlies(world.clock, attempt);
    expect(await attempt).toMatchObject({ code: "lease_lost" });
    await tick();
    expect(fn.calls).toBe(1);
    expect(await world.step(0)).toMatchObject({ status: "pending", attempts: 1 });
    expect(world.record()).toMatchObject({ leaseHolderId: "thief" });
  });
});

describe("the caller's signal", () => {
  test("aborted during an attempt: its failure is the last, and the next run has a fresh series", async () => {
    const world = newWorld();
    const caller = new AbortController();
    const fn = counted((call) => {
      if (call > 1) return "yes";
      caller.abort(new Error("enough"));
      throw new Error("no");
    });
    const task = (ctx: DurableContext) => ctx.step("flaky", fn, { retries: RETRIES });
    expect((await rejection(world.run(task, { signal: caller.signal }))).message).toBe("no");
    expect(await world.step(0)).toMatchObject({ status: "failed", attempts: 1 });
    expect((await world.run(task)).result).toBe("yes");
    expect(await world.step(0)).toMatchObject({ attempts: 2, tries: 1 });
  });

  test("aborted during a delay ends it at once; the attempt stays due at its time", async () => {
    const world = newWorld();
    const caller = new AbortController();
    const { task, after } = flaky(world, 1);
    const attempt = rejection(world.run(task, { signal: caller.signal }));
    await inDelay(world);
    const enough = new Error("enough");
    caller.abort(enough);
    expect(await attempt).toBe(enough);
    expect(await world.step(0)).toMatchObject({ status: "pending", tries: 1 });
    expect(world.record().status).toBe("failed");
    expect((await whileTimeFlies(world.clock, world.run(task), 2_500)).result).toBe("yes");
    expect(after()).toEqual([0, 10_000]);
    expect(await world.step(0)).toMatchObject({ attempts: 2, tries: 2 });
  });
});

describe("a store that cannot answer when an attempt has failed", () => {
  test.each([
    ["is told again, and the attempt counts once", () => failing(3, unavailable)],
    ["is told again also when its answer was lost", () => losingAnswers(3, plainError)],
  ])("%s", async (_what, fault) => {
    const world = newWorld();
    world.store.inject("failStep", fault());
    const { task, fn } = flaky(world, 1);
    const { result } = await whileTimeFlies(world.clock, world.run(task), 500);
    expect(result).toBe("yes");
    expect(fn.calls).toBe(2);
    expect(world.store.count("failStep")).toBe(4);
    expect(await world.step(0)).toMatchObject({ attempts: 2, tries: 2, lastError: { message: "no 1" } });
  });

  test("for as long as the lease lasts loses the lease, and no further attempt is made", async () => {
    const world = newWorld();
    world.store.inject("failStep", failing(Infinity, unavailable));
    world.store.inject("renewLease", failing(Infinity, unavailable));
    const { task, fn } = flaky(world, 1);
    expect(await rejection(whileTimeFlies(world.clock, world.run(task)))).toMatchObject({
      code: "lease_lost",
    });
    expect(fn.calls).toBe(1);
    world.store.hooks.failStep = (pass) => pass();
    world.clock.advance(LEASE_MS);
    expect((await world.run(task)).result).toBe("yes");
    expect(await world.step(0)).toMatchObject({ attempts: 2, tries: 2 });
  });
});

describe("beside others, a step in its delay", () => {
  test("does not hold up a task that has failed elsewhere, and goes on at the next run", async () => {
    const world = newWorld();
    const { fn } = flaky(world, 1);
    const other = counted((call) => (call === 1 ? Promise.reject(new Error("other")) : "fine"));
    const task = (ctx: DurableContext) =>
      Promise.all([ctx.step("flaky", fn, { retries: RETRIES }), ctx.step("other", other)]);
    expect((await rejection(world.run(task))).message).toBe("other");
    expect(await world.step(0)).toMatchObject({ status: "pending" });
    expect((await whileTimeFlies(world.clock, world.run(task))).result).toEqual(["yes", "fine"]);
    expect(fn.calls).toBe(2);
  });

  test("does not hold them up, nor do they share its count", async () => {
    const world = newWorld();
    const a = flaky(world, 2);
    const b = flaky(world, 3, { ...RETRIES, delayMs: 1_000 });
    const attempt = world.run((ctx) =>
      Promise.all([a.task(ctx), b.task(ctx), ctx.step("c", async () => "c")]),
    );
    expect((await whileTimeFlies(world.clock, attempt, 500)).result).toEqual(["yes", "yes", "c"]);
    expect([a.after(), b.after()]).toEqual([
      [0, 10_000, 20_000],
      [0, 1_000, 2_000, 3_000],
    ]);
  });
});

test("over a plain store a step is retried too, and counted by this attempt alone", async () => {
  const world = newWorld();
  const store = new PlainStore(() => world.clock.now());
  const { task, fn } = flaky(world, 9);
  const run = () => rejection(whileTimeFlies(world.clock, world.run(task, { store })));
  expect((await run()).message).toBe("no 4");
  expect((await run()).message).toBe("no 8");
  expect(fn.calls).toBe(8);
});
