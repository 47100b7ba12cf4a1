/** What the function of a step is told on the Workflows engine. */
import { expect, test } from "vitest";
import type { StepInfo } from "../../src/runner/types.ts";
import { ONCE, start, THRICE } from "./workflow-step.ts";

test("a step is told its attempt, its place, and a key that is the same at each attempt", async () => {
  const given: Pick<StepInfo, "attempt" | "stepIndex" | "idempotencyKey">[] = [];
  await using flow = await start(
    async (ctx) => {
      await ctx.step("first", async () => null);
      return ctx.step("pay", async ({ attempt, stepIndex, idempotencyKey, signal }) => {
        expect(signal).toBe(ctx.signal);
        given.push({ attempt, stepIndex, idempotencyKey });
        if (attempt < 3) throw new Error("declined");
        return "paid";
      });
    },
    { stepConfig: THRICE },
  );
  expect(await flow.output()).toBe("paid");
  expect(given.map(({ attempt, stepIndex }) => [attempt, stepIndex])).toEqual([
    [1, 1],
    [2, 1],
    [3, 1],
  ]);
  expect(new Set(given.map(({ idempotencyKey }) => idempotencyKey)).size).toBe(1);
});

test("steps of one name have keys of their own", async () => {
  const keys: string[] = [];
  await using flow = await start(async (ctx) => {
    for (let i = 0; i < 2; i += 1)
      await ctx.step("same", async ({ idempotencyKey }) => keys.push(idempotencyKey));
  });
  await flow.output();
  expect(new Set(keys).size).toBe(2);
});

test("a step that takes longer than its timeout fails with step_timeout, and its signal aborts", async () => {
  let aborted: unknown;
  await using flow = await start(
    (ctx) =>
      ctx
        .step(
          "slow",
          ({ signal }) =>
            new Promise<string>((resolve) => {
              signal.addEventListener("abort", () => {
                aborted = signal.reason;
                resolve("too late");
              });
            }),
          { timeoutMs: 20 },
        )
        .catch((error: { code?: string }) => error.code),
    { stepConfig: ONCE },
  );
  expect(await flow.output()).toBe("step_timeout");
  expect(aborted).toMatchObject({ code: "step_timeout" });
});
