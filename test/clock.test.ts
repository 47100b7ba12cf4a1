/** Deadlines and aborts of a promise. */
import { describe, expect, test } from "vitest";
import { unlessAborted, withDeadline } from "../src/contract/clock.ts";
import { ManualClock } from "./support/manual-clock.ts";
import { never, rejection, tick } from "./support/world.ts";

const late = (): Error => new Error("late");

describe("withDeadline", () => {
  test("resolves to what came in time, and leaves no timer behind", async () => {
    const clock = new ManualClock();
    let missed = 0;
    const answer = withDeadline(clock, 100, Promise.resolve("answer"), () => ((missed += 1), late()));
    expect(clock.sleepers).toBe(1);
    expect(await answer).toBe("answer");
    expect(clock.sleepers).toBe(0);
    clock.advance(1_000);
    await tick();
    expect(missed).toBe(0);
  });

  test("rejects with what came in time, and leaves no timer behind", async () => {
    const clock = new ManualClock();
    const own = new Error("own");
    expect(await rejection(withDeadline(clock, 100, Promise.reject(own), late))).toBe(own);
    expect(clock.sleepers).toBe(0);
  });

  // Vitest fails a run in which a rejection went unhandled.
  test.each<[string, (work: PromiseWithResolvers<string>) => void]>([
    ["a result", ({ resolve }) => resolve("too late")],
    ["an error", ({ reject }) => reject(new Error("too late"))],
  ])("rejects at the deadline, and drops %s that comes after it", async (_what, settle) => {
    const clock = new ManualClock();
    const work = Promise.withResolvers<string>();
    const error = late();
    const answer = rejection(withDeadline(clock, 100, work.promise, () => error));
    clock.advance(99);
    await tick();
    expect(clock.sleepers).toBe(1);
    clock.advance(1);
    expect(await answer).toBe(error);
    settle(work);
    await tick();
  });

  test("takes what is no promise, as await does", async () => {
    const answer: unknown = "answer";
    expect(await withDeadline(new ManualClock(), 100, answer as Promise<string>, late)).toBe("answer");
  });

  test("rejects with what the deadline's error throws", async () => {
    const clock = new ManualClock();
    const broken = new TypeError("broken");
    const answer = rejection(
      withDeadline(clock, 100, never(), () => {
        throw broken;
      }),
    );
    clock.advance(100);
    expect(await answer).toBe(broken);
  });
});

describe("unlessAborted", () => {
  test("settles like the work, and drops an abort that comes after it", async () => {
    const { signal, abort } = controller();
    expect(await unlessAborted(signal, Promise.resolve("answer"))).toBe("answer");
    const own = new Error("own");
    expect(await rejection(unlessAborted(signal, Promise.reject(own)))).toBe(own);
    abort(new Error("aborted"));
    await tick();
  });

  test("rejects with the signal's reason at once, and drops what the work comes to", async () => {
    const { signal, abort } = controller();
    const work = Promise.withResolvers<string>();
    const answer = rejection(unlessAborted(signal, work.promise));
    const reason = new Error("aborted");
    abort(reason);
    expect(await answer).toBe(reason);
    work.reject(new Error("too late"));
    expect(await rejection(unlessAborted(signal, Promise.resolve("answer")))).toBe(reason);
    expect(await rejection(unlessAborted(signal, Promise.reject(new Error("no"))))).toBe(reason);
  });

  function controller() {
    const aborting = new AbortController();
    return { signal: aborting.signal, abort: (reason: Error) => aborting.abort(reason) };
  }
});
