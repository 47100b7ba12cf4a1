/** Edits of a task on Workflows between two lifetimes of its instance: what is on record stays with the code that it was of. */
import { describe, expect, it } from "vitest";
import { codeOf } from "../../src/contract/errors.ts";
import type { DurableContext } from "../../src/runner/types.ts";
import { failureOf, ONCE, start, type Task } from "./workflow-step.ts";

/** A step that counts how often it was begun. */
function counter() {
  const calls: string[] = [];
  const step = (ctx: DurableContext, intent: string): Promise<string> =>
    ctx.step(intent, async () => `${intent} ${calls.push(intent)}`);
  return { calls, step };
}

describe("a group that is put before another", () => {
  it("leaves it its outcome and its steps, though it has a branch of the same name", async () => {
    const { calls, step } = counter();
    const late = (branch: DurableContext) => branch.sleep(60_000);
    const pay = (ctx: DurableContext) =>
      ctx.race({ card: (branch) => step(branch, "charge"), late }) as Promise<string>;
    await using flow = await start<unknown>(pay);
    const paid = await flow.output();
    const edited: Task<unknown> = async (ctx) => [
      await ctx.race({ shop: (branch) => step(branch, "quote"), late }),
      await pay(ctx),
    ];
    expect(await flow.replay(edited)).toEqual(["quote 2", paid]);
    expect(calls).toEqual(["charge", "quote"]);
  });

  it("leaves it its failure", async () => {
    const bad = async (ctx: DurableContext) =>
      (await failureOf(
        ctx.all({ x: (b) => b.step("bad", () => Promise.reject(new RangeError("no"))) }),
      )) as Error;
    await using flow = await start<unknown>(async (ctx) => (await bad(ctx)).message, { stepConfig: ONCE });
    expect(await flow.output()).toBe("no");
    const edited: Task<unknown> = async (ctx) => [
      await ctx.all({ y: (branch) => branch.step("good", async () => "fine") }),
      (await bad(ctx)).message,
    ];
    expect(await flow.replay(edited)).toEqual([{ y: "fine" }, "no"]);
  });

  it("leaves a list of another length its steps", async () => {
    const { calls, step } = counter();
    const list = (...intents: string[]) =>
      intents.map((intent) => (ctx: DurableContext) => step(ctx, intent));
    const charge: Task<unknown> = (ctx) => ctx.all(list("charge", "ship"));
    await using flow = await start<unknown>(charge);
    const first = await flow.output();
    const edited: Task<unknown> = async (ctx) => {
      await ctx.all(list("look up"));
      return charge(ctx);
    };
    expect(await flow.replay(edited)).toEqual(first);
    expect(calls).toEqual(["charge", "ship", "look up"]);
  });
});

describe("a branch that is added to a group", () => {
  it("makes it another group, whose steps run", async () => {
    const { calls, step } = counter();
    const a = (branch: DurableContext) => step(branch, "draft");
    await using flow = await start<unknown>((ctx) => ctx.all({ a }));
    await flow.output();
    const edited: Task<unknown> = (ctx) => ctx.all({ a, b: (branch) => step(branch, "ship") });
    expect(await flow.replay(edited)).toEqual({ a: "draft 2", b: "ship 3" });
    expect(calls).toEqual(["draft", "draft", "ship"]);
  });
});

describe("groups of the same branches", () => {
  it("are told apart by their order, at first as at a replay", async () => {
    const { calls, step } = counter();
    const turn = (ctx: DurableContext, intent: string) =>
      ctx.race({ a: (branch) => step(branch, intent), b: (branch) => branch.sleep(60_000) });
    const task: Task<unknown> = async (ctx) => [
      await turn(ctx, "x"),
      await turn(ctx, "x"),
      await turn(ctx, "y"),
    ];
    await using flow = await start(task);
    expect(await flow.output()).toEqual(["x 1", "x 2", "y 3"]);
    expect(await flow.replay()).toEqual(["x 1", "x 2", "y 3"]);
    expect(calls).toEqual(["x", "x", "y"]);
  });

  it("are told from others by names that are long, or look like a list", async () => {
    const one = (name: string) => (ctx: DurableContext) =>
      ctx.all({ [name]: (branch) => branch.step("name", async () => name) });
    const task: Task<unknown> = async (ctx) => [
      await one("a,b")(ctx),
      await ctx.all({ a: async () => 1, b: async () => 2 }),
      await one("x".repeat(100))(ctx),
      await one("2:x")(ctx),
      await one("x")(ctx),
      await one("x")(ctx),
    ];
    await using flow = await start(task);
    const first = await flow.output();
    expect(first).toEqual([
      { "a,b": "a,b" },
      { a: 1, b: 2 },
      { ["x".repeat(100)]: "x".repeat(100) },
      { "2:x": "2:x" },
      { x: "x" },
      { x: "x" },
    ]);
    expect(await flow.replay()).toEqual(first);
  });
});

describe("an event that is on record", () => {
  const group = (ctx: DurableContext) => ctx.all({ a: (branch) => branch.step("new", async () => 1) });
  const wait: Task<unknown> = async (ctx) => {
    const failure = await failureOf(ctx.awaitEvent("go", { timeoutMs: 1_000 }));
    return codeOf(failure) ?? (await ctx.awaitEvent("go"));
  };
  const waitAfter: Task<unknown> = async (ctx) => (await group(ctx), wait(ctx));

  it.each<[string, Task<unknown>, Task<unknown>]>([
    ["put", wait, waitAfter],
    ["taken from", waitAfter, wait],
  ])("is there though a group is %s before the wait for it", async (_how, before, after) => {
    await using flow = await start<unknown>(before);
    await flow.send("go", "approved");
    expect(await flow.output()).toBe("approved");
    expect(await flow.replay(after)).toBe("approved");
  });

  it.each<[string, Task<unknown>, Task<unknown>]>([
    ["put", wait, waitAfter],
    ["taken from", waitAfter, wait],
  ])(
    "does not change a wait that had timed out, though a group is %s before it",
    async (_how, before, after) => {
      await using flow = await start<unknown>(before, {}, (instance) =>
        instance.modify((modifier) => modifier.forceEventTimeout({ name: "test#/event:go" })),
      );
      expect(await flow.output()).toBe("await_event_timeout");
      await flow.send("go", "late");
      expect(await flow.replay(after)).toBe("await_event_timeout");
    },
  );
});

describe("an intent", () => {
  it.each(["run-id", "ctx.now", "ctx.uuid", "event:go", "ctx.all(a)"])(
    "may be %j, whatever else comes before it later",
    async (intent) => {
      let calls = 0;
      const step: Task<unknown> = (ctx) => ctx.step(intent, async () => `own ${(calls += 1)}`);
      const settings: { runId?: string } = {};
      await using flow = await start<unknown>(step, () => settings);
      expect(await flow.output()).toBe("own 1");
      settings.runId = "r";
      const edited: Task<unknown> = async (ctx) => {
        await Promise.all([ctx.now(), ctx.uuid(), ctx.all({ a: async () => null })]);
        await failureOf(ctx.awaitEvent("go", { timeoutMs: 0 }));
        return step(ctx);
      };
      expect(await flow.replay(edited)).toBe("own 1");
    },
  );
});
