/** R9: the heartbeat, how a loss is noticed, and that whoever lost the lease writes nothing more. */
import { describe, expect, test } from "vitest";
import type { DurableContext } from "../src/runner/types.ts";
import type { World } from "./support/world.ts";
import {
  counted,
  LEASE_MS,
  never,
  newWorld,
  plainError,
  rejection,
  seize,
  tick,
  unavailable,
  until,
} from "./support/world.ts";
import { failing, hanging } from "./support/wrapped-store.ts";

/** An attempt whose only step is in flight until `finish` is called. */
async function inFlight(world: World, options: Parameters<World["run"]>[1] = {}) {
  const gate = Promise.withResolvers<string>();
  const started = Promise.withResolvers<DurableContext>();
  const attempt = world.run(
    (ctx) =>
      ctx.step("slow", () => {
        started.resolve(ctx);
        return gate.promise;
      }),
    options,
  );
  attempt.catch(() => {});
  return { attempt, ctx: await started.promise, finish: gate.resolve, fail: gate.reject };
}

/** Lets time pass in strides, with what each wakes. */
async function pass(world: World, ms: number, strideMs = 2_500): Promise<void> {
  for (let passed = 0; passed < ms; passed += strideMs) {
    world.clock.advance(strideMs);
    for (let i = 0; i < 5; i += 1) await tick();
  }
}

describe("the heartbeat", () => {
  test("renews every third of the lease, under the fence of the claim", async () => {
    const world = newWorld();
    const { attempt, finish } = await inFlight(world, { workerId: "worker-1" });
    await pass(world, LEASE_MS * 3);
    expect(world.store.count("renewLease")).toBe(9);
    for (const call of world.store.calls.filter((one) => one.method === "renewLease")) {
      expect(call.args).toEqual([{ runId: "run-1", workerId: "worker-1", leaseMs: LEASE_MS, fence: 1 }]);
    }
    finish("done");
    expect((await attempt).result).toBe("done");
  });

  test("has no floor: a lease of 30 ms is renewed every 10 ms, and kept", async () => {
    const world = newWorld();
    const { attempt, ctx, finish } = await inFlight(world, { leaseMs: 30 });
    await pass(world, 300, 5);
    expect(ctx.signal.aborted).toBe(false);
    expect(world.store.count("renewLease")).toBe(30);
    finish("done");
    expect((await attempt).record).toMatchObject({ status: "completed", takeovers: 0 });
  });

  test("that fails is tried again soon, and is no loss", async () => {
    const world = newWorld();
    world.store.hooks.renewLease = failing(2, plainError);
    const { attempt, ctx, finish } = await inFlight(world);
    await pass(world, LEASE_MS * 2);
    expect(ctx.signal.aborted).toBe(false);
    finish("done");
    expect((await attempt).result).toBe("done");
    expect(world.record().takeovers).toBe(0);
  });

  test("that hangs is tried again, and is no loss", async () => {
    const world = newWorld();
    world.store.hooks.renewLease = hanging(1);
    const { attempt, ctx, finish } = await inFlight(world);
    await pass(world, LEASE_MS * 2);
    expect(ctx.signal.aborted).toBe(false);
    finish("done");
    expect((await attempt).result).toBe("done");
  });

  test("ends with the attempt, whichever way that ends", async () => {
    const world = newWorld();
    await world.run(async () => null, { runId: "ok" });
    await rejection(world.run(() => Promise.reject(new Error("no")), { runId: "failed" }));
    const beats = world.store.count("renewLease");
    await pass(world, LEASE_MS * 2);
    expect(world.store.count("renewLease")).toBe(beats);
  });
});

describe("a lease is lost", () => {
  test.each<[string, (world: World) => void]>([
    ["every heartbeat hangs", (world) => (world.store.hooks.renewLease = hanging())],
    ["every heartbeat fails", (world) => (world.store.hooks.renewLease = failing(Infinity, unavailable))],
  ])("at the runner's own deadline, before the store's, when %s", async (_when, fault) => {
    const world = newWorld();
    fault(world);
    const { attempt, ctx } = await inFlight(world);
    const expiresAt = Date.parse(world.record().leaseExpiresAt as string);
    const noticedAt = new Promise<number>((resolve) =>
      ctx.signal.addEventListener("abort", () => resolve(world.clock.now())),
    );
    await pass(world, LEASE_MS * 0.8);
    expect(ctx.signal.aborted).toBe(false);
    await pass(world, LEASE_MS * 0.13, 300);
    expect(await noticedAt).toBeLessThan(expiresAt);
    expect(ctx.signal.reason).toMatchObject({ code: "lease_lost", name: "DurableRunLeaseLostError" });
    expect(await rejection(attempt)).toBe(ctx.signal.reason);
    expect((await rejection(attempt)).cause).toMatchObject({ code: "store_unavailable" });
  });

  test("at the next heartbeat when another worker took the run over, though fn never settles", async () => {
    const world = newWorld();
    const attempt = rejection(world.run((ctx) => ctx.step("hang", () => never())));
    await until(() => world.store.count("beginStep") === 1);
    await seize(world);
    await pass(world, LEASE_MS / 3);
    expect(await attempt).toMatchObject({ code: "lease_lost" });
    expect(world.record()).toMatchObject({ status: "running", leaseHolderId: "thief", fence: 2 });
    expect(world.store.methods()).toEqual(["startOrResume", "beginStep"]);
  });

  test("and a task that looks at its signal can stop what it is doing", async () => {
    const world = newWorld();
    const stopped = Promise.withResolvers<unknown>();
    const attempt = rejection(
      world.run((ctx) =>
        ctx.step(
          "abortable",
          () =>
            new Promise((_, reject) => {
              ctx.signal.addEventListener("abort", () => {
                stopped.resolve(ctx.signal.reason);
                reject(ctx.signal.reason as Error);
              });
            }),
        ),
      ),
    );
    await until(() => world.store.count("beginStep") === 1);
    world.clock.advance(LEASE_MS);
    expect(await stopped.promise).toBe(await attempt);
  });

  test("when this process slept through it, though the task should end before the heartbeat can say so", async () => {
    const world = newWorld();
    const error = await rejection(
      world.run((ctx) =>
        ctx.step("slow", async () => {
          world.clock.advance(LEASE_MS);
          return "done";
        }),
      ),
    );
    expect(error).toMatchObject({ code: "lease_lost" });
    expect(world.store.methods()).toEqual(["startOrResume", "beginStep"]);
  });
});

describe("after a loss nothing more is written, and the run is not failed,", () => {
  async function expectUntouched(world: World, written: number): Promise<void> {
    await pass(world, LEASE_MS);
    expect(world.store.methods()).toHaveLength(written);
    expect(world.record()).toMatchObject({ status: "running", leaseHolderId: "thief", fence: 2 });
    expect(await world.step(0)).toMatchObject({ status: "running", attempts: 1 });
  }

  test.each(["returns", "throws"])("when fn then %s", async (how) => {
    const world = newWorld();
    const { attempt, finish, fail } = await inFlight(world);
    await seize(world);
    await pass(world, LEASE_MS / 3);
    expect(await rejection(attempt)).toMatchObject({ code: "lease_lost" });
    if (how === "returns") finish("late");
    else fail(new Error("late"));
    await expectUntouched(world, 2);
  });

  test("when the task goes on regardless", async () => {
    const world = newWorld();
    const refused: unknown[] = [];
    const gate = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<void>();
    const fn = counted(() => null);
    const attempt = rejection(
      world.run(async (ctx) => {
        const note = (error: unknown): unknown => refused.push(error);
        await ctx.step("slow", () => gate.promise).catch(note);
        await ctx.step("more", fn).catch(note);
        await ctx.emitEvent("more", 1).catch(note);
        await ctx.awaitEvent("more").catch(note);
        await ctx.now().catch(note);
        await ctx.uuid().catch(note);
        ended.resolve();
        throw new Error("and fails");
      }),
    );
    await until(() => world.store.count("beginStep") === 1);
    await seize(world);
    await pass(world, LEASE_MS / 3);
    const lost = await attempt;
    expect(lost).toMatchObject({ code: "lease_lost" });
    gate.resolve();
    await ended.promise;
    expect(refused).toEqual(Array(6).fill(lost));
    expect(fn.calls).toBe(0);
    await expectUntouched(world, 2);
  });

  test("when the store is what says so, at the completion", async () => {
    const world = newWorld();
    const fn = counted(async () => {
      await seize(world);
      return "paid";
    });
    const error = await rejection(world.run((ctx) => ctx.step("pay", fn).catch(() => "never mind")));
    expect(error).toMatchObject({ code: "lease_lost", cause: { code: "lease_lost" } });
    expect(world.store.methods()).toEqual(["startOrResume", "beginStep", "completeStep"]);
    await expectUntouched(world, 3);
  });

  test("when the store says so at the run's end", async () => {
    const world = newWorld();
    world.store.hooks.endRun = async (call) => {
      await seize(world);
      return call();
    };
    expect(await rejection(world.run((ctx) => ctx.step("x", async () => 1)))).toMatchObject({
      code: "lease_lost",
    });
    expect(world.store.count("endRun")).toBe(1);
    expect(world.record()).toMatchObject({ status: "running", leaseHolderId: "thief" });
  });

  test("when the task failed of its own while this process slept, and its error reaches the caller", async () => {
    const world = newWorld();
    const own = new DOMException("timed out", "AbortError");
    const task = async (): Promise<never> => {
      world.clock.advance(LEASE_MS);
      throw own;
    };
    expect(await rejection(world.run(task))).toBe(own);
    expect(world.store.methods()).toEqual(["startOrResume"]);
  });

  test("when a call was being repeated", async () => {
    const world = newWorld();
    world.store.hooks.completeStep = failing(Infinity, unavailable);
    world.store.hooks.renewLease = failing(Infinity, unavailable);
    const attempt = rejection(world.run((ctx) => ctx.step("x", async () => 1)));
    await until(() => world.store.count("completeStep") > 0);
    world.clock.advance(LEASE_MS);
    expect(await attempt).toMatchObject({ code: "lease_lost", cause: { code: "store_unavailable" } });
    const calls = world.store.calls.length;
    await pass(world, LEASE_MS);
    expect(world.store.calls).toHaveLength(calls);
    expect(world.store.count("failStep") + world.store.count("endRun")).toBe(0);
  });
});

describe("a renewal that is refused while the run is being ended", () => {
  test("is no loss, for ending it frees the lease", async () => {
    const world = newWorld();
    const gate = Promise.withResolvers<void>();
    world.store.hooks.endRun = async (call) => {
      const record = await call();
      await gate.promise;
      return record;
    };
    const signals: AbortSignal[] = [];
    const attempt = world.run(async (ctx) => {
      signals.push(ctx.signal);
      return "done";
    });
    await until(() => world.store.count("endRun") === 1);
    world.clock.advance(LEASE_MS / 3);
    await until(() => world.store.count("renewLease") === 1);
    await tick();
    gate.resolve();
    expect((await attempt).record.status).toBe("completed");
    expect(signals[0]?.aborted).toBe(false);
  });

  test("though it comes after the end has been answered", async () => {
    const world = newWorld();
    const late = Promise.withResolvers<{ ok: boolean }>();
    world.store.hooks.renewLease = () => late.promise;
    const { attempt, ctx, finish } = await inFlight(world);
    world.clock.advance(LEASE_MS / 3);
    await until(() => world.store.count("renewLease") === 1);
    finish("done");
    expect((await attempt).result).toBe("done");
    late.resolve({ ok: false });
    await tick();
    expect(ctx.signal.aborted).toBe(false);
  });
});

test("a lease that has ended with its run is not taken for lost when the context is used later", async () => {
  const world = newWorld();
  const kept: DurableContext[] = [];
  await world.run(async (ctx) => {
    kept.push(ctx);
  });
  world.clock.advance(LEASE_MS * 10);
  const [ctx] = kept as [DurableContext];
  const error = await rejection(ctx.step("late", async () => 1));
  expect(error.message).toMatch(/the task of run "run-1" has ended/);
  expect(ctx.signal.aborted).toBe(false);
});

describe("no timer is left behind by an attempt", () => {
  const own = new Error("own");
  test.each<[string, (world: World) => Promise<unknown>]>([
    ["that completes", (world) => world.run((ctx) => ctx.step("x", async () => 1))],
    ["that fails", (world) => rejection(world.run((ctx) => ctx.step("x", () => Promise.reject(own))))],
    [
      "that ends with a wait in flight",
      (world) =>
        world.run(async (ctx) => {
          void ctx.awaitEvent("never");
          await tick();
        }),
    ],
    [
      "that ends with a renewal in flight",
      async (world) => {
        world.store.inject("renewLease", hanging());
        const { attempt, finish } = await inFlight(world);
        await pass(world, LEASE_MS / 3);
        expect(world.store.count("renewLease")).toBe(1);
        finish("done");
        await attempt;
      },
    ],
    [
      "that loses its lease with a call in flight",
      async (world) => {
        world.store.inject("completeStep", hanging());
        world.store.inject("renewLease", hanging());
        const attempt = rejection(world.run((ctx) => ctx.step("x", async () => 1)));
        await pass(world, LEASE_MS);
        expect(await attempt).toMatchObject({ code: "lease_lost" });
      },
    ],
    [
      "that loses its lease while a call is repeated and a wait polls",
      async (world) => {
        world.store.inject("completeStep", failing(Infinity, unavailable));
        world.store.inject("renewLease", failing(Infinity, unavailable));
        const attempt = rejection(
          world.run((ctx) => Promise.all([ctx.step("x", async () => 1), ctx.awaitEvent("never")])),
        );
        await pass(world, LEASE_MS);
        expect(await attempt).toMatchObject({ code: "lease_lost" });
      },
    ],
  ])("%s", async (_how, live) => {
    const world = newWorld();
    await live(world);
    for (let i = 0; i < 3; i += 1) await tick();
    expect(world.clock.sleepers).toBe(0);
  });
});
