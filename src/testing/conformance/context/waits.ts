/** Sleeps and events, as a task meets them through its context. */
import { describe, expect } from "vitest";
import { codeOf } from "../../../contract/errors.ts";
import type { DurableContext } from "../../../runner/types.ts";
import { caught, type ContextIt, pause } from "../../context-harness.ts";

const POLL = { pollMs: 5 };

export function describeContextWaits(it: ContextIt): void {
  describe("a sleep of a task", () => {
    it("ends, of any length and until any instant, and is not slept again", async (start) => {
      const run = await start(async (ctx) => {
        await ctx.sleep(0);
        await ctx.sleep(5);
        await ctx.sleepUntil(new Date(0));
        const now = await ctx.now();
        await ctx.sleepUntil(new Date(now.getTime() + 5));
        return "awake";
      });
      expect([await run.result(), await run.replay()]).toEqual(["awake", "awake"]);
    });

    it("is refused without a length", async (start) => {
      const run = await start(async (ctx) => [
        codeOf(await caught(ctx.sleep(-1))),
        codeOf(await caught(ctx.sleep(Number.NaN))),
        codeOf(await caught(ctx.sleepUntil(new Date(Number.NaN)))),
      ]);
      expect(await run.result()).toEqual(["invalid_input", "invalid_input", "invalid_input"]);
    });
  });

  describe("an event that a task awaits", () => {
    it("comes with its payload, and is the same at a replay", async (start) => {
      const run = await start((ctx) => ctx.awaitEvent("approve: invoice/42 🙂", POLL));
      await run.emit("approve: invoice/42 🙂", { by: "Ada" });
      expect(await run.result()).toEqual({ by: "Ada" });
      expect(await run.replay()).toEqual({ by: "Ada" });
    });

    it("is one fact: its first payload counts, whoever awaits it, and how often", async (start) => {
      const run = await start(async (ctx) => {
        const first = await ctx.awaitEvent("go", POLL);
        return [first, await ctx.awaitEvent("go", POLL)];
      });
      await run.emit("go", 1);
      await run.emit("go", 2);
      expect([await run.result(), await run.replay()]).toEqual([
        [1, 1],
        [1, 1],
      ]);
    });

    it("comes to two that await it at the same time, and that one of them has given up does not hide it", async (start) => {
      let hasGivenUp = false;
      const run = await start(async (ctx) => {
        const waits = [
          ctx.awaitEvent("go", POLL),
          ctx.awaitEvent("go", POLL),
          caught(ctx.awaitEvent("go", { timeoutMs: 1, ...POLL })).then(codeOf),
        ];
        const given = await waits[2];
        await ctx.step("go on", async () => void (hasGivenUp = true));
        return [given, ...(await Promise.all(waits))];
      });
      // A plain value, looked at: another request's promise is not to be waited for.
      while (!hasGivenUp) await pause(5);
      await run.emit("go", 1);
      const expected = ["await_event_timeout", 1, 1, "await_event_timeout"];
      expect([await run.result(), await run.replay()]).toEqual([expected, expected]);
    });

    it("is not another one", async (start) => {
      const run = await start((ctx) => ctx.awaitEvent("a", POLL));
      await run.emit("A", "no");
      await run.emit("a ", "no");
      await run.emit("a", "yes");
      expect(await run.result()).toBe("yes");
    });

    it("sees a wait time out again, though the event has come since", async (start) => {
      const task = async (ctx: DurableContext) => {
        const { name, code } = await caught(ctx.awaitEvent("late", { timeoutMs: 1, pollMs: 1 }));
        await ctx.step("go on", async () => null);
        return { name, code };
      };
      const run = await start(task);
      const expected = { name: "DurableAwaitEventTimeoutError", code: "await_event_timeout" };
      expect(await run.result()).toEqual(expected);
      await run.emit("late", "too late");
      expect(await run.replay()).toEqual(expected);
    });

    it("is refused without a key, or with a time that is none", async (start) => {
      const run = await start(async (ctx) => [
        codeOf(await caught(ctx.awaitEvent(""))),
        codeOf(await caught(ctx.awaitEvent("a", { timeoutMs: -1 }))),
        codeOf(await caught(ctx.awaitEvent("a", { pollMs: 0 }))),
      ]);
      expect(await run.result()).toEqual(["invalid_input", "invalid_input", "invalid_input"]);
    });
  });

  describe("an event that a task emits", () => {
    it("is accepted once, reaches a wait of its own, and is answered the same at a replay", async (start) => {
      const run = await start(async (ctx) => {
        const first = await ctx.emitEvent("done", { at: 1 });
        const second = await ctx.emitEvent("done", { at: 2 });
        return [second, await ctx.awaitEvent("done", POLL), first.accepted];
      });
      const expected = [{ accepted: false }, { at: 1 }, true];
      expect([await run.result(), await run.replay()]).toEqual([expected, expected]);
    });

    it("may be emitted inside a step, and is refused where JSON cannot carry it", async (start) => {
      const run = await start(async (ctx) => {
        await ctx.step("tell", () => ctx.emitEvent("told", "news"));
        return [await ctx.awaitEvent("told", POLL), codeOf(await caught(ctx.emitEvent("other", 1n)))];
      });
      expect(await run.result()).toEqual(["news", "payload_not_json"]);
    });
  });
}
