/** Steps of a task on the Workflows engine that are tried again as their own options say. */
import { describe, expect, it, vi } from "vitest";
import { NonRetryableError } from "../../src/contract/errors.ts";
import type { StepOptions } from "../../src/runner/types.ts";
import { describeError, failureOf, ONCE, start, THRICE, type Task } from "./workflow-step.ts";

describe("a step with retries of its own", () => {
  it("is tried again as they say, whatever stepConfig says, and then fails with its own error", async () => {
    const attempts: number[] = [];
    const own = Object.assign(new Error("busy"), { name: "BusyError", code: "503" });
    const task: Task<unknown> = async (ctx) => {
      const work = (info: { attempt: number }): Promise<never> => {
        attempts.push(info.attempt);
        return Promise.reject(own);
      };
      return describeError(
        await failureOf(ctx.step("call", work, { retries: { limit: 3, delayMs: 0, backoff: "constant" } })),
      );
    };
    await using flow = await start(task, { stepConfig: ONCE });
    const first = await flow.output();
    expect(first).toEqual({ name: "BusyError", message: "busy", code: "503" });
    expect(await flow.replay()).toEqual(first);
    expect(attempts).toEqual([1, 2, 3, 4]);
  });

  it("is not tried again with a limit of 0", async () => {
    const step = vi.fn(() => Promise.reject(new Error("once")));
    const task: Task<unknown> = async (ctx) =>
      describeError(await failureOf(ctx.step("call", step, { retries: { limit: 0 } })));
    await using flow = await start(task, { stepConfig: THRICE });
    expect(await flow.output()).toEqual({ name: "Error", message: "once" });
    expect(step).toHaveBeenCalledTimes(1);
  });

  it.each([
    ["constant", [60, 60, 60]],
    ["linear", [60, 120, 180]],
    ["exponential", [60, 120, 240]],
  ] as const)("waits as long as its policy says between attempts: %s", async (backoff, delays) => {
    const at: number[] = [];
    await using flow = await start(async (ctx) => {
      const work = (): Promise<never> => {
        at.push(Date.now());
        return Promise.reject(new Error("again"));
      };
      await failureOf(ctx.step("call", work, { retries: { limit: 3, delayMs: 60, backoff } }));
    });
    await flow.output();
    for (const [i, delay] of delays.entries()) {
      expect((at[i + 1] as number) - (at[i] as number)).toBeGreaterThanOrEqual(delay - 2);
    }
  });

  it("counts an attempt that took too long", async () => {
    const attempts: number[] = [];
    await using flow = await start((ctx) =>
      ctx.step(
        "slow",
        async ({ attempt }) => {
          attempts.push(attempt);
          return attempt === 1 ? new Promise(() => {}) : "in time";
        },
        { retries: { limit: 1, delayMs: 0 }, timeoutMs: 50 },
      ),
    );
    expect(await flow.output()).toBe("in time");
    expect(attempts).toEqual([1, 2]);
  });
});

describe("a failure that no attempt would mend", () => {
  class Declined extends Error {
    override readonly name = "Declined";
    readonly code = "card_declined";
    readonly retryable = false;
  }

  it.each<[string, () => Error, object]>([
    [
      "that says it is not retryable",
      () => new Declined("no"),
      { name: "Declined", message: "no", code: "card_declined" },
    ],
    [
      "that is our NonRetryableError",
      () => new NonRetryableError("no"),
      { name: "NonRetryableError", message: "no" },
    ],
    [
      "that is the platform's",
      () => Object.assign(new Error("no"), { name: "NonRetryableError" }),
      { name: "NonRetryableError", message: "no" },
    ],
    [
      "that the platform takes for its own",
      () => new Error("NonRetryableErrors are a class"),
      { name: "Error", message: "NonRetryableErrors are a class" },
    ],
  ])("%s ends the step at once, and is the same at a replay", async (_claim, make, expected) => {
    const thrown: Error[] = [];
    const seen: unknown[] = [];
    const step = (): Promise<never> => {
      thrown.push(make());
      return Promise.reject(thrown.at(-1) as Error);
    };
    const task: Task<unknown> = async (ctx) => {
      const failures = [
        await failureOf(ctx.step("by stepConfig", step)),
        await failureOf(ctx.step("by options", step, { retries: { limit: 5, delayMs: 0 } })),
      ];
      seen.push(...failures);
      return failures.map(describeError);
    };
    await using flow = await start(task, { stepConfig: THRICE });
    const first = await flow.output();
    expect(first).toEqual([expected, expected]);
    expect(seen[0]).toBe(thrown[0]);
    expect(seen[1]).toBe(thrown[1]);
    expect(await flow.replay()).toEqual(first);
    expect(thrown).toHaveLength(2);
  });
});

describe("refused, before anything is begun", () => {
  it.each<[string, StepOptions, string, string]>([
    [
      "a longest delay",
      { retries: { limit: 1, maxDelayMs: 10 } },
      "retries.maxDelayMs",
      "retries.maxDelayMs must be left out: Workflows keep no longest delay",
    ],
    [
      "jitter",
      { retries: { limit: 1, jitter: true } },
      "retries.jitter",
      "retries.jitter must be false or left out: Workflows do not vary their delays",
    ],
    [
      "a function that decides",
      { retries: () => 5 },
      "retries",
      "retries must be a policy: Workflows keep no function that decides on a retry",
    ],
    [
      "a limit that is none",
      { retries: { limit: -1 } },
      "retries.limit",
      "retries.limit must be a whole number from 0 to 1000, but is -1",
    ],
    [
      "to fail when interrupted",
      { onInterrupted: "fail" },
      "onInterrupted",
      'onInterrupted must be "rerun": Workflows always run an interrupted step again',
    ],
    [
      "to park when interrupted",
      { onInterrupted: "park" },
      "onInterrupted",
      'onInterrupted must be "rerun": Workflows always run an interrupted step again',
    ],
    [
      "to find out when interrupted",
      { onInterrupted: { reconcile: async () => 1 } },
      "onInterrupted",
      'onInterrupted must be "rerun": Workflows always run an interrupted step again',
    ],
    [
      "what is no policy for interruptions",
      { onInterrupted: "skip" as never },
      "onInterrupted",
      'onInterrupted must be "rerun", "fail", "park" or { reconcile: a function }',
    ],
  ])("%s", async (_claim, opts, field, message) => {
    const step = vi.fn(async () => 1);
    await using flow = await start(async (ctx) => {
      const failure = await failureOf(ctx.step("x", step, opts));
      return { field: (failure as { field?: string }).field, ...describeError(failure) };
    });
    expect(await flow.output()).toEqual({
      name: "DurableInvalidInputError",
      code: "invalid_input",
      field,
      message,
    });
    expect(step).not.toHaveBeenCalled();
  });

  it("nothing that says what is so anyway", async () => {
    const opts: StepOptions = { onInterrupted: "rerun", retries: { limit: 1, jitter: false } };
    await using flow = await start((ctx) => ctx.step("x", async () => "run", opts));
    expect(await flow.output()).toBe("run");
  });
});

describe("inside a step's function", () => {
  it.each<[string, Task<unknown>]>([
    ["ctx.step", (ctx) => ctx.step("inner", async () => 1)],
    ["ctx.all", (ctx) => ctx.all([])],
    ["ctx.race", (ctx) => ctx.race([async () => 1])],
    ["ctx.sleep", (ctx) => ctx.sleep(1)],
    ["ctx.sleepUntil", (ctx) => ctx.sleepUntil(new Date(0))],
    ["ctx.awaitEvent", (ctx) => ctx.awaitEvent("k")],
    ["ctx.now", (ctx) => ctx.now()],
    ["ctx.uuid", (ctx) => ctx.uuid()],
  ])("%s is refused as nested, once and for all", async (what, inner) => {
    const step = vi.fn();
    const task: Task<unknown> = async (ctx) => {
      const failure = await failureOf(ctx.step("outer", async () => (step(), inner(ctx))));
      await ctx.step("later", async () => null);
      return describeError(failure);
    };
    await using flow = await start(task, { stepConfig: THRICE });
    const first = await flow.output();
    expect(first).toMatchObject({
      name: "DurableNestedStepError",
      code: "nested_step",
      message: expect.stringContaining(`${what} was called inside the function of step "outer"`) as string,
    });
    expect(await flow.replay()).toEqual(first);
    expect(step).toHaveBeenCalledTimes(1);
  });

  it("of a branch, too, and an event may be emitted there", async () => {
    const task: Task<unknown> = (ctx) =>
      ctx.all([
        (branch) => branch.step("outer", async () => describeError(await failureOf(ctx.uuid())).code),
        (branch) => branch.step("emits", () => branch.emitEvent("k", 1)),
      ]);
    await using flow = await start(task, { instance: { sendEvent: async () => {} } });
    expect(await flow.output()).toEqual(["nested_step", { accepted: true }]);
  });
});
