/** R16: a begin on which nothing depends comes with the end of its step, and which one that is. */
import { describe, expect, test } from "vitest";
import type { BeginStepInput, CompleteStepInput } from "../src/contract/types.ts";
import type { DurableContext, StepInfo, StepOptions } from "../src/runner/types.ts";
import { Turns } from "./helpers/branches.ts";
import {
  counted,
  crash,
  LEASE_MS,
  MANIFEST,
  never,
  newWorld as newWorldWith,
  OWN_SLEEPERS,
  rejection,
  RUN_ID,
  seize,
  tick,
  unavailable,
  until,
  whileTimeFlies,
  type World,
} from "./support/world.ts";
import { failing, hanging, losingAnswers, type Method } from "./support/wrapped-store.ts";

const AFTER_MS = 100;

function newWorld(): World {
  return newWorldWith({ beginAfterMs: AFTER_MS });
}

function argsOf<T>(world: World, method: Method): T[] {
  return world.store.calls.filter((call) => call.method === method).map(({ args }) => args[0] as T);
}

/** Lets all that is ready run, and whoever sleeps wake by the time that has passed. */
async function pass(world: World, ms: number, strideMs = 10): Promise<void> {
  for (let passed = 0; passed < ms; passed += strideMs) {
    await ticks();
    world.clock.advance(strideMs);
  }
  await ticks();
}

async function ticks(): Promise<void> {
  for (let i = 0; i < 5; i += 1) await tick();
}

/** A task of one step whose function ends when told to. */
function oneStep(opts?: StepOptions) {
  const turns = new Turns();
  const infos: StepInfo[] = [];
  const signals: AbortSignal[] = [];
  const task = (ctx: DurableContext) => {
    signals.push(ctx.signal);
    return ctx.step("work", (info) => (infos.push(info), turns.of("work")()), opts);
  };
  return { turns, task, infos, signals };
}

describe.each([0, AFTER_MS])("a step whose store is told within %d ms", (beginAfterMs) => {
  test("calls its function once ctx.step has returned, and not before", async () => {
    const order: string[] = [];
    await newWorldWith({ beginAfterMs }).run(async (ctx) => {
      for (const n of [0, 1]) {
        const step = ctx.step(`step ${n}`, async () => order.push(`function ${n}`));
        order.push(`returned ${n}`);
        await step;
      }
    });
    expect(order).toEqual(["returned 0", "function 0", "returned 1", "function 1"]);
  });
});

describe("a quick step", () => {
  test("is one store call, and on record as if its begin had been told", async () => {
    const world = newWorld();
    const fetched = (ctx: DurableContext) =>
      ctx.step("fetch", async () => "page", { kind: "tool", inputFingerprint: { url: "/" } });
    const { result, steps } = await world.run(
      async (ctx) => [await fetched(ctx), await ctx.now(), await ctx.uuid()],
      { workerId: "ann" },
    );
    expect(world.store.methods()).toEqual([
      "startOrResume",
      ...Array<string>(3).fill("completeStep"),
      "endRun",
    ]);

    const toldFirst = newWorldWith();
    const told = await toldFirst.run(fetched, { workerId: "ann" });
    expect(toldFirst.store.count("beginStep")).toBe(1);
    expect(await world.step(0)).toEqual(await toldFirst.step(0));
    expect(steps[0]).toEqual(told.steps[0]);
    expect(result[0]).toBe("page");
  });

  test("has begun when its function was called, by the store's clock", async () => {
    const world = newWorld();
    world.memory.now = () => world.clock.now() + 3_600_000;
    const start = world.clock.now() + 3_600_000;
    await world.run(async (ctx) => {
      await ctx.step("first", async () => world.clock.advance(30));
      await ctx.step("second", async () => world.clock.advance(5));
    });
    const times = [await world.step(0), await world.step(1)].map((step) => [
      Date.parse(step?.startedAt ?? "") - start,
      Date.parse(step?.completedAt ?? "") - start,
    ]);
    expect(times).toEqual([
      [0, 30],
      [30, 35],
    ]);
  });

  test("that fails brings its begin with the failure", async () => {
    const world = newWorld();
    const error = await rejection(
      world.run((ctx) => ctx.step("work", () => Promise.reject(new Error("no")), { kind: "llm" })),
    );
    expect(error.message).toBe("no");
    expect(world.store.methods()).toEqual(["startOrResume", "failStep", "endRun"]);
    expect(await world.step(0)).toMatchObject({
      intent: "work",
      kind: "llm",
      status: "failed",
      attempts: 1,
      error: { message: "no" },
    });
  });

  test("whose result is no JSON, or is refused by the store, has failed", async () => {
    const world = newWorld();
    const cyclic: unknown[] = [];
    cyclic.push(cyclic);
    expect(await rejection(world.run((ctx) => ctx.step("work", async () => cyclic)))).toMatchObject({
      code: "payload_not_json",
    });
    expect(await world.step(0)).toMatchObject({ status: "failed", attempts: 1 });

    const other = newWorld();
    const tooLarge = Object.assign(new Error("too large"), { code: "payload_too_large" });
    other.store.hooks.completeStep = () => Promise.reject(tooLarge);
    expect(await rejection(other.run((ctx) => ctx.step("work", async () => "page")))).toBe(tooLarge);
    expect(await other.step(0)).toMatchObject({
      status: "failed",
      attempts: 1,
      error: { message: "too large" },
    });
  });

  test.each([
    ["is not taken at first", failing(3, unavailable)],
    ["is taken, and its answers are lost", losingAnswers(3, unavailable)],
  ])("whose completion %s, has one effect and one attempt", async (_what, fault) => {
    const world = newWorld();
    world.store.inject("completeStep", fault);
    const fn = counted(() => "paid");
    const { result } = await whileTimeFlies(
      world.clock,
      world.run((ctx) => ctx.step("pay", fn)),
      100,
    );
    expect([result, fn.calls]).toEqual(["paid", 1]);
    const sent = argsOf<CompleteStepInput>(world, "completeStep");
    expect(sent).toHaveLength(4);
    for (const one of sent) expect(one).toEqual(sent[0]);
    expect(await world.step(0)).toMatchObject({ status: "completed", attempts: 1 });
  });

  test("in each of many branches is one store call, and replays", async () => {
    const world = newWorld();
    const fn = counted((call) => call);
    const last = counted((call) => (call === 1 ? never<string>() : "end"));
    const task = async (ctx: DurableContext) => [
      await ctx.all(Array.from({ length: 20 }, () => (c: DurableContext) => c.step("s", fn))),
      await ctx.step("last", last),
    ];
    await crash(world, task, () => last.calls === 1);
    expect(world.store.count("beginStep")).toBe(0);
    expect(world.store.count("completeStep")).toBe(20);
    const numbers = Array.from({ length: 20 }, (_, i) => i + 1);
    expect((await world.run(task)).result).toEqual([numbers, "end"]);
    expect(fn.calls).toBe(20);
  });
});

describe("a step that runs on", () => {
  test("is told of once, within the time that the store allows, and its end then says no more of it", async () => {
    const world = newWorld();
    const { turns, task } = oneStep({ kind: "tool" });
    const start = world.clock.now();
    const running = world.run(task);
    await until(() => turns.called.length === 1);
    await pass(world, AFTER_MS);
    const [told, ...more] = argsOf<BeginStepInput>(world, "beginStep");
    expect(told).toMatchObject({ runId: RUN_ID, stepIndex: 0, intent: "work", kind: "tool", attempt: 1 });
    expect(more).toEqual([]);
    const seen = await world.step(0);
    expect(seen).toMatchObject({ status: "running", attempts: 1, workerId: expect.any(String) });
    expect(Date.parse(seen?.startedAt ?? "") - start).toBeLessThanOrEqual(AFTER_MS);
    await pass(world, 10 * AFTER_MS);
    expect(world.store.count("beginStep")).toBe(1);
    await turns.end("work");
    await running;
    expect(argsOf<CompleteStepInput>(world, "completeStep")).toMatchObject([{ attempt: 1, result: "work" }]);
    expect(argsOf<CompleteStepInput>(world, "completeStep")[0]).not.toHaveProperty("begin");
    expect(await world.step(0)).toMatchObject({ status: "completed", attempts: 1 });
  });

  test("is told of within that time, too, when it begins while another one is watched", async () => {
    const world = newWorld();
    const turns = new Turns();
    const running = world.run((ctx) =>
      ctx.all([
        (c) => c.step("early", turns.of("early")),
        async (c) => {
          await c.step("quick", turns.of("quick"));
          return c.step("late", turns.of("late"));
        },
      ]),
    );
    await until(() => turns.called.length === 2);
    await pass(world, 40);
    await turns.end("quick");
    await until(() => turns.called.length === 3);
    await pass(world, AFTER_MS);
    expect(argsOf<BeginStepInput>(world, "beginStep").map(({ intent }) => intent)).toEqual(["early", "late"]);
    await turns.end("early", "late");
    await running;
  });

  test.each(["lease_lost", "run_cancelled"] as const)(
    "hears by that of a run that is no longer its own (%s), and records nothing",
    async (code) => {
      const world = newWorld();
      const { turns, task, signals, infos } = oneStep();
      const running = rejection(world.run(task));
      await until(() => turns.called.length === 1);
      if (code === "lease_lost") await seize(world);
      else await world.memory.cancelRun(RUN_ID);
      await pass(world, AFTER_MS);
      expect(signals[0]?.reason).toMatchObject({ code });
      expect(infos[0]?.signal.aborted).toBe(true);
      expect(await running).toMatchObject({ code });
      await turns.end("work");
      await ticks();
      expect(world.store.methods()).toEqual(["startOrResume", "beginStep"]);
      expect(await world.step(0)).toBeUndefined();
    },
  );

  test("is not held up by a begin that hangs, and nor is the end of the run", async () => {
    const world = newWorld();
    world.store.inject("beginStep", hanging());
    const { turns, task } = oneStep();
    const running = world.run(task);
    await until(() => turns.called.length === 1);
    await pass(world, AFTER_MS);
    expect(world.store.count("beginStep")).toBe(1);
    await turns.end("work");
    expect((await running).record).toMatchObject({ status: "completed", stepCount: 1 });
    expect(argsOf<CompleteStepInput>(world, "completeStep")).toMatchObject([
      { begin: { elapsedMs: AFTER_MS } },
    ]);
    expect(await world.step(0)).toMatchObject({ status: "completed", attempts: 1 });
  });

  test("is told of again while the store cannot answer, under one request id, and no longer once it has ended", async () => {
    const world = newWorld();
    world.store.inject("beginStep", failing(Infinity, unavailable));
    const { turns, task } = oneStep();
    const running = world.run(task);
    await until(() => turns.called.length === 1);
    await pass(world, 1_000);
    const sent = argsOf<BeginStepInput>(world, "beginStep");
    expect(sent.length).toBeGreaterThan(1);
    for (const one of sent) expect(one).toEqual(sent[0]);
    await turns.end("work");
    await running;
    await pass(world, 5_000);
    expect(world.store.count("beginStep")).toBe(sent.length);
    expect(await world.step(0)).toMatchObject({ status: "completed", attempts: 1 });
  });

  test.each(["completed", "failed"] as const)(
    "whose begin comes after its end (%s), or the run's, has lost nothing by it",
    async (status) => {
      for (const until_ of ["the end of the step", "the end of the run"]) {
        const world = newWorld();
        const turns = new Turns();
        let release = (): void => {};
        const held = new Promise<void>((resolve) => (release = resolve));
        const outcomes: string[] = [];
        world.store.hooks.beginStep = async (pass_, input) => {
          if (input.intent !== "work") return pass_();
          await held;
          const answer = pass_();
          answer.then(
            (step) => outcomes.push(step.status),
            (error: { code: string }) => outcomes.push(error.code),
          );
          return answer;
        };
        // The run has ended in the store, and its worker has not heard so yet.
        world.store.hooks.endRun = async (pass_) => {
          const answer = await pass_();
          if (until_ === "the end of the run") {
            release();
            await until(() => outcomes.length > 0);
            await ticks();
          }
          return answer;
        };
        const running = world.run(async (ctx) => {
          const first = await ctx
            .step("work", async () => {
              await turns.of("work")();
              if (status === "failed") throw new Error("no");
              return "done";
            })
            .catch((error: Error) => error.message);
          if (until_ === "the end of the step") {
            release();
            await until(() => outcomes.length > 0);
          }
          return first;
        });
        await until(() => turns.called.length === 1);
        await pass(world, AFTER_MS);
        await turns.end("work");
        const { result, record } = await running;
        expect(result).toBe(status === "failed" ? "no" : "done");
        expect(record.status).toBe("completed");
        expect(outcomes).toHaveLength(1);
        expect(await world.step(0)).toMatchObject({ status, attempts: 1 });
      }
    },
  );
});

describe("the store is told first", () => {
  const fn = async () => "done";

  async function begins(world: World, task: (ctx: DurableContext) => Promise<unknown>): Promise<string[]> {
    await world.run(task).catch(() => {});
    return argsOf<BeginStepInput>(world, "beginStep").map(({ intent }) => intent);
  }

  test.each<[string, StepOptions]>([
    ["whose attempts are limited", { retries: { limit: 1 } }],
    ["whose retries a function decides", { retries: () => false }],
    ["that is not to run again by itself", { onInterrupted: "park" }],
    ["that is to fail if it was interrupted", { onInterrupted: "fail" }],
    ["that reconciles", { onInterrupted: { reconcile: async () => ({ rerun: true }) as never } }],
  ])("of a step %s", async (_which, opts) => {
    expect(await begins(newWorld(), (ctx) => ctx.step("work", fn, opts))).toEqual(["work"]);
  });

  test("of waits and sleeps", async () => {
    const world = newWorld();
    await world.store.emitEvent({ runId: RUN_ID, key: "go", payload: 1 });
    const task = async (ctx: DurableContext) => [await ctx.awaitEvent("go"), await ctx.sleep(0)];
    expect(await begins(world, task)).toEqual(["event:go", "ctx.sleep"]);
  });

  test("of a step that an earlier attempt is on record of, and it counts", async () => {
    const world = newWorld();
    const work = counted((call) => {
      if (call === 1) throw new Error("no");
      return "done";
    });
    const task = (ctx: DurableContext) => ctx.step("work", work);
    await rejection(world.run(task));
    expect(world.store.count("beginStep")).toBe(0);
    expect((await world.run(task)).result).toBe("done");
    expect(argsOf<BeginStepInput>(world, "beginStep")).toMatchObject([{ intent: "work", attempt: 2 }]);
    expect(await world.step(0)).toMatchObject({ status: "completed", attempts: 2 });
  });

  test("of a step that a failure was caught before, which then replays (R24)", async () => {
    const world = newWorld();
    const risky = counted(() => Promise.reject(new Error("no")));
    const last = counted((call) => (call === 1 ? never<string>() : "end"));
    const task = async (ctx: DurableContext) => {
      const caught = await ctx.step("risky", risky).catch((error: Error) => error.message);
      await ctx.step("after", fn);
      await ctx.step("later", fn);
      return [caught, await ctx.step("last", last)];
    };
    await crash(world, task, () => last.calls === 1);
    expect(argsOf<BeginStepInput>(world, "beginStep")).toMatchObject([{ intent: "after", caught: [0] }]);
    expect((await world.run(task)).result).toEqual(["no", "end"]);
    expect(risky.calls).toBe(1);
  });

  test("of a step that begins when nothing was heard of the store for so long", async () => {
    const world = newWorld();
    let waitMs = 0;
    const task = async (ctx: DurableContext) => {
      await ctx.step("before", fn);
      world.clock.advance(waitMs);
      await ctx.step("after", fn);
      await ctx.step("soon after", fn);
    };
    waitMs = AFTER_MS;
    expect(await begins(world, task)).toEqual(["after"]);
    const sooner = newWorld();
    let passedMs = 0;
    const soon = async (ctx: DurableContext) => {
      await ctx.step("before", fn);
      sooner.clock.advance(AFTER_MS - 1);
      passedMs += 1;
      await ctx.step("after", fn);
    };
    expect(await begins(sooner, soon)).toEqual([]);
    expect(passedMs).toBe(1);
  });

  test("of a run that was taken over while its task was at work between two steps: nothing is called", async () => {
    const world = newWorld();
    const paid = counted(() => "paid");
    const error = await rejection(
      world.run(async (ctx) => {
        await ctx.step("before", fn);
        await seize(world);
        world.clock.advance(AFTER_MS);
        await ctx.step("pay", paid);
      }),
    );
    expect(error).toMatchObject({ code: "lease_lost" });
    expect(paid.calls).toBe(0);
  });

  test("of a step that begins when the lease is over, however short that was: nothing is called", async () => {
    const world = newWorld();
    const paid = counted(() => "paid");
    const task = async (ctx: DurableContext) => {
      await ctx.step("before", fn);
      // As when the process was stopped: no timer has been looked at.
      world.clock.jump(AFTER_MS / 2);
      return ctx.step("pay", paid);
    };
    expect(await rejection(world.run(task, { leaseMs: AFTER_MS / 2 }))).toMatchObject({ code: "lease_lost" });
    expect(paid.calls).toBe(0);
    expect(world.store.methods()).toEqual(["startOrResume", "completeStep"]);
  });

  test("by a store that says nothing of late begins, or 0", async () => {
    for (const world of [newWorldWith(), newWorldWith({ beginAfterMs: 0 })]) {
      expect(await begins(world, (ctx) => ctx.step("work", fn))).toEqual(["work"]);
      expect(argsOf<CompleteStepInput>(world, "completeStep")[0]).not.toHaveProperty("begin");
    }
  });
});

describe("a worker that dies", () => {
  test("in a step that nobody was told of: it runs again under the same key, and that attempt is not counted", async () => {
    const world = newWorld();
    const infos: StepInfo[] = [];
    const hang = counted((call) => (call === 1 ? never<string>() : "paid"));
    const task = (ctx: DurableContext) => ctx.step("pay", (info) => (infos.push(info), hang()));
    // It dies at once: nothing of it reaches the store any more, as its lease is over when its clock next moves.
    await crash(world, task, () => hang.calls === 1);
    expect(await world.step(0)).toBeUndefined();
    expect((await world.run(task)).result).toBe("paid");
    expect(infos.map(({ attempt }) => attempt)).toEqual([1, 1]);
    expect(infos[1]?.idempotencyKey).toBe(infos[0]?.idempotencyKey);
    expect(await world.step(0)).toMatchObject({ status: "completed", attempts: 1, result: "paid" });
  });

  test("in a step that was told of: the next attempt is the second, under the same key", async () => {
    const world = newWorld();
    const infos: StepInfo[] = [];
    const hang = counted((call) => (call === 1 ? never<string>() : "paid"));
    const task = (ctx: DurableContext) => ctx.step("pay", (info) => (infos.push(info), hang()));
    const attempt = world.run(task);
    attempt.catch(() => {});
    await until(() => hang.calls === 1);
    await pass(world, AFTER_MS);
    world.clock.advance(LEASE_MS);
    expect(await rejection(attempt)).toMatchObject({ code: "lease_lost" });
    expect((await world.run(task)).result).toBe("paid");
    expect(infos.map((info) => info.attempt)).toEqual([1, 2]);
    expect(infos[1]?.idempotencyKey).toBe(infos[0]?.idempotencyKey);
  });

  test("in one of two steps at once: the other one's place on record stays its own", async () => {
    for (const branches of [false, true]) {
      const world = newWorld();
      const keys: Record<string, string[]> = { a: [], b: [] };
      const hang = counted((call) => (call === 1 ? never<string>() : "a"));
      const step = (c: DurableContext, name: "a" | "b") =>
        c.step(name, ({ idempotencyKey }) => {
          keys[name]?.push(idempotencyKey);
          return name === "a" ? hang() : Promise.resolve("b");
        });
      const task = async (ctx: DurableContext) =>
        branches
          ? ctx.all([(c) => step(c, "a"), (c) => step(c, "b")])
          : Promise.all([step(ctx, "a"), step(ctx, "b")]);
      await crash(world, task, () => hang.calls === 1 && world.store.count("completeStep") === 1);
      expect(await world.step(0)).toBeUndefined();
      expect(await world.step(1)).toMatchObject({ intent: "b", status: "completed" });
      const { result, record } = await world.run(task);
      expect(result).toEqual(["a", "b"]);
      expect(record.stepCount).toBe(2);
      expect(keys["b"]).toHaveLength(1);
      expect(new Set(keys["a"]).size).toBe(1);
      expect(await world.step(1)).toMatchObject({ intent: "b", status: "completed" });
    }
  });

  test("and comes back: what it has to say of its step is refused, and the next worker's stands", async () => {
    const world = newWorld();
    const { turns, task } = oneStep();
    const zombie = rejection(world.run(task));
    await until(() => turns.called.length === 1);
    world.memory._expireLease(RUN_ID);
    const { fence = 0 } = await world.memory.startOrResume({
      runId: RUN_ID,
      manifest: MANIFEST,
      workerId: "next",
      leaseMs: LEASE_MS,
    });
    const step = { runId: RUN_ID, stepIndex: 0, fence };
    await world.memory.beginStep({ ...step, intent: "work", kind: "logic", inputHash: "" });
    await world.memory.completeStep({ ...step, result: "the next worker's" });
    const before = await world.step(0);
    await turns.end("work");
    expect(await zombie).toMatchObject({ code: "lease_lost" });
    expect(world.store.methods()).toEqual(["startOrResume", "completeStep"]);
    expect(await world.step(0)).toEqual(before);
  });
});

describe("a race", () => {
  const race = (turns: Turns) => (ctx: DurableContext) =>
    ctx.race({
      quick: (c) => c.step("quick", turns.of("quick")),
      slow: (c) => c.step("slow", turns.of("slow")),
    });

  test("puts its loser on record with its begin, whether or not it was told of", async () => {
    for (const waitMs of [0, AFTER_MS]) {
      const world = newWorld();
      const turns = new Turns();
      const running = world.run(race(turns));
      await until(() => turns.called.length === 2);
      await pass(world, waitMs);
      expect(world.store.count("beginStep")).toBe(waitMs === 0 ? 0 : 2);
      await turns.end("quick");
      expect(await running).toMatchObject({ result: "quick", record: { status: "completed", stepCount: 3 } });
      expect(await world.step(1)).toMatchObject({
        intent: "slow",
        path: "0/slow/0",
        status: "failed",
        attempts: 1,
        error: { code: "branch_stopped" },
      });
      await pass(world, 2 * AFTER_MS);
      expect(world.store.count("beginStep")).toBe(waitMs === 0 ? 0 : 2);
      await turns.end("slow");
    }
  });

  test("that is on record is not run again", async () => {
    const world = newWorld();
    const turns = new Turns();
    const last = counted((call) => (call === 1 ? never<string>() : "end"));
    const task = async (ctx: DurableContext) => [await race(turns)(ctx), await ctx.step("last", last)];
    const attempt = world.run(task);
    attempt.catch(() => {});
    await until(() => turns.called.length === 2);
    await turns.end("quick");
    await until(() => last.calls === 1);
    world.clock.advance(LEASE_MS);
    expect(await rejection(attempt)).toMatchObject({ code: "lease_lost" });
    turns.forget();
    expect((await world.run(task)).result).toEqual(["quick", "end"]);
    expect(turns.called).toEqual(["quick", "slow"]);
  });
});

describe("nothing sleeps", () => {
  test("beyond an attempt, however it ended", async () => {
    const world = newWorld();
    const { turns, task } = oneStep();
    const running = world.run(task);
    await until(() => turns.called.length === 1);
    expect(world.clock.sleepers).toBe(OWN_SLEEPERS);
    await turns.end("work");
    await running;
    await ticks();
    expect(world.clock.sleepers).toBe(0);

    const other = newWorld();
    const hang = oneStep();
    const lost = rejection(other.run(hang.task));
    await until(() => hang.turns.called.length === 1);
    await seize(other);
    await pass(other, AFTER_MS);
    expect(await lost).toMatchObject({ code: "lease_lost" });
    await ticks();
    expect(other.clock.sleepers).toBe(0);
  });

  test("for a step that has ended, but for what is left of a moment", async () => {
    const world = newWorld();
    const turns = new Turns();
    const running = world.run(async (ctx) => {
      await ctx.step("quick", async () => 1);
      await turns.of("between")();
    });
    await until(() => turns.called.length === 1);
    await pass(world, AFTER_MS);
    expect(world.clock.sleepers).toBe(OWN_SLEEPERS);
    await turns.end("between");
    await running;
  });
});

describe("what a late begin must not hide", () => {
  function nested(ctx: DurableContext, depth: number, fn: () => Promise<number>): Promise<unknown> {
    if (depth === 0) return ctx.step("work", fn);
    return ctx.all({ ["b".repeat(128)]: (inner: DurableContext) => nested(inner, depth - 1, fn) });
  }

  test("a path that is too long is refused before the function is called", async () => {
    const world = newWorld();
    const fn = counted(() => 1);
    const error = await rejection(world.run((ctx) => nested(ctx, 9, fn)));
    expect(error).toMatchObject({ code: "invalid_input", field: "path" });
    expect(fn.calls).toBe(0);
  });

  test("a step that was cut short is not told of while its run ends: the run has completed", async () => {
    const world = newWorld();
    let fail = (): void => {};
    let goOn = (): void => {};
    const failing = new Promise<never>((_resolve, reject) => (fail = () => reject(new Error("a fails"))));
    const goingOn = new Promise<void>((resolve) => (goOn = resolve));
    world.store.hooks.endRun = async (call) => {
      const ended = await call();
      // Its answer takes a while; meanwhile the time comes in which the step would be told of.
      await pass(world, 3 * AFTER_MS);
      return ended;
    };
    const running = world.run(async (ctx) => {
      const both = ctx.all({
        a: () => failing,
        b: (inner: DurableContext) =>
          inner.step("b", async () => {
            await goingOn;
            await inner.emitEvent("k", 1);
          }),
      });
      await both.catch(() => {});
      return "done";
    });
    await ticks();
    fail();
    await ticks();
    goOn();
    expect((await running).result).toBe("done");
    expect(world.record().status).toBe("completed");
    expect(world.store.count("beginStep")).toBe(0);
  });
});
