/** R24, R25 and R27: what failed once, what it replays as, and who gets to see it. */
import { describe, expect, test } from "vitest";
import { DurablePayloadError } from "../src/contract/errors.ts";
import type { DurableContext } from "../src/runner/types.ts";
import {
  counted,
  crash,
  lapse,
  LEASE_MS,
  never,
  newWorld,
  plainError,
  rejection,
  seize,
  unavailable,
  until,
  whileTimeFlies,
} from "./support/world.ts";
import { failing, hanging } from "./support/wrapped-store.ts";

class QuotaError extends Error {
  override readonly name = "QuotaError";
  readonly code: unknown;
  constructor(message: string, code: unknown) {
    super(message);
    this.code = code;
  }
}

interface Seen {
  name: string;
  message: string;
  code?: unknown;
  typed: boolean;
}

/** A task that catches the failure of its first step, notes what it saw, and goes on to a step that may hang. */
function catching(step: () => Promise<unknown>, seen: Seen[], last: () => Promise<unknown>) {
  return async (ctx: DurableContext): Promise<string> => {
    await ctx.step("risky", step).catch((error: Error & { code?: unknown }) => {
      const { name, message } = error;
      seen.push({
        name,
        message,
        ...("code" in error && { code: error.code }),
        typed: error instanceof Error,
      });
    });
    await ctx.step("last", last);
    return "done";
  };
}

describe("a failure that the task caught and moved past", () => {
  test.each<[string, unknown, Partial<Seen>]>([
    [
      "an error with a code",
      new QuotaError("over the limit", "quota"),
      { name: "QuotaError", code: "quota" },
    ],
    ["an error with a number for a code", new QuotaError("over", 429), { name: "QuotaError" }],
    [
      "a code that is also a method of objects",
      new QuotaError("odd", "constructor"),
      { code: "constructor" },
    ],
    ["a plain error", new TypeError("no function"), { name: "TypeError", message: "no function" }],
    [
      "an aborted call",
      new DOMException("stopped", "AbortError"),
      { name: "AbortError", message: "stopped" },
    ],
  ])(
    "replays with its name, message and code, and without a call: %s (R24)",
    async (_what, error, expected) => {
      const world = newWorld();
      const risky = counted(() => Promise.reject(error as Error));
      const last = counted((call) => (call === 1 ? never() : null));
      const seen: Seen[] = [];
      const task = catching(risky, seen, last);
      await crash(world, task, () => last.calls === 1);
      const { result, steps } = await world.run(task);

      expect(result).toBe("done");
      expect(risky.calls).toBe(1);
      expect(seen).toHaveLength(2);
      expect(seen[1]).toMatchObject(expected);
      const { code, ...first } = seen[0] as Seen;
      expect(seen[1]).toEqual(typeof code === "string" ? { ...first, code } : first);
      expect(steps[0]).toMatchObject({ status: "failed", attempts: 1 });
    },
  );

  test("replays as the typed error that it was, when it was one of this contract's own", async () => {
    const world = newWorld();
    const errors: unknown[] = [];
    const last = counted((call) => (call === 1 ? never() : null));
    const task = async (ctx: DurableContext) => {
      await ctx.step("risky", async () => Number.NaN).catch((error) => errors.push(error));
      await ctx.step("last", last);
    };
    await crash(world, task, () => last.calls === 1);
    await world.run(task);
    expect(errors).toHaveLength(2);
    for (const error of errors) {
      expect(error).toBeInstanceOf(DurablePayloadError);
      expect(error).toMatchObject({ code: "payload_not_json", message: (errors[0] as Error).message });
    }
  });

  test("replays even when the step after it never got further than its begin, however often that is resumed", async () => {
    const world = newWorld();
    const risky = counted(() => Promise.reject(new Error("no")));
    const last = counted((call) => (call < 4 ? never() : null));
    const task = catching(risky, [], last);
    for (const calls of [1, 2, 3]) await crash(world, task, () => last.calls === calls);
    await world.run(task);
    expect([risky.calls, last.calls]).toEqual([1, 4]);
  });

  test("is reported with the next step that begins, and with no other", async () => {
    const world = newWorld();
    await world.run(async (ctx) => {
      await ctx.step("risky", () => Promise.reject(new Error("no"))).catch(() => {});
      await ctx.step("next", async () => 1);
      await ctx.step("last", async () => 1);
    });
    const begins = world.store.calls.filter((call) => call.method === "beginStep");
    expect(begins.map((call) => (call.args[0] as { caught?: number[] }).caught)).toEqual([
      undefined,
      [0],
      undefined,
    ]);
  });

  test("of several steps is told apart from the ones that went well", async () => {
    const world = newWorld();
    const fns = [0, 1, 2, 3].map((i) => counted(() => (i % 2 ? Promise.reject(new Error(`no ${i}`)) : i)));
    const last = counted((call) => (call === 1 ? never() : null));
    const task = async (ctx: DurableContext) => {
      const settled = await Promise.allSettled(fns.map((fn, i) => ctx.step(`s${i}`, fn)));
      await ctx.step("last", last);
      return settled.map((one) => (one.status === "fulfilled" ? one.value : (one.reason as Error).message));
    };
    await crash(world, task, () => last.calls === 1);
    expect((await world.run(task)).result).toEqual([0, "no 1", 2, "no 3"]);
    expect(fns.map((fn) => fn.calls)).toEqual([1, 1, 1, 1]);
  });

  test("replays also when the answer that recorded it was lost for good", async () => {
    const world = newWorld();
    world.store.hooks.failStep = async (pass) => {
      await pass();
      throw unavailable();
    };
    const risky = counted(() => Promise.reject(new Error("no")));
    const last = counted((call) => (call === 1 ? never() : null));
    const task = catching(risky, [], last);
    const attempt = world.run(task);
    attempt.catch(() => {});
    await whileTimeFlies(
      world.clock,
      until(() => last.calls === 1),
    );
    await lapse(world, attempt);
    await world.run(task);
    expect(risky.calls).toBe(1);
  });
});

describe("a failure that ended the attempt", () => {
  test("runs again at the next", async () => {
    const world = newWorld();
    const before = counted(() => 1);
    const risky = counted((call) => (call < 3 ? Promise.reject(new Error(`no ${call}`)) : "yes"));
    const task = async (ctx: DurableContext) => {
      await ctx.step("before", before);
      return ctx.step("risky", risky);
    };
    await expect(world.run(task)).rejects.toThrow("no 1");
    await expect(world.run(task)).rejects.toThrow("no 2");
    const { result, steps } = await world.run(task);
    expect(result).toBe("yes");
    expect(before.calls).toBe(1);
    expect(steps[1]).toMatchObject({ status: "completed", attempts: 3 });
    expect(steps[1]?.error).toBeUndefined();
  });

  test("of a sibling in Promise.all runs again, and the others do not", async () => {
    const world = newWorld();
    const gate = Promise.withResolvers<void>();
    const good = counted(async () => (await gate.promise, "good"));
    const bad = counted((call) => {
      if (call > 1) return "good after all";
      gate.resolve();
      throw new Error("bad");
    });
    const also = counted(async () => (await gate.promise, "also"));
    const task = (ctx: DurableContext) =>
      Promise.all([ctx.step("good", good), ctx.step("bad", bad), ctx.step("also", also)]);
    await expect(world.run(task)).rejects.toThrow("bad");
    expect((await world.run(task)).result).toEqual(["good", "good after all", "also"]);
    expect([good.calls, bad.calls, also.calls]).toEqual([1, 2, 1]);
  });
});

describe("a result that JSON cannot carry fails its step, naming the place, and is not tried again (R25):", () => {
  class Client {
    readonly secret = 1;
  }
  const cycle: { self?: unknown; list: unknown[] } = { list: [] };
  cycle.self = cycle;
  test.each<[string, unknown, string, string]>([
    ["a cycle", cycle, "payload_not_json", ".self"],
    ["a BigInt", { a: [{ n: 1n }] }, "payload_not_json", ".a[0].n"],
    ["NaN", { score: Number.NaN }, "payload_not_json", ".score"],
    ["Infinity", [1, Infinity], "payload_not_json", "[1]"],
    ["a function", { "on done": () => {} }, "payload_not_json", '["on done"]'],
    ["a symbol", { s: Symbol("s") }, "payload_not_json", ".s"],
    ["a class instance", { client: new Client() }, "payload_not_json", ".client is an instance of Client"],
    ["a Map", new Map([[1, 2]]), "payload_not_json", "instance of Map"],
    ["undefined in an array", [undefined], "payload_not_json", "[0] is undefined"],
    ["17 MiB", "x".repeat(17 * 1024 * 1024), "payload_too_large", "17825794 bytes as JSON; at most 16777216"],
  ])("%s", async (_what, value, code, place) => {
    const world = newWorld();
    const fn = counted(() => value);
    const error = await rejection(world.run((ctx) => ctx.step("make it", fn)));
    expect(error).toBeInstanceOf(DurablePayloadError);
    expect(error).toMatchObject({ code });
    expect(error.message).toContain('the result of step 0 ("make it")');
    expect(error.message).toContain(place);
    expect(fn.calls).toBe(1);
    expect(world.store.methods()).toEqual(["startOrResume", "beginStep", "failStep", "endRun"]);
    expect(await world.step(0)).toMatchObject({ status: "failed", attempts: 1, error: { code } });
    expect(world.record()).toMatchObject({ status: "failed", error: { code } });
  });

  test("so does one that only the store finds too large", async () => {
    const world = newWorld();
    const refusal = new DurablePayloadError("result has 3 MB; at most 2 MB are allowed", "payload_too_large");
    world.store.hooks.completeStep = failing(Infinity, () => refusal);
    const fn = counted(() => "large");
    expect(await rejection(world.run((ctx) => ctx.step("make it", fn)))).toBe(refusal);
    expect(fn.calls).toBe(1);
    expect(await world.step(0)).toMatchObject({ status: "failed", error: { code: "payload_too_large" } });
  });

  test("and the largest that is allowed is recorded", async () => {
    const world = newWorld();
    const text = "x".repeat(16 * 1024 * 1024 - 2);
    const { steps } = await world.run(async (ctx) => void (await ctx.step("make it", async () => text)));
    expect(steps[0]?.result === text).toBe(true);
  });
});

describe("a task's result", () => {
  test("that JSON cannot carry fails the run, and mended code completes it without running a step again", async () => {
    const world = newWorld();
    const fn = counted(() => 1);
    const error = await rejection(world.run(async (ctx) => ({ n: await ctx.step("n", fn), bad: 1n })));
    expect(error).toMatchObject({
      code: "payload_not_json",
      message: expect.stringContaining(".bad") as string,
    });
    expect(world.record()).toMatchObject({ status: "failed", error: { code: "payload_not_json" } });
    expect((await world.run(async (ctx) => ({ n: await ctx.step("n", fn) }))).result).toEqual({ n: 1 });
    expect(fn.calls).toBe(1);
  });

  test("that the store refuses fails the run, which is not left running", async () => {
    const world = newWorld();
    const refusal = new DurablePayloadError("result has 3 MB; at most 2 MB are allowed", "payload_too_large");
    world.store.hooks.endRun = failing(1, () => refusal);
    expect(await rejection(world.run(async () => "large"))).toBe(refusal);
    expect(world.record()).toMatchObject({ status: "failed", error: { code: "payload_too_large" } });
  });
});

describe("the user's own error reaches the caller as the same object (R27)", () => {
  const own = new QuotaError("mine", "quota");
  const task = (ctx: DurableContext) => ctx.step("risky", () => Promise.reject(own));
  const kinds = { "a plain error": plainError, store_unavailable: unavailable };

  for (const [what, make] of Object.entries(kinds)) {
    test(`when failStep keeps failing with ${what}`, async () => {
      const world = newWorld();
      world.store.hooks.failStep = failing(Infinity, make);
      expect(await rejection(whileTimeFlies(world.clock, world.run(task)))).toBe(own);
      expect(world.record().status).toBe("failed");
    });

    test(`when endRun keeps failing with ${what}`, async () => {
      const world = newWorld();
      world.store.hooks.endRun = failing(Infinity, make);
      expect(await rejection(whileTimeFlies(world.clock, world.run(task)))).toBe(own);
      expect(world.record().status).toBe("running");
    });
  }

  test("when both never answer, after a lease's time for each", async () => {
    const world = newWorld();
    const startedAt = world.clock.now();
    world.store.hooks.failStep = hanging();
    world.store.hooks.endRun = hanging();
    expect(await rejection(whileTimeFlies(world.clock, world.run(task)))).toBe(own);
    expect(world.clock.now() - startedAt).toBeLessThan(2.2 * LEASE_MS);
  });

  test("when both are refused", async () => {
    const world = newWorld();
    const refusal = () => Object.assign(new Error("no such run"), { code: "run_not_found" });
    world.store.hooks.failStep = failing(Infinity, refusal);
    world.store.hooks.endRun = failing(Infinity, refusal);
    expect(await rejection(world.run(task))).toBe(own);
  });

  test("when the lease is lost on the way out", async () => {
    const world = newWorld();
    world.store.hooks.endRun = async (pass) => {
      await seize(world);
      return pass();
    };
    expect(await rejection(world.run(task))).toBe(own);
    expect(world.record()).toMatchObject({ status: "running", leaseHolderId: "thief" });
  });

  test("when it failed at once, without a promise", async () => {
    const world = newWorld();
    const thrower = (): never => {
      throw own;
    };
    expect(await rejection(world.run(thrower))).toBe(own);
    expect(await rejection(world.run((ctx) => ctx.step("risky", thrower)))).toBe(own);
    expect(world.record()).toMatchObject({ status: "failed", error: { name: "QuotaError", code: "quota" } });
  });
});

describe("whatever is thrown is recorded in words, and reaches the caller as it is:", () => {
  const hostile = new Proxy(new Error("hidden"), {
    get: () => {
      throw new Error("do not look");
    },
  });
  test.each<[string, unknown, object]>([
    ["a string", "just text", { name: "Error", message: "just text" }],
    ["undefined", undefined, { message: "thrown: undefined" }],
    ["null", null, { message: "thrown: null" }],
    ["a number", 42, { message: "thrown: 42" }],
    ["a BigInt", 1n, { message: "thrown: bigint" }],
    ["a symbol", Symbol("s"), { message: "thrown: Symbol(s)" }],
    ["a plain object", { status: 429 }, { message: 'thrown: {"status":429}' }],
    [
      "an object like an error",
      { message: "grpc", code: "UNAVAILABLE" },
      { message: "grpc", code: "UNAVAILABLE" },
    ],
    ["an error whose name is no string", Object.assign(new Error("odd"), { name: 42 }), { message: "odd" }],
    [
      "an error whose message is no string",
      Object.assign(new Error(), { message: [1] }),
      { message: "thrown: [1]" },
    ],
    ["an error that cannot be read", hostile, { message: "thrown: object" }],
  ])("%s", async (_what, thrown, recorded) => {
    const world = newWorld();
    let caught: unknown = "nothing";
    await world
      .run((ctx) => ctx.step("risky", () => Promise.reject(thrown as Error)))
      .catch((error: unknown) => {
        caught = error;
      });
    expect(Object.is(caught, thrown)).toBe(true);
    expect((await world.step(0))?.error).toMatchObject(recorded);
    expect(world.record()).toMatchObject({ status: "failed", error: recorded });
  });
});
