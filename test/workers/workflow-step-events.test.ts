/** Events to and from a task on Workflows. */
import { env } from "cloudflare:workers";
import { describe, expect, it, vi } from "vitest";
import { codeOf } from "../../src/contract/errors.ts";
import { workflowEventType } from "../../src/workflows/event-type.ts";
import { describeError, failureOf, start, type Task } from "./workflow-step.ts";

describe("an awaited event", () => {
  it.each(["approve: invoice/42 🙂", "-", "a_b", "../x", "line\u2028end", "%00"])(
    "comes through under the key %j",
    async (key) => {
      await using flow = await start((ctx) => ctx.awaitEvent(key));
      await flow.send(key, { key });
      expect(await flow.output()).toEqual({ key });
    },
  );

  it("does not come through under another key", async () => {
    await using flow = await start(async (ctx) => {
      const answers = [await ctx.awaitEvent("b"), await failureOf(ctx.awaitEvent("a-b", { timeoutMs: 0 }))];
      return [answers[0], codeOf(answers[1])];
    });
    await flow.send("a b", 1);
    await flow.send("b", 2);
    expect(await flow.output()).toEqual([2, "await_event_timeout"]);
  });

  it("is one fact: a later wait answers the same, though a second event was sent", async () => {
    const task: Task<unknown> = async (ctx) => {
      const first = await ctx.awaitEvent<string[]>("list");
      first.push("changed");
      return [await ctx.awaitEvent("list"), first];
    };
    await using flow = await start(task);
    await flow.send("list", ["first"]);
    await flow.send("list", ["second"]);
    expect(await flow.output()).toEqual([["first"], ["first", "changed"]]);
    expect(await flow.replay()).toEqual([["first"], ["first", "changed"]]);
  });

  it("carries what JSON gives back of its payload", async () => {
    await using flow = await start((ctx) => ctx.awaitEvent("k"));
    await flow.send("k", { at: new Date(0), gone: undefined });
    expect(await flow.output()).toStrictEqual({ at: "1970-01-01T00:00:00.000Z" });
    expect(await flow.replay()).toStrictEqual({ at: "1970-01-01T00:00:00.000Z" });
  });

  it("that does not come times out, at first as at a replay, and may be waited for again", async () => {
    const task: Task<unknown> = async (ctx) => {
      const failure = await failureOf(ctx.awaitEvent("approve", { timeoutMs: 20, pollMs: 5 }));
      if (ctx.runId === "r") await ctx.step("ask again", async () => null);
      return [describeError(failure), await ctx.awaitEvent("approve")];
    };
    await using flow = await start(task, { runId: "r" });
    await flow.instance.waitForStepResult({ name: "test/ask again" });
    await flow.send("approve", "late");
    const first = await flow.output();
    expect(first).toEqual([
      {
        name: "DurableAwaitEventTimeoutError",
        code: "await_event_timeout",
        message: 'no event "approve" came to run "r" within 20 ms.',
      },
      "late",
    ]);
    expect(await flow.replay()).toEqual(first);
  });

  it("leaves a paused instance paused: what the platform throws reaches it again unchanged", async () => {
    const endings: unknown[] = [];
    await using flow = await start(async (ctx) => {
      await ctx.step("before", async () => null);
      return ctx.awaitEvent("never").catch((error: unknown) => {
        endings.push(codeOf(error));
        throw error;
      });
    });
    await flow.instance.waitForStepResult({ name: "test/before" });
    await flow.handle.pause();
    await flow.instance.waitForStatus("paused");
    await expect.poll(() => endings).toEqual([undefined]);
    expect((await flow.handle.status()).status).toBe("paused");
  });
});

describe("an emitted event", () => {
  it("reaches a wait of its own instance, and is sent once", async () => {
    const sent: { type: string; payload: unknown }[] = [];
    const task: Task<unknown> = async (ctx) => {
      const answers = [await ctx.emitEvent("go: now", { n: 1 }), await ctx.emitEvent("go: now", { n: 2 })];
      return [...answers, await ctx.awaitEvent("go: now")];
    };
    await using flow = await start(task, (id) => ({
      instance: {
        sendEvent: async (event) => {
          sent.push(event);
          await (await env.SCRIPTED.get(id)).sendEvent(event);
        },
      },
    }));
    const first = await flow.output();
    expect(first).toEqual([{ accepted: true }, { accepted: false }, { n: 1 }]);
    expect(await flow.replay()).toEqual(first);
    expect(sent).toEqual([{ type: workflowEventType("go: now"), payload: { n: 1 } }]);
  });

  it("keeps an undefined payload, and is refused under a key that was received", async () => {
    const task: Task<unknown> = async (ctx) => {
      await ctx.emitEvent("mine", undefined);
      const payloads = [await ctx.awaitEvent("mine"), await ctx.awaitEvent("theirs")];
      return [payloads, await ctx.emitEvent("theirs", 0)];
    };
    await using flow = await start(task, (id) => ({
      instance: { sendEvent: async (event) => (await env.SCRIPTED.get(id)).sendEvent(event) },
    }));
    await flow.send("theirs", 1);
    expect(await flow.output()).toEqual([[undefined, 1], { accepted: false }]);
  });

  it("that cannot be sent fails with the sender's own error, and may be emitted again", async () => {
    const own = Object.assign(new Error("no such instance"), { name: "NonRetryableError" });
    const sendEvent = vi.fn(async () => {}).mockRejectedValueOnce(own);
    const task: Task<unknown> = async (ctx) => [
      await failureOf(ctx.emitEvent("k", 1)),
      await ctx.emitEvent("k", 1),
    ];
    await using flow = await start(task, { instance: { sendEvent } });
    expect(await flow.output()).toEqual([own, { accepted: true }]);
  });

  it("needs an instance to send to, and says so", async () => {
    await using flow = await start(async (ctx) => describeError(await failureOf(ctx.emitEvent("k", 1))));
    expect(await flow.output()).toMatchObject({
      code: "invalid_input",
      message: expect.stringContaining("instance is missing") as string,
    });
  });
});
