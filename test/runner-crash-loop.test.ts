/** A step that kills its workers: retry limits hold across crashes. */
import { expect, test } from "vitest";
import type { DurableContext, StepOptions } from "../src/runner/types.ts";
import { counted, crash, never, newWorld, rejection } from "./support/world.ts";

const deadly = (options: StepOptions, fn: () => Promise<unknown>) => (ctx: DurableContext) =>
  ctx.step("deadly", fn, options);

test("a retry limit bounds the attempts that a worker dies in: the step then fails without being called", async () => {
  const world = newWorld();
  const fn = counted(() => never());
  const task = deadly({ retries: { limit: 2, delayMs: 10 } }, fn);
  for (const calls of [1, 2, 3]) await crash(world, task, () => fn.calls === calls);
  expect(await rejection(world.run(task))).toMatchObject({ code: "step_interrupted" });
  expect(fn.calls).toBe(3);
  expect(world.record().status).toBe("failed");
  expect(await world.step(0)).toMatchObject({ status: "failed", attempts: 4 });
});

test("a run that failed so may be called again, and the step has its attempts anew", async () => {
  const world = newWorld();
  const dying = counted(() => never());
  const task = deadly({ retries: { limit: 0 } }, dying);
  await crash(world, task, () => dying.calls === 1);
  await rejection(world.run(task));
  const { result } = await world.run(deadly({ retries: { limit: 0 } }, async () => "alive"));
  expect(result).toBe("alive");
});

test("failed attempts and attempts that a worker died in count together", async () => {
  const world = newWorld();
  const fn = counted((call) => (call === 1 ? Promise.reject(new Error("failed")) : never()));
  const task = deadly({ retries: { limit: 1, delayMs: 0 } }, fn);
  await crash(world, task, () => fn.calls === 2);
  expect(await rejection(world.run(task))).toMatchObject({ code: "step_interrupted" });
  expect(fn.calls).toBe(2);
});

test("without a limit, a step is run again by each next worker", async () => {
  const world = newWorld();
  const fn = counted((call) => (call < 5 ? never() : "alive"));
  const task = deadly({}, fn);
  for (const calls of [1, 2, 3, 4]) await crash(world, task, () => fn.calls === calls);
  expect((await world.run(task)).result).toBe("alive");
});
