import { describe, expect, it } from "vitest";
import { systemClock } from "../src/contract/clock.ts";
import { Lifetime } from "../src/runner/lifetime.ts";
import { TestClock } from "../src/testing/clock.ts";
import { ManualClock } from "./support/manual-clock.ts";
import { tick } from "./support/world.ts";

const HOUR_MS = 3_600_000;

it("the pauses of an attempt last as long as they are to, and no longer", async () => {
  const clock = new ManualClock();
  const lifetime = new Lifetime(clock);
  let isOver = false;
  void lifetime.pause(20).then(() => (isOver = true));
  clock.advance(19);
  await tick();
  expect(isOver).toBe(false);
  clock.advance(1);
  await tick();
  expect(isOver).toBe(true);
  expect(lifetime.isOver).toBe(false);
  expect(clock.sleepers).toBe(0);
});

describe.each([
  ["the system's clock", () => systemClock],
  ["a clock without timers", () => new TestClock()],
])("the lifetime of an attempt, by %s", (_name, newClock) => {
  it("has pauses that end by themselves", async () => {
    const lifetime = new Lifetime(newClock());
    await lifetime.pause(20);
    expect(lifetime.isOver).toBe(false);
  });

  it("ends all pauses with it, and begins none afterwards", async () => {
    const lifetime = new Lifetime(newClock());
    const pauses = [lifetime.pause(HOUR_MS), lifetime.pause(2 * HOUR_MS)];
    lifetime.end();
    await Promise.all(pauses);
    await lifetime.pause(HOUR_MS);
    expect(lifetime.isOver).toBe(true);
  });

  it("aborts the signal of whoever has asked for one", () => {
    const lifetime = new Lifetime(newClock());
    const { signal } = lifetime;
    expect(signal.aborted).toBe(false);
    expect(lifetime.signal).toBe(signal);
    lifetime.end();
    lifetime.end();
    expect(signal.reason).toMatchObject({ message: "the attempt is over" });
  });

  it("has an aborted signal for whoever asks late", () => {
    const lifetime = new Lifetime(newClock());
    lifetime.end();
    expect(lifetime.signal.aborted).toBe(true);
  });
});

it("a pause by a clock whose timers call at once is over at once", async () => {
  const atOnce = (_ms: number, onDue: () => void): (() => void) => {
    onDue();
    return () => {};
  };
  await new Lifetime({ ...systemClock, timer: atOnce }).pause(HOUR_MS);
});
