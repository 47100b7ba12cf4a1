/**
 * Statistics over 100,000 runs: no statement scans a table, with and without what ANALYZE tells the planner, and each call
 * reads a bounded number of rows, whether the runs are counted or not.
 */
import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { COUNT_RUNS, COUNT_STEPS, HAS_UNCOUNTED, MARK_COUNTED, rollUp } from "../../src/history/roll-up.ts";
import {
  COUNT_ACTIVE,
  SELECT_COUNTED_RUNS,
  SELECT_STEP_STATS,
  SELECT_TAIL_RUNS,
  stats,
} from "../../src/history/stats.ts";
import type { D1DatabaseLike } from "../../src/stores/d1/database.ts";
import { access, StandingClock } from "./history-stats-world.ts";

const NOW = Date.parse("2026-05-20T10:20:30.000Z");
const RUNS = 100_000;
const clock = new StandingClock(new Date(NOW).toISOString());
const MONTH = { from: new Date(NOW - 31 * 86_400_000).toISOString() };

/** What CHOSEN takes. */
const CHOOSE = [0, NOW, 200, 10_000, 1];
const STATEMENTS: Record<string, [sql: string, values: unknown[]]> = {
  COUNT_ACTIVE: [COUNT_ACTIVE, ["p"]],
  SELECT_COUNTED_RUNS: [SELECT_COUNTED_RUNS, ["hour", "p", 0, NOW]],
  SELECT_TAIL_RUNS: [SELECT_TAIL_RUNS, [...CHOOSE, "p", "hour"]],
  SELECT_STEP_STATS: [SELECT_STEP_STATS, [...CHOOSE, "p", `[["hour", 0, ${NOW}]]`]],
  COUNT_RUNS: [COUNT_RUNS, CHOOSE],
  COUNT_STEPS: [COUNT_STEPS, CHOOSE],
  MARK_COUNTED: [MARK_COUNTED, CHOOSE],
  HAS_UNCOUNTED: [HAS_UNCOUNTED, []],
};

/** What may be scanned: json_each, and what a statement has gathered by itself. `run` is `chosen`. */
const OWN_ROWS =
  /^SCAN (\(?subquery-\d+\)?|CONSTANT ROW|(active|unit|scope|piece|json_each)( VIRTUAL TABLE INDEX .*)?|candidates|chosen|run|ended|by_hour|named|periods|ranked)$/;

async function planOf([sql, values]: [string, unknown[]]): Promise<string[]> {
  const prepared = env.DB.prepare(`EXPLAIN QUERY PLAN ${sql}`).bind(...values);
  return (await prepared.all<{ detail: string }>()).results.map((row) => row.detail);
}

/** Two months: a tenth failed, and of the latest 1,000, a fifth is running. Each 72nd, about one an hour, has 20 steps. */
async function seed(): Promise<void> {
  const insertRuns = env.DB.prepare(`
    WITH RECURSIVE n(i) AS (SELECT CAST(?1 AS INTEGER) UNION ALL SELECT i + 1 FROM n WHERE i < ?1 + 19999)
    INSERT INTO durable_runs (run_id, manifest_hash, project_id, status, fence, takeovers, revision, worker_id,
      claim_request_id, lease_ms, created_at, updated_at, completed_at, task)
    SELECT 'run-' || i, 'h', 'p', CASE WHEN i < 1000 AND i % 5 = 0 THEN 'running' WHEN i % 10 = 9 THEN 'failed' ELSE 'completed' END,
      1, 0, 1, 'w', 'c', 1, at - 500, at, iif(i < 1000 AND i % 5 = 0, NULL, at), '{"id":"t"}'
    FROM (SELECT i, CAST(?2 - i * 50000 AS INTEGER) AS at FROM n)`);
  for (let i = 0; i < RUNS; i += 20_000) await insertRuns.bind(i, NOW).run();
  const insertSteps = env.DB.prepare(`
    WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 19)
    INSERT INTO durable_steps (run_id, step_index, intent, kind, input_hash, status, attempts, fence, revision, worker_id,
      begin_request_id, started_at, completed_at)
    SELECT run_id, i, 'intent-' || i, 'llm', '', 'completed', 1, 1, 1, 'w', 'b', created_at, updated_at
    FROM json_each(?1) AS each JOIN durable_runs ON run_id = 'run-' || each.value CROSS JOIN n`);
  await insertSteps.bind(JSON.stringify(Array.from({ length: RUNS / 72 }, (_none, i) => i * 72))).run();
}

/** What a call reads and writes, by statement. */
async function costOf(
  call: (db: D1DatabaseLike) => Promise<unknown>,
): Promise<{ read: number; written: number }> {
  let [read, written] = [0, 0];
  const measured: D1DatabaseLike = {
    prepare: (query) => env.DB.prepare(query),
    async batch(statements) {
      const answers = await env.DB.batch(statements as D1PreparedStatement[]);
      for (const { meta } of answers) {
        read += meta.rows_read;
        written += meta.rows_written;
      }
      return answers;
    },
  };
  await call(measured);
  return { read, written };
}

beforeAll(seed, 120_000);

describe.each(["without statistics of its own", "after ANALYZE"])("the planner, %s,", (when) => {
  beforeAll(async () => {
    if (when === "after ANALYZE") await env.DB.prepare("ANALYZE").run();
  });

  it.each(Object.entries(STATEMENTS))("searches for all that %s reads", async (_name, statement) => {
    const plan = await planOf(statement);
    expect(plan.some((detail) => detail.startsWith("SEARCH"))).toBe(true);
    expect(plan.filter((detail) => detail.startsWith("SCAN") && !OWN_ROWS.test(detail))).toEqual([]);
  });

  it("takes active runs from an index alone, and uncounted ones from the index of those", async () => {
    const active = "SEARCH durable_runs USING COVERING INDEX durable_runs_by_status (status=?)";
    expect(await planOf(STATEMENTS["COUNT_ACTIVE"] ?? ["", []])).toContain(active);
    for (const name of [
      "SELECT_TAIL_RUNS",
      "SELECT_STEP_STATS",
      "COUNT_RUNS",
      "COUNT_STEPS",
      "MARK_COUNTED",
    ]) {
      const plan = await planOf(STATEMENTS[name] ?? ["", []]);
      expect(plan.join("\n")).toMatch(
        /SEARCH durable_runs USING INDEX durable_runs_uncounted \(completed_at>\? AND/,
      );
    }
  });
});

describe("over 100,000 runs", () => {
  it("of which none is counted, stats and rollUp read a part", async () => {
    const found = await env.DB.prepare("SELECT count(*) AS runs FROM durable_runs").first<{ runs: number }>();
    expect(found?.runs).toBe(RUNS);
    const asked = await costOf(async (db) => {
      const answered = await stats(access(clock, { db }), MONTH);
      expect(answered).toMatchObject({ isBehind: true, counts: { running: 200 } });
      expect(answered.counts.completed + answered.counts.failed).toBe(300);
    });
    expect(asked.read).toBeLessThan(6_000);
    const rolled = await costOf(async (db) => {
      expect(await rollUp(access(clock, { db }))).toEqual({ counted: 200, done: false });
    });
    expect(rolled.read).toBeLessThan(20_000);
    expect(rolled.written).toBeLessThan(1_000);
  });

  it("of which all are counted, stats reads a row for each hour, and few for steps", async () => {
    while (!(await rollUp(access(clock), { limit: 500 })).done);
    const month = await costOf(async (db) => {
      const answered = await stats(access(clock, { db }), MONTH);
      expect(answered.isBehind).toBe(false);
      expect(answered.series).toHaveLength(745);
      // One each 50 seconds, but for those that run.
      const ends = (NOW - Date.parse(answered.from)) / 50_000 - 200;
      expect(Math.abs(answered.counts.completed + answered.counts.failed - ends)).toBeLessThanOrEqual(1);
      expect(answered.steps).toHaveLength(20);
    });
    expect(month.read).toBeLessThan(3_500);
    const day = await costOf((db) => stats(access(clock, { db })));
    expect(day.read).toBeLessThan(1_500);
    const all = await stats(access(clock), { by: "day", from: "2026-01-01" });
    expect(all.counts).toMatchObject({ running: 200, completed: 89_800, failed: 10_000 });
  });
});
