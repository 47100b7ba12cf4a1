/** What a client remembers of begins that came to nothing: it is not taken for what a later attempt says of its own. */
import { afterEach, expect, it } from "vitest";
import { systemClock } from "../../src/contract/clock.ts";
import { codeOf } from "../../src/contract/errors.ts";
import { runDurable } from "../../src/runner/run-durable.ts";
import type { DurableContext } from "../../src/runner/types.ts";
import { aRun, aStep, MANIFEST } from "../../src/testing/harness.ts";
import { store } from "./coordinator-world.ts";
import { resetFaults } from "./faults.ts";

afterEach(resetFaults);

it("a completion that brings its begin is of that step, whatever was begun there before a restart", async () => {
  const one = store();
  const input = aRun();
  const { fence = 0 } = await one.startOrResume(input);
  const { runId } = input;
  await one.beginStep(aStep(runId, 0, { fence, intent: "old" }));
  await one.restartRun(runId, { fromStep: 0, dropLater: true });
  const again = await one.startOrResume(input);
  const begin = { intent: "new", kind: "logic", inputHash: "", elapsedMs: 1 } as const;
  const end = { runId, stepIndex: 0, attempt: 1, fence: again.fence ?? 0 };
  await one.completeStep({ ...end, result: "of new", begin });
  expect(await one.loadStep(runId, 0)).toMatchObject({ intent: "new", result: "of new" });
});

it("branches that begin in another order after a restart keep their own results", async () => {
  const one = store();
  const { runId } = aRun();
  const calls: string[] = [];
  const seen = { begun: 0 };
  /** `first`: which branch begins first; the other one comes once that has begun. */
  const task = (first: "a" | "b", fn: (name: string, signal: AbortSignal) => Promise<unknown>) => {
    const branch = (name: "a" | "b") => async (ctx: DurableContext) => {
      while (name !== first && seen.begun === 0) await systemClock.sleep(2);
      return ctx.step("work", async ({ signal }) => {
        calls.push(name);
        seen.begun += 1;
        await fn(name, signal);
        return `result of ${name}`;
      });
    };
    return (ctx: DurableContext) => ctx.all({ a: branch("a"), b: branch("b") });
  };
  const run = (taskFn: (ctx: DurableContext) => Promise<unknown>) =>
    runDurable({ runId, manifest: MANIFEST, store: one, workerId: "w", taskFn });
  const lost = run(task("a", (_name, signal) => systemClock.sleep(60_000, signal).catch(() => {}))).catch(
    codeOf,
  );
  // Both have been told of.
  await expect.poll(async () => (await store().loadRun(runId))?.stepCount).toBe(2);
  await store().restartRun(runId, { fromStep: 0, dropLater: true });
  expect(await lost).toBe("lease_lost");
  calls.length = 0;
  seen.begun = 0;
  const quick = task("b", async () => {});
  const failed = run(async (ctx) => {
    await quick(ctx);
    throw new Error("dies");
  });
  await expect(failed).rejects.toThrow("dies");
  expect(calls).toEqual(["b", "a"]);
  calls.length = 0;
  seen.begun = 1;
  expect((await run(quick)).result).toEqual({ a: "result of a", b: "result of b" });
  expect(calls).toEqual([]);
});
