/** R26: a store that fails, stalls or loses its answers costs time, and neither a result nor a second call. */
import { describe, expect, test } from "vitest";
import type { DurableContext } from "../src/runner/types.ts";
import {
  counted,
  LEASE_MS,
  newWorld,
  plainError,
  rejection,
  tick,
  unavailable,
  until,
  whileTimeFlies,
} from "./support/world.ts";
import type { Method, WrappedStore } from "./support/wrapped-store.ts";
import { failing, hanging, losingAnswers } from "./support/wrapped-store.ts";

const KINDS = { "a plain error": plainError, store_unavailable: unavailable };
const STEP_CALLS: Method[] = ["startOrResume", "beginStep", "completeStep", "endRun"];

function requestIds(store: WrappedStore, method: Method): unknown[] {
  const ids = store.calls
    .filter((call) => call.method === method)
    .map((call) => (call.args[0] as { requestId?: string }).requestId);
  return [...new Set(ids)];
}

for (const [what, make] of Object.entries(KINDS)) {
  describe(`over a store that answers ${what} for a while`, () => {
    test.each(STEP_CALLS)("%s is repeated under one request id, and fn runs once", async (method) => {
      const world = newWorld();
      world.store.inject(method, failing(4, make));
      const fn = counted(() => "paid");
      const { result, record } = await whileTimeFlies(
        world.clock,
        world.run((ctx) => ctx.step("pay", fn)),
        100,
      );
      expect(result).toBe("paid");
      expect(record.status).toBe("completed");
      expect(fn.calls).toBe(1);
      expect(world.store.count(method)).toBe(5);
      expect(world.store.count("failStep")).toBe(0);
      expect(requestIds(world.store, method)).toHaveLength(1);
      expect(await world.step(0)).toMatchObject({ status: "completed", attempts: 1, result: "paid" });
    });
  });

  describe(`over a store that commits and then throws ${what}`, () => {
    test.each(STEP_CALLS)("%s has one effect", async (method) => {
      const world = newWorld();
      world.store.inject(method, losingAnswers(3, make));
      const fn = counted(() => "paid");
      const { result, record } = await whileTimeFlies(
        world.clock,
        world.run((ctx) => ctx.step("pay", fn)),
        100,
      );
      expect(result).toBe("paid");
      expect(fn.calls).toBe(1);
      expect(await world.step(0)).toMatchObject({ status: "completed", attempts: 1 });
      expect(record).toMatchObject({ status: "completed", fence: 1, takeovers: 0, stepCount: 1 });
    });

    test("a caught failure is recorded once", async () => {
      const world = newWorld();
      world.store.hooks.failStep = losingAnswers(2, make);
      const fn = counted(() => Promise.reject(new Error("no")));
      const { result, steps } = await whileTimeFlies(
        world.clock,
        world.run((ctx) => ctx.step("risky", fn).catch((error: Error) => error.message)),
      );
      expect(result).toBe("no");
      expect(steps).toMatchObject([{ status: "failed", attempts: 1, error: { message: "no" } }]);
    });

    test("an event is accepted once, and says so", async () => {
      const world = newWorld();
      world.store.hooks.emitEvent = losingAnswers(2, make);
      const { result } = await whileTimeFlies(
        world.clock,
        world.run((ctx) => ctx.emitEvent("k", { n: 1 })),
      );
      expect(result).toEqual({ accepted: true });
    });

    test("a wait goes on asking", async () => {
      const world = newWorld();
      await world.memory.emitEvent({ runId: "run-1", key: "k", payload: "here" });
      world.store.hooks.loadEvent = losingAnswers(2, make);
      expect(
        (
          await whileTimeFlies(
            world.clock,
            world.run((ctx) => ctx.awaitEvent("k")),
          )
        ).result,
      ).toBe("here");
    });
  });
}

test("a result is offered for as long as the lease lasts, through an outage of many minutes", async () => {
  const world = newWorld();
  const back = world.clock.now() + 600_000;
  world.store.hooks.completeStep = async (pass) => {
    if (world.clock.now() < back) throw unavailable();
    return pass();
  };
  const fn = counted(() => "paid");
  const { result } = await whileTimeFlies(
    world.clock,
    world.run((ctx) => ctx.step("pay", fn)),
    2_000,
  );
  expect(result).toBe("paid");
  expect(fn.calls).toBe(1);
  expect(world.record().takeovers).toBe(0);
});

test("a store that keeps throwing what may be a defect is given up after a lease, with that as the cause", async () => {
  const world = newWorld();
  const defect = new TypeError("cannot read properties of undefined");
  world.store.hooks.completeStep = failing(Infinity, () => defect);
  const error = await rejection(
    whileTimeFlies(
      world.clock,
      world.run((ctx) => ctx.step("pay", async () => "paid")),
    ),
  );
  expect(error).toMatchObject({ name: "DurableRunLeaseLostError", code: "lease_lost", cause: defect });
  expect(world.store.count("failStep") + world.store.count("endRun")).toBe(0);
  expect(await world.step(0)).toMatchObject({ status: "running" });
});

describe("a call that is never answered", () => {
  test.each<Method>(["beginStep", "completeStep", "endRun"])("is made again: %s", async (method) => {
    const world = newWorld();
    world.store.inject(method, hanging(1));
    const fn = counted(() => "paid");
    const { result } = await whileTimeFlies(
      world.clock,
      world.run((ctx) => ctx.step("pay", fn)),
      5_000,
    );
    expect(result).toBe("paid");
    expect(fn.calls).toBe(1);
    expect(requestIds(world.store, method)).toHaveLength(1);
  });

  test("ends the attempt when it is the claim, after the time of a lease", async () => {
    const world = newWorld();
    world.store.hooks.startOrResume = hanging();
    const task = counted(() => null);
    const error = await rejection(whileTimeFlies(world.clock, world.run(task)));
    expect(error).toMatchObject({ code: "store_unavailable" });
    expect(task.calls).toBe(0);
  });
});

describe("a claim", () => {
  test("that keeps failing for a lease's time rejects with what the store said", async () => {
    const world = newWorld();
    const said = unavailable();
    world.store.hooks.startOrResume = failing(Infinity, () => said);
    expect(
      await rejection(
        whileTimeFlies(
          world.clock,
          world.run(async () => null),
        ),
      ),
    ).toBe(said);
  });

  test("that fails with what may be a defect is soon given up", async () => {
    const world = newWorld();
    const said = new Error("no such table: durable_runs");
    world.store.hooks.startOrResume = failing(Infinity, () => said);
    expect(
      await rejection(
        whileTimeFlies(
          world.clock,
          world.run(async () => null),
          100,
        ),
      ),
    ).toBe(said);
    expect(world.store.count("startOrResume")).toBe(5);
  });

  test("that is refused is not repeated", async () => {
    const world = newWorld();
    const refusal = Object.assign(new Error("cancelled"), { code: "run_cancelled" });
    world.store.hooks.startOrResume = failing(Infinity, () => refusal);
    expect(await rejection(world.run(async () => null))).toBe(refusal);
    expect(world.store.count("startOrResume")).toBe(1);
  });

  test("that took most of a lease is renewed at once, not lost", async () => {
    const world = newWorld();
    world.store.hooks.startOrResume = async (pass) => {
      const claimed = await pass();
      world.clock.advance(LEASE_MS * 0.8);
      return claimed;
    };
    const gate = Promise.withResolvers<void>();
    const attempt = world.run((ctx) => ctx.step("slow", () => gate.promise));
    await until(() => world.store.count("renewLease") === 1);
    world.clock.advance(LEASE_MS * 0.8);
    await tick();
    gate.resolve();
    expect((await attempt).record.status).toBe("completed");
  });

  test("whose answer took longer than the lease is lost before the task is called", async () => {
    const world = newWorld();
    world.store.hooks.startOrResume = async (pass) => {
      const claimed = await pass();
      world.clock.advance(LEASE_MS - 1);
      return claimed;
    };
    const task = counted(() => null);
    expect(await rejection(world.run(task))).toMatchObject({ code: "lease_lost" });
    expect(task.calls).toBe(0);
    expect(world.store.methods()).toEqual(["startOrResume"]);
  });

  test("whose answer cannot be used leaves no heartbeat behind", async () => {
    const world = newWorld();
    world.store.hooks.startOrResume = async (pass) => ({
      ...(await pass()),
      completedSteps: undefined as unknown as [],
    });
    expect(await rejection(world.run(async () => null))).toBeInstanceOf(TypeError);
    world.clock.advance(LEASE_MS / 2);
    await tick();
    expect(world.store.count("renewLease")).toBe(0);
  });
});

test("a step that another attempt completed meanwhile answers what stands on record, as a replay will", async () => {
  const world = newWorld();
  const seen: string[] = [];
  // A plain store cannot tell the two attempts apart: what it was given first stands.
  world.store.hooks.completeStep = async (pass, { fence: _, ...plain }) => {
    await world.memory.completeStep({ ...plain, requestId: "other", result: "theirs" });
    return pass();
  };
  const task = async (ctx: DurableContext) => void seen.push(await ctx.step("pay", async () => "ours"));
  await world.run(task);
  expect(seen).toEqual(["theirs"]);
  expect((await world.step(0))?.result).toBe("theirs");
});
