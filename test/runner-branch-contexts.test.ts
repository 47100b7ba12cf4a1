/** Each branch has a context of its own, and has to use it. */
import { expect, test } from "vitest";
import type { DurableContext } from "../src/runner/types.ts";
import { newWorld, rejection, tick } from "./support/world.ts";

const uses: [string, (ctx: DurableContext) => Promise<unknown>][] = [
  ["step", (ctx) => ctx.step("s", async () => 1)],
  ["sleep", (ctx) => ctx.sleep(0)],
  ["awaitEvent", (ctx) => ctx.awaitEvent("k")],
  ["emitEvent", (ctx) => ctx.emitEvent("k", 1)],
  ["now", (ctx) => ctx.now()],
  ["all", (ctx) => ctx.all([])],
  ["race", (ctx) => ctx.race([async () => 1])],
];

test.each(uses)(
  "the task's own ctx.%s is refused inside a branch, and nothing of it is begun",
  async (name, use) => {
    const world = newWorld();
    const error = await rejection(world.run((ctx) => ctx.all({ a: async () => (await tick(), use(ctx)) })));
    expect(error).toMatchObject({ code: "invalid_input", field: "ctx" });
    expect(error.message).toContain(`ctx.${name === "now" ? "step" : name}`);
    expect(await world.step(0)).toMatchObject({ intent: "ctx.all", status: "failed" });
    expect(await world.memory.loadEvent("run-1", "k")).toBeUndefined();
  },
);

test("the context of one branch is refused inside another, and inside a branch of it", async () => {
  for (const nested of [false, true]) {
    const world = newWorld();
    const work = world.run((ctx) =>
      ctx.all({
        a: (a) => {
          const b = (): Promise<unknown> => a.step("of a", async () => 1);
          return nested ? a.all([b]) : ctx.all([b]);
        },
      }),
    );
    expect(await rejection(work)).toMatchObject({ code: "invalid_input", field: "ctx" });
  }
});

test("after a group, and beside it, the task goes on with its own context", async () => {
  const world = newWorld();
  const { result } = await world.run(async (ctx) => {
    const group = ctx.all({ a: (a) => a.step("a", async () => (await tick(), "a")) });
    const beside = await ctx.step("beside", async () => "beside");
    const { a } = await group;
    return [a, beside, await ctx.step("after", async () => "after")];
  });
  expect(result).toEqual(["a", "beside", "after"]);
});

test("a branch may run another run, with that run's contexts", async () => {
  const world = newWorld();
  const { result } = await world.run((ctx) =>
    ctx.all([
      async () =>
        (
          await world.run((child) => child.all([(c) => c.step("child", async () => "child")]), {
            runId: "child",
          })
        ).result,
    ]),
  );
  expect(result).toEqual([["child"]]);
});
