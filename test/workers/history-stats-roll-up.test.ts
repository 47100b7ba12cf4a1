/** What rollUp counts: each end once, whatever comes between, and within bounds. */
import { env } from "cloudflare:workers";
import { beforeEach, expect, it } from "vitest";
import { codeOf } from "../../src/contract/errors.ts";
import { rollUp } from "../../src/history/roll-up.ts";
import { stats } from "../../src/history/stats.ts";
import { newRunId } from "../../src/identity.ts";
import { CoordinatedDurableRunStore } from "../../src/stores/coordinated/store.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { FaultyDatabase } from "../../src/testing/faulty-database.ts";
import { aRun, aStep, MANIFEST } from "../../src/testing/harness.ts";
import {
  access,
  aFewRuns,
  clear,
  NOW,
  seedEnds,
  StandingClock,
  StatsWorld,
  STRIDES,
} from "./history-stats-world.ts";

beforeEach(clear);

it("counts nothing twice when it is repeated or raced", async () => {
  const world = await aFewRuns();
  const before = await world.stats();
  const answers = await Promise.all([1, 2, 3].map(() => rollUp(access(world.clock), { limit: 3 })));
  expect(answers.reduce((sum, { counted }) => sum + counted, 0)).toBe(4);
  expect(await rollUp(access(world.clock))).toEqual({ counted: 0, done: true });
  expect(await world.stats()).toEqual(before);
});

it("counts all or nothing when D1 fails, and is simply called again", async () => {
  const world = await aFewRuns();
  const before = await world.stats();
  const db = new FaultyDatabase(env.DB, world.clock);
  for (const [fault, left] of [
    ["before", 4],
    ["after", 0],
  ] as const) {
    db.fault = () => fault;
    const error = await rollUp(access(world.clock, { db })).catch((refusal: unknown) => refusal);
    expect(codeOf(error)).toBe("store_unavailable");
    expect(await world.stats()).toEqual(before);
    const { results } = await env.DB.prepare(
      "SELECT run_id FROM durable_runs WHERE counted_at IS NULL",
    ).all();
    expect(results).toHaveLength(left);
  }
  expect(db.faults).toBe(2);
  expect(await rollUp(access(world.clock))).toEqual({ counted: 0, done: true });
  expect(await world.stats()).toEqual(before);
});

it("counts each step once when runs go on while it counts", async () => {
  const world = new StatsWorld(NOW);
  const runIds = Array.from({ length: 12 }, (_none, i) => `run-${i}`);
  for (const runId of runIds)
    await world.play(runId, { strides: [{ ms: 5, fails: false }], status: "failed" });
  const goOn = async (): Promise<void> => {
    for (const runId of runIds)
      await world.play(runId, { strides: [{ ms: 5, fails: false }], status: "completed" });
  };
  const count = async (): Promise<void> => {
    for (let i = 0; i < 20; i += 1) await rollUp(access(world.clock), { limit: 2 });
  };
  await Promise.all([goOn(), count()]);
  for (const _when of ["before the last roll-up", "after it"]) {
    const { counts, steps } = await world.stats();
    expect(counts.completed).toBe(12);
    expect(counts.failed).toBeLessThanOrEqual(12);
    expect(steps.map((row) => [row.intent, row.steps, row.attempts])).toEqual([
      ["intent-0", 12, 12],
      ["intent-1", 12, 12],
    ]);
    expect((await rollUp(access(world.clock))).done).toBe(true);
  }
});

it("counts both ends of a run that a coordinator restarted, and the steps of each", async () => {
  const clock = new StandingClock(new Date().toISOString());
  const store = new CoordinatedDurableRunStore(env.RUNS);
  const input = aRun();
  const { runId } = input;
  for (const ended of [1, 2]) {
    const { fence = 0 } = await store.startOrResume(input);
    for (let stepIndex = ended - 1; stepIndex < 2; stepIndex += 1) {
      await store.beginStep(aStep(runId, stepIndex, { fence }));
      await store.completeStep({ runId, stepIndex, fence, result: null });
    }
    await store.endRun({ ...input, fence, status: "completed" });
    clock.advance(Date.now() - clock.now());
    expect((await stats(access(clock))).counts.completed).toBe(ended);
    expect(await rollUp(access(clock))).toEqual({ counted: 1, done: true });
    const { counts, steps } = await stats(access(clock));
    expect(counts.completed).toBe(ended);
    expect(steps.map((row) => [row.intent, row.steps])).toEqual(
      ended === 1
        ? [
            ["step-0", 1],
            ["step-1", 1],
          ]
        : [
            ["step-1", 2],
            ["step-0", 1],
          ],
    );
    if (ended === 1) await store.restartRun(runId, { fromStep: 1, dropLater: true });
  }
});

it("counts no step of a forked run that it was begun with", async () => {
  const world = new StatsWorld(NOW);
  const source = newRunId();
  await world.play(source, { strides: STRIDES, status: "completed" });
  const store = new D1DurableRunStore(env.DB, { clock: world.clock });
  store.now = () => world.clock.now();
  world.clock.advance(1_000);
  const forkId = newRunId();
  await store.forkRun(source, forkId, { throughStep: 0 });
  const input = { ...aRun(), runId: forkId, manifest: { ...MANIFEST, projectId: "p" } };
  const { fence = 0, completedSteps } = await store.startOrResume(input);
  expect(completedSteps).toHaveLength(1);
  await store.endRun({ ...input, fence, status: "completed" });
  for (const _when of ["before the roll-up", "after it"]) {
    const { counts, steps } = await world.stats();
    expect(counts.completed).toBe(2);
    expect(steps.map((row) => row.steps)).toEqual([1, 1]);
    expect((await rollUp(access(world.clock))).done).toBe(true);
  }
});

it("stops before 10,000 positions of steps, and takes a longer run alone", async () => {
  const clock = new StandingClock(NOW);
  await seedEnds(3, { at: clock.now() - 60_000, steps: 4_000 });
  await seedEnds(1, { at: clock.now(), steps: 10_001 });
  expect(await rollUp(access(clock))).toEqual({ counted: 2, done: false });
  expect(await rollUp(access(clock))).toEqual({ counted: 1, done: false });
  expect(await rollUp(access(clock))).toEqual({ counted: 1, done: true });
  expect((await stats(access(clock))).steps).toMatchObject([{ steps: 22_001 }]);
});

it("keeps one row for each hour, day and month, of the project and of all", async () => {
  for (const at of [
    "2026-04-02T10:59:59.999Z",
    "2026-04-02T11:00:00Z",
    "2026-04-30T23:00:00Z",
    "2026-05-01T00:00:00Z",
  ]) {
    await seedEnds(1, { at: Date.parse(at), steps: 1 });
    expect(await rollUp(access(new StandingClock(NOW)))).toEqual({ counted: 1, done: true });
  }
  const query =
    "SELECT unit, began_at, steps FROM durable_step_stats WHERE project_id = ?1 ORDER BY unit, began_at";
  for (const scope of ["p", ""]) {
    const { results } = await env.DB.prepare(query)
      .bind(scope)
      .all<{ unit: string; began_at: number; steps: number }>();
    expect(
      results.map((row) => [row.unit, new Date(row.began_at).toISOString().slice(0, 13), row.steps]),
    ).toEqual([
      ["day", "2026-04-02T00", 2],
      ["day", "2026-04-30T00", 1],
      ["day", "2026-05-01T00", 1],
      ["hour", "2026-04-02T10", 1],
      ["hour", "2026-04-02T11", 1],
      ["hour", "2026-04-30T23", 1],
      ["hour", "2026-05-01T00", 1],
      ["month", "2026-04-01T00", 3],
      ["month", "2026-05-01T00", 1],
    ]);
  }
});

it("keeps 500 rows for a project and period, and puts what comes later under no name", async () => {
  const clock = new StandingClock(NOW);
  const rowsOf = async (projectId: string) =>
    (
      await env.DB.prepare(
        "SELECT unit, count(*) AS rows, sum(steps) AS steps, sum(steps) FILTER (WHERE intent = '') AS nameless FROM durable_step_stats WHERE project_id = ?1 GROUP BY unit ORDER BY unit",
      )
        .bind(projectId)
        .all()
    ).results;
  const inEach = (row: object): object[] => ["day", "hour", "month"].map((unit) => ({ unit, ...row }));
  await seedEnds(1, { at: clock.now() - 2, steps: 450, intent: (stepIndex) => `first ${stepIndex}` });
  await rollUp(access(clock));
  expect(await rowsOf("p")).toEqual(inEach({ rows: 450, steps: 450, nameless: null }));
  await seedEnds(1, { at: clock.now() - 1, steps: 60, intent: (stepIndex) => `then ${stepIndex}` });
  await rollUp(access(clock));
  for (const scope of ["p", ""]) {
    expect(await rowsOf(scope)).toEqual(inEach({ rows: 501, steps: 510, nameless: 10 }));
  }
  // Those that have a row keep it.
  await seedEnds(1, { at: clock.now(), steps: 40, intent: (stepIndex) => `first ${stepIndex + 430}` });
  await rollUp(access(clock));
  expect(await rowsOf("p")).toEqual(inEach({ rows: 501, steps: 550, nameless: 30 }));
  const { steps } = await stats(access(clock));
  expect(steps).toHaveLength(100);
  expect(steps[0]).toMatchObject({ intent: "", steps: 30 });
  expect(steps[1]).toMatchObject({ intent: "first 430", steps: 2 });
});

it.each([0, 501, 1.5, "9"])("refuses a limit of %j", async (limit) => {
  const asked = rollUp(access(new StandingClock(NOW)), { limit: limit as number });
  expect(await asked.catch((error: unknown) => error)).toMatchObject({
    code: "invalid_input",
    field: "limit",
  });
});
