/** Branches, as a task meets them through its context. */
import { describe, expect } from "vitest";
import { codeOf } from "../../../contract/errors.ts";
import type { DurableContext } from "../../../runner/types.ts";
import { caught, type ContextIt, pause } from "../../context-harness.ts";

export function describeContextGroups(it: ContextIt): void {
  /** A step of a branch, which says that it ran. */
  const stepper =
    (ran: string[]) =>
    (ctx: DurableContext, intent: string, ms = 0): Promise<string> =>
      ctx.step(intent, async () => {
        ran.push(intent);
        await pause(ms);
        return intent;
      });

  describe("the branches of a task", () => {
    it("has its branches replayed, whatever their timing, and the outcome of a race", async (start) => {
      const ran: string[] = [];
      const step = stepper(ran);
      const run = await start(async (ctx) => {
        const both = await ctx.all({
          slow: async (branch) => [await step(branch, "s0", 9), await step(branch, "s1", 1)],
          fast: async (branch) => [await step(branch, "f0", 1), await step(branch, "f1", 1)],
        });
        const first = await ctx.race([
          (branch) => step(branch, "winner", 1),
          (branch) => branch.sleep(60_000),
        ]);
        return { ...both, first, last: await step(ctx, "last") };
      });
      const expected = { slow: ["s0", "s1"], fast: ["f0", "f1"], first: "winner", last: "last" };
      expect(await run.result()).toEqual(expected);
      expect(await run.replay()).toEqual(expected);
      expect(ran.toSorted()).toEqual(["f0", "f1", "last", "s0", "s1", "winner"]);
    });

    it("answer in the order in which they were given, in a list", async (start) => {
      const run = await start((ctx) =>
        ctx.all([
          async (branch) => stepper([])(branch, "a", 5),
          ["named", async (branch: DurableContext) => stepper([])(branch, "b")],
        ]),
      );
      expect([await run.result(), await run.replay()]).toEqual([
        ["a", "b"],
        ["a", "b"],
      ]);
    });

    it("fail with the first failure, which is the same at a replay, and none runs on", async (start) => {
      const ran: string[] = [];
      const step = stepper(ran);
      const run = await start(async (ctx) => {
        const failed = await caught(
          ctx.all({
            bad: (branch) => branch.step("bad", () => Promise.reject(new RangeError("no"))),
            long: async (branch) => {
              await step(branch, "under way", 20);
              return step(branch, "never");
            },
          }),
        );
        await step(ctx, "after", 30);
        return [failed.name, failed.message];
      });
      expect(await run.result()).toEqual(["RangeError", "no"]);
      expect(await run.replay()).toEqual(["RangeError", "no"]);
      expect(ran).not.toContain("never");
      expect(ran.filter((intent) => intent === "after")).toEqual(["after"]);
    });

    it("end with the first that settles, in a race, and a replay calls none", async (start) => {
      let branches = 0;
      const stopped: unknown[] = [];
      const run = await start(async (ctx) => {
        const won = await ctx.race({
          quick: async (branch) => {
            branches += 1;
            return branch.step("quick", async () => "quick");
          },
          idle: async (branch) => {
            branches += 1;
            branch.signal.addEventListener("abort", () => stopped.push(codeOf(branch.signal.reason)));
            await branch.sleep(60_000);
            return "idle";
          },
        });
        await ctx.step("go on", async () => null);
        return won;
      });
      expect([await run.result(), await run.replay()]).toEqual(["quick", "quick"]);
      expect(branches).toBe(2);
      expect(stopped).toEqual(["branch_stopped"]);
    });

    it("fail with the failure of the first that settles, in a race", async (start) => {
      const run = await start(async (ctx) => {
        const lost = ctx.race([
          (branch) => branch.step("bad", () => Promise.reject(new RangeError("no"))),
          (branch) => branch.sleep(60_000),
        ]);
        const { name, message } = await caught(lost);
        await ctx.step("go on", async () => null);
        return [name, message];
      });
      expect([await run.result(), await run.replay()]).toEqual([
        ["RangeError", "no"],
        ["RangeError", "no"],
      ]);
    });

    it("may lie in branches, wait for one event, and read clocks of their own", async (start) => {
      const run = await start((ctx) =>
        ctx.all({
          left: (branch) =>
            branch.all({ inner: (leaf) => leaf.awaitEvent("go", { pollMs: 5 }), id: (leaf) => leaf.uuid() }),
          right: async (branch) => [
            await branch.awaitEvent("go", { pollMs: 5 }),
            (await branch.now()).getTime(),
          ],
        }),
      );
      await run.emit("go", 7);
      const first = await run.result();
      expect(first).toMatchObject({ left: { inner: 7 } });
      expect(first.right[0]).toBe(7);
      expect(await run.replay()).toEqual(first);
    });

    it("are refused with another's context, bad names, or none to race", async (start) => {
      const run = await start(async (ctx) => [
        codeOf(await caught(ctx.all({ a: () => ctx.step("outer", async () => null) }))),
        codeOf(await caught(ctx.all({ "a/b": async () => null }))),
        codeOf(await caught(ctx.race([]))),
      ]);
      expect(await run.result()).toEqual(["invalid_input", "invalid_input", "invalid_input"]);
    });
  });
}
