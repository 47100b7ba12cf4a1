/** Steps, as a task meets them through its context: results, failures, attempts, and what of them is replayed. */
import { describe, expect } from "vitest";
import { codeOf } from "../../../contract/errors.ts";
import type { StepKind } from "../../../contract/types.ts";
import type { DurableContext, StepInfo } from "../../../runner/types.ts";
import { caught, type ContextIt, pause } from "../../context-harness.ts";

const VALUES: readonly [given: unknown, back: unknown][] = [
  ["text", "text"],
  [0, 0],
  [null, null],
  [undefined, undefined],
  [{ at: new Date(0), gone: undefined }, { at: "1970-01-01T00:00:00.000Z" }],
  [
    [1, { deep: ["ü", ""] }],
    [1, { deep: ["ü", ""] }],
  ],
];

const KINDS: readonly StepKind[] = ["logic", "llm", "tool", "readiness", "deterministic", "event"];

export function describeContextSteps(it: ContextIt): void {
  describe("a step of a task", () => {
    it("resolves to what JSON gives back of its result, at first as at a replay, and is called once", async (start) => {
      let calls = 0;
      const run = await start(async (ctx) => {
        const seen: unknown[] = [];
        for (const [given] of VALUES) seen.push(await ctx.step("value", async () => (calls++, given)));
        return seen;
      });
      const expected = VALUES.map(([, back]) => back);
      expect(await run.result()).toEqual(expected);
      expect(await run.replay()).toEqual(expected);
      expect(calls).toBe(VALUES.length);
    });

    it("gives out a result of its own at each replay", async (start) => {
      const run = await start(async (ctx) => {
        const list = await ctx.step("list", async () => [1]);
        list.push(2);
        return list.length;
      });
      expect([await run.result(), await run.replay()]).toEqual([2, 2]);
    });

    it("may be of any kind, and of no other", async (start) => {
      const run = await start(async (ctx) => {
        for (const kind of KINDS) await ctx.step(kind, async () => null, { kind });
        return codeOf(await caught(ctx.step("x", async () => null, { kind: "magic" as StepKind })));
      });
      expect(await run.result()).toBe("invalid_input");
    });

    it("that is not on record yet runs at a replay, and those that are do not", async (start) => {
      const ran: string[] = [];
      const step = (ctx: DurableContext, intent: string) =>
        ctx.step(intent, async () => void ran.push(intent));
      const run = await start((ctx) => step(ctx, "a"));
      await run.result();
      await run.replay(async (ctx) => {
        await step(ctx, "a");
        await step(ctx, "b");
      });
      expect(ran).toEqual(["a", "b"]);
    });

    it("is told its attempt, a signal, and a key that is the same at each attempt and no other step's", async (start) => {
      const run = await start(async (ctx) => {
        const infos: StepInfo[] = [];
        const flaky = async (info: StepInfo): Promise<void> => {
          infos.push(info);
          if (info.attempt < 3) throw new Error(`attempt ${info.attempt}`);
        };
        const retries = { limit: 3, delayMs: 1, backoff: "constant" } as const;
        await ctx.step("flaky", flaky, { retries });
        await ctx.step("flaky", flaky, { retries });
        return infos.map(({ attempt, idempotencyKey, signal }) => [attempt, idempotencyKey, signal.aborted]);
      });
      const infos = await run.result();
      expect(infos.map(([attempt]) => attempt)).toEqual([1, 2, 3, 1, 2, 3]);
      expect(infos.every(([, , aborted]) => aborted === false)).toBe(true);
      const keys = infos.map(([, key]) => key);
      expect(new Set(keys.slice(0, 3)).size).toBe(1);
      expect(new Set(keys).size).toBe(2);
    });

    it("is not tried again unless that is asked for, nor after a failure that says it is final", async (start) => {
      const run = await start(async (ctx) => {
        let calls = 0;
        const retries = { limit: 5, delayMs: 1 };
        const failing = (failure: Error) => async () => (calls++, Promise.reject(failure));
        await caught(ctx.step("once", failing(new Error("broken"))));
        await caught(
          ctx.step("final", failing(Object.assign(new Error("stop"), { retryable: false })), { retries }),
        );
        return calls;
      });
      expect(await run.result()).toBe(2);
    });

    it("is tried again for as long as its function says", async (start) => {
      const run = await start(async (ctx) => {
        const asked: number[] = [];
        const retries = (_error: unknown, attempt: number): number | false => asked.push(attempt) < 3 && 1;
        await caught(ctx.step("flaky", () => Promise.reject(new Error("broken")), { retries }));
        return asked;
      });
      expect(await run.result()).toEqual([1, 2, 3]);
    });

    it("that takes too long is aborted, fails with step_timeout, and its late result is dropped", async (start) => {
      const run = await start(async (ctx) => {
        let reason: unknown;
        const late = ({ signal }: StepInfo): Promise<string> =>
          new Promise((resolve) =>
            signal.addEventListener("abort", () => {
              reason = codeOf(signal.reason);
              resolve("late");
            }),
          );
        const { name, code } = await caught(ctx.step("slow", late, { timeoutMs: 5 }));
        await ctx.step("go on", async () => null);
        return { name, code, reason };
      });
      const failure = { name: "DurableStepTimeoutError", code: "step_timeout" };
      expect(await run.result()).toEqual({ ...failure, reason: "step_timeout" });
      expect(await run.replay()).toEqual(failure);
    });

    it("sees a failure again that it has caught, with its name, message and code", async (start) => {
      let calls = 0;
      const run = await start(async (ctx) => {
        const refused = Object.assign(new RangeError("no seat"), { code: "sold_out" });
        const { name, message, code } = await caught(
          ctx.step("book", async () => (calls++, Promise.reject(refused))),
        );
        await ctx.step("apologise", async () => null);
        return [name, message, code];
      });
      expect(await run.result()).toEqual(["RangeError", "no seat", "sold_out"]);
      expect(await run.replay()).toEqual(["RangeError", "no seat", "sold_out"]);
      expect(calls).toBe(1);
    });

    it("fails with the very error that its function threw, and the task with what it lets through", async (start) => {
      const failure = Object.assign(new TypeError("mine"), { detail: { any: "thing" } });
      const run = await start(async (ctx) => {
        const same = (await caught(ctx.step("a", () => Promise.reject(failure)))) === failure;
        if (same) throw failure;
      });
      expect(await caught(run.result())).toBe(failure);
    });

    it("fails over a result that JSON cannot carry, and names where", async (start) => {
      const run = await start(async (ctx) => {
        const { code, message } = await caught(
          ctx.step("count", async () => ({ list: [1n] }), { retries: { limit: 3 } }),
        );
        await ctx.step("go on", async () => null);
        return [code, message.includes("list[0]")];
      });
      expect(await run.result()).toEqual(["payload_not_json", true]);
      expect(await run.replay()).toEqual(["payload_not_json", true]);
    });

    it("is refused inside another step's function, and that is final", async (start) => {
      const run = await start(async (ctx) => {
        let calls = 0;
        const outer = () => (calls++, ctx.step("inner", async () => null));
        const error = await caught(ctx.step("outer", outer, { retries: { limit: 3, delayMs: 1 } }));
        return [codeOf(error), calls];
      });
      expect(await run.result()).toEqual(["nested_step", 1]);
    });

    it("of another input than on record is refused, and so is all that comes after", async (start) => {
      const pay = (amount: number) => (ctx: DurableContext) =>
        ctx.step("pay", async () => amount, { inputFingerprint: { amount } });
      const run = await start(pay(1));
      expect(await run.result()).toBe(1);
      const later: unknown[] = [];
      const replayed = run.replay(async (ctx) => {
        later.push(codeOf(await caught(pay(2)(ctx))));
        later.push(codeOf(await caught(ctx.step("next", async () => null))));
      });
      expect(codeOf(await caught(replayed))).toBe("step_input_mismatch");
      expect(later).toEqual(["step_input_mismatch", "step_input_mismatch"]);
    });

    it("with another intent than on record is refused", async (start) => {
      const run = await start((ctx) => ctx.step("a", async () => null));
      await run.result();
      const replayed = run.replay((ctx) => ctx.step("b", async () => null));
      expect(codeOf(await caught(replayed))).toBe("step_divergence");
    });

    it("may run beside others: each answers for itself at a replay", async (start) => {
      const ran: string[] = [];
      const run = await start((ctx) =>
        Promise.all(
          ["a", "b", "c"].map((intent, i) =>
            ctx.step(intent, async () => {
              ran.push(intent);
              await pause(9 - 3 * i);
              return intent;
            }),
          ),
        ),
      );
      expect(await run.result()).toEqual(["a", "b", "c"]);
      expect(await run.replay()).toEqual(["a", "b", "c"]);
      expect(ran.toSorted()).toEqual(["a", "b", "c"]);
    });

    it("whose failure the task never looks at is no unhandled rejection", async (start) => {
      const run = await start(async (ctx) => {
        void ctx.step("forgotten", () => Promise.reject(new Error("nobody looks")));
        return ctx.step("go on", async () => "on");
      });
      expect(await run.result()).toBe("on");
    });
  });

  describe("the clock and the ids of a task", () => {
    it("are the same at a replay", async (start) => {
      const run = await start(async (ctx) => {
        const now = await ctx.now();
        return [now instanceof Date, now.getTime(), await ctx.uuid(), await ctx.uuid()];
      });
      const first = await run.result();
      expect(first[0]).toBe(true);
      expect(first[2]).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
      expect(first[2]).not.toBe(first[3]);
      expect(await run.replay()).toEqual(first);
    });

    it("go by the run: its id is the run's, at first as at a replay", async (start) => {
      const run = await start(async ({ runId, projectId, signal }) => [
        runId,
        projectId !== "",
        signal.aborted,
      ]);
      expect(await run.result()).toEqual([run.runId, true, false]);
      expect(await run.replay()).toEqual([run.runId, true, false]);
    });
  });
}
