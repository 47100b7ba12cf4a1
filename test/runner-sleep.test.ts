/** R24, R33: a sleep is a step whose end is fixed when it first begins. */
import { describe, expect, test } from "vitest";
import type { DurableContext } from "../src/runner/types.ts";
import { PlainStore } from "./support/plain-store.ts";
import type { World } from "./support/world.ts";
import {
  counted,
  crash,
  lapse,
  never,
  newWorld,
  OWN_SLEEPERS,
  rejection,
  seize,
  tick,
  until,
  whileTimeFlies,
} from "./support/world.ts";

const STRIDE_MS = 2_500;

const asleep = (world: World) =>
  until(() => world.store.count("beginStep") === 1 && world.clock.sleepers > OWN_SLEEPERS);

/** How long `work` takes by the world's clock, to the stride. */
async function took(world: World, work: Promise<unknown>, strideMs = STRIDE_MS): Promise<number> {
  const from = world.clock.now();
  let settledAt = 0;
  const noted = work.finally(() => (settledAt = world.clock.now()));
  await whileTimeFlies(world.clock, noted, strideMs);
  return settledAt - from;
}

describe("a sleep", () => {
  test("takes its time, as a step; the run says what it waits for, and until when", async () => {
    const world = newWorld();
    const due = new Date(world.clock.now() + 10_000).toISOString();
    const attempt = world.run((ctx) => ctx.sleep(10_000));
    await asleep(world);
    expect(world.record()).toMatchObject({
      status: "running",
      waitingFor: [{ stepIndex: 0, for: "time", until: due }],
    });
    expect(await took(world, attempt)).toBe(10_000);
    const { steps, record, result } = await attempt;
    expect(result).toBeUndefined();
    expect(steps).toMatchObject([
      { intent: "ctx.sleep", kind: "deterministic", status: "completed", deadlineAt: due, attempts: 1 },
    ]);
    expect(record).not.toHaveProperty("waitingFor");
  });

  test("outlasts many heartbeats", async () => {
    const world = newWorld();
    expect(
      await took(
        world,
        world.run((ctx) => ctx.sleep(3_600_000)),
      ),
    ).toBe(3_600_000);
    expect(world.record()).toMatchObject({ status: "completed", takeovers: 0 });
  });

  test.each<[string, (ctx: DurableContext, world: World) => Promise<void>]>([
    ["of 0 ms", (ctx) => ctx.sleep(0)],
    ["until now", (ctx, world) => ctx.sleepUntil(new Date(world.clock.now()))],
    ["until a second ago", (ctx, world) => ctx.sleepUntil(new Date(world.clock.now() - 1_000))],
    ["until long ago", (ctx) => ctx.sleepUntil(new Date(-8.64e15))],
  ])("%s is over at once, and recorded", async (_what, sleep) => {
    const world = newWorld();
    const from = world.clock.now();
    const { steps } = await world.run((ctx) => sleep(ctx, world));
    expect(steps).toMatchObject([{ intent: "ctx.sleep", status: "completed" }]);
    expect(world.clock.now()).toBe(from);
  });

  test("until an instant ends at it", async () => {
    const world = newWorld();
    const at = new Date(world.clock.now() + 25_000);
    expect(
      await took(
        world,
        world.run((ctx) => ctx.sleepUntil(at)),
      ),
    ).toBe(25_000);
    expect((await world.step(0))?.deadlineAt).toBe(at.toISOString());
  });

  test("is not slept again at a replay", async () => {
    const world = newWorld();
    const last = counted((call) => (call === 1 ? never() : "end"));
    const task = async (ctx: DurableContext) => {
      await ctx.sleep(10_000);
      return ctx.step("last", last);
    };
    const attempt = world.run(task);
    await whileTimeFlies(
      world.clock,
      until(() => last.calls === 1),
      STRIDE_MS,
    );
    await lapse(world, attempt);
    const from = world.clock.now();
    expect((await world.run(task)).result).toBe("end");
    expect(world.clock.now()).toBe(from);
  });

  test("beside others takes as long as the longest", async () => {
    const world = newWorld();
    const sleeps = async (ctx: DurableContext) => {
      await Promise.all([10_000, 30_000, 20_000].map((ms) => ctx.sleep(ms)));
    };
    expect(await took(world, world.run(sleeps))).toBe(30_000);
  });
});

describe("a worker that dies in a sleep", () => {
  const task = (ctx: DurableContext) => ctx.sleep(60_000);
  const begun = (world: World) => () => world.store.count("beginStep") === 1;

  test("leaves the next one the rest of it", async () => {
    const world = newWorld();
    await crash(world, task, begun(world));
    expect(await took(world, world.run(task))).toBe(30_000);
    expect(await world.step(0)).toMatchObject({ status: "completed", attempts: 2 });
  });

  test("leaves the next one nothing when its time is over", async () => {
    const world = newWorld();
    await crash(world, task, begun(world));
    world.clock.advance(60_000);
    const from = world.clock.now();
    await world.run(task);
    expect(world.clock.now()).toBe(from);
  });

  test("has fixed its end, whatever the code says since", async () => {
    const world = newWorld();
    await crash(world, task, begun(world));
    expect(
      await took(
        world,
        world.run((ctx) => ctx.sleep(3_600_000)),
      ),
    ).toBe(30_000);
  });

  test("until an instant leaves the next one the same instant", async () => {
    const world = newWorld();
    const at = new Date(world.clock.now() + 60_000);
    const until = (ctx: DurableContext) => ctx.sleepUntil(at);
    await crash(world, until, begun(world));
    expect(await took(world, world.run(until))).toBe(30_000);
  });
});

describe("a sleep that is ended before its time", () => {
  test("by the caller's signal ends at once with the reason; the next run sleeps the rest", async () => {
    const world = newWorld();
    const caller = new AbortController();
    const enough = new Error("enough");
    const task = (ctx: DurableContext) => ctx.sleep(60_000);
    const attempt = rejection(world.run(task, { signal: caller.signal }));
    await asleep(world);
    world.clock.advance(5_000);
    caller.abort(enough);
    expect(await attempt).toBe(enough);
    expect(world.record().status).toBe("failed");
    expect(await took(world, world.run(task))).toBe(55_000);
  });

  test("by a loss of the lease is recorded as nothing", async () => {
    const world = newWorld();
    const attempt = rejection(world.run((ctx) => ctx.sleep(60_000)));
    await asleep(world);
    await seize(world);
    expect(await whileTimeFlies(world.clock, attempt)).toMatchObject({ code: "lease_lost" });
    expect(await world.step(0)).toMatchObject({ status: "running", attempts: 1 });
  });

  test("by a sibling that fails has not failed itself: the next run sleeps the rest", async () => {
    const world = newWorld();
    const bad = counted((call) => (call === 1 ? Promise.reject(new Error("bad")) : "good"));
    const task = async (ctx: DurableContext) => {
      await Promise.all([ctx.sleep(60_000), ctx.step("bad", bad)]);
    };
    expect((await rejection(world.run(task))).message).toBe("bad");
    expect(await world.step(0)).toMatchObject({ status: "running" });
    world.clock.advance(20_000);
    expect(await took(world, world.run(task))).toBe(40_000);
  });

  test("by the task's end does not hold up the run", async () => {
    const world = newWorld();
    const { record } = await world.run(async (ctx) => {
      void ctx.sleep(60_000);
      await ctx.step("x", async () => 1);
    });
    expect(record.status).toBe("completed");
    await tick();
    expect(world.clock.sleepers).toBe(0);
  });
});

describe("over a plain store", () => {
  function plain(world: World) {
    const store = new PlainStore(() => world.clock.now());
    const run = (task: (ctx: DurableContext) => Promise<void>) => world.run(task, { store });
    const crashIn = async (task: (ctx: DurableContext) => Promise<void>) => {
      const attempt = run(task);
      attempt.catch(() => {});
      await until(() => world.clock.sleepers > OWN_SLEEPERS);
      await lapse(world, attempt);
    };
    return { run, crashIn };
  }

  test("a sleep takes its time, and all of it again after a crash, for nobody knows when it began", async () => {
    const world = newWorld();
    const { run, crashIn } = plain(world);
    const task = (ctx: DurableContext) => ctx.sleep(60_000);
    await crashIn(task);
    expect(await took(world, run(task))).toBe(60_000);
  });

  test("a sleep until an instant ends at it, also after a crash", async () => {
    const world = newWorld();
    const { run, crashIn } = plain(world);
    const at = new Date(world.clock.now() + 60_000);
    const task = (ctx: DurableContext) => ctx.sleepUntil(at);
    await crashIn(task);
    expect(await took(world, run(task))).toBe(30_000);
  });
});

test("a clock may skip what the task sleeps, and the delays of its retries", async () => {
  const world = newWorld();
  const skipped: number[] = [];
  const clock = {
    now: () => world.clock.now(),
    sleep: (ms: number, signal?: AbortSignal) => world.clock.sleep(ms, signal),
    delay: async (ms: number) => {
      skipped.push(ms);
      world.clock.advance(ms);
    },
  };
  const fn = counted((call) => (call === 1 ? Promise.reject(new Error("no")) : "yes"));
  const task = async (ctx: DurableContext) => {
    await ctx.sleep(7_200_000);
    return ctx.step("flaky", fn, { retries: { limit: 1, delayMs: 5_000 } });
  };
  expect((await world.run(task, { clock, leaseMs: 86_400_000 })).result).toBe("yes");
  expect(skipped).toEqual([7_200_000, 5_000]);
});

test.each<[string, (ctx: DurableContext) => Promise<void>, string]>([
  ["-1 ms", (ctx) => ctx.sleep(-1), "ms"],
  ["NaN ms", (ctx) => ctx.sleep(Number.NaN), "ms"],
  ["half a millisecond", (ctx) => ctx.sleep(0.5), "ms"],
  ["ever", (ctx) => ctx.sleep(Infinity), "ms"],
  ["a century and more", (ctx) => ctx.sleep(3_155_760_000_001), "ms"],
  ["a text", (ctx) => ctx.sleep("5" as unknown as number), "ms"],
  ["no duration", (ctx) => ctx.sleep(undefined as unknown as number), "ms"],
  ["an invalid date", (ctx) => ctx.sleepUntil(new Date(Number.NaN)), "date"],
  ["a date as a text", (ctx) => ctx.sleepUntil("2099-01-01" as unknown as Date), "date"],
  ["a date as a number", (ctx) => ctx.sleepUntil(0 as unknown as Date), "date"],
  ["no date", (ctx) => ctx.sleepUntil(undefined as unknown as Date), "date"],
  ["the end of time", (ctx) => ctx.sleepUntil(new Date(8.64e15)), "date"],
])("a sleep for or until %s is refused, and nothing is recorded", async (_what, sleep, field) => {
  const world = newWorld();
  const error = await rejection(world.run(sleep));
  expect(error).toMatchObject({ code: "invalid_input", field });
  expect(error.message).toMatch(new RegExp(`^${field} must be`));
  expect(world.record().stepCount).toBe(0);
});
