/** No statement of history goes through a table or an index from end to end: asked of SQLite, for each that is sent. */
import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { RunHistory } from "../../src/history/run-history.ts";
import type { RunFilter } from "../../src/history/types.ts";
import {
  AT,
  eventRow,
  insert,
  insertTags,
  iso,
  MeteredDatabase,
  runRow,
  scansOf,
  SetClock,
  stepRow,
} from "./history-world.ts";

const db = new MeteredDatabase();
const clock = new SetClock(AT + 86_400_000);
const everything = new RunHistory(db, { clock });
const ofProject = new RunHistory(db, { clock, projectId: "p" });

const FILTERS: readonly RunFilter[] = [
  { projectId: "p" },
  { scenarioId: "s" },
  { status: "completed" },
  { status: ["pending", "running", "suspended"] },
  { status: ["completed", "failed", "cancelled", "pending", "running", "suspended"] },
  { tags: { a: "1" } },
  { tags: { a: "1", b: "2" } },
  { taskId: "t" },
  { createdFrom: iso(AT) },
  { createdTo: iso(AT + 1) },
  { completedFrom: iso(AT) },
  { completedTo: iso(AT + 1_000) },
  { pass: true },
  { pass: false },
  { minScore: 0 },
  { maxScore: 1 },
  { heldBy: "w" },
  { takeoversOver: 0 },
  { takeoversOver: 3 },
];

/** A chunk's ref. */
const ref = `hash/300000/1`;

beforeAll(async () => {
  const tags = JSON.stringify({ a: "1", b: "2" });
  const ended = { completed_at: AT, tags, scenario_id: "s", outcome: '{"pass":true,"score":1}' };
  const runs = Array.from({ length: 4 }, (_one, i) => runRow(`run-${i}`, ended));
  await insert("durable_runs", runs);
  await insertTags(runs);
  const steps = Array.from({ length: 30 }, (_one, i) => stepRow("run-0", i));
  await insert("durable_steps", [...steps, stepRow("run-1", 0, { result: null, result_ref: ref })]);
  await insert(
    "durable_events",
    ["k", "l"].map((key) => eventRow("run-0", key)),
  );
  await insert("durable_chunks", [{ run_id: "run-1", ref, chunk: 0, text: `"${"x".repeat(299_998)}"` }]);
});

/** The scans of all that was sent since the last look, of which there is at least something. */
async function scans(): Promise<string[]> {
  const { statements } = db.taken();
  expect(statements.length).toBeGreaterThan(0);
  const texts = new Map(statements.map((statement) => [statement.sql, statement]));
  const found: string[] = [];
  for (const statement of texts.values()) {
    const lines = await scansOf(statement);
    found.push(...lines.map((line) => `${line} IN ${statement.sql}`));
  }
  return found;
}

describe("no statement scans", () => {
  it("of a list, with each filter alone, with each two of them and with all, and from a cursor on", async () => {
    const pairs = FILTERS.flatMap((one, i) => FILTERS.slice(0, i).map((two) => ({ ...one, ...two })));
    const questions: RunFilter[] = [{}, ...FILTERS, ...pairs, Object.assign({}, ...FILTERS) as RunFilter];
    for (const filter of questions) {
      const { cursor } = await everything.list({ ...filter, limit: 1 });
      if (cursor) await everything.list({ ...filter, limit: 1, cursor });
      const { projectId: _any, ...others } = filter;
      await ofProject.list(others);
    }
    expect(await scans()).toEqual([]);
  });

  it("of a run, its steps and its events", async () => {
    for (const history of [everything, ofProject]) {
      await history.get("run-0");
      const { cursor } = await history.steps("run-0", { limit: 10 });
      await history.steps("run-0", { limit: 10, cursor: cursor ?? "", results: false });
      await history.step("run-1", 0);
      const page = await history.events("run-0", { limit: 1 });
      await history.events("run-0", { limit: 1, cursor: page.cursor ?? "" });
      await history.event("run-0", "k");
    }
    expect(await scans()).toEqual([]);
  });

  it("of what is stuck", async () => {
    const late = { due_at: AT, lag_ms: 20_000, status: "running" };
    await insert("durable_runs", [runRow("stuck-1", late), runRow("stuck-2", late)]);
    const { cursor } = await everything.stuck({ limit: 1 });
    await everything.stuck({ limit: 1, cursor: cursor ?? "" });
    await ofProject.stuck();
    expect(await scans()).toEqual([]);
  });

  it("of a purge, of parts and of whole runs", async () => {
    const before = iso(AT + 1_000);
    await everything.purge({ before, limit: 10, status: "failed" });
    const { cursor } = await ofProject.purge({ before, limit: 10 });
    await ofProject.purge({ before, limit: 10, cursor: cursor ?? "" });
    while (!(await everything.purge({ before, limit: 3 })).done);
    expect(db.sent.filter(({ sql }) => sql.startsWith("DELETE")).length).toBeGreaterThan(8);
    expect(await scans()).toEqual([]);
  });
});

it("a statement that does scan would be found", async () => {
  const looks = [
    "SELECT count(*) FROM durable_runs",
    "SELECT run_id FROM durable_runs AS r WHERE takeovers = 7",
    "SELECT max(started_at) FROM durable_steps",
    "SELECT run_id FROM durable_runs ORDER BY created_at LIMIT 1",
  ];
  for (const sql of looks) expect(await scansOf({ sql, values: [] })).toHaveLength(1);
  const { results } = await env.DB.prepare("EXPLAIN QUERY PLAN SELECT 1").all();
  expect(results).toHaveLength(1);
});
