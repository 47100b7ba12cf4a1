/** Sleeps of a task on the Workflows engine: they are the platform's own. */
import { describe, expect, it } from "vitest";
import { codeOf } from "../../src/contract/errors.ts";
import { describeError, failureOf, start, type Task } from "./workflow-step.ts";

const YEAR = 365 * 86_400_000;

describe("a sleep", () => {
  it("is not over before its time, and is replayed", async () => {
    const task: Task<number> = async (ctx) => {
      const begun = Date.now();
      await ctx.sleep(300);
      return Date.now() - begun;
    };
    await using flow = await start(task);
    expect(await flow.output()).toBeGreaterThanOrEqual(295);
    expect(await flow.replay()).toBeTypeOf("number");
  });

  it("of nothing is over at once, and repeats are told apart", async () => {
    await using flow = await start(async (ctx) => {
      const begun = Date.now();
      await ctx.sleep(0);
      for (let i = 0; i < 3; i += 1) await ctx.sleep(50);
      return Date.now() - begun;
    });
    const took = await flow.output();
    expect(took).toBeGreaterThanOrEqual(145);
  });

  it.each([
    ["a year and a half", YEAR * 1.5],
    ["a hundred years", 3_155_760_000_000],
  ])("may be longer than the platform's longest: %s", async (_claim, ms) => {
    await using flow = await start(async (ctx) => {
      await ctx.step("before", async () => null);
      await ctx.sleep(ms);
    });
    await flow.instance.waitForStepResult({ name: "test/before" });
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(await flow.handle.status()).toMatchObject({ status: "running" });
  });

  it("of many years is as many of the platform's sleeps as it takes", async () => {
    await using flow = await start(
      async (ctx) => {
        await ctx.sleep(YEAR * 2.5);
        return "woken";
      },
      {},
      (instance) => instance.modify((modifier) => modifier.disableSleeps()),
    );
    expect(await flow.output()).toBe("woken");
    expect(await flow.replay()).toBe("woken");
  });

  it("goes on where it was when the instance is paused and resumed", async () => {
    let runs = 0;
    const task: Task<unknown> = async (ctx) => {
      runs += 1;
      await ctx.step("before", async () => null);
      await ctx.sleep(600);
      return "woken";
    };
    await using flow = await start(task);
    await flow.instance.waitForStepResult({ name: "test/before" });
    await flow.handle.pause();
    await flow.instance.waitForStatus("paused");
    await flow.handle.resume();
    expect(await flow.output()).toBe("woken");
    expect(runs).toBe(2);
  });
});

describe("a sleep until an instant", () => {
  it("does not end before, and a replay after that instant does not fail", async () => {
    const woken: number[] = [];
    const until = new Date(Date.now() + 1_000);
    const task: Task<unknown> = async (ctx) => {
      await ctx.sleepUntil(until);
      woken.push(Date.now());
    };
    await using flow = await start(task);
    await flow.output();
    expect(woken[0]).toBeGreaterThanOrEqual(until.getTime() - 5);
    await flow.replay();
    expect(woken).toHaveLength(2);
  });

  it("that is no longer the same at a replay is the recorded one", async () => {
    const aheadMs = [100, YEAR];
    const task: Task<string> = async (ctx) => {
      await ctx.sleepUntil(new Date(Date.now() + (aheadMs.shift() as number)));
      return "woken";
    };
    await using flow = await start(task);
    expect(await flow.output()).toBe("woken");
    expect(await flow.replay()).toBe("woken");
    expect(aheadMs).toEqual([]);
  });

  it("that has passed is over at once", async () => {
    await using flow = await start(async (ctx) => {
      await ctx.sleepUntil(new Date(0));
      await ctx.sleepUntil(new Date(Date.now()));
      return "woken";
    });
    expect(await flow.output()).toBe("woken");
    expect(await flow.replay()).toBe("woken");
  });

  it("goes by the given clock", async () => {
    await using flow = await start(
      async (ctx) => {
        await ctx.sleepUntil(new Date(1_000_100));
        return Date.now();
      },
      { now: () => 1_000_000 },
    );
    expect(await flow.output()).toBeGreaterThan(1_000_100);
  });
});

describe("refused, before anything is begun", () => {
  it.each<[string, Task<unknown>, string, string]>([
    ["a negative sleep", (ctx) => ctx.sleep(-1), "ms", "must be a whole number from 0"],
    ["half a millisecond", (ctx) => ctx.sleep(0.5), "ms", "must be a whole number from 0"],
    ["over a hundred years", (ctx) => ctx.sleep(3_155_760_000_001), "ms", "to 3155760000000"],
    ["no date", (ctx) => ctx.sleepUntil("2030-01-01" as never), "date", "must be a valid Date"],
    ["an invalid date", (ctx) => ctx.sleepUntil(new Date(Number.NaN)), "date", "must be a valid Date"],
    ["a far date", (ctx) => ctx.sleepUntil(new Date(8.64e15)), "date", "at most a hundred years from now"],
  ])("%s", async (_claim, work, field, message) => {
    await using flow = await start(async (ctx) => {
      const failure = await failureOf(work(ctx));
      return [codeOf(failure), (failure as { field?: string }).field, describeError(failure).message];
    });
    expect(await flow.output()).toEqual(["invalid_input", field, expect.stringContaining(message) as string]);
  });
});
