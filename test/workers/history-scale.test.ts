/**
 * A database of 100,000 runs: what a call reads of it is bounded, wherever it looks. Counted in rows, which depend on no
 * machine; for milliseconds see docs/history.md.
 */
import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { RunHistory } from "../../src/history/run-history.ts";
import type { ListRunsOptions } from "../../src/history/types.ts";
import { WALK_ROWS } from "../../src/history/walk.ts";
import { AT, iso, MeteredDatabase, SetClock } from "./history-world.ts";

const RUNS = 100_000;
const STEPS = 20;
const LATER = AT + RUNS * 1_000 + 86_400_000;

const db = new MeteredDatabase();
const history = new RunHistory(db, { clock: new SetClock(LATER) });

/** ?1 and ?2: the first run, and the one after the last. D1 takes a number for a real one. */
const SEED_RUNS = `
WITH RECURSIVE n(i) AS (SELECT CAST(?1 AS INTEGER) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?2)
INSERT INTO durable_runs (run_id, manifest_hash, project_id, scenario_id, status, fence, takeovers, revision, worker_id,
  claim_request_id, lease_ms, lease_expires_at, created_at, updated_at, completed_at, tags, task, input, outcome, due_at, lag_ms)
SELECT printf('run-%06d', i), 'hash', 'project-' || (i % 10), iif(i % 3 = 0, 'scenario-' || (i % 97), NULL),
  CASE WHEN i % 200 = 0 THEN 'running' WHEN i % 200 = 1 THEN 'suspended' WHEN i % 20 = 3 THEN 'failed' ELSE 'completed' END,
  1, iif(i % 100 = 0, i % 7, 0), 45, 'worker-' || (i % 50), 'r', 30000, iif(i % 200 = 0, ${AT}, NULL),
  ${AT} + i * 1000, ${AT} + i * 1000, iif(i % 200 > 1, ${AT} + i * 1000 + 60000, NULL),
  json_object('env', iif(i % 5 = 0, 'dev', 'prod'), 'customer', 'c' || (i % 1000)),
  json_object('id', 'task-' || (i % 30), 'intent', 'test'), '{}',
  iif(i % 200 > 1, json_object('pass', json(iif(i % 10 = 0, 'false', 'true')), 'score', (i % 101) / 100.0), NULL),
  iif(i % 200 = 0, ${AT} + i * 1000, NULL), iif(i % 200 < 2 AND i % 1000 < 2, 20000, i % 50)
FROM n`;

const SEED_TAGS = `
INSERT INTO durable_tags (key, value, run_id, created_at)
SELECT tag.key, tag.value, r.run_id, r.created_at FROM durable_runs AS r CROSS JOIN json_each(r.tags) AS tag
WHERE r.run_id >= printf('run-%06d', ?1) AND r.run_id < printf('run-%06d', ?2)`;

const SEED_STEPS = `
WITH RECURSIVE n(i) AS (SELECT CAST(?1 AS INTEGER) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?2),
k(j) AS (SELECT 0 UNION ALL SELECT j + 1 FROM k WHERE j + 1 < ${STEPS})
INSERT INTO durable_steps (run_id, step_index, intent, kind, input_hash, status, attempts, fence, revision, worker_id,
  begin_request_id, started_at, completed_at, result)
SELECT printf('run-%06d', i), j, 'step', 'tool', '', 'completed', 1, 1, 1, 'w', 'b', ${AT}, ${AT} + 1, '{}'
FROM n CROSS JOIN k`;

beforeAll(async () => {
  for (let at = 0; at < RUNS; at += 10_000) {
    for (const sql of [SEED_RUNS, SEED_TAGS, SEED_STEPS])
      await env.DB.prepare(sql)
        .bind(at, at + 10_000)
        .run();
  }
}, 120_000);

/** A walk along the index to find its end, then rows of it with those that they lead to; and a page. */
const MOST_ROWS = 5 * WALK_ROWS + 1_000;

const at = (i: number) => iso(AT + i * 1_000);

describe(`of ${RUNS} runs with ${STEPS} steps each`, () => {
  it.each<[string, ListRunsOptions]>([
    ["everything", {}],
    ["a project", { projectId: "project-3" }],
    ["a scenario", { scenarioId: "scenario-5" }],
    ["those running", { status: "running" }],
    ["those completed", { status: "completed" }],
    ["those not ended", { status: ["pending", "running", "suspended"] }],
    ["all statuses but one", { status: ["pending", "running", "suspended", "failed", "completed"] }],
    ["a rare tag", { tags: { customer: "c77" } }],
    ["a common tag and a rare one", { tags: { env: "prod", customer: "c77" } }],
    ["a tag that no run has", { tags: { customer: "nobody" } }],
    ["tags that no run has together", { tags: { customer: "c5", env: "prod" } }],
    ["a task", { taskId: "task-7" }],
    ["a range of creation in the middle", { createdFrom: at(50_000), createdTo: at(50_100) }],
    ["a range of completion in the middle", { completedFrom: at(50_000), completedTo: at(50_100) }],
    ["the failed of a range of completion", { status: "failed", completedTo: at(50_000) }],
    ["those that passed", { pass: true }],
    ["those that did not", { pass: false }],
    ["high scores", { minScore: 0.995 }],
    ["scores that no run has", { minScore: 2 }],
    ["a worker", { heldBy: "worker-0" }],
    ["a worker that holds none", { heldBy: "worker-1" }],
    ["those often taken over", { takeoversOver: 5 }],
    ["a project and a task that have no run in common", { projectId: "project-3", taskId: "task-4" }],
    ["a project, outcome and range", { projectId: "project-3", pass: false, createdTo: at(20_000) }],
  ])("a page of %s reads a bounded number of rows, and so does one far down", async (_what, options) => {
    db.taken();
    let { cursor } = await history.list(options);
    expect(db.taken().rowsRead).toBeLessThan(MOST_ROWS);
    for (let pages = 0; cursor && pages < 5; pages += 1) {
      ({ cursor } = await history.list({ ...options, limit: 200, cursor }));
      expect(db.taken().rowsRead).toBeLessThan(MOST_ROWS);
    }
  });

  it("a run, a page of its steps and its events read those alone", async () => {
    expect((await history.list({ projectId: "project-3", pass: false, limit: 7 })).cursor).toBeDefined();
    expect((await history.list({ scenarioId: "scenario-5", limit: 7 })).runs).toHaveLength(7);
    db.taken();
    expect(await history.get("run-050000")).toMatchObject({ stepCount: STEPS });
    expect(db.taken().rowsRead).toBeLessThan(2 * STEPS);
    expect((await history.steps("run-050000")).steps).toHaveLength(STEPS);
    expect(db.taken().rowsRead).toBeLessThan(6 * STEPS);
    expect((await history.events("run-050000")).events).toEqual([]);
    expect(db.taken().rowsRead).toBeLessThan(10);
  });

  it("what is stuck is found among those that are due or late, also for a project that has none", async () => {
    for (const options of [{}, { limit: 200 }, { projectId: "project-0" }, { projectId: "project-9" }]) {
      db.taken();
      await history.stuck(options);
      expect(db.taken().rowsRead).toBeLessThan(MOST_ROWS);
    }
  });

  it("a purge reads a few times what it deletes", async () => {
    db.taken();
    const { rows, runs, done } = await history.purge({ before: at(50_000), projectId: "project-3" });
    expect({ done, atLeast: rows > 900 && rows <= 1_200 && runs > 40 }).toEqual({
      done: false,
      atLeast: true,
    });
    expect(db.taken().rowsRead).toBeLessThan(20_000);
  });
});
