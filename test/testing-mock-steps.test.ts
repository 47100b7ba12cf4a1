/** mockSteps: what stands in for a step's function, where, and what is noted. */
import { describe, expect, test } from "vitest";
import { NonRetryableError } from "../src/contract/errors.ts";
import type { DurableContext, StepInfo } from "../src/runner/types.ts";
import { mockSteps } from "../src/testing/mock-steps.ts";
import { counted, newWorld, rejection } from "./support/world.ts";

const real = (): Promise<string> => Promise.reject(new Error("the real function was called"));

describe("a mock", () => {
  test.each([["a text"], [42], [false], [null], [{ text: "a letter" }], [[1, 2]]])(
    "that is the value %j is the step's result",
    async (value) => {
      const world = newWorld();
      const task = mockSteps((ctx) => ctx.step<unknown>("write", real), { write: value });
      const { result, steps } = await world.run(task);
      expect(result).toEqual(value);
      expect(steps[0]).toMatchObject({ intent: "write", status: "completed", result: value });
    },
  );

  test("that is undefined is a result, too", async () => {
    const world = newWorld();
    const { result, steps } = await world.run(
      mockSteps((ctx) => ctx.step("write", real), { write: undefined }),
    );
    expect(result).toBeUndefined();
    expect(steps[0]).toMatchObject({ status: "completed" });
  });

  test("that is an error is thrown", async () => {
    const world = newWorld();
    const error = new TypeError("no paper");
    const task = mockSteps((ctx) => ctx.step("write", real), { write: error });
    expect(await rejection(world.run(task))).toBe(error);
    expect(await world.step(0)).toMatchObject({ status: "failed", error: { message: "no paper" } });
  });

  test("that is a function is called with the step's info and the number of the call", async () => {
    const world = newWorld();
    const seen: [StepInfo, number][] = [];
    const task = mockSteps(async (ctx) => [await ctx.step("write", real), await ctx.step("write", real)], {
      write: (info, call) => (seen.push([info, call]), `letter ${call}`),
    });
    expect((await world.run(task)).result).toEqual(["letter 1", "letter 2"]);
    expect(seen.map(([info, call]) => [info.stepIndex, info.attempt, call])).toEqual([
      [0, 1, 1],
      [1, 1, 2],
    ]);
    expect(seen[0]?.[0].idempotencyKey).not.toBe(seen[1]?.[0].idempotencyKey);
    expect(seen[0]?.[0].signal).toBeInstanceOf(AbortSignal);
  });

  test("that is a function may answer later, or throw", async () => {
    const world = newWorld();
    const task = mockSteps((ctx) => ctx.step("write", real).catch(() => ctx.step("call", real)), {
      write: () => {
        throw new Error("no paper");
      },
      call: async () => "hello",
    });
    expect((await world.run(task)).result).toBe("hello");
  });
});

describe("everything else of a step is as it was", () => {
  test("its retries: each attempt calls the mock", async () => {
    const world = newWorld();
    const retries = { limit: 3, delayMs: 0 };
    const task = mockSteps((ctx) => ctx.step("write", real, { retries }), {
      write: (_info: StepInfo, call: number) => {
        if (call < 3) throw new Error("no paper");
        return "a letter";
      },
    });
    const { result, steps } = await world.run(task);
    expect(result).toBe("a letter");
    expect(steps[0]).toMatchObject({ attempts: 3 });
    expect(task.calls.write.map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
  });

  test("its retries: what says that it is final ends them", async () => {
    const world = newWorld();
    const retries = { limit: 3, delayMs: 0 };
    const task = mockSteps((ctx) => ctx.step("write", real, { retries }), {
      write: new NonRetryableError("no hands"),
    });
    await rejection(world.run(task));
    expect(task.calls.write).toHaveLength(1);
  });

  test("its kind and its fingerprint", async () => {
    const world = newWorld();
    const options = { kind: "llm", inputFingerprint: { to: "ann" } } as const;
    const { steps } = await world.run(mockSteps((ctx) => ctx.step("write", real, options), { write: "hi" }));
    expect(steps[0]).toMatchObject({ kind: "llm", inputHash: expect.stringMatching(/^[0-9a-f]{64}$/) });
  });

  test("its record: a replay calls no mock, and answers what was recorded", async () => {
    const world = newWorld();
    const task = (ctx: DurableContext) =>
      ctx.step("write", real).then((letter) => ctx.step("send", async () => `sent ${letter}`));
    const first = mockSteps(task, { write: "a letter", send: new Error("no stamp") });
    await rejection(world.run(first));
    const second = mockSteps(task, { write: "another letter" });
    expect((await world.run(second)).result).toBe("sent a letter");
    expect(second.calls.write).toEqual([]);
    expect(second.unused()).toEqual([]);
  });

  test("its limits: a value that JSON cannot carry is refused", async () => {
    const world = newWorld();
    const task = mockSteps((ctx) => ctx.step("write", real), { write: new Map() });
    expect(await rejection(world.run(task))).toMatchObject({ code: "payload_not_json" });
  });

  test("steps without a mock run, whatever their intent", async () => {
    const world = newWorld();
    const work = counted(() => "work");
    const task = mockSteps((ctx) => ctx.step("constructor", work), { write: "a letter" });
    expect((await world.run(task)).result).toBe("work");
    expect(work.calls).toBe(1);
  });

  test("the rest of the context", async () => {
    const world = newWorld();
    const task = mockSteps(
      async (ctx) => {
        const { runId, projectId, scenarioId, signal } = ctx;
        await ctx.emitEvent("ready", 1);
        const ready = await ctx.awaitEvent("ready");
        await ctx.sleep(0);
        await ctx.sleepUntil(new Date(0));
        const times = [(await ctx.now()) instanceof Date, (await ctx.uuid()).length];
        return { runId, projectId, scenario: scenarioId ?? "none", aborted: signal.aborted, ready, times };
      },
      { write: "a letter" },
    );
    const { result } = await world.run(task);
    expect(result).toMatchObject({ projectId: "test-agent", scenario: "none", aborted: false, ready: 1 });
    expect(result.times).toEqual([true, 36]);
    expect(await world.memory.loadEvent(result.runId, "ready")).toMatchObject({ payload: 1 });
  });
});

describe("in branches", () => {
  const branch = (ctx: DurableContext): Promise<string> => ctx.step("write", real);

  test("of ctx.all, by name", async () => {
    const world = newWorld();
    const task = mockSteps((ctx) => ctx.all({ a: branch, b: branch }), {
      write: (_info: StepInfo, call: number) => `letter ${call}`,
    });
    expect((await world.run(task)).result).toEqual({ a: "letter 1", b: "letter 2" });
    expect(task.calls.write).toHaveLength(2);
  });

  test("of ctx.all, in a list, with names and without", async () => {
    const world = newWorld();
    const task = mockSteps((ctx) => ctx.all([branch, ["named", branch]]), { write: "a letter" });
    const { result, steps } = await world.run(task);
    expect(result).toEqual(["a letter", "a letter"]);
    expect(steps.map(({ path }) => path)).toEqual(expect.arrayContaining(["0/0/0", "0/named/0"]));
  });

  test("of ctx.race", async () => {
    const world = newWorld();
    const task = mockSteps((ctx) => ctx.race({ a: branch }), { write: "a letter" });
    expect((await world.run(task)).result).toBe("a letter");
  });

  test("of branches", async () => {
    const world = newWorld();
    const task = mockSteps((ctx) => ctx.all([(one) => one.race([(two) => two.all([branch])])]), {
      write: "a letter",
    });
    expect((await world.run(task)).result).toEqual([["a letter"]]);
  });

  test("that are none, the context refuses as before", async () => {
    const world = newWorld();
    for (const branches of [undefined, 7, [7], { a: "b" }, [["name"]]]) {
      const task = mockSteps((ctx) => ctx.all(branches as never), { write: "a letter" });
      expect(await rejection(world.run(task))).toMatchObject({ code: "invalid_input" });
    }
  });
});

describe("what is noted", () => {
  test("is each call of each mock", async () => {
    const world = newWorld();
    const task = mockSteps((ctx) => ctx.step("write", real), { write: "a letter", send: true });
    expect(task.calls).toEqual({ write: [], send: [] });
    await world.run(task);
    expect(task.calls.write).toMatchObject([{ stepIndex: 0, attempt: 1 }]);
    expect(task.calls.send).toEqual([]);
  });

  test("is which mocks no step has come by with", async () => {
    const world = newWorld();
    const task = mockSteps((ctx) => ctx.step("write", real), { write: "a letter", wriet: "a lettre" });
    expect(task.unused()).toEqual(["write", "wriet"]);
    await world.run(task);
    expect(task.unused()).toEqual(["wriet"]);
  });
});
