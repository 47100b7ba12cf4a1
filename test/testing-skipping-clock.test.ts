/** SkippingClock: what it skips, in which order, what is renewed on the way, and what it does not skip. */
import { describe, expect, test } from "vitest";
import { runDurable } from "../src/runner/run-durable.ts";
import type { DurableContext, RunDurableInput } from "../src/runner/types.ts";
import { InMemoryDurableRunStore } from "../src/stores/memory.ts";
import { FaultyStore } from "../src/testing/faulty-store.ts";
import { SkippingClock } from "../src/testing/skipping-clock.ts";
import { counted, MANIFEST, plainError, rejection, RUN_ID, tick, until } from "./support/world.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

function newWorld({ leaseMs = DAY }: { leaseMs?: number } = {}) {
  const clock = new SkippingClock();
  const startedAt = clock.now();
  const memory = new InMemoryDurableRunStore({ clock });
  const store = new FaultyStore(memory);
  return {
    clock,
    memory,
    store,
    passed: () => clock.now() - startedAt,
    run: <T>(taskFn: RunDurableInput<T>["taskFn"]) =>
      runDurable({ runId: RUN_ID, manifest: MANIFEST, store, clock, leaseMs, taskFn }),
    waitsFor: (kind: string) =>
      until(() => memory._inspect(RUN_ID)?.waitingFor?.some((wait) => wait.for === kind) ?? false),
  };
}

/** Some turns of the event loop, in which a clock that may skip has skipped. */
async function turns(): Promise<void> {
  for (let i = 0; i < 20; i += 1) await tick();
}

describe("a sleep of a task", () => {
  test("is skipped, and time has passed", async () => {
    const { run, passed } = newWorld();
    const { result } = await run(async (ctx) => {
      const before = await ctx.now();
      await ctx.sleep(DAY);
      return (await ctx.now()).getTime() - before.getTime();
    });
    expect(result).toBeGreaterThanOrEqual(DAY);
    expect(passed()).toBeLessThan(DAY + HOUR);
  });

  test("is skipped until a date", async () => {
    const { run, clock } = newWorld();
    const date = new Date(clock.now() + 12 * HOUR);
    await run((ctx) => ctx.sleepUntil(date));
    expect(clock.now()).toBeGreaterThanOrEqual(date.getTime());
  });

  test("keeps its lease: every heartbeat is sent on the way, and nobody else can claim the run", async () => {
    const { run, store, memory, clock, passed } = newWorld({ leaseMs: 30_000 });
    const refusals: (string | undefined)[] = [];
    const rival = async (): Promise<void> => {
      const claim = { runId: RUN_ID, manifest: MANIFEST, workerId: "rival" };
      while (passed() < 5 * HOUR) {
        await clock.sleep(HOUR);
        refusals.push((await rejection(memory.startOrResume(claim))).code);
      }
    };
    const { record } = await run(async (ctx) => {
      const rivals = rival();
      await ctx.sleep(6 * HOUR);
      await rivals;
    });
    expect(record).toMatchObject({ status: "completed", fence: 1 });
    expect(refusals).toEqual(Array.from({ length: 5 }, () => "lease_held"));
    expect(store.count("renewLease")).toBeGreaterThanOrEqual((6 * HOUR) / 10_000 - 1);
  });

  test("of 30 days keeps a lease of an hour", async () => {
    const clock = new SkippingClock();
    const store = new InMemoryDurableRunStore();
    store.now = () => clock.now();
    const { record } = await runDurable({
      runId: RUN_ID,
      manifest: MANIFEST,
      store,
      clock,
      leaseMs: HOUR,
      taskFn: (ctx) => ctx.sleep(30 * DAY),
    });
    expect(record).toMatchObject({ status: "completed", fence: 1 });
  });
});

describe("the delay between attempts", () => {
  test("is skipped, and not a millisecond too much: the store accepts each attempt", async () => {
    const { run, store, passed } = newWorld();
    const work = counted((call) => {
      if (call < 6) throw plainError();
      return "at last";
    });
    const retries = { limit: 5, delayMs: 600_000, maxDelayMs: DAY };
    const { result, steps } = await run((ctx) => ctx.step("work", work, { retries }));
    expect(result).toBe("at last");
    expect(steps[0]).toMatchObject({ attempts: 6 });
    expect(passed()).toBeGreaterThanOrEqual((1 + 2 + 4 + 8 + 16) * 600_000);
    expect(passed()).toBeLessThan(32 * 600_000);
    expect(store.count("beginStep")).toBe(6);
  });
});

describe("delays side by side", () => {
  test("end in the order in which they are due, with what follows each", async () => {
    const { run, passed } = newWorld();
    const order: string[] = [];
    await run(async (ctx) => {
      const branch =
        (name: string, ...hours: number[]) =>
        async (own: DurableContext) => {
          for (const each of hours) {
            await own.sleep(each * HOUR);
            await own.step("work", async () => void order.push(name));
          }
        };
      await ctx.all([branch("c", 3, 2), branch("a", 1, 3), branch("b", 2, 1.25)]);
    });
    expect(order.join("")).toBe("abcbac");
    expect(passed()).toBeLessThan(6 * HOUR);
  });

  test("of a race end with the first: the loser's moves time no further", async () => {
    const { run, passed } = newWorld();
    const { result } = await run((ctx) =>
      ctx.race({
        soon: (own) => own.sleep(HOUR).then(() => "soon"),
        late: (own) => own.sleep(30 * DAY).then(() => "late"),
      }),
    );
    expect(result).toBe("soon");
    await turns();
    expect(passed()).toBeLessThan(DAY);
  });

  test("let sleepers of the clock wake between them, in order", async () => {
    const { clock } = newWorld();
    const order: string[] = [];
    const log = (name: string) => (): void => void order.push(name);
    await Promise.all([
      clock.delay(4 * HOUR).then(log("delay 4")),
      clock.sleep(3 * HOUR).then(log("sleep 3")),
      clock.delay(2 * HOUR).then(log("delay 2")),
      clock.sleep(HOUR).then(log("sleep 1")),
    ]);
    expect(order).toEqual(["sleep 1", "delay 2", "sleep 3", "delay 4"]);
  });

  test("of many branches are all skipped", async () => {
    const { run, passed } = newWorld();
    const branches = Array.from(
      { length: 50 },
      (_, i) => (own: DurableContext) => own.sleep((50 - i) * 60_000),
    );
    await run(async (ctx) => void (await ctx.all(branches)));
    expect(passed()).toBeLessThan(HOUR);
  });
});

describe("a delay with a signal", () => {
  test("rejects with its reason as soon as it aborts, and moves time no further", async () => {
    const { clock, passed } = newWorld();
    const controller = new AbortController();
    const reason = new Error("enough");
    const delay = clock.delay(30 * DAY, controller.signal);
    void clock.sleep(HOUR).then(() => controller.abort(reason));
    await expect(delay).rejects.toBe(reason);
    await turns();
    expect(passed()).toBeLessThan(DAY);
  });

  test("that has aborted moves no time at all", async () => {
    const { clock, passed } = newWorld();
    const reason = new Error("too late");
    await expect(clock.delay(DAY, AbortSignal.abort(reason))).rejects.toBe(reason);
    await expect(clock.sleep(DAY, AbortSignal.abort(reason))).rejects.toBe(reason);
    await turns();
    expect(passed()).toBeLessThan(DAY);
  });
});

describe("a sleep of the clock itself", () => {
  test("is not skipped while no delay is under way", async () => {
    const { clock, passed } = newWorld();
    const controller = new AbortController();
    const sleep = clock.sleep(DAY, controller.signal);
    await turns();
    expect(passed()).toBeLessThan(DAY);
    controller.abort(plainError());
    await expect(sleep).rejects.toThrow(plainError().message);
  });

  test("ends when time is advanced", async () => {
    const { clock } = newWorld();
    const sleep = clock.sleep(DAY);
    clock.advance(DAY);
    await sleep;
  });
});

describe("a wait for an event", () => {
  test("is not skipped", async () => {
    const { run, memory, waitsFor, passed } = newWorld();
    const attempt = run((ctx) => ctx.awaitEvent("approval"));
    await waitsFor("event");
    await turns();
    await memory.emitEvent({ runId: RUN_ID, key: "approval", payload: "yes" });
    expect((await attempt).result).toBe("yes");
    expect(passed()).toBeLessThan(HOUR);
  });

  test("times out when the test lets the time pass, under a lease of 30 seconds", async () => {
    const { run, clock, waitsFor } = newWorld({ leaseMs: 30_000 });
    const attempt = rejection(run((ctx) => ctx.awaitEvent("approval", { timeoutMs: HOUR })));
    await waitsFor("event");
    await clock.delay(HOUR);
    expect(await attempt).toMatchObject({ code: "await_event_timeout" });
  });

  test("times out when time is advanced, under a lease that is longer", async () => {
    const { run, clock, waitsFor } = newWorld();
    const attempt = rejection(run((ctx) => ctx.awaitEvent("approval", { timeoutMs: HOUR })));
    await waitsFor("event");
    clock.advance(HOUR);
    expect(await attempt).toMatchObject({ code: "await_event_timeout" });
  });

  test("loses its run when time is advanced beyond the lease", async () => {
    const { run, clock, waitsFor } = newWorld({ leaseMs: 30_000 });
    const attempt = rejection(run((ctx) => ctx.awaitEvent("approval", { timeoutMs: HOUR })));
    await waitsFor("event");
    clock.advance(HOUR);
    expect(await attempt).toMatchObject({ code: "lease_lost" });
  });

  test("times out while a longer sleep beside it is skipped", async () => {
    const { run, passed } = newWorld();
    const { result } = await run((ctx) =>
      ctx.all({
        approved: (own) =>
          own.awaitEvent("approval", { timeoutMs: HOUR }).catch((error: { code?: string }) => error.code),
        asleep: (own) => own.sleep(DAY),
      }),
    );
    expect(result).toMatchObject({ approved: "await_event_timeout" });
    expect(passed()).toBeLessThan(DAY + HOUR);
  });
});

describe("work in real time", () => {
  test("is waited for when the clock is told of it", async () => {
    const { clock, passed } = newWorld();
    let finish = (_value: string): void => {};
    const work = clock.pauseDuring(new Promise<string>((resolve) => (finish = resolve)));
    const delay = clock.delay(DAY);
    await turns();
    expect(passed()).toBeLessThan(DAY);
    finish("done");
    expect(await work).toBe("done");
    await delay;
    expect(passed()).toBeGreaterThanOrEqual(DAY);
  });

  test("that fails holds nobody up", async () => {
    const { clock } = newWorld();
    await expect(clock.pauseDuring(Promise.reject(plainError()))).rejects.toThrow(plainError().message);
    await clock.delay(DAY);
  });

  test("of a slow store takes no time: each heartbeat is answered at the instant that it was sent", async () => {
    const clock = new SkippingClock();
    const memory = new InMemoryDurableRunStore({ clock });
    const answeredAfter: number[] = [];
    const slow = new FaultyStore(memory);
    const renew = memory.renewLease.bind(memory);
    memory.renewLease = async (input) => {
      const sentAt = clock.now();
      await turns();
      answeredAfter.push(clock.now() - sentAt);
      return renew(input);
    };
    const store = clock.pauseDuringCalls(slow);
    const { record } = await runDurable({
      runId: RUN_ID,
      manifest: MANIFEST,
      store,
      clock,
      leaseMs: HOUR,
      taskFn: (ctx) => ctx.sleep(4 * HOUR),
    });
    expect(record.status).toBe("completed");
    expect(answeredAfter.length).toBeGreaterThanOrEqual(11);
    expect(Math.max(...answeredAfter)).toBeLessThan(HOUR / 4);
  });

  test("of a store that holds a call is not waited for", async () => {
    const clock = new SkippingClock();
    const store = clock.pauseDuringCalls(new InMemoryDurableRunStore({ clock }));
    const { result } = await runDurable({
      runId: RUN_ID,
      manifest: MANIFEST,
      store,
      clock,
      leaseMs: DAY,
      taskFn: (ctx) =>
        ctx.race({
          approved: (own) => own.awaitEvent("approval"),
          late: (own) => own.sleep(HOUR).then(() => "late"),
        }),
    });
    expect(result).toBe("late");
  });
});

test("a worker whose store hangs holds nobody up: it loses its lease on the way", async () => {
  const { run, store, clock } = newWorld({ leaseMs: HOUR });
  const task: RunDurableInput<string>["taskFn"] = (ctx) => ctx.step("work", async () => "done");
  const hung = rejection(run(task));
  store.fault = () => "hang";
  await clock.delay(2 * HOUR);
  expect(await hung).toMatchObject({ code: "lease_lost" });
  store.fault = () => "none";
  expect((await run(task)).result).toBe("done");
});
