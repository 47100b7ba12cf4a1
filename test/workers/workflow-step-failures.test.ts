/** A step of a task on Workflows that fails: what is tried again, what the task sees, at first and at a replay. */
import { describe, expect, it, vi } from "vitest";
import { DurablePayloadError } from "../../src/contract/errors.ts";
import { describeError, failureOf, ONCE, start, THRICE, type Task } from "./workflow-step.ts";

describe("a step that fails", () => {
  class RateLimited extends Error {
    override readonly name = "RateLimited";
    readonly code = "429";
  }

  it("is tried again as stepConfig says, and then fails with its own error, which replays (R24, R27)", async () => {
    const thrown: unknown[] = [];
    const seen: unknown[] = [];
    const task: Task<unknown> = async (ctx) => {
      const failed = ctx.step("call", async () => {
        thrown.push(new RateLimited(`RateLimited: attempt ${thrown.length + 1}\n[now]`));
        throw thrown.at(-1) as Error;
      });
      seen.push(await failureOf(failed));
      return describeError(seen.at(-1));
    };
    await using flow = await start(task, { stepConfig: THRICE });
    const first = await flow.output();
    expect(first).toEqual({ name: "RateLimited", message: "RateLimited: attempt 3\n[now]", code: "429" });
    expect(await flow.replay()).toEqual(first);
    expect(seen[0]).toBe(thrown[2]);
    expect(thrown).toHaveLength(3);
  });

  it.each<[string, () => unknown, object]>([
    ["an Error", () => new Error("Foo: bar"), { name: "Error", message: "Foo: bar" }],
    [
      "an Error with a code",
      () => Object.assign(new Error("x"), { code: "E" }),
      { name: "Error", message: "x", code: "E" },
    ],
    ["a TypeError", () => new TypeError("t"), { name: "TypeError", message: "t" }],
    ["a text", () => "words", { name: "Error", message: "words" }],
    [
      "a message with another label",
      () => new Error('x [durable-runs {"name":"E"}]'),
      { name: "Error", message: 'x [durable-runs {"name":"E"}]' },
    ],
    [
      "a message like our label",
      () => new Error('x [durable-runs {"name":]'),
      { message: 'x [durable-runs {"name":]' },
    ],
    [
      "a typed error",
      () => new DurablePayloadError("p", "payload_too_large"),
      { code: "payload_too_large", message: "p" },
    ],
  ])("replays as the same failure: %s", async (_claim, make, expected) => {
    const task: Task<unknown> = async (ctx) => {
      const failure = await failureOf(ctx.step("call", () => Promise.reject(make() as Error)));
      return typeof failure === "string" ? { name: "Error", message: failure } : describeError(failure);
    };
    await using flow = await start(task, { stepConfig: ONCE });
    const first = await flow.output();
    expect(first).toMatchObject(expected);
    expect(await flow.replay()).toEqual(first);
  });

  it("is not tried again when it says so with a NonRetryableError", async () => {
    const own = Object.assign(new Error("never"), { name: "NonRetryableError" });
    const step = vi.fn(() => Promise.reject(own));
    const seen: unknown[] = [];
    await using flow = await start(async (ctx) => seen.push(await failureOf(ctx.step("call", step))));
    await flow.output();
    expect(seen).toEqual([own]);
    expect(seen[0]).toBe(own);
    expect(step).toHaveBeenCalledTimes(1);
  });

  it("fails the instance when the task lets it through", async () => {
    await using flow = await start((ctx) => ctx.step("call", () => Promise.reject(new Error("the end"))), {
      stepConfig: ONCE,
    });
    await flow.instance.waitForStatus("errored");
    expect(await flow.instance.getError()).toMatchObject({ message: "the end" });
  });

  it("is no unhandled rejection though the task should never look at it", async () => {
    await using flow = await start(
      async (ctx) => {
        void ctx.step("call", () => Promise.reject(new Error("unseen")));
        void ctx.step("", async () => 1);
        return ctx.step("other", async () => "done");
      },
      { stepConfig: ONCE },
    );
    expect(await flow.output()).toBe("done");
  });

  it.each([
    [
      "that JSON cannot carry",
      () => ({ at: [1n] }),
      "payload_not_json",
      'the result of step "call".at[0] is a BigInt',
    ],
    [
      "over 1 MiB",
      () => "x".repeat(1_048_575),
      "payload_too_large",
      "has 1048577 bytes as JSON; at most 1048576",
    ],
  ])(
    "over a value %s is not tried again, and is the same failure at a replay",
    async (_claim, make, code, message) => {
      const step = vi.fn(async (): Promise<unknown> => make());
      const seen: unknown[] = [];
      const task: Task<unknown> = async (ctx) => {
        seen.push(await failureOf(ctx.step("call", step)));
        return describeError(seen.at(-1));
      };
      await using flow = await start(task, { stepConfig: THRICE });
      const first = await flow.output();
      expect(first).toEqual({
        name: "DurablePayloadError",
        code,
        message: expect.stringContaining(message) as string,
      });
      expect(await flow.replay()).toEqual(first);
      expect(seen.every((error) => error instanceof DurablePayloadError)).toBe(true);
      expect(step).toHaveBeenCalledTimes(1);
    },
  );

  it("over a value of just 1 MiB does not fail", async () => {
    await using flow = await start((ctx) => ctx.step("call", async () => "x".repeat(1_048_574)));
    expect(await flow.output()).toHaveLength(1_048_574);
  });
});
