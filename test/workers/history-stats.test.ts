/** What stats answers: exactly what ended in the range, counted or not, and within bounds. */
import { env } from "cloudflare:workers";
import { beforeEach, expect, it } from "vitest";
import { rollUp } from "../../src/history/roll-up.ts";
import { stats } from "../../src/history/stats.ts";
import type { StatsOptions } from "../../src/history/types.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { aRun, aStep, MANIFEST, refusalOf } from "../../src/testing/harness.ts";
import { access, aFewRuns, clear, NOW, seedEnds, StandingClock, StatsWorld } from "./history-stats-world.ts";

beforeEach(clear);

it("is exact without any roll-up while few runs have ended", async () => {
  const world = await aFewRuns();
  const answered = await world.check();
  expect(answered).toMatchObject({
    from: "2026-05-03T13:00:00.000Z",
    to: "2026-05-04T13:00:00.000Z",
    by: "hour",
    counts: { completed: 2, failed: 1, cancelled: 1 },
    isBehind: false,
  });
  expect(answered.series).toHaveLength(24);
  expect(answered.steps).toEqual([
    {
      intent: "intent-0",
      kind: "tool",
      steps: 4,
      failed: 0,
      failureRate: 0,
      attempts: 4,
      meanDurationMs: 20,
    },
    {
      intent: "intent-1",
      kind: "llm",
      steps: 4,
      failed: 4,
      failureRate: 1,
      attempts: 4,
      meanDurationMs: 300,
    },
  ]);
});

it("answers the same before a roll-up and after it", async () => {
  const world = await aFewRuns();
  for (const options of [{}, { by: "day" }, { projectId: "p" }, { projectId: "nobody" }] as const) {
    const before = await world.check(options);
    await world.rollUp({ limit: 1 });
    expect(await world.check(options)).toEqual(before);
  }
});

it.each(["hour", "day"] as const)(
  "takes what ended from its beginning on, and before its end, by the %s",
  async (by) => {
    const clock = new StandingClock(NOW);
    const [from, to] = [Date.parse("2026-04-29T00:00:00Z"), Date.parse("2026-05-03T00:00:00Z")];
    for (const [intent, at] of Object.entries({ early: from - 1, first: from, last: to - 1, late: to })) {
      await seedEnds(1, { at, steps: 1, intent: () => intent });
    }
    const asked = { by, from: new Date(from).toISOString(), to: new Date(to).toISOString() };
    for (const counted of [0, 4]) {
      if (counted > 0) expect(await rollUp(access(clock))).toEqual({ counted, done: true });
      const { counts, steps, series } = await stats(access(clock), asked);
      expect(counts.completed).toBe(2);
      expect(steps.map((row) => row.intent)).toEqual(["first", "last"]);
      expect([series.at(0)?.completed, series.at(-1)?.completed]).toEqual([1, 1]);
    }
  },
);

it("counts pending, running and suspended runs as of now, of one project or of all", async () => {
  const store = new D1DurableRunStore(env.DB);
  const clock = new StandingClock(NOW);
  const begin = async (projectId: string) => {
    const input = { ...aRun(), manifest: { ...MANIFEST, projectId } };
    const { fence = 0 } = await store.startOrResume(input);
    return { ...input, fence };
  };
  await begin("p");
  await begin("q");
  const parked = await begin("p");
  await store.beginStep(aStep(parked.runId, 0, { fence: parked.fence, onInterrupted: "park" }));
  const { fence = 0 } = await store.startOrResume(parked);
  await store.beginStep(aStep(parked.runId, 0, { fence, onInterrupted: "park" }));
  await store.suspendRun?.({ runId: parked.runId, workerId: parked.workerId, fence });
  const restarted = await begin("q");
  await store.beginStep(aStep(restarted.runId, 0, { fence: restarted.fence }));
  await store.endRun({ ...restarted, status: "completed" });
  await store.restartRun(restarted.runId, { fromStep: 0, dropLater: true });
  const none = { completed: 0, failed: 0, cancelled: 0 };
  const of = async (options: StatsOptions) => (await stats(access(clock), options)).counts;
  expect(await of({})).toEqual({ ...none, pending: 1, running: 2, suspended: 1 });
  expect(await of({ projectId: "p" })).toEqual({ ...none, pending: 0, running: 1, suspended: 1 });
  expect(await of({ projectId: "q" })).toEqual({ ...none, pending: 1, running: 1, suspended: 0 });
});

it("takes at most 300 uncounted runs, and says that it is behind", async () => {
  const world = new StatsWorld(NOW);
  await seedEnds(301, { at: Date.parse(NOW), steps: 1 });
  const behind = await world.stats();
  expect(behind).toMatchObject({ isBehind: true, counts: { completed: 300 }, steps: [{ steps: 300 }] });
  expect(await world.stats({ projectId: "nobody" })).toMatchObject({
    isBehind: true,
    counts: { completed: 0 },
  });
  const earlier = { from: "2026-05-01", to: "2026-05-02" };
  expect(await world.stats(earlier)).toMatchObject({ isBehind: false });
  expect(await rollUp(access(world.clock), { limit: 1 })).toEqual({ counted: 1, done: false });
  expect(await world.stats()).toMatchObject({
    isBehind: false,
    counts: { completed: 301 },
    steps: [{ steps: 301 }],
  });
});

it("looks at no run of more steps than it may read, and says that it is behind", async () => {
  const { clock } = new StatsWorld(NOW);
  await seedEnds(1, { at: clock.now(), steps: 6_001 });
  expect(await stats(access(clock))).toMatchObject({ isBehind: true, counts: { completed: 0 }, steps: [] });
  expect(await rollUp(access(clock))).toEqual({ counted: 1, done: true });
  const after = await stats(access(clock));
  expect(after).toMatchObject({ isBehind: false, counts: { completed: 1 }, steps: [{ steps: 6_001 }] });
});

it("keeps what was counted when the runs are gone", async () => {
  const world = await aFewRuns();
  const before = await world.stats();
  await world.rollUp();
  await env.DB.batch(["runs", "steps"].map((table) => env.DB.prepare(`DELETE FROM durable_${table}`)));
  expect(await world.stats()).toEqual(before);
});

it("is confined to the project that history is bound to", async () => {
  const { clock } = await aFewRuns();
  const bound = access(clock, { projectId: "other" });
  const own = await stats(bound);
  expect(own).toEqual(await stats(access(clock), { projectId: "other" }));
  expect(own.counts).toMatchObject({ completed: 1, failed: 0, cancelled: 0 });
  expect(await stats(bound, { projectId: "other" })).toEqual(own);
  expect(await refusalOf(() => stats(bound, { projectId: "p" }))).toBe("forbidden");
  expect(await refusalOf(() => rollUp(bound))).toBe("forbidden");
});

it.each([
  ["projectId", { projectId: "" }],
  ["by", { by: "month" }],
  ["from", { from: "2020-01-01" }],
  ["to", { to: "soon" }],
  ["until", { until: NOW }],
])("names %s when it refuses %j", async (field, options) => {
  const asked = stats(access(new StandingClock(NOW)), options as StatsOptions);
  expect(await asked.catch((error: unknown) => error)).toMatchObject({ code: "invalid_input", field });
});
