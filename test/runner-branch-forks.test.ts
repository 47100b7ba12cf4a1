/** Positions are in the order in which steps first began: so a run is restarted and forked in the midst of its branches. */
import { describe, expect, test } from "vitest";
import type { DurableContext } from "../src/runner/types.ts";
import { recorded, Turns } from "./helpers/branches.ts";
import type { World } from "./support/world.ts";
import { never, newWorld, RUN_ID } from "./support/world.ts";

describe("a run with branches", () => {
  /** Two lines in two groups, taking turns, so that each position is of another branch than its neighbours. */
  async function completed(world: World) {
    const turns = new Turns();
    const line = (name: string) => async (c: DurableContext) => [
      await c.step("work", turns.of(`${name}0`)),
      await c.step("work", turns.of(`${name}1`)),
    ];
    const task = async (ctx: DurableContext) => [
      await ctx.all({ a: line("a"), b: line("b") }),
      await ctx.race({ c: line("c"), d: () => never() }),
      await ctx.step("last", turns.of("last")),
    ];
    const running = world.run(task);
    await turns.end("b0", "a0", "b1", "a1", "c0", "c1", "last");
    const { result } = await running;
    expect(Object.keys(await recorded(world)).sort()).toEqual([
      "0/a/0",
      "0/a/1",
      "0/b/0",
      "0/b/1",
      "1",
      "1/c/0",
      "1/c/1",
      "2",
    ]);
    turns.called.length = 0;
    return { turns, task, result };
  }

  test.each([
    [1, ["b0", "a1", "b1", "c0", "c1", "last"]],
    [3, ["a1", "c0", "c1", "last"]],
    [5, ["c1", "last"]],
    [6, ["last"]],
  ])(
    "that is restarted from step %i, in a branch or a group, runs what began from there on again",
    async (fromStep, again) => {
      const world = newWorld();
      const { turns, task, result } = await completed(world);
      await world.memory.restartRun(RUN_ID, { fromStep, dropLater: true });
      const running = world.run(task);
      await turns.end(...again);
      expect((await running).result).toEqual(result);
      expect(turns.called.sort()).toEqual(again.sort());
    },
  );

  test.each([
    [0, ["b0", "a1", "b1", "c0", "c1", "last"]],
    [2, ["a1", "c0", "c1", "last"]],
    [5, ["last"]],
    [6, ["last"]],
  ])(
    "that is forked through step %i, in a branch or a group, goes on from there in the fork",
    async (throughStep, again) => {
      const world = newWorld();
      const { turns, task, result } = await completed(world);
      await world.memory.forkRun(RUN_ID, "fork", { throughStep });
      const running = world.run(task, { runId: "fork" });
      await turns.end(...again);
      expect((await running).result).toEqual(result);
      expect(turns.called.sort()).toEqual(again.sort());
    },
  );

  test("that is forked with another result of a step in a branch goes on from that", async () => {
    const world = newWorld();
    const { turns, task } = await completed(world);
    await world.memory.forkRun(RUN_ID, "fork", { throughStep: 6, edits: { 1: "B0", 6: "C" } });
    const running = world.run(task, { runId: "fork" });
    await turns.end("last");
    expect((await running).result).toEqual([{ a: ["a0", "a1"], b: ["B0", "b1"] }, "C", "last"]);
  });
});
