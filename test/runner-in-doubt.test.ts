/** R31: a step that a worker died in runs again only as its policy says: "fail", and { reconcile }. */
import { describe, expect, test } from "vitest";
import { DurableStepInterruptedError } from "../src/contract/errors.ts";
import type { DurableContext, StepInfo, StepOptions } from "../src/runner/types.ts";
import { RERUN } from "../src/runner/types.ts";
import { PlainStore } from "./support/plain-store.ts";
import type { World } from "./support/world.ts";
import {
  counted,
  crash,
  lapse,
  never,
  newWorld,
  OWN_SLEEPERS,
  rejection,
  RUN_ID,
  tick,
  until,
  whileTimeFlies,
} from "./support/world.ts";

type Policy = StepOptions["onInterrupted"] & {};

/** A payment whose first worker dies in it, and is then made. */
function payment(onInterrupted: Policy, options: StepOptions = {}) {
  const pay = counted<unknown>((call) => (call === 1 ? never() : "paid"));
  const task = (ctx: DurableContext) => ctx.step("pay", pay, { onInterrupted, ...options });
  const die = (world: World) => crash(world, task, () => pay.calls === 1);
  return { pay, task, die };
}

/** The same, with a `reconcile` that answers its calls in order. */
function reconciled(answers: readonly (() => unknown)[], options: StepOptions = {}) {
  const given: StepInfo[] = [];
  const reconcile = async (info: StepInfo): Promise<unknown> => answers[given.push(info) - 1]?.();
  return { ...payment({ reconcile }, options), given };
}

const refuse = (): never => {
  throw new Error("the bank does not say");
};

describe('"fail": a step that a worker died in', () => {
  test("fails with step_interrupted, though it has retries, and its function is not called", async () => {
    const world = newWorld();
    const { task, pay, die } = payment("fail", { retries: { limit: 5 } });
    await die(world);
    const error = await rejection(world.run(task));
    expect(error).toBeInstanceOf(DurableStepInterruptedError);
    expect(error).toMatchObject({ code: "step_interrupted", retryable: false });
    expect(error.message).toMatch(/step 0 \("pay"\) was interrupted in attempt 1/);
    expect(pay.calls).toBe(1);
    expect(await world.step(0)).toMatchObject({ status: "failed", inDoubt: true, attempts: 1 });
    expect(world.record()).toMatchObject({ status: "failed", error: { code: "step_interrupted" } });
  });

  test("stays failed at every later run, until it is resolved with what it had done", async () => {
    const world = newWorld();
    const { task, pay, die } = payment("fail");
    await die(world);
    const first = await rejection(world.run(task));
    for (let i = 0; i < 3; i += 1) expect((await rejection(world.run(task))).message).toBe(first.message);
    await world.memory.resolveStep(RUN_ID, 0, { result: "paid before" });
    expect((await world.run(task)).result).toBe("paid before");
    expect(pay.calls).toBe(1);
  });

  test("runs again once it is resolved so", async () => {
    const world = newWorld();
    const { task, pay, die } = payment("fail");
    await die(world);
    await rejection(world.run(task));
    await world.memory.resolveStep(RUN_ID, 0, { rerun: true });
    expect((await world.run(task)).result).toBe("paid");
    expect(pay.calls).toBe(2);
  });

  test("replays as the same failure once the task has caught it and moved past", async () => {
    const world = newWorld();
    const { pay, task: payTask, die } = payment("fail");
    await die(world);
    const seen: unknown[] = [];
    const last = counted((call) => (call < 3 ? never() : "end"));
    const task = async (ctx: DurableContext) => {
      await payTask(ctx).catch((error: unknown) => seen.push(error));
      return ctx.step("last", last);
    };
    for (const calls of [1, 2]) await crash(world, task, () => last.calls === calls);
    // The policy counts for nothing any more: the task has seen the failure.
    const lax = async (ctx: DurableContext) => {
      await ctx.step("pay", pay).catch((error: unknown) => seen.push(error));
      return ctx.step("last", last);
    };
    expect((await world.run(lax)).result).toBe("end");
    expect(pay.calls).toBe(1);
    expect(seen).toHaveLength(3);
    for (const error of seen) {
      expect(error).toBeInstanceOf(DurableStepInterruptedError);
      expect((error as Error).message).toBe((seen[0] as Error).message);
    }
  });

  test("that failed by itself runs again: nobody died in it", async () => {
    const world = newWorld();
    const pay = counted((call) => (call === 1 ? Promise.reject(new Error("declined")) : "paid"));
    const task = (ctx: DurableContext) => ctx.step("pay", pay, { onInterrupted: "fail" });
    expect((await rejection(world.run(task))).message).toBe("declined");
    expect((await world.run(task)).result).toBe("paid");
  });

  test("is judged by the policy that the code now has", async () => {
    const world = newWorld();
    const { die, pay } = payment("rerun");
    await die(world);
    const strict = (ctx: DurableContext) => ctx.step("pay", pay, { onInterrupted: "fail" });
    expect(await rejection(world.run(strict))).toMatchObject({ code: "step_interrupted" });
    const lax = (ctx: DurableContext) => ctx.step("pay", pay);
    expect((await world.run(lax)).result).toBe("paid");
  });
});

describe("{ reconcile }: a step that a worker died in", () => {
  test.each<[string, unknown]>([
    ["a value", { receipt: 7 }],
    ["undefined", undefined],
    ["null", null],
  ])("is what reconcile found, when that is %s", async (_what, found) => {
    const world = newWorld();
    const { task, pay, given, die } = reconciled([() => found]);
    await die(world);
    const { result, steps } = await world.run(task);
    expect(result).toEqual(found);
    expect(pay.calls).toBe(1);
    expect(given).toMatchObject([{ attempt: 2, stepIndex: 0, idempotencyKey: expect.any(String) as string }]);
    expect(steps).toMatchObject([{ status: "completed", attempts: 2 }]);
    expect(steps[0]).not.toHaveProperty("inDoubt");
    expect((await world.run(task)).result).toEqual(found);
    expect(given).toHaveLength(1);
  });

  test("runs again when reconcile says so, in the same attempt", async () => {
    const world = newWorld();
    const { task, pay, die } = reconciled([() => RERUN]);
    await die(world);
    expect((await world.run(task)).result).toBe("paid");
    expect(pay.calls).toBe(2);
    expect(await world.step(0)).toMatchObject({ attempts: 2 });
  });

  test("is not asked about when nobody died in it, though it failed", async () => {
    const world = newWorld();
    const reconcile = counted(() => RERUN);
    const pay = counted((call) => (call === 1 ? Promise.reject(new Error("declined")) : "paid"));
    const task = (ctx: DurableContext) => ctx.step("pay", pay, { onInterrupted: { reconcile } });
    await rejection(world.run(task));
    expect((await world.run(task)).result).toBe("paid");
    expect(reconcile.calls).toBe(0);
  });

  test("stays in doubt while reconcile fails, from run to run, and does not run", async () => {
    const world = newWorld();
    const { task, pay, given, die } = reconciled([refuse, refuse, () => RERUN]);
    await die(world);
    for (const attempts of [2, 3]) {
      expect((await rejection(world.run(task))).message).toBe("the bank does not say");
      expect(await world.step(0)).toMatchObject({ status: "failed", inDoubt: true, attempts });
    }
    expect(pay.calls).toBe(1);
    expect((await world.run(task)).result).toBe("paid");
    expect([given.length, pay.calls]).toEqual([3, 2]);
  });

  test("is asked about again at each retry while reconcile fails, each of which counts", async () => {
    const world = newWorld();
    const { task, pay, given, die } = reconciled([refuse, refuse, () => "found"], {
      retries: { limit: 3, delayMs: 10_000 },
    });
    await die(world);
    const attempt = world.run(task);
    await until(() => given.length === 1 && world.clock.sleepers > OWN_SLEEPERS);
    expect(await world.step(0)).toMatchObject({ status: "pending", inDoubt: true, tries: 2 });
    expect((await whileTimeFlies(world.clock, attempt)).result).toBe("found");
    expect([given.length, pay.calls]).toEqual([3, 1]);
  });

  test("fails for good when the retries are used up, still in doubt", async () => {
    const world = newWorld();
    const { task, pay, given, die } = reconciled([refuse, refuse, refuse, refuse], { retries: { limit: 2 } });
    await die(world);
    await rejection(whileTimeFlies(world.clock, world.run(task)));
    expect([given.length, pay.calls]).toEqual([2, 1]);
    expect(await world.step(0)).toMatchObject({ status: "failed", inDoubt: true, tries: 3 });
  });

  test("that reconcile had run again, and then failed, is in doubt no more", async () => {
    const world = newWorld();
    const pay = counted((call) => {
      if (call === 2) throw new Error("declined");
      return call === 1 ? never() : "paid";
    });
    const reconcile = counted(() => RERUN);
    const task = (ctx: DurableContext) => ctx.step("pay", pay, { onInterrupted: { reconcile } });
    await crash(world, task, () => pay.calls === 1);
    expect((await rejection(world.run(task))).message).toBe("declined");
    expect(await world.step(0)).not.toHaveProperty("inDoubt");
    expect((await world.run(task)).result).toBe("paid");
    expect(reconcile.calls).toBe(1);
  });

  test("is in doubt again when a worker dies in reconcile, or in what it had run again", async () => {
    const world = newWorld();
    const pay = counted((call) => (call < 3 ? never() : "paid"));
    const reconcile = counted((call) => (call === 1 ? never() : RERUN));
    const task = (ctx: DurableContext) => ctx.step("pay", pay, { onInterrupted: { reconcile } });
    await crash(world, task, () => pay.calls === 1);
    await crash(world, task, () => reconcile.calls === 1);
    await crash(world, task, () => pay.calls === 2);
    expect((await world.run(task)).result).toBe("paid");
    expect([pay.calls, reconcile.calls]).toEqual([3, 3]);
  });

  test("does not run after all when what reconcile found cannot be recorded", async () => {
    const world = newWorld();
    const { task, pay, die } = reconciled([() => ({ paidAt: Number.NaN }), () => "found"]);
    await die(world);
    expect(await rejection(world.run(task))).toMatchObject({ code: "payload_not_json" });
    expect((await world.run(task)).result).toBe("found");
    expect(pay.calls).toBe(1);
  });

  test("is resolved from outside like any other", async () => {
    const world = newWorld();
    const { task, pay, given, die } = reconciled([refuse]);
    await die(world);
    await rejection(world.run(task));
    await world.memory.resolveStep(RUN_ID, 0, { result: "paid before" });
    expect((await world.run(task)).result).toBe("paid before");
    expect([given.length, pay.calls]).toEqual([1, 1]);
  });
});

describe("a reconcile that comes too late has nothing run:", () => {
  test("its attempt timed out, and the next one finds out by itself", async () => {
    const world = newWorld();
    const late = Promise.withResolvers<typeof RERUN>();
    const options = { timeoutMs: 5_000, retries: { limit: 3, delayMs: 0 } };
    const { task, pay, given, die } = reconciled(
      [() => late.promise, () => (late.resolve(RERUN), tick().then(refuse)), () => "found"],
      options,
    );
    await die(world);
    expect((await whileTimeFlies(world.clock, world.run(task))).result).toBe("found");
    expect([given.length, pay.calls]).toEqual([3, 1]);
  });

  test("its caller has stopped the run", async () => {
    const world = newWorld();
    const caller = new AbortController();
    const enough = new Error("enough");
    const { task, pay, die } = reconciled([() => (caller.abort(enough), RERUN), () => "found"]);
    await die(world);
    expect(await rejection(world.run(task, { signal: caller.signal }))).toBe(enough);
    expect((await world.run(task)).result).toBe("found");
    expect(pay.calls).toBe(1);
  });

  test("its worker has lost the run", async () => {
    const world = newWorld();
    const late = Promise.withResolvers<typeof RERUN>();
    const { task, pay, given, die } = reconciled([() => late.promise, () => "found"]);
    await die(world);
    const zombie = world.run(task);
    await until(() => given.length === 1);
    await lapse(world, zombie);
    late.resolve(RERUN);
    await tick();
    expect((await world.run(task)).result).toBe("found");
    expect(pay.calls).toBe(1);
  });
});

describe("onInterrupted", () => {
  test.each<[string, unknown]>([
    ["an unknown word", "retry"],
    ["null", null],
    ["an empty object", {}],
    ["a reconcile that is no function", { reconcile: RERUN }],
    ["a function", () => RERUN],
  ])("is refused when it is %s, and nothing is recorded", async (_what, onInterrupted) => {
    const world = newWorld();
    const { task, pay } = payment(onInterrupted as Policy);
    expect(await rejection(world.run(task))).toMatchObject({ code: "invalid_input", field: "onInterrupted" });
    expect([pay.calls, world.record().stepCount]).toEqual([0, 0]);
  });

  test.each<[Policy]>([["fail"], ["park"], [{ reconcile: async () => RERUN }]])(
    "%o is refused over a plain store, which would not tell that a worker has died",
    async (onInterrupted) => {
      const world = newWorld();
      const store = new PlainStore(() => world.clock.now());
      const { task, pay } = payment(onInterrupted);
      expect(await rejection(world.run(task, { store }))).toMatchObject({
        code: "invalid_input",
        field: "onInterrupted",
      });
      expect(pay.calls).toBe(0);
      expect(await store.loadStep(RUN_ID, 0)).toBeUndefined();
    },
  );
});
