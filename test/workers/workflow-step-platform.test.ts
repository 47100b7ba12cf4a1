/** What the adapter asks of a platform's step, and that it copes with one that keeps more of an error than the local engine. */
import { describe, expect, it } from "vitest";
import type { DurableContext } from "../../src/runner/types.ts";
import { runOnWorkflowStep } from "../../src/workflows/run-on-workflow-step.ts";
import type { WorkflowStepConfig, WorkflowStepLike } from "../../src/workflows/types.ts";

const YEAR_MS = 365 * 86_400_000;

describe("the platform's step is called", () => {
  it("with stable names, the retry policy for steps alone, and a time limit in seconds", async () => {
    const platform = new Platform();
    const stepConfig = { retries: { limit: 1, delay: "1 second" }, timeout: 500 };
    await run(platform, { stepConfig, now: () => 5_000 }, async (ctx) => {
      await ctx.step("draft", async () => 1);
      await ctx.awaitEvent("go/on");
      await ctx.awaitEvent("soon", { timeoutMs: 1_500 });
      await ctx.emitEvent("done", null);
      await ctx.step("own", async () => 1, { retries: { limit: 2 }, timeoutMs: 60_000 });
      await ctx.sleep(0);
      await ctx.sleep(1.5 * YEAR_MS);
      await ctx.sleepUntil(new Date(6_000));
      return [await ctx.now(), await ctx.uuid()];
    });
    expect(platform.calls).toEqual([
      ["do", "flow#/run-id", undefined],
      ["do", "flow/draft", stepConfig],
      ["waitForEvent", "flow#/event:go/on", { type: "go_2Fon", timeout: "86400 seconds" }],
      ["waitForEvent", "flow#/event:soon", { type: "soon", timeout: "1.5 seconds" }],
      ["do", "flow#/emit:done", undefined],
      ["do", "flow/own", { retries: { limit: 2, delay: 1_000, backoff: "exponential" }, timeout: 500 }],
      ["sleep", "flow#/ctx.sleep", YEAR_MS],
      ["sleep", "flow#/ctx.sleep", YEAR_MS / 2],
      ["do", "flow#/ctx.sleepUntil", undefined],
      ["sleep", "flow#/ctx.sleepUntil 1970-01-01T00:00:06.000Z", 1_000],
      ["do", "flow#/ctx.now", undefined],
      ["do", "flow#/ctx.uuid", undefined],
    ]);
  });

  it("with the path of the branch in the names of its steps", async () => {
    const platform = new Platform();
    await run(platform, { runId: "r" }, async (ctx) => {
      await ctx.all({
        a: async (a) => {
          await a.step("draft", async () => 1);
          await a.race([["x", (x) => x.now()]]);
          await a.emitEvent("done", null);
          await a.sleep(1);
        },
      });
      await ctx.all([(branch) => branch.step("draft", async () => 2)]);
      await ctx.step("draft", async () => 3);
    });
    expect(platform.calls.map(([method, name]) => `${method} ${name}`)).toEqual([
      "do flow#/ctx.all(a)",
      "do flow:a/a//draft",
      "do flow#a/a//ctx.race(x)",
      "do flow#a/a/x/x//ctx.now",
      "do flow#a/a//ctx.race(x)",
      "do flow#a/a//emit:done",
      "sleep flow#a/a//ctx.sleep",
      "do flow#/ctx.all(a)",
      "do flow#/ctx.all(0)",
      "do flow:0/0//draft",
      "do flow#/ctx.all(0)",
      "do flow/draft",
    ]);
  });

  it("for an event among branches: with one wait for the key, and a sleep and a decision for each that awaits it", async () => {
    const platform = new Platform();
    await run(platform, { runId: "r" }, async (ctx) => {
      await ctx.all([(branch) => branch.awaitEvent("k", { timeoutMs: 5 })]);
      await ctx.awaitEvent("k");
    });
    expect(platform.calls.map(([method, name, options]) => [`${method} ${name}`, options])).toEqual([
      ["do flow#/ctx.all(0)", undefined],
      ["do flow#0/0//decision:event:k", undefined],
      ["waitForEvent flow#/any:event:k", { type: "k", timeout: "31536000 seconds" }],
      ["sleep flow#0/0//timeout:event:k", 5],
      ["do flow#0/0//decision:event:k", undefined],
      ["do flow#/ctx.all(0)", undefined],
      ["do flow#/decision:event:k", undefined],
    ]);
  });

  it("in order of the task's calls, before any of them has ended", async () => {
    const platform = new Platform();
    await run(platform, { runId: "r" }, async (ctx) => {
      const all = [
        ctx.step("a", async () => 1),
        ctx.awaitEvent("b"),
        ctx.now(),
        ctx.step("a", async () => 2),
      ];
      expect(platform.calls.map(([, name]) => name)).toEqual([
        "flow/a",
        "flow#/event:b",
        "flow#/ctx.now",
        "flow/a",
      ]);
      await Promise.all(all);
    });
  });
});

describe("a step's failure", () => {
  it.each([
    ["an Error", {}, "Error", "no"],
    [
      "any other, with what the platform would lose",
      { name: "E", code: "c" },
      "Error",
      'E: no [durable-runs {"name":"E","code":"c"}]',
    ],
  ])("reaches the platform as %s", async (_claim, own, name, message) => {
    const platform = new Platform();
    const seen: unknown[] = [];
    platform.onFailure = (error) => seen.push(error);
    const thrown = Object.assign(new Error("no"), own);
    await expect(run(platform, {}, (ctx) => ctx.step("a", () => Promise.reject(thrown)))).rejects.toBe(
      thrown,
    );
    expect(seen).toMatchObject([{ name, message }]);
  });
});

describe("a failure that is not to be tried again", () => {
  it.each([{ name: "NonRetryableError" }, { retryable: false }])(
    "reaches the platform as an outcome, which it keeps: %j",
    async (own) => {
      const platform = new Platform();
      const thrown = Object.assign(new Error("no"), { code: "c", ...own });
      const work = run(platform, {}, (ctx) => ctx.step("a", () => Promise.reject(thrown)));
      await expect(work).rejects.toBe(thrown);
      expect(platform.outcomes.at(-1)).toEqual({
        "durable-runs": 1,
        error: { name: thrown.name, message: "no", code: "c" },
      });
    },
  );
});

describe("an error of the platform", () => {
  it("that says by its name that a wait timed out is a timeout", async () => {
    const platform = new Platform(Object.assign(new Error("too late"), { name: "WorkflowTimeoutError" }));
    await expect(run(platform, {}, (ctx) => ctx.awaitEvent("k"))).rejects.toMatchObject({
      code: "await_event_timeout",
    });
  });

  it.each(["Aborting engine: User called pause", "Step limit reached", "Execution timed out after 100ms"])(
    "on its own account reaches it again as it is: %s",
    async (message) => {
      const own = new Error(message);
      const platform = new Platform(own);
      await expect(run(platform, {}, (ctx) => ctx.step("a", async () => 1))).rejects.toBe(own);
    },
  );

  it("is not taken for an earlier failure of the step", async () => {
    const platform = new Platform();
    const pause = new Error("Aborting engine: User called pause");
    platform.onFailure = () => {
      throw pause;
    };
    const task = (ctx: DurableContext) => ctx.step("a", () => Promise.reject(new Error("first attempt")));
    await expect(run(platform, {}, task)).rejects.toBe(pause);
  });
});

function run<T>(
  platform: WorkflowStepLike,
  settings: { stepConfig?: WorkflowStepConfig; runId?: string; now?: () => number },
  taskFn: (ctx: DurableContext) => Promise<T>,
): Promise<T> {
  const instance = { sendEvent: async (): Promise<void> => {} };
  return runOnWorkflowStep(platform, { workflowName: "flow", instance, ...settings, taskFn });
}

/** A platform with no memory: it notes what it is asked, and then does it, or fails with the given error. */
class Platform implements WorkflowStepLike {
  readonly calls: [method: string, name: string, options: unknown][] = [];
  /** What each step's function returned. */
  readonly outcomes: unknown[] = [];
  /** Called with what an attempt threw. */
  onFailure: ((error: unknown) => void) | undefined;
  readonly #failure: Error | undefined;

  constructor(failure?: Error) {
    this.#failure = failure;
  }

  async do<T>(
    name: string,
    ...rest: [WorkflowStepConfig, () => Promise<T>] | [() => Promise<T>]
  ): Promise<T> {
    const [config, fn] = rest.length === 1 ? [undefined, rest[0]] : rest;
    this.calls.push(["do", name, config]);
    if (this.#failure && !name.endsWith("/run-id")) throw this.#failure;
    try {
      const outcome = await fn();
      this.outcomes.push(outcome);
      return outcome;
    } catch (error) {
      this.onFailure?.(error);
      throw error;
    }
  }

  async sleep(name: string, duration: number): Promise<void> {
    this.calls.push(["sleep", name, duration]);
  }

  async waitForEvent<T>(name: string, options: { type: string; timeout?: string }) {
    this.calls.push(["waitForEvent", name, options]);
    if (this.#failure) throw this.#failure;
    return { payload: null as T, timestamp: 0, type: options.type };
  }
}
