/**
 * Whatever ends when, and however roll-ups come between: the statistics of any range are those of the ends in it.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { clear, StatsWorld } from "./history-stats-world.ts";

const HOUR_MS = 3_600_000;

const ms = fc.oneof(
  fc.integer({ min: 0, max: 30 }),
  fc.integer({ min: 100, max: 10_000 }),
  fc.integer({ min: 60_000, max: 2 * HOUR_MS }),
);
const act = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      what: fc.constant("play" as const),
      run: fc.integer({ min: 0, max: 5 }),
      strides: fc.array(fc.record({ ms, fails: fc.boolean() }), { maxLength: 4 }),
      status: fc.constantFrom("completed", "completed", "failed", "cancelled"),
      restartFrom: fc.integer({ min: 0, max: 2 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ what: fc.constant("rollUp" as const), limit: fc.integer({ min: 1, max: 4 }) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ what: fc.constant("wait" as const), hours: fc.integer({ min: 1, max: 60 }) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      what: fc.constant("ask" as const),
      by: fc.constantFrom("hour", "day"),
      project: fc.option(fc.integer({ min: 0, max: 2 })),
      agoHours: fc.integer({ min: 0, max: 400 }),
      hours: fc.integer({ min: 1, max: 700 }),
    }),
  },
);

test("any range of any project is the sum of its ends", { timeout: 120_000 }, async () => {
  let asked = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(act, { minLength: 10, maxLength: 30 }), async (acts) => {
      await clear();
      const world = new StatsWorld("2026-01-30T20:17:05.123Z");
      for (const one of acts) {
        if (one.what === "play")
          await world.play(`run-${one.run}`, { ...one, projectId: `p-${one.run % 3}` });
        if (one.what === "rollUp") await world.rollUp({ limit: one.limit });
        if (one.what === "wait") world.clock.advance(one.hours * HOUR_MS);
        if (one.what === "ask") {
          const to = world.clock.now() + HOUR_MS - one.agoHours * HOUR_MS;
          const from = to - one.hours * HOUR_MS;
          await world.check({
            by: one.by,
            from: new Date(from).toISOString(),
            to: new Date(to).toISOString(),
            ...(one.project !== null && { projectId: `p-${one.project}` }),
          });
          asked += 1;
        }
      }
      await world.check({ by: "day", from: "2026-01-01" });
    }),
    { numRuns: 40 },
  );
  expect(asked).toBeGreaterThan(40);
});
