/** R33: waits over a store that can tell of an event: in slices of held calls, up to a deadline that is the record's. */
import { describe, expect, test } from "vitest";
import type { WaitForEventInput } from "../src/contract/types.ts";
import type { AwaitEventOptions, DurableContext } from "../src/runner/types.ts";
import { inFrontOf } from "../src/testing/in-front-of.ts";
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
import { failing, hanging, losingAnswers } from "./support/wrapped-store.ts";

const pushing = () => newWorld({ pushes: true });
const emit = (world: World, payload: unknown, key = "k") =>
  world.memory.emitEvent({ runId: RUN_ID, key, payload });
const waiting = (opts?: AwaitEventOptions) => (ctx: DurableContext) => ctx.awaitEvent("k", opts);
const held = (world: World, times = 1) => until(() => world.store.count("waitForEvent") === times);

describe("an event reaches its wait", () => {
  test("at once, while the call is held", async () => {
    const world = pushing();
    const from = world.clock.now();
    const attempt = world.run(waiting());
    await held(world);
    await emit(world, { by: "ann" });
    expect((await attempt).result).toEqual({ by: "ann" });
    expect(world.clock.now()).toBe(from);
    expect(world.store.methods()).toEqual(["startOrResume", "beginStep", "waitForEvent", "endRun"]);
  });

  test("when it was emitted before the run existed, and before the wait: the first of them", async () => {
    const world = pushing();
    await emit(world, "first");
    const { result } = await world.run(async (ctx) => {
      expect(await ctx.emitEvent("k", "second")).toEqual({ accepted: false });
      return ctx.awaitEvent("k");
    });
    expect(result).toBe("first");
  });

  test("with the first of two that come while the call is held", async () => {
    const world = pushing();
    const attempt = world.run(waiting());
    await held(world);
    const emitted = await Promise.all([emit(world, "first"), emit(world, "second")]);
    expect(emitted.map(({ accepted }) => accepted)).toEqual([true, false]);
    expect((await attempt).result).toBe("first");
  });

  test("after many slices, none of which is longer than thirty seconds", async () => {
    const world = pushing();
    const attempt = world.run(waiting(), { leaseMs: 86_400_000 });
    for (let slices = 1; slices < 6; slices += 1) {
      await held(world, slices);
      world.clock.advance(30_000);
    }
    await held(world, 6);
    await emit(world, "late");
    expect((await attempt).result).toBe("late");
    for (const call of world.store.calls.filter(({ method }) => method === "waitForEvent"))
      expect(call.args).toMatchObject([{ runId: RUN_ID, key: "k", timeoutMs: 30_000 }]);
  });

  test("when it comes in the moment between two slices", async () => {
    const world = pushing();
    world.store.hooks.waitForEvent = async (pass) => {
      const event = await pass();
      if (!event) await emit(world, "between");
      return event;
    };
    const attempt = world.run(waiting(), { leaseMs: 86_400_000 });
    await held(world);
    world.clock.advance(30_000);
    expect((await attempt).result).toBe("between");
    expect(world.store.count("waitForEvent")).toBe(2);
  });

  test("when it comes at the instant of the deadline, before the last look", async () => {
    const world = pushing();
    world.store.hooks.loadEvent = async (pass) => {
      await emit(world, "just in time");
      return pass();
    };
    const attempt = world.run(waiting({ timeoutMs: 10_000 }));
    await held(world);
    world.clock.advance(10_000);
    expect((await attempt).result).toBe("just in time");
  });

  test("at each of several waits, and not at that of another key", async () => {
    const world = pushing();
    const attempt = world.run(async (ctx) => [
      ...(await Promise.all([ctx.awaitEvent("k"), ctx.awaitEvent("k")])),
      await ctx.awaitEvent("other").catch(() => "none"),
    ]);
    await held(world, 2);
    await emit(world, 1);
    await held(world, 3);
    await emit(world, 2, "another");
    await tick();
    expect(world.record().waitingFor).toMatchObject([{ stepIndex: 2, for: "event", key: "other" }]);
    await emit(world, 3, "other");
    expect((await attempt).result).toEqual([1, 1, 3]);
  });

  test("when it was emitted while nobody worked on the run", async () => {
    const world = pushing();
    await crash(world, waiting(), () => world.store.count("waitForEvent") === 1);
    await emit(world, "meanwhile");
    expect((await world.run(waiting())).result).toBe("meanwhile");
  });
});

describe("the deadline of a wait", () => {
  test("is on record, is kept to, and is the record's whoever resumes it", async () => {
    const world = pushing();
    const from = world.clock.now();
    const until = new Date(from + 50_000).toISOString();
    const task = waiting({ timeoutMs: 50_000 });
    const attempt = rejection(world.run(task));
    await held(world);
    expect(world.record()).toMatchObject({ waitingFor: [{ stepIndex: 0, for: "event", key: "k", until }] });
    world.clock.advance(LEASE_MS);
    expect(await attempt).toMatchObject({ code: "lease_lost" });
    const again = rejection(world.run(waiting({ timeoutMs: 3_600_000 })));
    const error = await whileTimeFlies(world.clock, again, 2_500);
    expect(error).toMatchObject({ code: "await_event_timeout" });
    expect(error.message).toContain(`by ${until}`);
    expect(world.clock.now() - from).toBeLessThanOrEqual(52_500);
    expect(world.store.calls.at(-3)).toMatchObject({ method: "loadEvent" });
  });

  test("of 0 ms is one look, and no held call", async () => {
    const world = pushing();
    expect(await rejection(world.run(waiting({ timeoutMs: 0 })))).toMatchObject({
      code: "await_event_timeout",
    });
    expect(world.store.count("waitForEvent")).toBe(0);
    expect(world.store.count("loadEvent")).toBe(1);
  });

  test("ends a wait whose store holds the call for longer", async () => {
    const world = pushing();
    world.store.inject("waitForEvent", hanging());
    const attempt = rejection(world.run(waiting({ timeoutMs: 70_000 })));
    expect(await whileTimeFlies(world.clock, attempt)).toMatchObject({ code: "await_event_timeout" });
    expect(world.store.count("waitForEvent")).toBe(3);
  });
});

describe("a store that fails while it is to tell of an event", () => {
  test.each([
    ["before it was asked", () => failing(5, plainError)],
    ["after it had answered", () => losingAnswers(5, unavailable)],
  ])("%s is asked again, and what was emitted is found", async (_when, fault) => {
    const world = pushing();
    world.store.inject("waitForEvent", fault());
    const attempt = world.run(waiting());
    await held(world);
    await emit(world, "here");
    expect((await whileTimeFlies(world.clock, attempt, 100)).result).toBe("here");
    expect(world.store.count("waitForEvent")).toBe(6);
  });

  test("for many slices is asked by one of them at a time", async () => {
    const world = pushing();
    world.store.inject("waitForEvent", failing(Infinity, unavailable));
    const attempt = world.run(waiting());
    const callsIn = async (seconds: number) => {
      const before = world.store.count("waitForEvent");
      for (let i = 0; i < seconds; i += 1) {
        world.clock.advance(1_000);
        await tick();
      }
      return world.store.count("waitForEvent") - before;
    };
    await callsIn(600);
    // One call a second at most, and one more for each slice that begins.
    expect(await callsIn(60)).toBeLessThanOrEqual(63);
    world.store.hooks.waitForEvent = (pass) => pass();
    await emit(world, "at last");
    expect((await whileTimeFlies(world.clock, attempt)).result).toBe("at last");
  });

  test("by never answering is asked again with the next slice", async () => {
    const world = pushing();
    world.store.inject("waitForEvent", hanging(2));
    const attempt = world.run(waiting());
    await held(world);
    await emit(world, "unheard");
    expect((await whileTimeFlies(world.clock, attempt)).result).toBe("unheard");
    expect(world.store.count("waitForEvent")).toBe(3);
  });

  test("by answering at once that there is nothing is asked every pollMs", async () => {
    const world = pushing();
    world.store.hooks.waitForEvent = async () => undefined;
    const attempt = world.run(waiting({ pollMs: 5_000 }));
    for (let polls = 1; polls < 5; polls += 1) {
      await held(world, polls);
      for (let i = 0; i < 5; i += 1) await tick();
      expect(world.store.count("waitForEvent")).toBe(polls);
      world.clock.advance(5_000);
    }
    world.store.hooks.waitForEvent = (pass) => pass();
    await emit(world, "here");
    expect((await whileTimeFlies(world.clock, attempt)).result).toBe("here");
  });
});

describe("a held call is given up", () => {
  test("when the caller's signal aborts, and the wait goes on at the next run", async () => {
    const world = pushing();
    const caller = new AbortController();
    const enough = new Error("enough");
    const attempt = rejection(world.run(waiting(), { signal: caller.signal }));
    await held(world);
    caller.abort(enough);
    expect(await attempt).toBe(enough);
    await emit(world, "here");
    expect((await world.run(waiting())).result).toBe("here");
  });

  test("when the lease is lost, and nothing is recorded, though the event comes then", async () => {
    const world = pushing();
    const attempt = rejection(world.run(waiting()));
    await held(world);
    await seize(world);
    await whileTimeFlies(world.clock, attempt);
    expect(await attempt).toMatchObject({ code: "lease_lost" });
    await emit(world, "too late");
    await tick();
    expect(await world.step(0)).toMatchObject({ status: "running", attempts: 1 });
  });

  test.each<[string, (world: World) => void]>([
    ["held by the store", () => {}],
    ["never answered", (world) => world.store.inject("waitForEvent", hanging())],
    ["repeated", (world) => world.store.inject("waitForEvent", failing(Infinity, unavailable))],
    [
      "refused when it is given up",
      (world) =>
        (world.store.hooks.waitForEvent = (_pass, { signal }) =>
          new Promise((_resolve, reject) => {
            signal?.addEventListener("abort", () => reject(signal.reason as Error));
          })),
    ],
  ])(
    "when the task ends without it, and neither timer nor call is left behind: one that is %s",
    async (_how, fault) => {
      const world = pushing();
      fault(world);
      const { result } = await world.run(async (ctx) => {
        const first = await Promise.race([ctx.awaitEvent("k"), ctx.step("quick", async () => "quick")]);
        await held(world);
        return first;
      });
      expect(result).toBe("quick");
      world.clock.advance(1_000);
      for (let i = 0; i < 3; i += 1) await tick();
      expect(world.clock.sleepers).toBe(0);
      expect(world.store.count("waitForEvent")).toBe(1);
    },
  );
});

describe("a step that ends with its event", () => {
  const whole = ["startOrResume", "beginStep", "waitForEvent"];

  test("says that the run is held, so that the next begin need not ask", async () => {
    const world = pushing();
    const calls: string[] = [];
    const store = inFrontOf(world.memory, (method, _args, call) => {
      calls.push(method);
      return call();
    });
    const task = async (ctx: DurableContext) => [
      await ctx.awaitEvent("k"),
      await ctx.step("s", async () => 2),
    ];
    const attempt = world.run(task, { store });
    await until(() => calls.includes("waitForEvent"));
    world.clock.advance(5_000);
    await emit(world, 1);
    expect((await attempt).result).toEqual([1, 2]);
    expect(calls.filter((method) => method !== "watchLease")).toEqual([...whole, "completeStep", "endRun"]);
  });

  test("is completed by the runner, where the store has left that to it", async () => {
    const world = pushing();
    world.store.hooks.waitForEvent = async (_pass, { runId, key }) => world.memory.loadEvent(runId, key);
    await emit(world, { by: "ann" });
    expect((await world.run(waiting())).result).toEqual({ by: "ann" });
    expect(world.store.methods()).toEqual([...whole, "completeStep", "endRun"]);
    expect(await world.step(0)).toMatchObject({ status: "completed", result: { by: "ann" } });
  });

  test("is what the store says that it is", async () => {
    const world = pushing();
    world.store.hooks.waitForEvent = async (pass, { runId, step }) => {
      await world.memory.completeStep({ runId, stepIndex: 0, ...step, result: "what stands" });
      return pass();
    };
    await emit(world, "the event");
    const { result, steps } = await world.run(waiting());
    expect(result).toBe("what stands");
    expect(steps).toMatchObject([{ status: "completed", result: "what stands" }]);
  });

  test("is asked for under one request id, however often", async () => {
    const world = pushing();
    world.store.inject("waitForEvent", losingAnswers(3, unavailable));
    await emit(world, "here");
    expect((await whileTimeFlies(world.clock, world.run(waiting()), 100)).result).toBe("here");
    const ids = world.store.calls.flatMap(({ method, args }) =>
      method === "waitForEvent" ? [(args[0] as WaitForEventInput).step?.requestId] : [],
    );
    expect(ids).toHaveLength(4);
    expect(new Set(ids).size).toBe(1);
  });

  test("stands, though its time was over before the worker heard of it", async () => {
    const world = pushing();
    world.store.hooks.failStep = async (pass, { runId, stepIndex, fence = 0 }) => {
      await world.memory.completeStep({ runId, stepIndex, fence, result: "at the last instant" });
      return pass();
    };
    const last = counted((call) => (call === 1 ? never() : null));
    const task = async (ctx: DurableContext) => {
      const value = await ctx.awaitEvent("k", { timeoutMs: 10_000 });
      await ctx.step("last", last);
      return value;
    };
    const first = world.run(task);
    first.catch(() => {});
    await held(world);
    world.clock.advance(10_000);
    await until(() => last.calls === 1);
    await seize(world);
    await whileTimeFlies(world.clock, rejection(first));
    expect((await world.run(task, { workerId: "thief" })).result).toBe("at the last instant");
  });

  test("does not, where its failure was recorded first", async () => {
    const world = pushing();
    const attempt = rejection(world.run(waiting({ timeoutMs: 10_000 })));
    await held(world);
    world.clock.advance(10_000);
    expect(await attempt).toMatchObject({ code: "await_event_timeout" });
    await emit(world, "too late");
    expect(await world.step(0)).toMatchObject({ status: "failed" });
  });

  test("in a branch that is outdone is not waited for, and another wait has the event", async () => {
    const world = pushing();
    const { result } = await world.run(async (ctx) => {
      const first = await ctx.race({
        event: (branch) => branch.awaitEvent("k"),
        step: (branch) => branch.step("s", async () => "s"),
      });
      await emit(world, "later");
      return [first, await ctx.awaitEvent("k")];
    });
    expect(result).toEqual(["s", "later"]);
  });
});

test("a wait that was answered replays without asking for the event", async () => {
  const world = pushing();
  await emit(world, "once");
  const last = counted((call) => (call === 1 ? never() : null));
  const task = async (ctx: DurableContext) => {
    const value = await ctx.awaitEvent("k");
    await ctx.step("last", last);
    return value;
  };
  await crash(world, task, () => last.calls === 1);
  expect((await world.run(task)).result).toBe("once");
  expect(world.store.count("waitForEvent")).toBe(1);
});
