/** Events of a task on Workflows that has branched off: the platform gives each to one of its waits alone. */
import { env } from "cloudflare:workers";
import { describe, expect, it, vi } from "vitest";
import type { DurableContext } from "../../src/runner/types.ts";
import { codeOf } from "../../src/contract/errors.ts";
import { describeError, failureOf, start, type Task } from "./workflow-step.ts";

describe("an event that branches await", () => {
  it("reaches all of them, and the task after them, at first as at a replay", async () => {
    const task: Task<unknown> = async (ctx) => {
      const both = await ctx.all([
        (a) => a.awaitEvent("go"),
        (b) => b.awaitEvent("go"),
        async (c) => {
          await c.step("later", async () => null);
          return c.all({ inner: (inner) => inner.awaitEvent("go") });
        },
      ]);
      return [...both, await ctx.awaitEvent("go")];
    };
    await using flow = await start(task);
    await flow.instance.waitForStepResult({ name: "test:0,1,2/2//later" });
    await flow.send("go", { n: 1 });
    await flow.send("go", { n: 2 });
    const first = await flow.output();
    expect(first).toEqual([{ n: 1 }, { n: 1 }, { inner: { n: 1 } }, { n: 1 }]);
    expect(await flow.replay()).toEqual(first);
  });

  it("is not lost to a branch that has lost a race, nor to a wait that has timed out", async () => {
    const turns: string[] = [];
    const turn = (ctx: DurableContext, name: string): Promise<unknown> =>
      ctx.race({
        event: (branch) => branch.awaitEvent("go"),
        late: async (branch) => {
          await branch.sleep(20);
          return branch.step(name, async () => (turns.push(name), "late"));
        },
      });
    const task: Task<unknown> = async (ctx) => [
      await turn(ctx, "one"),
      await turn(ctx, "two"),
      codeOf(await failureOf(ctx.awaitEvent("go", { timeoutMs: 20 }))),
      await ctx.step("before", async () => null),
      await ctx.awaitEvent("go"),
    ];
    await using flow = await start(task);
    await flow.instance.waitForStepResult({ name: "test/before" });
    await flow.send("go", "word");
    const first = await flow.output();
    expect(first).toEqual(["late", "late", "await_event_timeout", null, "word"]);
    expect(await flow.replay()).toEqual(first);
    expect(turns).toEqual(["one", "two"]);
  });

  it("is not lost when it came while nobody waited, and the instance was stopped after", async () => {
    const task: Task<unknown> = async (ctx) => {
      await ctx.race({ event: (branch) => branch.awaitEvent("go"), late: (branch) => branch.sleep(1) });
      await ctx.step("busy", async () => null);
      await ctx.sleep(ctx.runId === "r" ? 3_600_000 : 0);
      return ctx.awaitEvent("go");
    };
    await using flow = await start(task, { runId: "r" }, (instance) =>
      instance.modify((modifier) => modifier.disableSleeps([{ name: "test#event,late/late//ctx.sleep" }])),
    );
    await flow.instance.waitForStepResult({ name: "test/busy" });
    await flow.send("go", "word");
    await flow.handle.pause();
    await flow.instance.waitForStatus("paused");
    await flow.instance.modify((modifier) => modifier.disableSleeps());
    await flow.handle.resume();
    expect(await flow.output()).toBe("word");
    expect(await flow.replay()).toBe("word");
  });

  it("that does not come times out, and a replay says the same though it has come by then", async () => {
    const task: Task<unknown> = async (ctx) => {
      const [failure] = await ctx.all([(branch) => failureOf(branch.awaitEvent("go", { timeoutMs: 20 }))]);
      await ctx.step("before", async () => null);
      return [describeError(failure), await ctx.awaitEvent("go")];
    };
    await using flow = await start(task, { runId: "r" });
    await flow.instance.waitForStepResult({ name: "test/before" });
    await flow.send("go", 1);
    const first = await flow.output();
    expect(first).toEqual([
      {
        name: "DurableAwaitEventTimeoutError",
        code: "await_event_timeout",
        message: 'no event "go" came to run "r" within 20 ms.',
      },
      1,
    ]);
    expect(await flow.replay()).toEqual(first);
  });

  it("is there at once when it came before, though there is no time to wait", async () => {
    const task: Task<unknown> = (ctx) =>
      ctx.all([(branch) => branch.awaitEvent("go", { timeoutMs: 0 }), (branch) => branch.awaitEvent("go")]);
    await using flow = await start(async (ctx) => {
      await ctx.awaitEvent("begin");
      return task(ctx);
    });
    await flow.send("go", undefined);
    await flow.send("begin", null);
    expect(await flow.output()).toEqual([undefined, undefined]);
    expect(await flow.replay()).toEqual([undefined, undefined]);
  });

  it("that came before the branches is known to them", async () => {
    const task: Task<unknown> = async (ctx) => [
      await ctx.awaitEvent("go"),
      await ctx.all([(branch) => branch.awaitEvent("go")]),
    ];
    await using flow = await start(task);
    await flow.send("go", "word");
    expect(await flow.output()).toEqual(["word", ["word"]]);
    expect(await flow.replay()).toEqual(["word", ["word"]]);
  });

  it("repeats in one branch, under one name", async () => {
    const task: Task<unknown> = (ctx) =>
      ctx.all([
        async (branch) => [
          codeOf(await failureOf(branch.awaitEvent("go", { timeoutMs: 1 }))),
          await branch.step("before", async () => null),
          await branch.awaitEvent<number[]>("go").then((list) => list.push(2)),
          await branch.awaitEvent("go"),
        ],
        async () => undefined,
      ]);
    await using flow = await start(task);
    await flow.instance.waitForStepResult({ name: "test:0,1/0//before" });
    await flow.send("go", [1]);
    const first = await flow.output();
    expect(first).toEqual([["await_event_timeout", null, 2, [1]], undefined]);
    expect(await flow.replay()).toEqual(first);
  });
});

describe("an event that branches emit", () => {
  it("is sent once, and each is told the same at a replay", async () => {
    const sent: unknown[] = [];
    const task: Task<unknown> = async (ctx) => {
      const answers = await ctx.all({
        a: (branch) => branch.emitEvent("go", "a"),
        b: (branch) => branch.emitEvent("go", "b"),
        c: (branch) => branch.awaitEvent("go"),
      });
      return [answers, await ctx.emitEvent("go", "late")];
    };
    await using flow = await start(task, (id) => ({
      instance: {
        sendEvent: async (event) => {
          sent.push(event.payload);
          await (await env.SCRIPTED.get(id)).sendEvent(event);
        },
      },
    }));
    const first = await flow.output();
    expect(first).toEqual([{ a: { accepted: true }, b: { accepted: false }, c: "a" }, { accepted: false }]);
    expect(await flow.replay()).toEqual(first);
    expect(sent).toEqual(["a"]);
  });

  it("is not sent at a replay, if it was not because another had come", async () => {
    const sendEvent = vi.fn(async () => {});
    const received = Promise.withResolvers<void>();
    const task: Task<unknown> = (ctx) =>
      ctx.all({
        waits: async (branch) => {
          for (let i = 0; i < 5; i += 1) await branch.step("page", async () => null);
          const word = await branch.awaitEvent("go");
          await branch.step("received", async () => received.resolve());
          return word;
        },
        emits: async (branch) => {
          await branch.step("gate", () => received.promise);
          return branch.emitEvent("go", "ours");
        },
      });
    await using flow = await start(task, { instance: { sendEvent } });
    await flow.send("go", "theirs");
    const first = await flow.output();
    expect(first).toEqual({ waits: "theirs", emits: { accepted: false } });
    expect(await flow.replay()).toEqual(first);
    expect(sendEvent).not.toHaveBeenCalled();
  });
});
