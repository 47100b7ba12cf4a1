/**
 * Defects that engines of this shape are known to have had, and that this one must not have: those of the runner. A test
 * each, named for the defect's absence. Those of the stores are in workers/ and node/known-defects-stores.test.ts.
 */
import { describe, expect, it } from "vitest";
import {
  counted,
  crash,
  lapse,
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
import { failing, hanging, losingAnswers } from "./support/wrapped-store.ts";

describe("the heartbeat", () => {
  it("has no floor under which a short lease would lapse", async () => {
    const world = newWorld();
    let done = (): void => {};
    const work = new Promise<void>((resolve) => (done = resolve));
    const attempt = world.run((ctx) => ctx.step("long", () => work), { leaseMs: 30 });
    await until(() => world.store.count("beginStep") === 1);
    for (let elapsed = 0; elapsed < 300; elapsed += 5) {
      world.clock.advance(5);
      await tick();
    }
    done();
    await expect(attempt).resolves.toMatchObject({ record: { status: "completed", takeovers: 0 } });
    expect(world.store.count("renewLease")).toBeGreaterThanOrEqual(25);
  });

  it("does not take one failed renewal for a lost lease", async () => {
    const world = newWorld();
    world.store.inject("renewLease", failing(1, plainError));
    let done = (): void => {};
    const work = new Promise<void>((resolve) => (done = resolve));
    const attempt = world.run((ctx) => ctx.step("long", () => work));
    await until(() => world.store.count("beginStep") === 1);
    for (let elapsed = 0; elapsed < 60_000; elapsed += 1_000) {
      world.clock.advance(1_000);
      await tick();
    }
    done();
    await expect(attempt).resolves.toMatchObject({ record: { status: "completed" } });
  });

  it("notices a renewal that hangs, at the deadline", async () => {
    const world = newWorld();
    world.store.inject("renewLease", hanging());
    const attempt = world.run((ctx) => ctx.step("long", () => never()));
    await expect(whileTimeFlies(world.clock, attempt)).rejects.toMatchObject({ code: "lease_lost" });
  });

  it("brings the loss of a lease to the step in flight, not only to the next", async () => {
    const world = newWorld();
    let heard: unknown;
    const attempt = world.run((ctx) =>
      ctx.step("long", () => {
        ctx.signal.addEventListener("abort", () => (heard = ctx.signal.reason));
        return never();
      }),
    );
    await until(() => world.store.count("beginStep") === 1);
    await seize(world);
    await expect(whileTimeFlies(world.clock, attempt)).rejects.toMatchObject({ code: "lease_lost" });
    expect(heard).toMatchObject({ code: "lease_lost" });
  });
});

describe("failures", () => {
  it("a storage error after fn succeeded is not recorded as the step's failure, and the work does not run again", async () => {
    for (const trouble of [failing(5, unavailable), failing(5, plainError), losingAnswers(5, unavailable)]) {
      const world = newWorld();
      world.store.inject("completeStep", trouble);
      const work = counted(() => "paid for");
      const attempt = world.run((ctx) => ctx.step("pay", work));
      await expect(whileTimeFlies(world.clock, attempt, 500)).resolves.toMatchObject({ result: "paid for" });
      expect(work.calls).toBe(1);
      expect(world.store.count("failStep")).toBe(0);
      expect(await world.step(0)).toMatchObject({ status: "completed", attempts: 1 });
    }
  });

  it("a failStep or endRun that fails does not mask the user's error", async () => {
    for (const method of ["failStep", "endRun"] as const) {
      const world = newWorld();
      world.store.inject(method, failing(Infinity, unavailable));
      const mine = new RangeError("mine");
      const attempt = world.run((ctx) => ctx.step("break", () => Promise.reject(mine)));
      expect(await rejection(whileTimeFlies(world.clock, attempt))).toBe(mine);
    }
  });

  it("an attempt that lost its lease does not end the run", async () => {
    const world = newWorld();
    const attempt = world.run((ctx) => ctx.step("long", () => never()));
    await until(() => world.store.count("beginStep") === 1);
    await lapse(world, attempt);
    expect(world.store.count("endRun")).toBe(0);
    expect(world.record().status).toBe("running");
  });
});

describe("replay", () => {
  it("compares input fingerprints, rather than only storing them", async () => {
    const world = newWorld();
    const task = (page: number) => (fail: boolean) =>
      world.run(async (ctx) => {
        await ctx.step("fetch", async () => page, { inputFingerprint: { page } });
        if (fail) throw new Error("stop here");
      });
    await rejection(task(1)(true));
    expect(await rejection(task(2)(false))).toMatchObject({ code: "step_input_mismatch" });
    await expect(task(1)(false)).resolves.toMatchObject({ record: { status: "completed" } });
  });

  it("does not flip a failure that the task had caught", async () => {
    const world = newWorld();
    const flaky = counted((call) =>
      call === 1 ? Promise.reject(new TypeError("first time")) : "second time",
    );
    let reached = false;
    const task =
      (last: () => Promise<unknown>) => async (ctx: Parameters<Parameters<typeof world.run>[0]>[0]) => {
        const seen = await ctx
          .step("flaky", flaky)
          .catch((error: Error) => `${error.name}: ${error.message}`);
        await ctx.step("after", async () => null);
        await ctx.step("last", last);
        return seen;
      };
    await crash(
      world,
      task(() => ((reached = true), never())),
      () => reached,
    );
    const { result } = await world.run(task(async () => null));
    expect(result).toBe("TypeError: first time");
    expect(flaky.calls).toBe(1);
  });

  it("does not flip a timed-out wait that the task had caught, though the event has come since", async () => {
    const world = newWorld();
    let reached = false;
    const task =
      (last: () => Promise<unknown>) => async (ctx: Parameters<Parameters<typeof world.run>[0]>[0]) => {
        const seen = await ctx
          .awaitEvent("approve", { timeoutMs: 5_000 })
          .catch((error: { code: string }) => error.code);
        await ctx.step("after", async () => null);
        await ctx.step("last", last);
        return seen;
      };
    const first = world.run(task(() => ((reached = true), never())));
    first.catch(() => {});
    await whileTimeFlies(
      world.clock,
      until(() => reached),
    );
    await lapse(world, first);
    await world.memory.emitEvent({ runId: RUN_ID, key: "approve", payload: "too late" });
    const { result } = await world.run(task(async () => null));
    expect(result).toBe("await_event_timeout");
  });

  it("does not restart the deadline of a wait at each resume", async () => {
    const world = newWorld();
    const wait = (timeoutMs = 60_000) => world.run((ctx) => ctx.awaitEvent("never", { timeoutMs }));
    const first = wait();
    first.catch(() => {});
    await until(() => world.store.count("beginStep") === 1);
    const { deadlineAt } = (await world.step(0)) ?? {};
    await lapse(world, first);
    const resumedAt = world.clock.now();
    expect(await rejection(whileTimeFlies(world.clock, wait()))).toMatchObject({
      code: "await_event_timeout",
    });
    expect((await world.step(0))?.deadlineAt).toBe(deadlineAt);
    expect(world.clock.now() - resumedAt).toBeLessThan(60_000);
  });

  it("answers undefined on the first run and on replay, not null", async () => {
    const world = newWorld();
    let reached = false;
    const seen: unknown[] = [];
    const task =
      (last: () => Promise<unknown>) => async (ctx: Parameters<Parameters<typeof world.run>[0]>[0]) => {
        seen.push(await ctx.step("notify", async () => undefined));
        await ctx.step("last", last);
      };
    await crash(
      world,
      task(() => ((reached = true), never())),
      () => reached,
    );
    await world.run(task(async () => null));
    expect(seen).toEqual([undefined, undefined]);
  });
});
