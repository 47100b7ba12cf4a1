/** Branches of a task on the Workflows engine: all of them, or the first. */
import { describe, expect, it } from "vitest";
import { codeOf } from "../../src/contract/errors.ts";
import type { Branches, DurableContext } from "../../src/runner/types.ts";
import { describeError, failureOf, ONCE, start, THRICE, type Task } from "./workflow-step.ts";

const never = new Promise<never>(() => {});

describe("all branches", () => {
  it("resolve to an object for an object, and to an array for an array, at first as at a replay", async () => {
    const calls: string[] = [];
    const step = (ctx: DurableContext, value: string) =>
      ctx.step("same", async () => (calls.push(value), value));
    const task: Task<unknown> = async (ctx) => [
      await ctx.all({ a: (a) => step(a, "1"), b: async () => 2 }),
      await ctx.all([(c) => step(c, "3"), ["named", (d) => step(d, "4")]]),
      await ctx.all({}),
      await ctx.all([]),
    ];
    await using flow = await start(task);
    const first = await flow.output();
    expect(first).toEqual([{ a: "1", b: 2 }, ["3", "4"], {}, []]);
    expect(await flow.replay()).toEqual(first);
    expect(calls).toEqual(["1", "3", "4"]);
  });

  it("have steps of their own under one name, whatever the timing was", async () => {
    const slow = new Map([
      ["a", 60],
      ["b", 0],
    ]);
    const task: Task<unknown> = (ctx) =>
      ctx.all(
        ["a", "b"].map(
          (name) =>
            [
              name,
              async (branch: DurableContext) => {
                const values: string[] = [];
                for (let i = 0; i < 3; i += 1) {
                  await new Promise((resolve) => setTimeout(resolve, slow.get(name)));
                  values.push(await branch.step("page", async () => `${name}${i}`));
                }
                return values;
              },
            ] as const,
        ),
      );
    await using flow = await start(task);
    const first = await flow.output();
    expect(first).toEqual([
      ["a0", "a1", "a2"],
      ["b0", "b1", "b2"],
    ]);
    slow.set("a", 0).set("b", 60);
    expect(await flow.replay()).toEqual(first);
    expect(await flow.instance.waitForStepResult({ name: "test:a,b/a//page", index: 3 })).toBe("a2");
  });

  it("may lie in branches, and steps before and after may come and go", async () => {
    const calls: string[] = [];
    const task =
      (...more: string[]): Task<unknown> =>
      async (ctx) => {
        for (const intent of more) await ctx.step(intent, async () => calls.push(intent));
        return ctx.all({
          outer: async (outer) => {
            for (const intent of more) await outer.step(intent, async () => calls.push(intent));
            return outer.all({
              inner: (inner) => inner.step("deep", async () => (calls.push("deep"), "found")),
            });
          },
        });
      };
    await using flow = await start(task());
    const first = await flow.output();
    expect(first).toEqual({ outer: { inner: "found" } });
    expect(await flow.replay(task("new"))).toEqual(first);
    expect(calls).toEqual(["deep", "new", "new"]);
    expect(await flow.instance.waitForStepResult({ name: "test:outer/outer/inner/inner//deep" })).toBe(
      "found",
    );
  });

  it("reject with the first failure; the others begin no further step, and neither does a replay", async () => {
    const calls: string[] = [];
    const seen: unknown[] = [];
    let finish = (): void => {};
    const slow = new Promise<void>((resolve) => (finish = resolve));
    const late: unknown[] = [];
    const own = Object.assign(new Error("declined"), { name: "CardError", code: "card" });
    const task: Task<unknown> = async (ctx) => {
      const failure = await failureOf(
        ctx.all({
          pays: async (branch) => {
            calls.push("pays");
            await branch.step("look up", async () => null);
            await branch.step("look up", async () => null);
            return branch.step("pay", () => Promise.reject(own));
          },
          ships: async (branch) => {
            calls.push("ships");
            await branch.step("pack", () => slow);
            late.push(await failureOf(branch.step("ship", async () => calls.push("shipped"))));
          },
        }),
      );
      seen.push(failure);
      await ctx.step("refund", async () => calls.push("refund"));
      finish();
      return describeError(failure);
    };
    await using flow = await start(task, { stepConfig: ONCE });
    const first = await flow.output();
    expect(first).toEqual({ name: "CardError", message: "declined", code: "card" });
    expect(seen[0]).toBe(own);
    await expect.poll(() => late.map(codeOf)).toEqual(["branch_stopped"]);

    expect(await flow.replay()).toEqual(first);
    expect(calls).toEqual(["pays", "ships", "refund"]);
    expect(seen[1]).not.toBe(own);
  });

  it("that fail by code between steps fail the same at a replay", async () => {
    let fails = true;
    const task: Task<unknown> = async (ctx) => {
      const work = ctx.all({
        a: (a) => a.uuid(),
        b: async () => fails && Promise.reject(new TypeError("b")),
      });
      return describeError(await failureOf(work));
    };
    await using flow = await start(task);
    const first = await flow.output();
    expect(first).toEqual({ name: "TypeError", message: "b" });
    fails = false;
    expect(await flow.replay()).toEqual(first);
  });
});

describe("a race", () => {
  it("resolves to the first to settle, and a replay answers that without calling a branch", async () => {
    const calls: string[] = [];
    const stopped: unknown[] = [];
    const task: Task<unknown> = async (ctx) => {
      const winner = await ctx.race({
        fast: async (branch) => {
          calls.push("fast");
          for (let i = 0; i < 3; i += 1) await branch.step("page", async () => null);
          return branch.step("result", async () => ({ by: "fast", at: new Date(0) }));
        },
        slow: async (branch) => {
          calls.push("slow");
          await branch.step("first", async () => null);
          await new Promise((resolve) => branch.signal.addEventListener("abort", resolve));
          stopped.push(
            branch.signal.reason,
            await failureOf(branch.step("second", async () => calls.push("second"))),
          );
          stopped.push(await failureOf(branch.sleep(0)), await failureOf(branch.awaitEvent("x")));
          stopped.push(await failureOf(branch.all([])), await failureOf(branch.now()));
          return never;
        },
      });
      expect(ctx.signal.aborted).toBe(false);
      return winner;
    };
    await using flow = await start(task);
    const first = await flow.output();
    expect(first).toEqual({ by: "fast", at: "1970-01-01T00:00:00.000Z" });
    await expect.poll(() => stopped.map(codeOf)).toEqual(Array(6).fill("branch_stopped"));
    expect(await flow.replay()).toEqual(first);
    expect(calls).toEqual(["fast", "slow"]);
    expect(await flow.instance.waitForStepResult({ name: "test#/ctx.race(fast,slow)", index: 2 })).toEqual(
      first,
    );
  });

  it("drops the step that a loser is in: it is over for the loser at once, and is not tried again", async () => {
    let attempts = 0;
    let fail = (): void => {};
    const gate = new Promise<never>((_resolve, reject) => (fail = () => reject(new Error("flaky"))));
    const seen: unknown[] = [];
    await using flow = await start(
      async (ctx) => {
        await ctx.race({
          winner: (branch) => branch.step("quick", async () => null),
          loser: async (branch) => {
            const work = (): Promise<never> => ((attempts += 1), gate);
            seen.push(await failureOf(branch.step("stuck", work, { retries: { limit: 3, delayMs: 0 } })));
          },
        });
        await ctx.step("after", async () => null);
        fail();
        await ctx.sleep(100);
        return codeOf(seen[0]);
      },
      { stepConfig: THRICE },
    );
    expect(await flow.output()).toBe("branch_stopped");
    expect(attempts).toBe(1);
  });

  it("rejects with the failure of the first to settle, the same at a replay", async () => {
    const own = Object.assign(new RangeError("first"), { code: "E1" });
    const seen: unknown[] = [];
    const task: Task<unknown> = async (ctx) => {
      seen.push(await failureOf(ctx.race([(a) => a.step("x", () => Promise.reject(own)), () => never])));
      return describeError(seen.at(-1));
    };
    await using flow = await start(task, { stepConfig: ONCE });
    const first = await flow.output();
    expect(first).toEqual({ name: "RangeError", message: "first", code: "E1" });
    expect(seen[0]).toBe(own);
    expect(await flow.replay()).toEqual(first);
  });

  it.each<[string, () => unknown, unknown]>([
    ["undefined", () => undefined, undefined],
    ["what looks like our own record", () => ({ "durable-runs": 1, undecided: true }), null],
    ["a failed outcome", () => 1n, "payload_not_json"],
    ["too large an outcome", () => "x".repeat(1_048_575), "payload_too_large"],
  ])("replays %s", async (_claim, make, expected) => {
    const task: Task<unknown> = async (ctx) => {
      try {
        return await ctx.race({ only: async () => make() });
      } catch (error) {
        return codeOf(error);
      }
    };
    await using flow = await start(task);
    const first = await flow.output();
    expect(first).toEqual(expected === null ? make() : expected);
    expect(await flow.replay()).toEqual(first);
  });

  it("against a sleep is a time limit, which a replay does not wait for", async () => {
    const task: Task<unknown> = (ctx) =>
      ctx.race({ work: () => never, late: (branch) => branch.sleep(50).then(() => "too late") });
    await using flow = await start(task);
    expect(await flow.output()).toBe("too late");
    expect(await flow.replay()).toBe("too late");
  });

  it("beside another one is told apart from it", async () => {
    const delays = [40, 0];
    const task: Task<unknown> = (ctx) =>
      Promise.all(
        delays.map((ms, i) =>
          ctx.race([() => new Promise((resolve) => setTimeout(resolve, ms, `race ${i}`)), () => never]),
        ),
      );
    await using flow = await start(task);
    expect(await flow.output()).toEqual(["race 0", "race 1"]);
    delays.reverse();
    expect(await flow.replay()).toEqual(["race 0", "race 1"]);
  });
});

describe("a group that is undecided when the instance is paused", () => {
  it.each(["all", "race"] as const)("stays so, and goes on when it is resumed: %s", async (kind) => {
    const calls: string[] = [];
    const seen: unknown[] = [];
    const branches: Branches = {
      a: async (branch) => {
        await branch.step("before", async () => calls.push("before"));
        const word = await branch.awaitEvent("go");
        return branch.step("after", async () => (calls.push("after"), word));
      },
      b: (branch) => (kind === "race" ? branch.sleep(3_600_000) : branch.sleep(1)),
    };
    const task: Task<unknown> = async (ctx) => {
      try {
        return kind === "all" ? await ctx.all(branches) : await ctx.race(branches);
      } catch (error) {
        seen.push(codeOf(error), describeError(error).message);
        throw error;
      }
    };
    await using flow = await start(task);
    await flow.instance.waitForStepResult({ name: "test:a,b/a//before" });
    await flow.handle.pause();
    await flow.instance.waitForStatus("paused");
    await expect.poll(() => seen.length).toBe(2);
    expect(seen).toEqual([undefined, expect.stringContaining("pause")]);
    await flow.handle.resume();
    await flow.send("go", "word");
    const first = await flow.output();
    expect(first).toEqual(kind === "all" ? { a: "word", b: undefined } : "word");
    expect(await flow.replay()).toEqual(first);
    expect(calls).toEqual(["before", "after"]);
  });
});
