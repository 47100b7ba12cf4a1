/** RunHistory.purge: what it deletes, what it leaves, and how it goes on after it was cut short. */
import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, it } from "vitest";
import { RunHistory } from "../../src/history/run-history.ts";
import type { PurgeOptions } from "../../src/history/types.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { FaultyDatabase } from "../../src/testing/faulty-database.ts";
import { aRun, aStep } from "../../src/testing/harness.ts";
import type { Cells } from "./history-world.ts";
import { AT, eventRow, insert, insertTags, iso, runRow, SetClock, stepRow } from "./history-world.ts";

const TABLES = ["durable_runs", "durable_steps", "durable_events", "durable_chunks", "durable_tags"];
const HOUR = 3_600_000;
const clock = new SetClock(AT + 100 * HOUR);
const history = new RunHistory(env.DB, { clock });
const before = iso(AT + 50 * HOUR);

beforeEach(async () => {
  for (const table of TABLES) await env.DB.exec(`DELETE FROM ${table}`);
});

/** Of each table; of one run, or of all. */
async function rowsLeft(runId?: string): Promise<number[]> {
  const counts: number[] = [];
  for (const table of TABLES) {
    const query = `SELECT count(*) AS n FROM ${table} WHERE ?1 IS NULL OR run_id = ?1`;
    counts.push(
      (
        await env.DB.prepare(query)
          .bind(runId ?? null)
          .first<{ n: number }>()
      )?.n ?? -1,
    );
  }
  return counts;
}

/** With 3 steps, 2 events, 1 chunk and 2 tags: 9 rows. */
async function anEndedRun(runId: string, more: Cells = {}): Promise<void> {
  const run = runRow(runId, { completed_at: AT, tags: '{"a":"1","b":"2"}', ...more });
  await insert("durable_runs", [run]);
  await insertTags([run]);
  await insert(
    "durable_steps",
    [0, 1, 2].map((stepIndex) => stepRow(runId, stepIndex)),
  );
  await insert(
    "durable_events",
    ["k", "l"].map((key) => eventRow(runId, key)),
  );
  await insert("durable_chunks", [{ run_id: runId, ref: "hash/1/1", chunk: 0, text: "x" }]);
}

async function untilDone(options: PurgeOptions): Promise<{ runs: number; rows: number; calls: number }> {
  const sum = { runs: 0, rows: 0, calls: 0 };
  for (;;) {
    const { runs, rows, done } = await history.purge(options);
    sum.runs += runs;
    sum.rows += rows;
    sum.calls += 1;
    if (done) return sum;
  }
}

describe("a purge", () => {
  it("deletes what ended before, with all that belongs to it, and nothing else", async () => {
    await anEndedRun("old");
    await anEndedRun("failed", { status: "failed" });
    await anEndedRun("cancelled", { status: "cancelled" });
    await anEndedRun("at-the-bound", { completed_at: AT + 50 * HOUR });
    await anEndedRun("running", { status: "running", completed_at: null });
    expect(await history.purge({ before })).toEqual({ runs: 3, rows: 27, done: true });
    for (const runId of ["old", "failed", "cancelled"])
      expect(await rowsLeft(runId)).toEqual([0, 0, 0, 0, 0]);
    for (const runId of ["at-the-bound", "running"]) expect(await rowsLeft(runId)).toEqual([1, 3, 2, 1, 2]);
    expect(await history.purge({ before })).toEqual({ runs: 0, rows: 0, done: true });
  });

  it("keeps to its statuses and its project", async () => {
    await anEndedRun("mine", { status: "failed" });
    await anEndedRun("completed");
    await anEndedRun("foreign", { status: "failed", project_id: "q" });
    expect(await history.purge({ before, status: "failed", projectId: "p" })).toMatchObject({
      runs: 1,
      done: true,
    });
    expect(await rowsLeft("mine")).toEqual([0, 0, 0, 0, 0]);
    const scoped = new RunHistory(env.DB, { clock, projectId: "q" });
    expect(await scoped.purge({ before })).toMatchObject({ runs: 1, done: true });
    expect(await rowsLeft()).toEqual([1, 3, 2, 1, 2]);
    expect(await rowsLeft("completed")).toEqual([1, 3, 2, 1, 2]);
  });

  it("deletes about as many rows as it is told to, and the next one goes on, with a cursor or without", async () => {
    for (let i = 0; i < 10; i += 1) await anEndedRun(`run-${i}`, { completed_at: AT + i });
    const first = await history.purge({ before, limit: 20 });
    expect(first).toMatchObject({ done: false, cursor: expect.any(String) as string });
    expect(first.rows).toBeGreaterThanOrEqual(20);
    expect(first.rows).toBeLessThan(30);
    const second = await history.purge({ before, limit: 20, cursor: first.cursor ?? "" });
    const rest = await untilDone({ before, limit: 20 });
    expect(first.rows + second.rows + rest.rows).toBe(90);
    expect(first.runs + second.runs + rest.runs).toBe(10);
    expect(await rowsLeft()).toEqual([0, 0, 0, 0, 0]);
  });

  it("takes a run with many steps in parts, from the last step down, and the run's row last", async () => {
    await anEndedRun("long");
    const more = Array.from({ length: 5_000 }, (_one, i) => stepRow("long", i + 3));
    await insert("durable_steps", more);
    expect(await history.purge({ before, limit: 1_500 })).toMatchObject({
      runs: 0,
      rows: 1_500,
      done: false,
    });
    const left = await env.DB.prepare(
      "SELECT count(*) AS n, max(step_index) AS last FROM durable_steps",
    ).first();
    expect(left).toEqual({ n: 3_503, last: 3_502 });
    expect((await rowsLeft("long"))[0]).toBe(1);
    const { rows, runs, calls } = await untilDone({ before, limit: 1_500 });
    expect({ rows, runs }).toEqual({ rows: 3_509, runs: 1 });
    expect(calls).toBeGreaterThan(2);
    expect(await rowsLeft()).toEqual([0, 0, 0, 0, 0]);
  });

  it("cut short leaves a completed run its input and result, however large they are", async () => {
    const started = new SetClock(AT);
    const store = new D1DurableRunStore(env.DB, { clock: started });
    const large = "x".repeat(300_000);
    const run = aRun();
    const input = { ...run, manifest: { ...run.manifest, input: { large } } };
    const { runId, workerId } = input;
    const { fence = 0 } = await store.startOrResume(input);
    await store.beginStep(aStep(runId, 0, { fence }));
    await store.completeStep({ runId, stepIndex: 0, fence, result: `${large} of a step` });
    await store.endRun({ runId, workerId, fence, status: "completed", result: `${large} of the run` });
    expect((await rowsLeft(runId))[3]).toBe(3);
    for (let rows = 1; rows <= 2; rows += 1) {
      expect(await history.purge({ before, limit: 1 })).toMatchObject({ runs: 0, rows: 1, done: false });
      const resumed = await new D1DurableRunStore(env.DB, { clock: started }).startOrResume(input);
      expect(resumed.run).toMatchObject({ status: "completed", result: `${large} of the run` });
    }
    expect(await rowsLeft(runId)).toEqual([1, 0, 0, 2, 1]);
    // Nothing is left that could go before the row, so it goes, though it is more than was asked for.
    expect(await history.purge({ before, limit: 1 })).toMatchObject({ runs: 1 });
    expect(await rowsLeft(runId)).toEqual([0, 0, 0, 0, 0]);
  });

  it.each(["before", "after"] as const)(
    "whose answer is lost (%s the commit) is made again, to the same end",
    async (fault) => {
      for (let i = 0; i < 4; i += 1) await anEndedRun(`run-${i}`);
      const db = new FaultyDatabase(env.DB, clock);
      const faulty = new RunHistory(db, { clock });
      for (let broken = 1; broken < 8; broken += 1) {
        db.fault = ({ number }) => (number % 2 === broken % 2 ? fault : "none");
        await faulty.purge({ before, limit: 5 }).catch((error: unknown) => {
          expect(error).toMatchObject({ code: "store_unavailable" });
        });
      }
      expect(db.faults).toBeGreaterThan(0);
      db.fault = () => "none";
      while (!(await faulty.purge({ before, limit: 5 })).done);
      expect(await rowsLeft()).toEqual([0, 0, 0, 0, 0]);
    },
  );

  it("leaves a run alone that was claimed between its look and its deletion", async () => {
    const started = new SetClock(AT);
    const store = new D1DurableRunStore(env.DB, { clock: started });
    const input = aRun();
    const { runId, workerId } = input;
    const { fence = 0 } = await store.startOrResume(input);
    await store.beginStep(aStep(runId, 0, { fence }));
    await store.completeStep({ runId, stepIndex: 0, fence, result: 7 });
    await store.endRun({ runId, workerId, fence, status: "failed" });
    let batches = 0;
    const overtaken = new RunHistory(
      {
        prepare: (sql) => env.DB.prepare(sql) as never,
        batch: async (statements) => {
          batches += 1;
          if (batches === 2) await store.startOrResume(input);
          return env.DB.batch(statements as never);
        },
      },
      { clock },
    );
    expect(await overtaken.purge({ before })).toEqual({ runs: 0, rows: 0, done: true });
    expect(batches).toBe(2);
    expect(await store.loadStep(runId, 0)).toMatchObject({ result: 7 });
    expect(await history.list({ tags: input.manifest.tags ?? {} })).toMatchObject({ runs: [{ runId }] });
  });

  it("twice at once deletes each row once", async () => {
    for (let i = 0; i < 30; i += 1) await anEndedRun(`run-${i}`);
    const both = await Promise.all([history.purge({ before }), history.purge({ before })]);
    expect(both.reduce((sum, { rows }) => sum + rows, 0)).toBe(270);
    expect(await rowsLeft()).toEqual([0, 0, 0, 0, 0]);
  });
});

describe("a bad purge", () => {
  it.each<[string, unknown]>([
    ["before", undefined],
    ["before", "soon"],
    ["before", iso(AT + 100 * HOUR)],
    ["before", iso(AT + 98 * HOUR + 1)],
    ["status", "running"],
    ["limit", 0],
    ["limit", 10_001],
    ["cursor", "x"],
    ["olderThan", "2020-01-01"],
  ])("is refused by the name of its field: %s %j", async (field, value) => {
    await anEndedRun("old");
    const purge = () => history.purge({ before, [field]: value });
    await expect(purge).rejects.toMatchObject({ code: "invalid_input", field });
    expect((await rowsLeft())[0]).toBe(1);
  });

  it("may reach up to two hours before now", async () => {
    await anEndedRun("old");
    expect(await history.purge({ before: iso(AT + 98 * HOUR) })).toMatchObject({ runs: 1, done: true });
  });
});
