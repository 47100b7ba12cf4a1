/** What bad input gets: a typed error that names the field, before anything is touched; and a run that goes on. */
import { describe, expect, test } from "vitest";
import { DurableInvalidInputError } from "../src/contract/errors.ts";
import type { AwaitEventOptions, DurableContext } from "../src/runner/types.ts";
import { counted, crash, MANIFEST, never, newWorld, rejection } from "./support/world.ts";

type Options = NonNullable<Parameters<ReturnType<typeof newWorld>["run"]>[1]>;

describe("runDurable refuses, before the store is asked anything,", () => {
  test.each<[string, Options, string]>([
    ["an empty run id", { runId: "" }, "runId"],
    ["a run id of 1,100 bytes", { runId: "é".repeat(550) }, "runId"],
    ["a run id with NUL", { runId: "a\u0000b" }, "runId"],
    ["a run id with half a surrogate pair", { runId: "\ud83d" }, "runId"],
    ["no run id", { runId: undefined as unknown as string }, "runId"],
    ["an empty worker id", { workerId: "" }, "workerId"],
    ["a lease of 0", { leaseMs: 0 }, "leaseMs"],
    ["a negative lease", { leaseMs: -1 }, "leaseMs"],
    ["a lease of NaN", { leaseMs: Number.NaN }, "leaseMs"],
    ["an endless lease", { leaseMs: Infinity }, "leaseMs"],
  ])("%s", async (_what, options, field) => {
    const world = newWorld();
    const task = counted(() => null);
    const error = await rejection(world.run(task, options));
    expect(error).toBeInstanceOf(DurableInvalidInputError);
    expect(error).toMatchObject({ code: "invalid_input", field });
    expect(error.message).toContain(field);
    expect(task.calls).toBe(0);
    expect(world.store.calls).toEqual([]);
  });

  test("a default outcome that JSON cannot carry, which would be found out only once all is paid for", async () => {
    const world = newWorld();
    const defaultOutcome = { score: Number.NaN };
    expect(await rejection(world.run(async () => null, { defaultOutcome }))).toMatchObject({
      code: "payload_not_json",
      message: expect.stringContaining("defaultOutcome.score") as string,
    });
    expect(world.store.calls).toEqual([]);
  });
});

test.each(["../escape", "🚀", " ", "a/b\\c", "x".repeat(1_024)])("a run id may be %j", async (runId) => {
  const world = newWorld();
  expect((await world.run(async (ctx) => ctx.runId, { runId })).result).toBe(runId);
});

test("a manifest that is not JSON is refused by the claim, which is not repeated", async () => {
  const world = newWorld();
  const manifest = { ...MANIFEST, input: { n: 1n } };
  expect(await rejection(world.run(async () => null, { manifest }))).toMatchObject({
    code: "payload_not_json",
    message: expect.stringContaining("manifest.input.n") as string,
  });
  expect(world.store.count("startOrResume")).toBe(1);
});

describe("a context refuses", () => {
  const step = (intent: string) => (ctx: DurableContext) => ctx.step(intent, async () => 1);
  const wait = (opts: AwaitEventOptions) => (ctx: DurableContext) => ctx.awaitEvent("k", opts);
  test.each<[string, (ctx: DurableContext) => Promise<unknown>, string]>([
    ["an empty intent", step(""), "intent"],
    ["an intent of 2 KB", step("x".repeat(2_048)), "intent"],
    ["an intent with a line break", step("a\nb"), "intent"],
    ["an intent that is no string", step(7 as unknown as string), "intent"],
    ["an unknown kind", (ctx) => ctx.step("x", async () => 1, { kind: "magic" as "tool" }), "kind"],
    ["a wait for an empty key", (ctx) => ctx.awaitEvent(""), "key"],
    ["a wait for a key of 2 KB", (ctx) => ctx.awaitEvent("k".repeat(2_048)), "key"],
    ["a timeout of NaN", wait({ timeoutMs: Number.NaN }), "timeoutMs"],
    ["a timeout of -1", wait({ timeoutMs: -1 }), "timeoutMs"],
    ["an endless timeout", wait({ timeoutMs: Infinity }), "timeoutMs"],
    ["a timeout that leads to no date", wait({ timeoutMs: Number.MAX_SAFE_INTEGER }), "timeoutMs"],
    ["polls every 0 ms", wait({ pollMs: 0 }), "pollMs"],
    ["polls every NaN ms", wait({ pollMs: Number.NaN }), "pollMs"],
  ])("%s, and counts the position all the same", async (_what, call, field) => {
    const world = newWorld();
    const last = counted((times) => (times === 1 ? never() : "end"));
    const before = counted(() => "before");
    const after = counted(() => "after");
    const task = async (ctx: DurableContext) => {
      await ctx.step("before", before);
      const error = await rejection(call(ctx));
      expect(error).toMatchObject({ code: "invalid_input", field });
      await ctx.step("after", after);
      return ctx.step("last", last);
    };
    await crash(world, task, () => last.calls === 1);
    const { result, steps } = await world.run(task);
    expect(result).toBe("end");
    expect([before.calls, after.calls]).toEqual([1, 1]);
    expect(steps.map((one) => one.stepIndex)).toEqual([0, 2, 3]);
  });

  test("a fingerprint that JSON cannot carry, without calling fn", async () => {
    const world = newWorld();
    const fn = counted(() => 1);
    const inputFingerprint = { client: new Map() };
    expect(await rejection(world.run((ctx) => ctx.step("x", fn, { inputFingerprint })))).toMatchObject({
      code: "payload_not_json",
    });
    expect(fn.calls).toBe(0);
    expect(await world.step(0)).toBeUndefined();
  });
});

test("what a mistake refused is mended by the next attempt, at the same position", async () => {
  const world = newWorld();
  const before = counted(() => 1);
  const task = (intent: string) => async (ctx: DurableContext) => [
    await ctx.step("before", before),
    await ctx.step(intent, async () => 2),
  ];
  expect(await rejection(world.run(task("")))).toMatchObject({ code: "invalid_input", field: "intent" });
  expect(world.record()).toMatchObject({ status: "failed", error: { code: "invalid_input" } });
  expect((await world.run(task("named"))).result).toEqual([1, 2]);
  expect(before.calls).toBe(1);
});
