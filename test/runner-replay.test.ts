/** A step is run once; what was recorded is what comes back. */
import { describe, expect, test } from "vitest";
import type { RunOutcome } from "../src/contract/types.ts";
import { stepId } from "../src/identity.ts";
import { stepInfo } from "../src/runner/step-info.ts";
import type { DurableContext, StepInfo } from "../src/runner/types.ts";
import { counted, crash, MANIFEST, never, newWorld, rejection, RUN_ID, tick } from "./support/world.ts";

describe("a replayed step", () => {
  test("answers from the record, without calling its function again", async () => {
    const world = newWorld();
    const first = counted(() => "one");
    const second = counted((call) => (call === 1 ? never() : "two"));
    const task = async (ctx: DurableContext) => [
      await ctx.step("first", first),
      await ctx.step("second", second),
    ];

    await crash(world, task, () => second.calls === 1);
    const { result, steps } = await world.run(task);

    expect(result).toEqual(["one", "two"]);
    expect([first.calls, second.calls]).toEqual([1, 2]);
    expect(steps.map(({ stepIndex, intent, attempts }) => ({ stepIndex, intent, attempts }))).toEqual([
      { stepIndex: 0, intent: "first", attempts: 1 },
      { stepIndex: 1, intent: "second", attempts: 2 },
    ]);
  });

  test("is found by its position when Promise.all completed its steps in another order", async () => {
    const world = newWorld();
    const order: string[] = [];
    const gates = { a: Promise.withResolvers<void>(), b: Promise.withResolvers<void>() };
    const fns = {
      a: counted(async () => (await gates.a.promise, order.push("a"), "A")),
      b: counted(async () => (await gates.b.promise, order.push("b"), gates.a.resolve(), "B")),
      c: counted(() => (order.push("c"), gates.b.resolve(), "C")),
      last: counted((call) => (call === 1 ? never() : "end")),
    };
    const task = async (ctx: DurableContext) => [
      ...(await Promise.all([ctx.step("a", fns.a), ctx.step("b", fns.b), ctx.step("c", fns.c)])),
      await ctx.step("last", fns.last),
    ];
    await crash(world, task, () => fns.last.calls === 1);
    expect(order).toEqual(["c", "b", "a"]);

    const { result } = await world.run(task);
    expect(result).toEqual(["A", "B", "C", "end"]);
    expect([fns.a.calls, fns.b.calls, fns.c.calls]).toEqual([1, 1, 1]);
  });

  test("answers ctx.now and ctx.uuid as at first", async () => {
    const world = newWorld();
    const seen: [Date, string][] = [];
    const last = counted((call) => (call === 1 ? never() : null));
    const task = async (ctx: DurableContext) => {
      seen.push([await ctx.now(), await ctx.uuid()]);
      await ctx.step("last", last);
    };
    await crash(world, task, () => last.calls === 1);
    const { steps } = await world.run(task);

    const [[firstNow, firstUuid], [now, uuid]] = seen as [[Date, string], [Date, string]];
    expect(now).toBeInstanceOf(Date);
    expect(now).toEqual(firstNow);
    expect(uuid).toBe(firstUuid);
    expect(uuid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4/);
    expect(steps.map((step) => step.kind)).toEqual(["deterministic", "deterministic", "logic"]);
  });

  test.each([
    ["undefined stays undefined", undefined, undefined],
    ["null stays null", null, null],
    ["a Date becomes its ISO string", new Date(0), "1970-01-01T00:00:00.000Z"],
    ["a property that is undefined is gone", { a: 1, b: undefined }, { a: 1 }],
    ["what has toJSON is what that says", { toJSON: () => ["x"] }, ["x"]],
    ["minus zero becomes zero", -0, 0],
    ["a key __proto__ is data", JSON.parse('{"__proto__": 1}'), JSON.parse('{"__proto__": 1}')],
  ])("gives what the first run gave: %s (R25)", async (_claim, returned: unknown, expected: unknown) => {
    const world = newWorld();
    const seen: unknown[] = [];
    const last = counted((call) => (call === 1 ? never() : null));
    const task = async (ctx: DurableContext) => {
      seen.push(await ctx.step("value", async () => returned));
      await ctx.step("last", last);
      return returned;
    };
    await crash(world, task, () => last.calls === 1);
    const { result } = await world.run(task);
    const again = await world.run(task);

    for (const value of [...seen, result, again.result]) {
      expect(value).toStrictEqual(expected);
      expect(Object.is(value, -0)).toBe(false);
    }
    expect(seen).toHaveLength(2);
  });

  test("cannot be corrupted through the values that were handed out", async () => {
    const world = newWorld();
    const shared = { list: [1], deep: { n: 1 } };
    const last = counted((call) => (call < 3 ? never() : null));
    const seen: string[] = [];
    const task = async (ctx: DurableContext) => {
      const value = await ctx.step("value", async () => shared);
      seen.push(JSON.stringify(value));
      value.list.push(2);
      value.deep.n = 99;
      shared.deep.n = 98;
      await ctx.step("last", last);
    };
    await crash(world, task, () => last.calls === 1);
    await crash(world, task, () => last.calls === 2);
    const { steps } = await world.run(task);
    expect(seen).toEqual(Array(3).fill('{"list":[1],"deep":{"n":1}}'));
    expect(steps[0]?.result).toEqual({ list: [1], deep: { n: 1 } });
    expect((await world.step(0))?.result).toEqual({ list: [1], deep: { n: 1 } });
  });
});

describe("a run", () => {
  test("that has completed answers its recorded result without calling the task", async () => {
    const world = newWorld();
    const step = counted(() => 7);
    const first = await world.run(async (ctx) => ({ n: await ctx.step("n", step) }), {
      defaultOutcome: { pass: true, score: 1 },
    });
    const task = counted(() => ({ n: 0 }));
    const second = await world.run(task);

    expect(second.result).toEqual({ n: 7 });
    expect(second.record).toEqual(first.record);
    expect(second.record).toMatchObject({
      status: "completed",
      outcome: { pass: true, score: 1 },
      stepCount: 1,
    });
    expect(second.record.leaseHolderId).toBeUndefined();
    expect(second.steps).toEqual(first.steps);
    expect([task.calls, step.calls]).toEqual([0, 1]);
  });

  test("has the outcome that is made from its result, or else the default one", async () => {
    const defaultOutcome = { pass: false };
    const outcomeOf = async (outcome: (result: unknown) => RunOutcome | undefined) => {
      const world = newWorld();
      const { record } = await world.run(async () => ({ at: new Date(0), score: 3 }), {
        outcome,
        defaultOutcome,
      });
      return record.outcome;
    };
    const seen: unknown[] = [];
    expect(
      await outcomeOf((result) => {
        seen.push(result);
        return { pass: true, score: (result as { score: number }).score };
      }),
    ).toEqual({ pass: true, score: 3 });
    expect(seen).toEqual([{ at: "1970-01-01T00:00:00.000Z", score: 3 }]);
    expect(await outcomeOf(() => undefined)).toEqual({ pass: false });
  });

  test("whose outcome cannot be made, or recorded, has failed, and goes on from its steps", async () => {
    const world = newWorld();
    const step = counted(() => 1);
    const task = (ctx: DurableContext) => ctx.step("n", step);
    const noOutcome = () => {
      throw new Error("no outcome");
    };
    expect(await rejection(world.run(task, { outcome: noOutcome }))).toMatchObject({ message: "no outcome" });
    const unrecordable = () => ({ score: Number.NaN });
    expect(await rejection(world.run(task, { outcome: unrecordable }))).toMatchObject({
      code: "payload_not_json",
      message: expect.stringContaining("outcome.score") as string,
    });
    expect(world.record().status).toBe("failed");
    expect((await world.run(task, { outcome: () => ({ pass: true }) })).record.outcome).toEqual({
      pass: true,
    });
    expect(step.calls).toBe(1);
  });

  test("that completed with nothing to return is not run again either", async () => {
    const world = newWorld();
    await world.run(async () => {});
    const task = counted(() => {});
    expect((await world.run(task)).result).toBeUndefined();
    expect(task.calls).toBe(0);
  });

  test("tells the function of a step its position, its attempt, a signal, and a key that is the same at each attempt", async () => {
    const world = newWorld();
    const given: StepInfo[] = [];
    const task = (ctx: DurableContext) =>
      ctx.step("pay", async (info) => {
        given.push(info);
        expect(info.signal).toBe(ctx.signal);
        if (given.length < 3) throw new Error("declined");
        return "paid";
      });
    for (const _ of [1, 2]) await expect(world.run(task)).rejects.toThrow("declined");
    await world.run(task);
    expect(given.map(({ stepIndex, attempt }) => [stepIndex, attempt])).toEqual([
      [0, 1],
      [0, 2],
      [0, 3],
    ]);
    expect(new Set(given.map(({ idempotencyKey }) => idempotencyKey))).toEqual(
      new Set([stepId(RUN_ID, 0, "pay")]),
    );
  });

  test("makes the key when it is first read, once, and has it among its own fields", () => {
    let made = 0;
    const { signal } = new AbortController();
    const info = stepInfo({ signal, attempt: 1, stepIndex: 0 }, () => `key ${(made += 1)}`);
    expect(Object.keys(info).toSorted()).toEqual(["attempt", "idempotencyKey", "signal", "stepIndex"]);
    expect(made).toBe(0);
    expect(info.idempotencyKey).toBe("key 1");
    expect({ ...info }).toEqual({ signal, attempt: 1, stepIndex: 0, idempotencyKey: "key 1" });
  });

  test("gives no two steps the same key, nor the same step of another run", async () => {
    const keys: string[] = [];
    const note = async ({ idempotencyKey }: StepInfo) => keys.push(idempotencyKey);
    for (const runId of ["run-1", "run-2"]) {
      await newWorld().run(
        async (ctx) => {
          await ctx.step("same", note);
          await ctx.step("same", note);
        },
        { runId },
      );
    }
    expect(new Set(keys).size).toBe(4);
  });

  test("that failed goes on when it is called again", async () => {
    const world = newWorld();
    const paid = counted(() => "paid");
    const flaky = counted((call) => {
      if (call === 1) throw new Error("flaky");
      return "fine";
    });
    const task = async (ctx: DurableContext) =>
      `${await ctx.step("paid", paid)}, ${await ctx.step("flaky", flaky)}`;

    await expect(world.run(task)).rejects.toThrow("flaky");
    expect(world.record()).toMatchObject({ status: "failed", error: { message: "flaky" } });
    const { result, record } = await world.run(task);
    expect(result).toBe("paid, fine");
    expect([paid.calls, flaky.calls]).toEqual([1, 2]);
    expect(record).toMatchObject({ status: "completed", fence: 2, takeovers: 0 });
    expect(record.error).toBeUndefined();
  });

  test("that another worker holds is refused with lease_held, and neither task nor run is touched", async () => {
    const world = newWorld();
    const gate = Promise.withResolvers<string>();
    const holding = world.run((ctx) => ctx.step("slow", () => gate.promise));
    const task = counted(() => "stolen");
    expect(await rejection(world.run(task))).toMatchObject({
      name: "DurableRunLeaseHeldError",
      code: "lease_held",
      retryAfterMs: expect.any(Number) as number,
    });
    expect(task.calls).toBe(0);
    gate.resolve("mine");
    expect((await holding).result).toBe("mine");
  });

  test("with another manifest is refused with manifest_mismatch", async () => {
    const world = newWorld();
    await expect(
      world.run(async (ctx) => ctx.step("x", async () => Promise.reject(new Error("no")))),
    ).rejects.toThrow();
    const task = counted(() => null);
    const manifest = { ...MANIFEST, input: { url: "http://elsewhere/" } };
    expect(await rejection(world.run(task, { manifest }))).toMatchObject({
      name: "DurableRunInputMismatchError",
      code: "manifest_mismatch",
    });
    expect(task.calls).toBe(0);
    expect(world.record().status).toBe("failed");
  });

  test("takes arguments with fields that it does not know", async () => {
    const world = newWorld();
    const extra = { manifest: { ...MANIFEST, colour: "red" }, colour: "red" };
    const { result } = await world.run(
      (ctx) => ctx.step("x", async () => 1, { kind: "tool", colour: "red" } as { kind: "tool" }),
      extra,
    );
    expect(result).toBe(1);
  });

  test("tells its context who it is", async () => {
    const world = newWorld();
    const manifest = { ...MANIFEST, scenarioId: "persona-1" };
    const { result } = await world.run(
      async (ctx) => [ctx.runId, ctx.projectId, ctx.scenarioId, ctx.signal.aborted],
      { manifest },
    );
    expect(result).toEqual([RUN_ID, "test-agent", "persona-1", false]);
    const other = newWorld();
    expect((await other.run(async (ctx) => "scenarioId" in ctx)).result).toBe(false);
  });

  test("asks the store for nothing but a claim, a begin and a completion for each step, and an end", async () => {
    const world = newWorld();
    await world.run(async (ctx) => {
      await ctx.step("a", async () => 1);
      await ctx.step("b", async () => 2);
    });
    const steps = ["beginStep", "completeStep", "beginStep", "completeStep"];
    expect(world.store.methods()).toEqual(["startOrResume", ...steps, "endRun"]);
    const requestIds = world.store.calls.map((call) => (call.args[0] as { requestId: string }).requestId);
    expect(new Set(requestIds).size).toBe(6);
    for (const { method, args } of world.store.calls.slice(1)) {
      expect(args[0]).toMatchObject({ fence: 1, ...(method === "completeStep" && { attempt: 1 }) });
    }
  });

  test("tells its steps in order of position, whichever began first", async () => {
    const world = newWorld();
    world.store.hooks.beginStep = async (pass, { stepIndex }) => {
      for (let i = stepIndex; i < 3; i += 1) await tick();
      return pass();
    };
    const { steps } = await world.run((ctx) =>
      Promise.all(["a", "b", "c"].map((intent) => ctx.step(intent, async () => intent))),
    );
    expect(steps.map((step) => step.result)).toEqual(["a", "b", "c"]);
  });

  test("of 5,000 steps works, and so does its resume", async () => {
    const world = newWorld();
    const step = counted((call) => call);
    const last = counted((call) => (call === 1 ? never() : "end"));
    const task = async (ctx: DurableContext) => {
      let sum = 0;
      for (let i = 0; i < 5_000; i += 1) sum += await ctx.step(`step-${i % 7}`, step);
      return [sum, await ctx.step("last", last)];
    };
    await crash(world, task, () => last.calls === 1);
    const { result, record, steps } = await world.run(task);
    expect(result).toEqual([(5_000 * 5_001) / 2, "end"]);
    expect(step.calls).toBe(5_000);
    expect(record.stepCount).toBe(5_001);
    expect(steps.map((one) => one.stepIndex)).toEqual(Array.from({ length: 5_001 }, (_, i) => i));
  }, 60_000);
});

test("two attempts under one worker id do not both own the run: the first is fenced out (R6)", async () => {
  const world = newWorld();
  const gate = Promise.withResolvers<string>();
  const started = Promise.withResolvers<void>();
  const first = rejection(
    world.run((ctx) => ctx.step("work", () => (started.resolve(), gate.promise)), { workerId: "same" }),
  );
  await started.promise;
  const second = await world.run((ctx) => ctx.step("work", async () => "second"), { workerId: "same" });
  gate.resolve("first");
  expect(await first).toMatchObject({ code: "lease_lost" });
  expect(second.result).toBe("second");
  expect((await world.step(0))?.result).toBe("second");
  expect(world.record()).toMatchObject({ status: "completed", takeovers: 1, result: "second" });
});
