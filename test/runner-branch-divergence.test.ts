/** R23, R32: code whose branches are not those on record is told so, before it does anything new where that can be known. */
import { describe, expect, test } from "vitest";
import type { Branch, DurableContext, StepInfo } from "../src/runner/types.ts";
import { runDurable } from "../src/runner/run-durable.ts";
import { recorded } from "./helpers/branches.ts";
import { ManualClock } from "./support/manual-clock.ts";
import { PlainStore } from "./support/plain-store.ts";
import type { World } from "./support/world.ts";
import {
  counted,
  crash,
  LEASE_MS,
  MANIFEST,
  never,
  newWorld,
  rejection,
  RUN_ID,
  until,
} from "./support/world.ts";

type Task = (ctx: DurableContext) => Promise<unknown>;

const made = async (): Promise<string> => "made";
const two = async (c: DurableContext) => [await c.step("a0", made), await c.step("a1", made)];
const three = async (c: DurableContext) => [...(await two(c)), await c.step("a2", made)];
const other: Branch = (c) => c.step("b0", made);

/** The code that the run began with, and where its worker died: in the third step of "a", or in the last step. */
const original = (hang: () => Promise<unknown>, { race = false } = {}): Task => {
  const a: Branch = async (c) => [...(await two(c)), await c.step("a2", hang)];
  return async (ctx) => [
    await ctx.step("first", made),
    race ? await ctx.race({ a, b: () => never() }) : await ctx.all({ a, b: other }),
    await ctx.step("last", hang),
  ];
};

async function died(dieAtCall: number, options: { race?: boolean } = {}): Promise<World> {
  const world = newWorld();
  const hang = counted((call) => (call === dieAtCall ? never() : "made"));
  await crash(world, original(hang, options), () => hang.calls === dieAtCall);
  return world;
}

async function expectDivergence(
  world: World,
  task: (fn: () => Promise<string>) => Task,
  message: RegExp,
): Promise<void> {
  const effect = counted(() => "new");
  const before = world.record().stepCount;
  const error = await rejection(world.run(task(effect)));
  expect(error).toMatchObject({ code: "step_divergence", message: expect.stringMatching(message) as string });
  expect(error.message).toContain(RUN_ID);
  expect(effect.calls).toBe(0);
  expect(world.record()).toMatchObject({ status: "failed", stepCount: before });
  const mended = await world.run(original(made));
  expect(mended.result).toBeDefined();
}

/** After the first step, which all of them share. */
const then =
  (rest: (ctx: DurableContext, fn: () => Promise<string>) => Promise<unknown>) =>
  (fn: () => Promise<string>): Task =>
  async (ctx) => [await ctx.step("first", made), await rest(ctx, fn), await ctx.step("last", fn)];

describe("in a group that was interrupted, nothing new is done when there is", () => {
  const cases: [string, (fn: () => Promise<string>) => Task, RegExp][] = [
    [
      "another name for a branch",
      then((c, fn) => c.all({ z: (d) => d.step("a0", fn), b: other })),
      /branch "a" at path 1 .*"z", "b"/,
    ],
    [
      "one branch less",
      then((c, fn) => c.all({ a: async (d) => [...(await two(d)), await d.step("a2", fn)] })),
      /branch "b" at path 1/,
    ],
    [
      "a list in place of names",
      then((c, fn) => c.all([(d) => d.step("a0", fn), other])),
      /branch "a" at path 1/,
    ],
    [
      "a step in its place",
      then((c, fn) => c.step("a0", fn)),
      /path 1 .*branches were recorded.* logic "a0"/,
    ],
    ["a wait in its place", then((c) => c.sleep(1)), /path 1 .*branches were recorded.*"ctx.sleep"/],
    ["an empty group in its place", then((c) => c.all([])), /branch "a" at path 1/],
    [
      "a step before the others of a branch",
      then((c, fn) => c.all({ a: async (d) => [await d.step("new", fn), ...(await three(d))], b: other })),
      /"a0".*"new"/,
    ],
    [
      "a group before the steps of a branch",
      then((c, fn) =>
        c.all({ a: async (d) => [await d.all([(e) => e.step("new", fn)]), await three(d)], b: other }),
      ),
      /"a0".*"ctx.all"/,
    ],
    [
      "another intent for the step in flight",
      then((c, fn) => c.all({ a: async (d) => [...(await two(d)), await d.step("new", fn)], b: other })),
      /"a2".*"new"/,
    ],
    [
      "a group for the step in flight",
      then((c, fn) =>
        c.all({ a: async (d) => [...(await two(d)), await d.race([(e) => e.step("new", fn)])], b: other }),
      ),
      /"a2".*"ctx.race"/,
    ],
    [
      "another group in its place, deeper",
      then((c, fn) => c.all({ a: (d) => d.all({ a: (e) => e.step("a0", fn) }), b: other })),
      /"a0".*"ctx.all"/,
    ],
  ];
  test.each(cases)("%s", async (_what, task, message) => {
    await expectDivergence(await died(1), task, message);
  });

  test("a group in place of the step before it", async () => {
    const world = await died(1);
    const task =
      (fn: () => Promise<string>): Task =>
      (ctx) =>
        ctx.all({ x: (c) => c.step("first", fn) });
    await expectDivergence(world, task, /"first".*"ctx.all"/);
  });

  test("a branch that ends without a step that it had done, though the others go on", async () => {
    const world = await died(1);
    const task = then(async (ctx, fn) => {
      const both = await ctx.all({ a: (c) => c.step("a0", made), b: other });
      await fn();
      return both;
    });
    await expectDivergence(world, task, /branch "a" at path 1 .*without step 3 \("a1"\)/);
  });
});

describe("in a race that was interrupted", () => {
  test("a branch that wins without a step that it had done has diverged, and its outcome is not recorded", async () => {
    const world = await died(1, { race: true });
    const task = then((ctx) => ctx.race({ a: async () => "won", b: () => never() }));
    const error = await rejection(world.run(task(made)));
    expect(error).toMatchObject({ code: "step_divergence" });
    expect(await recorded(world)).not.toHaveProperty("1");
  });

  test("a branch that fails by the divergence of another does not decide it", async () => {
    const world = await died(1, { race: true });
    const effect = counted(() => 1);
    const task: Task = async (ctx) => {
      await ctx.step("first", made);
      const won = await ctx
        .race({ a: (c) => c.step("other", effect), b: (c) => c.step("b", effect) })
        .catch(() => "caught");
      return [won, await ctx.step("last", effect).catch(() => "caught again")];
    };
    expect(await rejection(world.run(task))).toMatchObject({ code: "step_divergence" });
    expect(await recorded(world)).not.toHaveProperty("1");
    expect((await world.run(original(made, { race: true }))).result).toEqual([
      "made",
      ["made", "made", "made"],
      "made",
    ]);
  });
});

describe("after a group whose outcome is on record", () => {
  const cases: [string, (fn: () => Promise<string>) => Task, RegExp][] = [
    [
      "ctx.all in place of ctx.race",
      then((c, fn) => c.all({ a: (d) => d.step("a0", fn) })),
      /"ctx.race".*"ctx.all"/,
    ],
    ["a step in its place", then((c, fn) => c.step("a0", fn)), /branches were recorded.*"a0"/],
    ["nothing in its place", then(async () => "nothing"), /branches were recorded.*"last"/],
  ];
  test.each(cases)("%s is refused", async (_what, task, message) => {
    const world = await died(2, { race: true });
    const effect = counted(() => "new");
    const error = await rejection(world.run(task(effect)));
    expect(error).toMatchObject({
      code: "step_divergence",
      message: expect.stringMatching(message) as string,
    });
    expect(effect.calls).toBe(0);
    expect((await world.run(original(made, { race: true }))).result).toEqual([
      "made",
      ["made", "made", "made"],
      "made",
    ]);
  });

  test("its branches may be others: they are not called", async () => {
    const world = await died(2, { race: true });
    const task = then((ctx) => ctx.race({ z: () => never() }));
    expect((await world.run(task(made))).result).toEqual(["made", ["made", "made", "made"], "made"]);
  });
});

test("a branch more is none: it runs", async () => {
  const world = await died(1);
  const task = then((ctx) => ctx.all({ a: three, b: other, c: (c) => c.step("c0", made) }));
  expect((await world.run(task(made))).result).toMatchObject(["made", { c: "made" }, "made"]);
});

test("a task that ends without a group that has recorded steps has diverged", async () => {
  const world = await died(1);
  expect(await rejection(world.run((ctx) => ctx.step("first", made)))).toMatchObject({
    code: "step_divergence",
    message: expect.stringMatching(/without step 1 \("a0"\)/) as string,
  });
});

describe("bad branches are refused before any of them is called:", () => {
  const called = counted(() => 1);
  const cases: [string, unknown, RegExp][] = [
    ["none", undefined, /^branches must be an object or an array/],
    ["a function", called, /^branches must be/],
    ["text", "a", /^branches must be/],
    ["what is no function", { a: called, b: 7 }, /^branch "b" must be a function/],
    ["a gap in a list", [called, , called], /^branch "1" must be a function/], // oxlint-disable-line no-sparse-arrays
    ["a name without a function", [called, ["x"]], /^branch "x" must be a function/],
    ["an empty name", [called, ["", called]], /must not be empty/],
    ["a name that is no text", [[7, called]], /must be a string/],
    ["a slash in a name", { "a/b": called }, /^branch "a\/b" must not have a "\/"/],
    ["a line break in a name", { "a\nb": called }, /control character/],
    ["half a character as a name", { "\ud800": called }, /surrogate/],
    ["a name of 129 bytes", { ["é".repeat(65)]: called }, /130 bytes.*128/],
    [
      "a name twice",
      [
        ["x", called],
        ["x", called],
      ],
      /^branch "x" is there twice/,
    ],
    ["a name that is another one's place", [called, ["0", called]], /^branch "0" is there twice/],
    ["too many", Array(1_001).fill(called), /^branches are 1001; at most 1000/],
  ];
  test.each(cases)("%s", async (_what, branches, message) => {
    const world = newWorld();
    const task: Task = async (ctx) => {
      for (const kind of ["all", "race"] as const) {
        const error = await rejection(ctx[kind](branches as []));
        expect(error).toMatchObject({
          code: "invalid_input",
          message: expect.stringMatching(message) as string,
        });
      }
      return ctx.step("after", made);
    };
    expect((await world.run(task)).result).toBe("made");
    expect(called.calls).toBe(0);
    expect(await recorded(world)).toEqual({ "2": "after: completed, 1" });
  });

  test("a path of more than 1,024 bytes, which names in names come to", async () => {
    const world = newWorld();
    const name = "x".repeat(128);
    const deeper =
      (depth: number): Branch =>
      (c) =>
        depth === 0 ? c.step("deep", made) : c.all({ [name]: deeper(depth - 1) });
    const error = await rejection(world.run(deeper(8)));
    expect(error).toMatchObject({
      code: "invalid_input",
      message: expect.stringMatching(/path has 10\d\d bytes/) as string,
    });
    expect((await newWorld().run(deeper(7))).result).toBeDefined();
  });
});

describe("over a store that does not tell of all steps on record", () => {
  test("groups are refused, nothing is recorded of them, and the task may go on, also when it is resumed", async () => {
    const clock = new ManualClock();
    const plain = new PlainStore(() => clock.now());
    const keys: string[] = [];
    const called = counted(() => 1);
    const last = counted((call) => (call === 1 ? never<string>() : "end"));
    const task: Task = async (ctx) => {
      const errors = [await rejection(ctx.all([called])), await rejection(ctx.race([called]))];
      await ctx.step("after", async ({ idempotencyKey }: StepInfo) => keys.push(idempotencyKey));
      return [...errors.map(({ code, message }) => `${code}: ${message}`), await ctx.step("last", last)];
    };
    const run = () =>
      runDurable({ runId: RUN_ID, manifest: MANIFEST, store: plain, clock, leaseMs: LEASE_MS, taskFn: task });
    const dying = rejection(run());
    await until(() => last.calls === 1);
    clock.advance(LEASE_MS);
    await dying;
    const { result, record } = await run();
    expect(result).toEqual([
      "invalid_input: store has no branches, which ctx.all needs: it answers no openSteps",
      "invalid_input: store has no branches, which ctx.race needs: it answers no openSteps",
      "end",
    ]);
    expect([called.calls, keys.length]).toEqual([0, 1]);
    expect(record.status).toBe("completed");
    expect((await plain.loadStep(RUN_ID, 2))?.intent).toBe("after");
  });
});
