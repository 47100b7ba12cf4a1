/** What a replay of a task on Workflows answers, and what of it can be told apart. */
import { describe, expect, it, vi } from "vitest";
import { codeOf } from "../../src/contract/errors.ts";
import { failureOf, start, THRICE, type Task } from "./workflow-step.ts";

describe("a replay", () => {
  it("answers steps, an event, the time and a random id from the record, and runs what is not on it", async () => {
    const calls: string[] = [];
    const task: Task<unknown> = async (ctx) => {
      const drafted = await ctx.step("draft", async () => (calls.push("draft"), { words: 3 }), {
        kind: "llm",
      });
      const flaky = await ctx.step("flaky", async () => {
        calls.push("flaky");
        if (calls.filter((call) => call === "flaky").length === 1) throw new Error("not yet");
        return "after a retry";
      });
      const approval = await ctx.awaitEvent("approve: invoice/42 🙂");
      return [drafted, flaky, approval, await ctx.now(), await ctx.uuid(), ctx.runId];
    };
    await using flow = await start(task, { stepConfig: THRICE });
    await flow.send("approve: invoice/42 🙂", { by: "Ann" });
    const first = await flow.output();
    const second = await flow.replay();

    expect(first).toEqual([
      { words: 3 },
      "after a retry",
      { by: "Ann" },
      expect.any(Date),
      expect.stringMatching(/^[0-9a-f-]{36}$/),
      expect.any(String),
    ]);
    expect(second).toStrictEqual(first);
    expect(calls).toEqual(["draft", "flaky", "flaky"]);
  });

  it.each([
    ["undefined stays undefined", undefined, undefined],
    ["null stays null", null, null],
    ["an empty text stays one", "", ""],
    ["a Date becomes its ISO string", new Date(0), "1970-01-01T00:00:00.000Z"],
    ["a property that is undefined is gone", { a: 1, b: undefined }, { a: 1 }],
    ["what has toJSON is what that says", { toJSON: () => ["x"] }, ["x"]],
    ["minus zero becomes zero", -0, 0],
    ["a key __proto__ is data", JSON.parse('{"__proto__":{"a":1}}'), JSON.parse('{"__proto__":{"a":1}}')],
    [
      "a value like our own envelope is data",
      { "durable-runs": 1, json: "7" },
      { "durable-runs": 1, json: "7" },
    ],
  ])("gives what the first run gave: %s (R25)", async (_claim, returned: unknown, expected: unknown) => {
    const step = vi.fn(async () => returned);
    const task: Task<unknown> = async (ctx) => [
      await ctx.step("value", step),
      await ctx.step("with a fingerprint", step, { inputFingerprint: { page: 1 } }),
    ];
    await using flow = await start(task);
    const first = await flow.output();
    const second = await flow.replay();

    for (const value of [first, second].flat()) {
      expect(value).toStrictEqual(expected);
      expect(Object.is(value, -0)).toBe(false);
      if (typeof value === "object" && value !== null)
        expect(Object.getOwnPropertySymbols(value)).toEqual([]);
    }
    expect(step).toHaveBeenCalledTimes(2);
  });

  it("is not disturbed by steps that an edit has put in, moved or dropped", async () => {
    const calls: string[] = [];
    const steps = (...intents: string[]): Task<string[]> => {
      return (ctx) =>
        Promise.all(intents.map((intent) => ctx.step(intent, async () => (calls.push(intent), intent))));
    };
    await using flow = await start(steps("a", "b", "c", "c"));
    await flow.output();
    expect(await flow.replay(steps("new", "c", "b", "c"))).toEqual(["new", "c", "b", "c"]);
    expect(calls).toEqual(["a", "b", "c", "c", "new"]);
  });

  it("tells repeats of an intent apart", async () => {
    let n = 0;
    const task: Task<number[]> = (ctx) =>
      Promise.all([1, 2, 3].map(() => ctx.step("page", async () => (n += 1))));
    await using flow = await start(task);
    expect(await flow.output()).toEqual([1, 2, 3]);
    expect(await flow.replay()).toEqual([1, 2, 3]);
    expect(n).toBe(3);
  });

  it("refuses a step whose input fingerprint has changed, and what comes after it", async () => {
    const calls: number[] = [];
    let page = 1;
    const task: Task<unknown> = async (ctx) => {
      const run = async () => calls.push(page);
      const answers = [await failureOf(ctx.step("fetch", run, { inputFingerprint: { page } }))];
      answers.push(await failureOf(ctx.step("free", run)), await failureOf(ctx.uuid()));
      return answers.map(codeOf);
    };
    await using flow = await start(task);
    expect(await flow.output()).toEqual([undefined, undefined, undefined]);

    page = 2;
    await flow.restart();
    await flow.instance.waitForStatus("errored");
    expect(flow.outputs.at(-1)).toEqual([
      "step_input_mismatch",
      "step_input_mismatch",
      "step_input_mismatch",
    ]);
    expect((await flow.instance.getError()).message).toContain('step "fetch" of run');
    expect(calls).toEqual([1, 1]);
  });
});

describe("the journal of the platform", () => {
  it("has each result under workflowName/intent, in plain sight but for undefined", async () => {
    await using flow = await start(async (ctx) => {
      await ctx.step("draft", async () => ({ at: new Date(0), words: [1, "two"] }));
      await ctx.step("nothing", async () => undefined);
    });
    await flow.output();
    expect(await flow.instance.waitForStepResult({ name: "test/draft" })).toEqual({
      at: "1970-01-01T00:00:00.000Z",
      words: [1, "two"],
    });
    expect(await flow.instance.waitForStepResult({ name: "test/nothing" })).toEqual({ "durable-runs": 1 });
  });
});

describe("the id of a run", () => {
  it("is the instance's own, and the same at a replay", async () => {
    const task: Task<string> = async (ctx) => ctx.runId;
    await using one = await start(task);
    await using two = await start(task);
    const ids = [await one.output(), await two.output()];
    expect(ids[0]).not.toBe(ids[1]);
    expect([await one.replay(), await two.replay()]).toEqual(ids);
  });

  it("is the given one, with the given project and scenario", async () => {
    const given = { runId: "../run 7", projectId: "legal", scenarioId: "s" };
    await using flow = await start(
      async ({ runId, projectId, scenarioId }) => ({ runId, projectId, scenarioId }),
      given,
    );
    expect(await flow.output()).toEqual(given);
  });

  it("comes with the workflow's name as the project, and no scenario, by default", async () => {
    await using flow = await start(async (ctx) => [ctx.projectId, "scenarioId" in ctx, ctx.signal.aborted]);
    expect(await flow.output()).toEqual(["test", false, false]);
  });
});

describe("the clock", () => {
  it("is the given one, read once for each call of ctx.now", async () => {
    let now = 1_750_000_000_000;
    const task: Task<Date[]> = async (ctx) => [await ctx.now(), await ctx.now()];
    await using flow = await start(task, { now: () => (now += 1_000) });
    const expected = [new Date(1_750_000_001_000), new Date(1_750_000_002_000)];
    expect(await flow.output()).toEqual(expected);
    expect(await flow.replay()).toEqual(expected);
  });
});
