/** R23: code that left the record is told so, with both sides, and the run waits for the code to be mended. */
import { describe, expect, test } from "vitest";
import type { DurableContext } from "../src/runner/types.ts";
import type { World } from "./support/world.ts";
import { counted, crash, never, newWorld, rejection, RUN_ID } from "./support/world.ts";

/** A run whose worker died in its third step. */
async function interruptedRun(): Promise<World> {
  const world = newWorld();
  const last = counted(() => never());
  await crash(
    world,
    async (ctx) => {
      await ctx.step("fetch", async () => "page", { kind: "tool", inputFingerprint: { url: "/" } });
      await ctx.step("sum up", async () => "short");
      await ctx.step("publish", last, { inputFingerprint: "v1" });
    },
    () => last.calls === 1,
  );
  return world;
}

/** The code that the run began with. */
async function mended(ctx: DurableContext): Promise<string> {
  const page = await ctx.step("fetch", () => never<string>(), {
    kind: "tool",
    inputFingerprint: { url: "/" },
  });
  const sum = await ctx.step("sum up", () => never<string>());
  return `${page} ${sum} ${await ctx.step("publish", async () => "done", { inputFingerprint: "v1" })}`;
}

async function expectResumable(world: World): Promise<void> {
  expect(world.record().status).toBe("failed");
  expect((await world.run(mended)).result).toBe("page short done");
}

describe("a step that is not the recorded one is refused, and the run goes on once the code is mended:", () => {
  const other = counted(() => "other");
  const cases: [string, (ctx: DurableContext) => Promise<unknown>, string, RegExp][] = [
    [
      "another intent",
      (ctx) => ctx.step("download", other, { kind: "tool" }),
      "step_divergence",
      /step 0 .*tool "fetch".*tool "download"/,
    ],
    ["another kind", (ctx) => ctx.step("fetch", other), "step_divergence", /tool "fetch".*logic "fetch"/],
    ["a wait", (ctx) => ctx.awaitEvent("fetch"), "step_divergence", /tool "fetch".*event "event:fetch"/],
    ["the clock", (ctx) => ctx.now(), "step_divergence", /tool "fetch".*deterministic "ctx.now"/],
    [
      "another input",
      (ctx) => ctx.step("fetch", other, { kind: "tool", inputFingerprint: { url: "/b" } }),
      "step_input_mismatch",
      /step 0 .*\("fetch"\).*input hash [0-9a-f]{64}.*[0-9a-f]{64}/,
    ],
  ];
  test.each(cases)("%s", async (_what, task, code, message) => {
    const world = await interruptedRun();
    const error = await rejection(world.run(task));
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) as string });
    expect(error.message).toContain(RUN_ID);
    expect(other.calls).toBe(0);
    expect(world.record().error).toMatchObject({ code });
    await expectResumable(world);
  });

  test("another intent for the step that was in flight", async () => {
    const world = await interruptedRun();
    const task = async (ctx: DurableContext) => {
      await ctx.step("fetch", other, { kind: "tool", inputFingerprint: { url: "/" } });
      await ctx.step("sum up", other);
      await ctx.step("send", other);
    };
    const error = await rejection(world.run(task));
    expect(error).toMatchObject({ code: "step_divergence", name: "DurableRunDivergenceError" });
    expect(error.message).toMatch(/step 2 .*"publish".*"send"/);
    expect(other.calls).toBe(0);
    await expectResumable(world);
  });

  test("another input for the step that was in flight", async () => {
    const world = await interruptedRun();
    const task = async (ctx: DurableContext) => {
      await ctx.step("fetch", other, { kind: "tool" });
      await ctx.step("sum up", other);
      await ctx.step("publish", other, { inputFingerprint: "v2" });
    };
    expect(await rejection(world.run(task))).toMatchObject({
      code: "step_input_mismatch",
      name: "DurableStepInputMismatchError",
    });
    await expectResumable(world);
  });
});

test("an input is compared only when both sides have one", async () => {
  const world = await interruptedRun();
  const { result } = await world.run(async (ctx) => {
    const page = await ctx.step("fetch", () => never<string>(), { kind: "tool" });
    await ctx.step("sum up", () => never<string>(), { inputFingerprint: "new" });
    return `${page} ${await ctx.step("publish", async () => "done")}`;
  });
  expect(result).toBe("page done");
});

test("the same input in another order of its keys is the same", async () => {
  const world = newWorld();
  const last = counted((call) => (call === 1 ? never() : null));
  const fingerprints = [
    { a: 1, b: new Date(0) },
    { b: "1970-01-01T00:00:00.000Z", a: 1, c: undefined },
  ];
  const task = async (ctx: DurableContext) => {
    await ctx.step("x", async () => 1, { inputFingerprint: fingerprints.shift() });
    await ctx.step("last", last);
  };
  await crash(world, task, () => last.calls === 1);
  await world.run(task);
  expect(world.record().status).toBe("completed");
});

describe("a task that ends", () => {
  test("with fewer steps than are recorded has diverged, and the run is left resumable", async () => {
    const world = await interruptedRun();
    const error = await rejection(
      world.run((ctx) => ctx.step("fetch", () => never(), { kind: "tool", inputFingerprint: { url: "/" } })),
    );
    expect(error).toMatchObject({ code: "step_divergence" });
    expect(error.message).toMatch(/without step 1 \("sum up"\)/);
    await expectResumable(world);
  });

  test("without a single step has diverged too", async () => {
    const world = await interruptedRun();
    expect(await rejection(world.run(async () => "nothing to do"))).toMatchObject({
      code: "step_divergence",
    });
    await expectResumable(world);
  });

  test("before a step that was only begun has not diverged", async () => {
    const world = await interruptedRun();
    const { result } = await world.run(async (ctx) => {
      await ctx.step("fetch", () => never(), { kind: "tool" });
      return ctx.step("sum up", () => never<string>());
    });
    expect(result).toBe("short");
  });
});

describe("a task that catches its divergence", () => {
  const fallback = counted(() => "fallback");
  const caught: (string | undefined)[] = [];
  const evasive = async (ctx: DurableContext) => {
    try {
      return await ctx.step("download", fallback);
    } catch (error) {
      caught.push((error as { code?: string }).code);
      return await ctx.step("sum up", fallback).catch((again: unknown) => {
        caught.push((again as { code?: string }).code);
        return "made up";
      });
    }
  };

  test("gets no further step, and cannot complete the run", async () => {
    const world = await interruptedRun();
    const error = await rejection(world.run(evasive));
    expect(error).toMatchObject({
      code: "step_divergence",
      message: expect.stringMatching(/step 0/) as string,
    });
    expect(caught).toEqual(["step_divergence", "step_divergence"]);
    expect(fallback.calls).toBe(0);
    await expectResumable(world);
  });

  test("and throws its own error is not denied it (R27)", async () => {
    const world = await interruptedRun();
    const own = new Error("my own");
    const task = (ctx: DurableContext) => ctx.step("download", fallback).catch(() => Promise.reject(own));
    expect(await rejection(world.run(task))).toBe(own);
    await expectResumable(world);
  });

  test("does not get away with it when the store found it, in a step that was begun before", async () => {
    const world = newWorld();
    const broken = counted((call) => {
      if (call === 1) throw new Error("broken");
      return 1;
    });
    await expect(world.run((ctx) => ctx.step("a", broken))).rejects.toThrow("broken");
    const task = async (ctx: DurableContext) => {
      await ctx.step("b", fallback).catch(() => {});
      return "made up";
    };
    expect(await rejection(world.run(task))).toMatchObject({ code: "step_divergence" });
    expect((await world.run((ctx) => ctx.step("a", broken))).result).toBe(1);
  });
});
