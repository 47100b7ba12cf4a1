/** What a task on Workflows may ask for, and what is refused. */
import { describe, expect, it, vi } from "vitest";
import { codeOf } from "../../src/contract/errors.ts";
import type { StepOptions } from "../../src/runner/types.ts";
import { describeError, failureOf, start, type Settings, type Task } from "./workflow-step.ts";

describe("what the arguments may be", () => {
  const returns = async (): Promise<number> => 1;
  const fails =
    (work: Task<unknown>): Task<unknown> =>
    async (ctx) =>
      describeError(await failureOf(work(ctx)));

  it.each<[string, Task<unknown>, string]>([
    ["an empty intent", (ctx) => ctx.step("", returns), "intent must not be empty"],
    [
      "an intent that makes a step name over 256 characters",
      (ctx) => ctx.step("x".repeat(252), returns),
      "intent makes a step name of 257 characters",
    ],
    [
      "another kind",
      (ctx) => ctx.step("x", returns, { kind: "magic" } as unknown as StepOptions),
      "kind must be one of",
    ],
    [
      "a negative timeout",
      (ctx) => ctx.awaitEvent("k", { timeoutMs: -1 }),
      "timeoutMs must be a whole number from 0",
    ],
    [
      "a poll without a pause",
      (ctx) => ctx.awaitEvent("k", { pollMs: 0 }),
      "pollMs must be a whole number from 1",
    ],
    [
      "a key over 100 characters as a type",
      (ctx) => ctx.awaitEvent("é".repeat(17)),
      "key has 102 characters",
    ],
    [
      "a branch whose name leaves no room for the names of its steps",
      (ctx) => ctx.all({ ["x".repeat(126)]: (branch) => branch.all({ ["y".repeat(126)]: returns }) }),
      `branch "${"y".repeat(126)}" makes a step name of 297 characters`,
    ],
    [
      "a step whose branch leaves no room for it",
      (ctx) => ctx.all({ ["x".repeat(126)]: (branch) => branch.step("y".repeat(106), returns) }),
      'intent makes a step name of 257 characters; Workflows allow at most 256, "test:#',
    ],
    ["no branches", (ctx) => ctx.all(null as never), "branches must be an object or an array of functions"],
    ["a branch with a slash", (ctx) => ctx.race({ "a/b": returns }), 'must not have a "/" in its name'],
    ["a branch that is none", (ctx) => ctx.all([1 as never]), 'branch "0" must be a function'],
    ["a race of nobody", (ctx) => ctx.race([]), "branches must not be empty: no race would end"],
    ["such a key, emitted", (ctx) => ctx.emitEvent("é".repeat(17), 1), "key has 102 characters"],
  ])("refused: %s", async (_claim, work, message) => {
    await using flow = await start(fails(work), { instance: { sendEvent: async () => {} } });
    expect(await flow.output()).toMatchObject({
      code: "invalid_input",
      message: expect.stringContaining(message) as string,
    });
  });

  it("refused: a fingerprint or a payload that JSON cannot carry", async () => {
    const step = vi.fn(returns);
    await using flow = await start(
      async (ctx) => {
        const inputFingerprint = { n: Number.NaN };
        const failures = [await failureOf(ctx.step("x", step, { inputFingerprint }))];
        failures.push(await failureOf(ctx.emitEvent("k", () => 1)));
        return failures.map(codeOf);
      },
      { instance: { sendEvent: async () => {} } },
    );
    expect(await flow.output()).toEqual(["payload_not_json", "payload_not_json"]);
    expect(step).not.toHaveBeenCalled();
  });

  it("taken: every kind, and a step name of 256 characters", async () => {
    const kinds = ["logic", "llm", "tool", "readiness", "deterministic", "event"] as const;
    await using flow = await start(async (ctx) => {
      await ctx.step("x".repeat(251), returns);
      return Promise.all(kinds.map((kind) => ctx.step(kind, async () => kind, { kind })));
    });
    expect(await flow.output()).toEqual(kinds);
  });

  it.each<[Settings, string]>([
    [{ workflowName: "" }, "workflowName must not be empty"],
    [{ workflowName: "x".repeat(129) }, "workflowName has 129 bytes"],
    [{ runId: "" }, "runId must not be empty"],
    [{ projectId: "\n" }, "projectId has a control character"],
    [{ scenarioId: "" }, "scenarioId must not be empty"],
  ])("refused before the task begins: %j", async (settings, message) => {
    const task = vi.fn(async () => 1);
    await using flow = await start(task, settings);
    await flow.instance.waitForStatus("errored");
    expect((await flow.instance.getError()).message).toContain(message);
    expect(task).not.toHaveBeenCalled();
  });
});
