/** R30: how long the delays are, who decides on a further attempt, and which failures get none. */
import { describe, expect, test } from "vitest";
import { NonRetryableError } from "../src/contract/errors.ts";
import { retryDelayMs } from "../src/runner/retries.ts";
import type { RetryFunction, RetryPolicy } from "../src/runner/retries.ts";
import type { DurableContext, StepOptions } from "../src/runner/types.ts";
import type { World } from "./support/world.ts";
import { counted, crash, never, newWorld, rejection, whileTimeFlies } from "./support/world.ts";

const DAY_MS = 86_400_000;
const NO_DELAY = { delayMs: 0 };

/** What each failed attempt was recorded with: the delay before the next one, `undefined` for none. */
function delays(world: World): unknown[] {
  return world.store.calls
    .filter((call) => call.method === "failStep")
    .map((call) => (call.args[0] as { retryAfterMs?: number }).retryAfterMs);
}

/** Runs a step that fails with `error` as often as it is tried. */
async function exhaust(retries: RetryPolicy | RetryFunction, error: unknown = new Error("no")) {
  const world = newWorld();
  const fn = counted(() => Promise.reject(error as Error));
  const run = world.run((ctx) => ctx.step("flaky", fn, { retries }), { leaseMs: DAY_MS });
  const thrown = await rejection(whileTimeFlies(world.clock, run, 300_000));
  return { world, fn, thrown, delays: delays(world) };
}

describe("the delay before a retry", () => {
  test.each<[string, RetryPolicy, number[]]>([
    ["is a second, then twice as much, by default", { limit: 4 }, [1_000, 2_000, 4_000, 8_000]],
    ["stays, when constant", { limit: 3, delayMs: 10, backoff: "constant" }, [10, 10, 10]],
    ["grows by itself, when linear", { limit: 4, delayMs: 10, backoff: "linear" }, [10, 20, 30, 40]],
    ["doubles, when exponential", { limit: 4, delayMs: 10, backoff: "exponential" }, [10, 20, 40, 80]],
    [
      "is no longer than five minutes, unless told so",
      { limit: 5, delayMs: 100_000 },
      [100_000, 200_000, 300_000, 300_000, 300_000],
    ],
    ["may be longer than that", { limit: 2, delayMs: 400_000, maxDelayMs: 500_000 }, [400_000, 500_000]],
    ["is never shorter than the first for it", { limit: 2, delayMs: 400_000 }, [400_000, 400_000]],
    [
      "is no longer than maxDelayMs, when linear",
      { limit: 3, delayMs: 10, maxDelayMs: 15, backoff: "linear" },
      [10, 15, 15],
    ],
    [
      "is no longer than maxDelayMs from the first on",
      { limit: 2, delayMs: 10, maxDelayMs: 3, backoff: "constant" },
      [3, 3],
    ],
    ["may be none", { limit: 3, ...NO_DELAY }, [0, 0, 0]],
    ["is none when it must be no longer than 0", { limit: 2, maxDelayMs: 0 }, [0, 0]],
  ])("%s", async (_what, policy, expected) => {
    const { delays, fn, thrown } = await exhaust(policy);
    expect(delays).toEqual([...expected, undefined]);
    expect(fn.calls).toBe(policy.limit + 1);
    expect(thrown.message).toBe("no");
  });

  test("with jitter is any whole number of milliseconds up to what it would be without", () => {
    const drawn = new Set<number | undefined>();
    const policy: RetryPolicy = { limit: 5, delayMs: 2, backoff: "linear", jitter: true };
    for (let i = 0; i < 5_000; i += 1) drawn.add(retryDelayMs(policy, new Error("no"), 2));
    expect(drawn).toEqual(new Set([0, 1, 2, 3, 4]));
  });

  test("stays a whole number within its bounds after a thousand doublings", () => {
    const policy: RetryPolicy = { limit: 1_000, delayMs: 3_155_760_000_000, maxDelayMs: 3_155_760_000_000 };
    for (const jitter of [true, false]) {
      for (let tries = 1; tries <= 1_000; tries += 1) {
        const delay = retryDelayMs({ ...policy, jitter }, new Error("no"), tries);
        expect(delay).toSatisfy(Number.isSafeInteger);
        expect(delay).toBeGreaterThanOrEqual(0);
        expect(delay).toBeLessThanOrEqual(3_155_760_000_000);
      }
    }
    expect(retryDelayMs(policy, new Error("no"), 1_001)).toBeUndefined();
  });
});

describe("a limit", () => {
  test("of 0 makes one attempt", async () => {
    const { fn, delays } = await exhaust({ limit: 0 });
    expect(fn.calls).toBe(1);
    expect(delays).toEqual([undefined]);
  });

  test("of 1,000 makes 1,001 attempts", async () => {
    const { fn, world } = await exhaust({ limit: 1_000, ...NO_DELAY });
    expect(fn.calls).toBe(1_001);
    expect(await world.step(0)).toMatchObject({ status: "failed", attempts: 1_001, tries: 1_001 });
  });
});

describe("a function that decides", () => {
  test("is given each failure and its number in the series, and may end it", async () => {
    const asked: [unknown, number][] = [];
    const error = new Error("no");
    const { fn, delays, thrown } = await exhaust((failure, attempt) => {
      asked.push([failure, attempt]);
      return attempt < 3 && attempt * 7;
    }, error);
    expect(asked).toEqual([
      [error, 1],
      [error, 2],
      [error, 3],
    ]);
    expect(delays).toEqual([7, 14, undefined]);
    expect(fn.calls).toBe(3);
    expect(thrown).toBe(error);
    expect(thrown.cause).toBeUndefined();
  });

  test("is asked a thousand times at most", async () => {
    const asked = { times: 0 };
    const { fn } = await exhaust(() => (asked.times += 1) && 0);
    expect(asked.times).toBe(1_000);
    expect(fn.calls).toBe(1_001);
  });

  test.each<[unknown]>([
    [Number.NaN],
    [-1],
    [0.5],
    [Infinity],
    [3_155_760_000_001],
    ["5"],
    [undefined],
    [null],
    [true],
    [Promise.resolve(5)],
  ])(
    "and answers %s fails the step with invalid_input, which names it and keeps the failure",
    async (answer) => {
      const error = new Error("no");
      const { world, fn, thrown, delays } = await exhaust(() => answer as number, error);
      expect(thrown).toMatchObject({ code: "invalid_input", field: "retries" });
      expect(thrown.cause).toBe(error);
      expect(fn.calls).toBe(1);
      expect(delays).toEqual([undefined]);
      expect(await world.step(0)).toMatchObject({ status: "failed", error: { code: "invalid_input" } });
    },
  );

  test("and throws fails the step with what it threw, which keeps the failure", async () => {
    const error = new Error("no");
    const defect = new TypeError("not a policy");
    const { world, thrown, fn } = await exhaust(() => {
      throw defect;
    }, error);
    expect(thrown).toBe(defect);
    expect(thrown.cause).toBe(error);
    expect(fn.calls).toBe(1);
    expect(await world.step(0)).toMatchObject({ status: "failed", error: { message: "not a policy" } });
  });

  test.each([
    ["the failure itself", (error: unknown) => error],
    ["what cannot be changed", () => Object.freeze(new Error("frozen"))],
    ["what is no error", () => "words"],
  ])("and throws %s fails the step with that, as it is", async (_what, toThrow) => {
    const error = new Error("no");
    let given: unknown;
    const { world, thrown } = await exhaust((failure) => {
      throw (given = toThrow(failure)) as Error;
    }, error);
    expect(thrown).toBe(given);
    expect(error.cause).toBeUndefined();
    expect((await world.step(0))?.status).toBe("failed");
  });

  test("is asked of failures alone: a step that kills its workers is run again by each", async () => {
    const world = newWorld();
    const asked = counted(() => {});
    const fn = counted((call) => (call < 4 ? never() : "yes"));
    const retries: RetryFunction = () => (void asked(), false);
    const task = (ctx: DurableContext) => ctx.step("killer", fn, { retries });
    for (const calls of [1, 2, 3]) await crash(world, task, () => fn.calls === calls);
    expect((await world.run(task)).result).toBe("yes");
    expect(asked.calls).toBe(0);
  });

  test("takes no step: one that it begins is refused", async () => {
    const world = newWorld();
    const refused: Promise<Error & { code?: string }>[] = [];
    const attempt = world.run((ctx) =>
      ctx.step("flaky", () => Promise.reject(new Error("no")), {
        retries: () => {
          refused.push(rejection(ctx.step("nested", async () => 1)));
          return false;
        },
      }),
    );
    expect((await rejection(attempt)).message).toBe("no");
    expect(await Promise.all(refused)).toMatchObject([{ code: "nested_step" }]);
    expect(world.record().stepCount).toBe(1);
  });
});

describe("no further attempt is made, and no function asked,", () => {
  test.each<[string, unknown]>([
    ["after a NonRetryableError", new NonRetryableError("for good")],
    ["after an error that says so of itself", Object.assign(new Error("for good"), { retryable: false })],
    ["after anything thrown that says so", { message: "for good", retryable: false }],
  ])("%s", async (_what, error) => {
    const asked = { times: 0 };
    const byFunction = await exhaust(() => (asked.times += 1), error);
    const byPolicy = await exhaust({ limit: 5 }, error);
    for (const { fn, thrown } of [byFunction, byPolicy]) {
      expect(fn.calls).toBe(1);
      expect(thrown).toBe(error);
    }
    expect(asked.times).toBe(0);
  });

  test.each<[string, unknown, string]>([
    ["JSON cannot carry", { at: Number.NaN }, "payload_not_json"],
    ["is too large", "x".repeat(16 * 1_024 * 1_024), "payload_too_large"],
  ])("over a result that %s", async (_what, value, code) => {
    const world = newWorld();
    const fn = counted(() => value);
    const run = world.run((ctx) => ctx.step("flaky", fn, { retries: { limit: 5 } }));
    expect(await rejection(run)).toMatchObject({ code });
    expect(fn.calls).toBe(1);
    expect(await world.step(0)).toMatchObject({ status: "failed", attempts: 1, error: { code } });
  });

  test.each<[string, unknown]>([
    ["retryable: true", Object.assign(new Error("no"), { retryable: true })],
    ["retryable: undefined", Object.assign(new Error("no"), { retryable: undefined })],
    ["no message at all", undefined],
    ["a bare word", "no"],
    ["null", null],
  ])("but one is after %s", async (_what, error) => {
    expect((await exhaust({ limit: 1 }, error)).fn.calls).toBe(2);
  });
});

test.each<[string, unknown, string]>([
  ["null", null, "retries"],
  ["a number", 3, "retries"],
  ["no limit", {}, "retries.limit"],
  ["a negative limit", { limit: -1 }, "retries.limit"],
  ["a limit of 1,001", { limit: 1_001 }, "retries.limit"],
  ["an endless limit", { limit: Infinity }, "retries.limit"],
  ["half a retry", { limit: 0.5 }, "retries.limit"],
  ["a negative delay", { limit: 1, delayMs: -1 }, "retries.delayMs"],
  ["a delay of NaN", { limit: 1, delayMs: Number.NaN }, "retries.delayMs"],
  ["a delay of a century and more", { limit: 1, delayMs: 3_155_760_000_001 }, "retries.delayMs"],
  ["a negative maximum", { limit: 1, maxDelayMs: -1 }, "retries.maxDelayMs"],
  ["an unknown backoff", { limit: 1, backoff: "fibonacci" }, "retries.backoff"],
  ["jitter by a number", { limit: 1, jitter: 0.5 }, "retries.jitter"],
  ["an unknown field", { limit: 1, delay: 5 }, "retries.delay"],
])("retries of %s are refused, and nothing is recorded", async (_what, retries, field) => {
  const world = newWorld();
  const fn = counted(() => 1);
  const run = world.run((ctx) => ctx.step("x", fn, { retries: retries as StepOptions["retries"] & {} }));
  expect(await rejection(run)).toMatchObject({ code: "invalid_input", field });
  expect(fn.calls).toBe(0);
  expect(world.record().stepCount).toBe(0);
});
