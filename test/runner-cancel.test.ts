/** R33: a run that is cancelled, and a lease that is lost: how soon whoever works on the run hears of it, and what is left. */
import { describe, expect, test } from "vitest";
import type { DurableContext } from "../src/runner/types.ts";
import type { World } from "./support/world.ts";
import {
  counted,
  crash,
  LEASE_MS,
  never,
  newWorld,
  plainError,
  rejection,
  RUN_ID,
  seize,
  tick,
  unavailable,
  until,
  whileTimeFlies,
} from "./support/world.ts";
import { failing, losingAnswers } from "./support/wrapped-store.ts";

/** So long that no heartbeat comes into it. */
const DAY_MS = 86_400_000;

const cancel = (world: World, reason = "no longer wanted") => world.memory.cancelRun(RUN_ID, reason);
const begun = (world: World) => until(() => world.store.count("beginStep") === 1);
const CANCELLED = { status: "cancelled", error: { code: "run_cancelled", message: "no longer wanted" } };

async function watched(world: World): Promise<void> {
  await begun(world);
  world.clock.advance(1_000);
  await until(() => world.store.count("watchLease") === 1);
}

/** An attempt whose only step is in flight for ever. */
function inFlight(world: World, options: Parameters<World["run"]>[1] = {}) {
  const signals: AbortSignal[] = [];
  const attempt = rejection(
    world.run(
      (ctx) => ctx.step("slow", ({ signal }) => (signals.push(ctx.signal, signal), never())),
      options,
    ),
  );
  return { attempt, signals };
}

describe("a live run that is cancelled", () => {
  test("is told at once by a store that can tell: its signals abort, no heartbeat is needed", async () => {
    const world = newWorld({ pushes: true });
    const { attempt, signals } = inFlight(world, { leaseMs: DAY_MS });
    await watched(world);
    await cancel(world);
    const error = await attempt;
    expect(error).toMatchObject({ code: "run_cancelled", name: "DurableRunCancelledError" });
    expect(signals.map((signal) => signal.reason as unknown)).toEqual([error, error]);
    expect(world.store.count("renewLease")).toBe(0);
    expect(world.record()).toMatchObject(CANCELLED);
    expect(await world.step(0)).toMatchObject({ status: "running" });
  });

  test("is told by its next heartbeat otherwise", async () => {
    const world = newWorld();
    const { attempt, signals } = inFlight(world);
    await begun(world);
    await cancel(world);
    world.clock.advance(LEASE_MS / 3);
    const error = await attempt;
    expect(error).toMatchObject({ code: "run_cancelled" });
    expect(signals[0]?.reason).toBe(error);
    expect(world.store.count("renewLease")).toBe(1);
  });

  test("is told by the heartbeat also when the store fails to tell it at once", async () => {
    const world = newWorld({ pushes: true });
    world.store.inject("watchLease", failing(Infinity, plainError));
    const { attempt } = inFlight(world);
    await watched(world);
    await cancel(world);
    world.clock.advance(LEASE_MS / 3);
    expect(await attempt).toMatchObject({ code: "run_cancelled" });
  });

  test.each<[string, (ctx: DurableContext, stop: () => Promise<unknown>) => Promise<unknown>]>([
    ["a step's begin", (ctx, stop) => stop().then(() => ctx.step("next", async () => 1))],
    ["a step's completion", (ctx, stop) => ctx.step("x", stop)],
    [
      "a step's failure",
      (ctx, stop) => ctx.step("x", () => stop().then(() => Promise.reject(new Error("no")))),
    ],
    [
      "a failure that is to be retried",
      (ctx, stop) =>
        ctx.step("x", () => stop().then(() => Promise.reject(new Error("no"))), { retries: { limit: 1 } }),
    ],
    ["the end of the run", (_ctx, stop) => stop()],
  ])("is told by %s, if that comes first, and nothing more is recorded", async (_what, work) => {
    const world = newWorld();
    const after = counted(() => 1);
    const stop = async () => void (await cancel(world));
    const error = await rejection(
      world.run(async (ctx) => {
        await work(ctx, stop).catch(() => {});
        await ctx.step("after", after).catch(() => {});
      }),
    );
    expect(error).toMatchObject({ code: "run_cancelled" });
    expect(after.calls).toBe(0);
    expect(world.record()).toMatchObject(CANCELLED);
    expect((await world.step(0))?.status).not.toBe("completed");
  });

  test.each<[string, (ctx: DurableContext) => Promise<unknown>]>([
    ["waits for an event", (ctx) => ctx.awaitEvent("k")],
    ["sleeps", (ctx) => ctx.sleep(3_600_000)],
    [
      "is in a delay between attempts",
      (ctx) =>
        ctx.step("x", () => Promise.reject(new Error("no")), { retries: { limit: 1, delayMs: 3_600_000 } }),
    ],
  ])("ends at once also when it %s", async (_what, wait) => {
    const world = newWorld({ pushes: true });
    const attempt = rejection(world.run(wait, { leaseMs: DAY_MS }));
    await watched(world);
    expect(world.record().waitingFor).toHaveLength(1);
    await cancel(world);
    expect(await attempt).toMatchObject({ code: "run_cancelled" });
    expect(world.record()).not.toHaveProperty("waitingFor");
  });

  test("lets a task that goes on regardless do nothing more, though it catches everything", async () => {
    const world = newWorld({ pushes: true });
    const gate = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<void>();
    const refused: unknown[] = [];
    const attempt = rejection(
      world.run(async (ctx) => {
        const note = (error: unknown) => refused.push(error);
        await ctx.step("slow", () => gate.promise).catch(note);
        await ctx.step("more", async () => 1).catch(note);
        await ctx.emitEvent("more", 1).catch(note);
        await ctx.awaitEvent("more").catch(note);
        await ctx.sleep(1).catch(note);
        await ctx.now().catch(note);
        ended.resolve();
      }),
    );
    await watched(world);
    await cancel(world);
    const error = await attempt;
    const calls = world.store.methods();
    gate.resolve();
    await ended.promise;
    expect(refused).toEqual(Array(6).fill(error));
    expect(world.store.methods()).toEqual(calls);
  });

  test("reports its task's own failure, if it had failed by then", async () => {
    const world = newWorld();
    const own = new Error("own");
    const task = async (): Promise<never> => {
      await cancel(world);
      throw own;
    };
    expect(await rejection(world.run(task))).toBe(own);
    expect(world.record()).toMatchObject(CANCELLED);
  });
});

describe("a run that is cancelled while nobody works on it", () => {
  test("is claimed by nobody any more", async () => {
    const world = newWorld();
    await rejection(world.run(() => Promise.reject(new Error("failed"))));
    await cancel(world);
    const task = counted(() => 1);
    for (let i = 0; i < 2; i += 1)
      expect(await rejection(world.run(task))).toMatchObject({ code: "run_cancelled" });
    expect(world.store.count("startOrResume")).toBe(3);
    expect(task.calls).toBe(0);
  });

  test("is refused also while its claim is repeated", async () => {
    const world = newWorld();
    world.store.inject("startOrResume", losingAnswers(1, unavailable));
    const attempt = rejection(world.run(async () => 1));
    await until(() => world.store.count("startOrResume") === 1);
    await cancel(world);
    expect(await whileTimeFlies(world.clock, attempt, 50)).toMatchObject({ code: "run_cancelled" });
  });

  test("waits for no decision any more when it was suspended", async () => {
    const world = newWorld();
    const pay = counted((call) => (call === 1 ? never() : "paid"));
    const task = (ctx: DurableContext) => ctx.step("pay", pay, { onInterrupted: "park" });
    await crash(world, task, () => pay.calls === 1);
    await rejection(world.run(task));
    expect(await cancel(world)).not.toHaveProperty("waitingFor");
    expect(await rejection(world.memory.resolveStep(RUN_ID, 0, { rerun: true }))).toMatchObject({
      code: "step_not_in_doubt",
    });
    expect(await rejection(world.run(task))).toMatchObject({ code: "run_cancelled" });
  });

  test("keeps the reason that it was first cancelled with", async () => {
    const world = newWorld();
    await rejection(world.run(() => Promise.reject(new Error("failed"))));
    const first = await cancel(world);
    world.clock.advance(1_000);
    expect(await cancel(world, "another reason")).toEqual(first);
    expect(world.record()).toMatchObject(CANCELLED);
  });

  test("is unchanged when it had completed, and answers its result", async () => {
    const world = newWorld();
    await world.run(async () => "done");
    expect(await cancel(world)).toMatchObject({ status: "completed", result: "done" });
    expect((await world.run(async () => "again")).result).toBe("done");
  });

  test("has to be there: one that is cancelled before it exists begins all the same", async () => {
    const world = newWorld();
    expect(await rejection(cancel(world))).toMatchObject({ code: "run_not_found" });
    expect((await world.run(async () => "done")).result).toBe("done");
  });
});

describe("the watch over the lease", () => {
  test("hears at once that another worker has taken over, and of a restart", async () => {
    for (const take of [
      seize,
      (world: World) => world.memory.restartRun(RUN_ID, { fromStep: 0, dropLater: true }),
    ]) {
      const world = newWorld({ pushes: true });
      const { attempt } = inFlight(world, { leaseMs: DAY_MS });
      await watched(world);
      await take(world);
      expect(await attempt).toMatchObject({ code: "lease_lost" });
      expect(world.store.count("renewLease")).toBe(0);
    }
  });

  test("is not begun for a run that is over within a second", async () => {
    const world = newWorld({ pushes: true });
    await world.run((ctx) => ctx.step("quick", async () => 1));
    world.clock.advance(60_000);
    await tick();
    expect(world.store.count("watchLease")).toBe(0);
  });

  test("is not begun while the store answers all the time, and is once it falls silent", async () => {
    const world = newWorld({ pushes: true });
    const gate = Promise.withResolvers<string>();
    const attempt = world.run(
      async (ctx) => {
        for (let index = 0; index < 20; index += 1) {
          await ctx.step(`quick ${index}`, async () => {
            world.clock.advance(50);
            await tick();
          });
        }
        expect(world.store.count("watchLease")).toBe(0);
        return ctx.step("slow", () => gate.promise);
      },
      { leaseMs: DAY_MS },
    );
    await until(() => world.store.count("beginStep") === 21);
    for (let look = 0; look < 2; look += 1) {
      world.clock.advance(100);
      await tick();
    }
    await until(() => world.store.count("watchLease") === 1);
    gate.resolve("done");
    expect((await attempt).result).toBe("done");
  });

  test("is one held call after the other, and ends with the attempt", async () => {
    const world = newWorld({ pushes: true });
    const gate = Promise.withResolvers<string>();
    const attempt = world.run((ctx) => ctx.step("slow", () => gate.promise), { leaseMs: DAY_MS });
    await watched(world);
    for (let calls = 2; calls < 5; calls += 1) {
      world.clock.advance(30_000);
      await until(() => world.store.count("watchLease") === calls);
    }
    gate.resolve("done");
    expect((await attempt).result).toBe("done");
    world.clock.advance(60_000);
    await tick();
    expect(world.store.count("watchLease")).toBe(4);
    expect(world.clock.sleepers).toBe(0);
  });

  test("asks a store that does not hold the call once a second, and one that fails every five", async () => {
    const world = newWorld({ pushes: true });
    let answer = async (): Promise<{ held: boolean }> => ({ held: true });
    world.store.hooks.watchLease = () => answer();
    const gate = Promise.withResolvers<string>();
    const attempt = world.run((ctx) => ctx.step("slow", () => gate.promise), { leaseMs: DAY_MS });
    await watched(world);
    const pass = async (seconds: number) => {
      for (let i = 0; i < seconds; i += 1) {
        world.clock.advance(1_000);
        await tick();
      }
      return world.store.count("watchLease");
    };
    expect(await pass(10)).toBe(11);
    answer = () => Promise.reject(plainError());
    expect(await pass(11)).toBe(14);
    gate.resolve("done");
    expect((await attempt).result).toBe("done");
  });

  test("takes the run's own end for no loss", async () => {
    const world = newWorld({ pushes: true });
    const gate = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<void>();
    world.store.hooks.endRun = async (pass) => {
      const record = await pass();
      await ended.promise;
      return record;
    };
    const attempt = world.run((ctx) => ctx.step("slow", () => gate.promise));
    await watched(world);
    gate.resolve();
    await until(() => world.record().status === "completed");
    await tick();
    ended.resolve();
    expect((await attempt).record.status).toBe("completed");
  });
});
