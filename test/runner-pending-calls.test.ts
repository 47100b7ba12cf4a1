/** What an attempt waits for: deadlines, a loss, and the one sleep behind them. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { PendingCalls } from "../src/runner/pending-calls.ts";
import { ManualClock } from "./support/manual-clock.ts";
import { LEASE_MS, never, newWorld, rejection, tick, whileTimeFlies } from "./support/world.ts";
import { hanging } from "./support/wrapped-store.ts";

function newWaits() {
  const clock = new ManualClock();
  const lost = new AbortController();
  const calls = new PendingCalls(clock, lost.signal);
  /** Waits, and answers what has become of it by then. */
  const wait = (work: Promise<unknown>, ms?: number): (() => Promise<unknown>) => {
    let fate: unknown = "pending";
    calls.wait(work, ms).then(
      (answer) => (fate = answer),
      (error: Error & { code?: string }) => (fate = error.code ?? error.message),
    );
    return async () => (await tick(), fate);
  };
  return { clock, lost, calls, wait };
}

describe("a call without an answer", () => {
  test("is given up at its deadline, and no sooner", async () => {
    const { clock, wait } = newWaits();
    const call = wait(never(), 100);
    clock.advance(99);
    expect(await call()).toBe("pending");
    clock.advance(1);
    expect(await call()).toBe("store_unavailable");
    expect(clock.sleepers).toBe(0);
  });

  test.each(["hangs too", "is answered"])(
    "is given up at its own deadline, when the one before it %s",
    async (how) => {
      const { clock, wait } = newWaits();
      const first = wait(how === "hangs too" ? never() : Promise.resolve("answer"), 100);
      clock.advance(40);
      const second = wait(never(), 100);
      clock.advance(60);
      expect(await first()).toBe(how === "hangs too" ? "store_unavailable" : "answer");
      clock.advance(39);
      expect(await second()).toBe("pending");
      clock.advance(1);
      expect(await second()).toBe("store_unavailable");
    },
  );

  test("is given up before one that may take longer, though that came first", async () => {
    const { clock, wait } = newWaits();
    const [patient, hasty] = [wait(never(), 100), wait(never(), 10)];
    clock.advance(10);
    expect(await hasty()).toBe("store_unavailable");
    expect(await patient()).toBe("pending");
    expect(clock.sleepers).toBe(1);
    clock.advance(90);
    expect(await patient()).toBe("store_unavailable");
  });

  test("is given up though there was none for a while", async () => {
    const { clock, calls, wait } = newWaits();
    await calls.wait(Promise.resolve(1), 100);
    await calls.wait(Promise.resolve(2), 1_000);
    await rejection(calls.wait(Promise.reject(new Error("no")), 1_000));
    clock.advance(100);
    await tick();
    expect(clock.sleepers).toBe(0);
    const call = wait(never(), 100);
    clock.advance(100);
    expect(await call()).toBe("store_unavailable");
  });
});

// Vitest fails a run in which a rejection went unhandled, so these need no assertion of it.
test.each<[string, (answer: PromiseWithResolvers<string>) => void]>([
  ["a result", ({ resolve }) => resolve("late")],
  ["an error", ({ reject }) => reject(new Error("late"))],
])("%s that comes after a call was given up is dropped", async (_what, settle) => {
  const { clock, lost, wait } = newWaits();
  const [slow, slower] = [Promise.withResolvers<string>(), Promise.withResolvers<string>()];
  const overdue = wait(slow.promise, 100);
  const dropped = wait(slower.promise);
  clock.advance(100);
  expect(await overdue()).toBe("store_unavailable");
  lost.abort(new Error("lost"));
  settle(slow);
  settle(slower);
  expect(await overdue()).toBe("store_unavailable");
  expect(await dropped()).toBe("lost");
});

describe("a loss", () => {
  test("rejects everything that is waited for, at once and with its reason", async () => {
    const { lost, calls } = newWaits();
    const reason = new Error("lost");
    const waits = [calls.wait(never(), 100), calls.wait(never()), calls.wait(never(), 50)];
    lost.abort(reason);
    expect(await Promise.all(waits.map(rejection))).toEqual([reason, reason, reason]);
  });

  test("rejects what is waited for only then, whatever it comes to", async () => {
    const { lost, calls } = newWaits();
    const reason = new Error("lost");
    lost.abort(reason);
    calls.stop();
    expect(await rejection(calls.wait(Promise.resolve("answer"), 100))).toBe(reason);
    expect(await rejection(calls.wait(Promise.reject(new Error("no")), 100))).toBe(reason);
  });
});

describe("the watchdog", () => {
  test("is one, however many calls there are, and outlives those that are answered", async () => {
    const { clock, calls } = newWaits();
    for (let i = 0; i < 100; i += 1) {
      clock.advance(10);
      expect(await calls.wait(Promise.resolve(i), 10_000)).toBe(i);
      expect(clock.sleepers).toBe(1);
    }
    for (let i = 0; i < 100; i += 1) calls.wait(never(), 10_000 + i).catch(() => {});
    expect(clock.sleepers).toBe(1);
  });

  test("ends when stopped, for good; what is under way settles as it does", async () => {
    const { clock, calls, wait } = newWaits();
    const answer = Promise.withResolvers<string>();
    const call = wait(answer.promise, 100);
    calls.stop();
    expect(clock.sleepers).toBe(0);
    calls.wait(never(), 100).catch(() => {});
    expect(clock.sleepers).toBe(0);
    answer.resolve("answer");
    expect(await call()).toBe("answer");
  });
});

test("each of many calls is answered or given up, whichever comes first", async () => {
  // Begins, deadlines and answers never fall on one instant.
  const callOf = fc.record({
    at: fc.nat(200).map((n) => n * 4 + 1),
    ms: fc.nat(100).map((n) => n * 4 + 2),
    answeredAfter: fc.option(fc.nat(150).map((n) => n * 4 + 3)),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(callOf, { minLength: 1, maxLength: 12 }), async (plans) => {
      const { clock, calls } = newWaits();
      const begin = clock.now();
      const fates = new Map<number, [fate: unknown, at: number]>();
      const acts: [at: number, act: () => void][] = plans.flatMap(({ at, ms, answeredAfter }, i) => {
        const answer = Promise.withResolvers<string>();
        const note = (fate: unknown) => fates.set(i, [fate, clock.now() - begin]);
        const start = (): void => {
          const call = calls.wait(answer.promise, ms);
          call.then(note, (error: { code?: string }) => note(error.code));
        };
        const settle = (): void => (answeredAfter === null ? undefined : answer.resolve("answer"));
        return [
          [at, start],
          [at + ms, () => {}],
          [at + (answeredAfter ?? 0), settle],
        ];
      });
      for (const [at, act] of acts.toSorted(([a], [b]) => a - b)) {
        clock.advance(Math.max(0, at - (clock.now() - begin)));
        await settled();
        act();
        await settled();
      }
      const expected = plans.map(({ at, ms, answeredAfter }) =>
        answeredAfter !== null && answeredAfter < ms
          ? ["answer", at + answeredAfter]
          : ["store_unavailable", at + ms],
      );
      expect(plans.map((_, i) => fates.get(i))).toEqual(expected);
      expect(clock.sleepers).toBeLessThanOrEqual(1);
    }),
    { numRuns: 200 },
  );
});

/** Lets promises settle that are ready to. */
async function settled(): Promise<void> {
  for (let i = 0; i < 10; i += 1) await Promise.resolve();
}

describe("an attempt", () => {
  test("sleeps for its heartbeat and its calls alone, over a hundred steps", async () => {
    const world = newWorld();
    let most = 0;
    await world.run(async (ctx) => {
      for (let i = 0; i < 100; i += 1) {
        await ctx.step("s", async () => (most = Math.max(most, world.clock.sleepers)));
      }
    });
    expect(most).toBe(2);
    expect(world.clock.sleepers).toBe(0);
  });

  test("gives up each of two calls that hang, and makes both again", async () => {
    const world = newWorld();
    world.store.inject("completeStep", hanging(2));
    const attempt = world.run((ctx) =>
      Promise.all([
        ctx.step("a", async () => "a"),
        ctx.step("b", async () => {
          for (let i = 0; i < 4; i += 1) await world.clock.sleep(LEASE_MS / 4);
          return "b";
        }),
      ]),
    );
    expect((await whileTimeFlies(world.clock, attempt)).result).toEqual(["a", "b"]);
    expect(world.store.count("completeStep")).toBe(4);
    expect(world.clock.sleepers).toBe(0);
  });
});
