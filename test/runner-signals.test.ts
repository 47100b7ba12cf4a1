/** The caller's signal, steps in flight beside one that ends the task, and what is left once all is over. */
import { describe, expect, test } from "vitest";
import type { DurableContext } from "../src/runner/types.ts";
import {
  counted,
  crash,
  LEASE_MS,
  never,
  newWorld,
  rejection,
  RUN_ID,
  seize,
  tick,
  until,
  whileTimeFlies,
} from "./support/world.ts";

describe("the caller's signal", () => {
  test("that is aborted already: nothing is claimed", async () => {
    const world = newWorld();
    const task = counted(() => null);
    const reason = new Error("not today");
    expect(await rejection(world.run(task, { signal: AbortSignal.abort(reason) }))).toBe(reason);
    expect(task.calls).toBe(0);
    expect(world.store.calls).toEqual([]);
  });

  test("aborted midway: what is in flight is recorded, the next step is refused with the reason", async () => {
    const world = newWorld();
    const caller = new AbortController();
    const reason = new Error("enough");
    const next = counted(() => "next");
    const flight = counted(async () => {
      caller.abort(reason);
      await tick();
      return "landed";
    });
    const task = async (ctx: DurableContext) => [
      await ctx.step("flight", flight),
      await ctx.step("next", next),
    ];
    expect(await rejection(world.run(task, { signal: caller.signal }))).toBe(reason);
    expect(next.calls).toBe(0);
    expect(await world.step(0)).toMatchObject({ status: "completed", result: "landed" });
    expect(world.record()).toMatchObject({ status: "failed", error: { message: "enough" } });

    expect((await world.run(task)).result).toEqual(["landed", "next"]);
    expect(flight.calls).toBe(1);
  });

  test("aborts the context's, so that a function can stop; its failure is recorded, and runs again", async () => {
    const world = newWorld();
    const caller = new AbortController();
    const fn = counted((call) => (call > 1 ? "done" : undefined));
    const task = (ctx: DurableContext) =>
      ctx.step("abortable", async () => {
        const answer = await fn();
        if (answer) return answer;
        caller.abort();
        ctx.signal.throwIfAborted();
        return "unreachable";
      });
    const error = await rejection(world.run(task, { signal: caller.signal }));
    expect(error.name).toBe("AbortError");
    expect(error).toBe(caller.signal.reason);
    expect(await world.step(0)).toMatchObject({ status: "failed", error: { name: "AbortError" } });
    expect((await world.run(task)).result).toBe("done");
  });

  test("ends a wait, whose deadline stands", async () => {
    const world = newWorld();
    const caller = new AbortController();
    const task = (ctx: DurableContext) => ctx.awaitEvent("k", { timeoutMs: 60_000 });
    const attempt = rejection(world.run(task, { signal: caller.signal }));
    await until(() => world.store.count("loadEvent") === 1);
    const deadline = (await world.step(0))?.deadlineAt;
    caller.abort(new Error("enough"));
    expect((await attempt).message).toBe("enough");
    world.clock.advance(30_000);
    await world.memory.emitEvent({ runId: RUN_ID, key: "k", payload: 1 });
    expect((await world.run(task)).result).toBe(1);
    expect((await world.step(0))?.deadlineAt).toBe(deadline);
  });

  test("aborted while the store cannot be claimed from: the claim is given up", async () => {
    const world = newWorld();
    const caller = new AbortController();
    world.store.hooks.startOrResume = () => {
      queueMicrotask(() => caller.abort(new Error("enough")));
      return Promise.reject(new Error("down"));
    };
    expect((await rejection(world.run(async () => null, { signal: caller.signal }))).message).toBe("enough");
  });

  test("aborted after the run has ended changes nothing", async () => {
    const world = newWorld();
    const caller = new AbortController();
    await world.run(async (ctx) => ctx.step("x", async () => 1), { signal: caller.signal });
    caller.abort();
    await tick();
    expect(world.record().status).toBe("completed");
  });
});

describe("when a step ends the task, its siblings in flight", () => {
  test("are recorded before the run ends", async () => {
    const world = newWorld();
    const gate = Promise.withResolvers<void>();
    const slow = counted(async () => (await gate.promise, "slow"));
    const task = (ctx: DurableContext) =>
      Promise.all([ctx.step("slow", slow), ctx.step("bad", () => Promise.reject(new Error("bad")))]);
    const attempt = rejection(world.run(task));
    await until(() => world.store.count("failStep") === 1);
    await tick();
    expect(world.record().status).toBe("running");
    gate.resolve();
    expect((await attempt).message).toBe("bad");
    expect(world.store.methods().slice(-2)).toEqual(["completeStep", "endRun"]);
    expect(await world.step(0)).toMatchObject({ status: "completed", result: "slow" });

    await rejection(world.run(task));
    expect(slow.calls).toBe(1);
  });

  test("are recorded also when they fail, and when the task succeeds without them", async () => {
    const world = newWorld();
    const gate = Promise.withResolvers<void>();
    const attempt = world.run(async (ctx) => {
      void ctx.step("good", async () => (await gate.promise, "good"));
      void ctx.step("bad", async () => (await gate.promise, Promise.reject(new Error("bad"))));
      void ctx.emitEvent("k", 1);
      return ctx.step("quick", async () => "quick");
    });
    await until(() => world.store.count("completeStep") === 1);
    gate.resolve();
    const { result, steps, record } = await attempt;
    expect(result).toBe("quick");
    expect(steps.map((step) => step.status)).toEqual(["completed", "failed", "completed"]);
    expect(record.status).toBe("completed");
    expect(world.store.methods().at(-1)).toBe("endRun");
    expect(await world.memory.loadEvent(RUN_ID, "k")).toMatchObject({ payload: 1 });
  });

  test("are ended when they wait for an event, and wait again at the next attempt", async () => {
    const world = newWorld();
    const bad = counted((call) => (call === 1 ? Promise.reject(new Error("bad")) : "good"));
    const task = (ctx: DurableContext) => Promise.all([ctx.awaitEvent("k"), ctx.step("bad", bad)]);
    expect((await rejection(world.run(task))).message).toBe("bad");
    expect(await world.step(0)).toMatchObject({ status: "running", kind: "event" });
    await world.memory.emitEvent({ runId: RUN_ID, key: "k", payload: "here" });
    expect((await world.run(task)).result).toEqual(["here", "good"]);
  });

  test("may start nothing new", async () => {
    const world = newWorld();
    const gate = Promise.withResolvers<void>();
    const late = counted(() => "late");
    const refused = Promise.withResolvers<unknown>();
    const attempt = rejection(
      world.run((ctx) =>
        Promise.all([
          ctx
            .step("slow", () => gate.promise)
            .then(() => ctx.step("late", late))
            .catch(refused.resolve),
          ctx.step("bad", () => Promise.reject(new Error("bad"))),
        ]),
      ),
    );
    await until(() => world.store.count("failStep") === 1);
    await tick();
    gate.resolve();
    expect((await attempt).message).toBe("bad");
    expect(await refused.promise).toMatchObject({ message: expect.stringContaining("has ended") as string });
    expect(late.calls).toBe(0);
    expect(world.record().stepCount).toBe(2);
  });
});

describe("a context that is used after its task has ended", () => {
  test.each<[string, (ctx: DurableContext) => Promise<unknown>]>([
    ["step", (ctx) => ctx.step("late", async () => 1)],
    ["awaitEvent", (ctx) => ctx.awaitEvent("late")],
    ["emitEvent", (ctx) => ctx.emitEvent("late", 1)],
    ["now", (ctx) => ctx.now()],
    ["uuid", (ctx) => ctx.uuid()],
  ])("refuses %s, and touches nothing", async (_what, use) => {
    const world = newWorld();
    const kept: DurableContext[] = [];
    await world.run(async (ctx) => {
      kept.push(ctx);
    });
    const calls = world.store.calls.length;
    expect((await rejection(use(kept[0] as DurableContext))).message).toMatch(/has ended/);
    expect(world.store.calls).toHaveLength(calls);
  });
});

// Vitest fails a run in which a rejection went unhandled, so these need no assertion of it.
describe("rejections that the task never looks at", () => {
  test("do not reach the process when the lease is lost with many calls in flight", async () => {
    const world = newWorld();
    const gate = Promise.withResolvers<void>();
    const attempt = rejection(
      world.run(async (ctx) => {
        for (let i = 0; i < 20; i += 1) void ctx.step(`s${i}`, () => gate.promise);
        void ctx.awaitEvent("never");
        world.store.hooks.emitEvent = () => never();
        void ctx.emitEvent("k", 1);
        void ctx
          .step("now", () => gate.promise)
          .finally(() => void ctx.now())
          .catch(() => {});
        await never();
      }),
    );
    await until(() => world.store.count("beginStep") === 22);
    await seize(world);
    world.clock.advance(LEASE_MS);
    expect(await attempt).toMatchObject({ code: "lease_lost" });
    gate.resolve();
    for (let i = 0; i < 5; i += 1) await tick();
  });

  test("do not reach the process when a sibling ended the task first", async () => {
    const world = newWorld();
    const attempt = world.run(async (ctx) => {
      const first = ctx.step("first", () => Promise.reject(new Error("first")));
      const second = ctx.step("second", async () => (await tick(), Promise.reject(new Error("second"))));
      await first;
      await second;
    });
    expect((await rejection(attempt)).message).toBe("first");
    await tick();
  });
});

describe("a signal's listeners", () => {
  /** Counts the listeners that a signal has, from now on. */
  function listenersOf(signal: AbortSignal): { now: number; most: number } {
    const listeners = new Set<unknown>();
    const count = { now: 0, most: 0 };
    const add = signal.addEventListener.bind(signal) as (...args: unknown[]) => void;
    const remove = signal.removeEventListener.bind(signal) as (...args: unknown[]) => void;
    signal.addEventListener = (type: string, listener: never, options?: never) => {
      listeners.add(listener);
      count.now = listeners.size;
      count.most = Math.max(count.most, count.now);
      add(type, listener, options);
    };
    signal.removeEventListener = (type: string, listener: never, options?: never) => {
      listeners.delete(listener);
      count.now = listeners.size;
      remove(type, listener, options);
    };
    return count;
  }

  test("are the task's own alone, over 10,000 steps", async () => {
    const world = newWorld();
    let count = { now: 0, most: 0 };
    const own = (): void => {};
    await world.run(async (ctx) => {
      count = listenersOf(ctx.signal);
      for (let i = 0; i < 10_000; i += 1) {
        await ctx.step("s", async ({ signal }) => {
          signal.addEventListener("abort", own);
          signal.removeEventListener("abort", own);
        });
      }
    });
    await tick();
    expect(count).toEqual({ now: 0, most: 1 });
  }, 60_000);

  test("do not pile up over a wait of many polls", async () => {
    const world = newWorld();
    let count = { now: 0, most: 0 };
    const attempt = world.run((ctx) => {
      count = listenersOf(ctx.signal);
      return ctx.awaitEvent("k");
    });
    await whileTimeFlies(
      world.clock,
      until(() => world.store.count("loadEvent") === 300),
      250,
    );
    await world.memory.emitEvent({ runId: RUN_ID, key: "k", payload: "here" });
    expect((await whileTimeFlies(world.clock, attempt, 250)).result).toBe("here");
    await tick();
    expect(count.now).toBe(0);
    expect(count.most).toBeLessThan(5);
  });

  test("a thousand steps at once work", async () => {
    const world = newWorld();
    const last = counted((call) => (call === 1 ? never() : null));
    const fn = counted((call) => call);
    const task = async (ctx: DurableContext) => {
      const all = await Promise.all(Array.from({ length: 1_000 }, (_, i) => ctx.step(`s${i}`, fn)));
      await ctx.step("last", last);
      return all.length;
    };
    await crash(world, task, () => last.calls === 1);
    expect((await world.run(task)).result).toBe(1_000);
    expect(fn.calls).toBe(1_000);
  });
});
