/**
 * From one version of the tables to the next: a database, and an object's storage, that the version before has filled.
 * The database of this file is its own, and is made anew by each test.
 */
import { abortAllDurableObjects, applyD1Migrations, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, it } from "vitest";
import { CREATE_ROWS } from "../../src/coordinator/rows.ts";
import type { DurableRunStore } from "../../src/contract/types.ts";
import { manifestHash, newRunId } from "../../src/identity.ts";
import { RunHistory } from "../../src/history/run-history.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { aRun, aStep, MANIFEST, refusalOf } from "../../src/testing/harness.ts";
import { recordedRun, recordedStep, store, stubOf } from "./coordinator-world.ts";
import { drained } from "./disasters.ts";

const TABLES = ["durable_runs", "durable_steps", "durable_events", "durable_chunks"];
const NEWEST = env.TEST_MIGRATIONS.length;
/** From which a database or an object may come. */
const EARLIER = [1, 2];
const AT = 1_700_000_000_000;
/** More than a row holds, so it lies in a chunk. */
const LARGE = JSON.stringify("x".repeat(300_000));
const ERROR = { name: "TypeError", message: "no" };

/** As version 2 writes a tag. */
const TAGS_OF_VERSION_2 =
  "INSERT INTO durable_tags (key, value, run_id) VALUES (?1, ?2, ?3) ON CONFLICT (key, value, run_id) DO NOTHING";

const OTHERS_OF_VERSION_2 =
  `manifest_hash project_id scenario_id status takeovers worker_id claim_request_id lease_ms lease_expires_at created_at
  updated_at completed_at input_ref result_ref tags error task input outcome result waits forked_from interventions`.split(
    /\s+/,
  );

/** As version 2 writes a run: it sets every column that it knows. */
function upsertOfVersion2(columns: readonly string[]): string {
  const values = columns.map((_column, i) => `?${i + 1}`);
  const sets = columns.map((column) => `${column} = excluded.${column}`);
  return `INSERT INTO durable_runs (${columns.join(", ")}) VALUES (${values.join(", ")})
    ON CONFLICT (run_id) DO UPDATE SET ${sets.join(", ")}
    WHERE excluded.fence > durable_runs.fence
      OR (excluded.fence = durable_runs.fence AND excluded.revision > durable_runs.revision)`;
}

type Row = Record<string, string | number | null>;
type Insert = (table: string, row: Row) => Promise<void> | void;

const migrationsTo = (version: number) => env.TEST_MIGRATIONS.slice(0, version);

/** Tables of the earlier version, and nothing else. */
async function databaseOf(version: number): Promise<void> {
  const query =
    "SELECT name FROM sqlite_master WHERE type = 'table' AND (name LIKE 'durable_%' OR name = 'd1_migrations')";
  const { results } = await env.DB.prepare(query).all<{ name: string }>();
  for (const { name } of results) await env.DB.exec(`DROP TABLE ${name}`);
  await applyD1Migrations(env.DB, migrationsTo(version));
}

/** What version 1 wrote, and version 2 too, of a run whose worker died in step 2, after it had caught the failure of step 1. */
async function fillAsEarlier(runId: string, insert: Insert): Promise<void> {
  const { projectId, scenarioId = null, task, input, tags } = MANIFEST;
  await insert("durable_runs", {
    run_id: runId,
    manifest_hash: manifestHash(MANIFEST),
    project_id: projectId,
    scenario_id: scenarioId,
    status: "running",
    fence: 3,
    takeovers: 1,
    revision: 9,
    worker_id: "worker-0",
    claim_request_id: "claim-3",
    lease_ms: 30_000,
    lease_expires_at: AT,
    created_at: AT,
    updated_at: AT,
    tags: JSON.stringify(tags),
    task: JSON.stringify(task),
    input: JSON.stringify(input),
  });
  const step = {
    run_id: runId,
    kind: "logic",
    input_hash: "",
    worker_id: "worker-0",
    fence: 3,
    started_at: AT,
  };
  const ref = `hash/${LARGE.length}/1`;
  await insert("durable_chunks", { run_id: runId, ref, chunk: 0, text: LARGE });
  const done = {
    ...step,
    status: "completed",
    attempts: 2,
    completed_at: AT + 1,
    begin_request_id: "begin-0",
  };
  await insert("durable_steps", { ...done, step_index: 0, intent: "step-0", revision: 5, result_ref: ref });
  const failed = {
    ...step,
    status: "failed",
    attempts: 1,
    completed_at: AT + 2,
    begin_request_id: "begin-1",
  };
  const error = JSON.stringify(ERROR);
  await insert("durable_steps", { ...failed, step_index: 1, intent: "step-1", revision: 7, error });
  const running = {
    ...step,
    status: "running",
    attempts: 1,
    deadline_at: AT + 60_000,
    begin_request_id: "begin-2",
  };
  await insert("durable_steps", { ...running, step_index: 2, intent: "step-2", revision: 8, caught: "[1]" });
  const event = {
    run_id: runId,
    key: "k",
    emitted_at: AT,
    request_id: "emit-1",
    revision: 6,
    payload: '{"by":"ann"}',
  };
  await insert("durable_events", event);
}

function statement(table: string, row: Row): string {
  const columns = Object.keys(row);
  return `INSERT INTO ${table} (${columns.join(", ")}) VALUES (${columns.map((_column, i) => `?${i + 1}`).join(", ")})`;
}

const intoD1: Insert = async (table, row) => {
  await env.DB.prepare(statement(table, row))
    .bind(...Object.values(row))
    .run();
};

/** The rows read as records of the contract, and the run goes on with all that came after version 1. */
async function readsAndGoesOn(one: DurableRunStore, runId: string): Promise<void> {
  const run = await one.loadRun?.(runId);
  expect(run).toMatchObject({
    status: "running",
    fence: 3,
    takeovers: 1,
    stepCount: 3,
    scenarioId: "scenario-1",
  });
  for (const field of ["waitingFor", "forkedFrom", "error", "result"]) expect(run).not.toHaveProperty(field);
  const first = await one.loadStep(runId, 0);
  expect(first).toMatchObject({ status: "completed", attempts: 2, tries: 1 });
  expect(first?.result === "x".repeat(300_000)).toBe(true);
  for (const field of ["path", "inDoubt", "nextAttemptAt", "lastError"])
    expect(first).not.toHaveProperty(field);
  expect(await one.loadStep(runId, 1)).toMatchObject({ status: "failed", error: ERROR, tries: 1 });
  const deadlineAt = new Date(AT + 60_000).toISOString();
  expect(await one.loadStep(runId, 2)).toMatchObject({
    status: "running",
    attempts: 1,
    tries: 1,
    deadlineAt,
  });
  expect(await one.loadEvent(runId, "k")).toMatchObject({ payload: { by: "ann" } });

  const claimed = await one.startOrResume({ ...aRun("worker-0"), runId });
  expect(claimed.completedSteps.map((step) => step.stepIndex)).toEqual([0]);
  expect(claimed.caughtSteps).toMatchObject([{ stepIndex: 1, error: ERROR }]);
  expect(claimed.openSteps).toMatchObject([{ stepIndex: 2, status: "running" }]);
  const { fence = 0 } = claimed;
  expect(fence).toBe(4);
  const parked = await one.beginStep(aStep(runId, 2, { fence, onInterrupted: "park" }));
  expect(parked).toMatchObject({ status: "pending", inDoubt: true, attempts: 1, deadlineAt });
  expect((await one.loadRun?.(runId))?.waitingFor).toEqual([{ stepIndex: 2, for: "decision" }]);
  await one.resolveStep?.(runId, 2, { result: "by hand" });
  await one.beginStep(aStep(runId, 3, { fence, path: "3/a/0" }));
  const retried = { runId, stepIndex: 3, fence, error: ERROR, retryAfterMs: 60_000 };
  expect(await one.failStep(retried)).toMatchObject({ status: "pending", path: "3/a/0", lastError: ERROR });
  const newId = newRunId();
  expect(await one.forkRun?.(runId, newId, { throughStep: 2 })).toMatchObject({ stepCount: 3 });
  expect(await one.restartRun?.(runId, { fromStep: 1, dropLater: true })).toMatchObject({ stepCount: 1 });
  expect(await one.cancelRun?.(runId)).toMatchObject({ status: "cancelled" });
  const next = await one.startOrResume({ ...aRun("worker-2"), runId: newId });
  expect(next.completedSteps.map((step) => step.stepIndex)).toEqual([0, 2]);
  expect(next.caughtSteps).toMatchObject([{ stepIndex: 1, error: ERROR }]);
}

describe.each(EARLIER)("a database of version %i", (version) => {
  beforeEach(() => databaseOf(version));

  it("is at that version before, and at the newest after", async () => {
    expect(await new D1DurableRunStore(env.DB).getSchemaVersion()).toBe(version);
    await applyD1Migrations(env.DB, env.TEST_MIGRATIONS);
    expect(await new D1DurableRunStore(env.DB).getSchemaVersion()).toBe(NEWEST);
  });

  it("keeps its runs, and lets them go on without an object", async () => {
    const runId = newRunId();
    await fillAsEarlier(runId, intoD1);
    await applyD1Migrations(env.DB, env.TEST_MIGRATIONS);
    await readsAndGoesOn(new D1DurableRunStore(env.DB), runId);
  });

  it("keeps its runs, and an object is rebuilt from it", async () => {
    const runId = newRunId();
    await fillAsEarlier(runId, intoD1);
    await applyD1Migrations(env.DB, env.TEST_MIGRATIONS);
    await readsAndGoesOn(store(), runId);
  });

  it("takes the rows of an earlier Worker after it was migrated", async () => {
    await applyD1Migrations(env.DB, env.TEST_MIGRATIONS);
    const runId = newRunId();
    await fillAsEarlier(runId, intoD1);
    await readsAndGoesOn(store("coordinator"), runId);
  });
});

describe("a database of version 2", () => {
  beforeEach(() => databaseOf(2));

  it("is searched by tag and by task after it was migrated, as if its runs had begun since", async () => {
    const runId = newRunId();
    await fillAsEarlier(runId, intoD1);
    await env.DB.prepare(TAGS_OF_VERSION_2).bind("suite", "conformance", runId).run();
    await applyD1Migrations(env.DB, env.TEST_MIGRATIONS);
    const history = new RunHistory(env.DB);
    const at = new Date(AT).toISOString();
    const found = [{ runId, createdAt: at, task: MANIFEST.task.id }];
    for (const filter of [{ tags: MANIFEST.tags ?? {}, createdFrom: at }, { taskId: MANIFEST.task.id }]) {
      const { runs } = await history.list(filter);
      expect(runs.map((run) => ({ runId: run.runId, createdAt: run.createdAt, task: run.task.id }))).toEqual(
        found,
      );
    }
  });

  it("knows which of its runs are overdue, but for a lease that may have been renewed", async () => {
    const [waiting, lapsed, held] = [newRunId(), newRunId(), newRunId()];
    for (const runId of [waiting, lapsed, held]) await fillAsEarlier(runId, intoD1);
    const change = (sql: string, ...values: unknown[]) =>
      env.DB.prepare(`UPDATE durable_runs SET ${sql}`)
        .bind(...values)
        .run();
    const waits = [50, 40, null].map((until, stepIndex) => ({
      stepIndex,
      path: String(stepIndex),
      for: "time",
      key: null,
      until: until === null ? null : AT + until,
    }));
    await change("waits = ?1 WHERE run_id = ?2", JSON.stringify(waits), waiting);
    await change("lease_expires_at = NULL WHERE run_id = ?1", lapsed);
    await applyD1Migrations(env.DB, env.TEST_MIGRATIONS);
    const { runs } = await new RunHistory(env.DB).stuck();
    const iso = (at: number) => new Date(at).toISOString();
    expect(runs.map(({ runId, since }) => ({ runId, since }))).toEqual([
      { runId: lapsed, since: iso(AT) },
      { runId: waiting, since: iso(AT + 40) },
    ]);
    expect(runs[0]?.reasons).toEqual(["lease_lapsed"]);
    expect(runs[1]?.reasons).toEqual(["wait_overdue"]);
  });
});

describe("a Worker of version 2 beside a newer one", () => {
  it("writes rows that are found, and what it has not heard of is left as it is", async () => {
    const input = aRun();
    const { runId } = input;
    const newer = new D1DurableRunStore(env.DB);
    await env.DB.prepare(TAGS_OF_VERSION_2).bind("suite", "conformance", runId).run();
    const { fence = 0 } = await newer.startOrResume(input);
    await env.DB.prepare(TAGS_OF_VERSION_2).bind("suite", "conformance", runId).run();
    await env.DB.prepare("UPDATE durable_runs SET counted_at = 7 WHERE run_id = ?1").bind(runId).run();
    const columns = ["run_id", "fence", "revision", ...OTHERS_OF_VERSION_2];
    const before = await recordedRun(runId);
    const values = columns.map((column) => before?.[column] ?? null);
    values[2] = 100;
    await env.DB.prepare(upsertOfVersion2(columns))
      .bind(...values)
      .run();
    expect(await recordedRun(runId)).toEqual({ ...before, revision: 100 });
    expect(before).toMatchObject({ counted_at: 7, due_at: expect.any(Number) as number });
    await newer.endRun({ runId, workerId: input.workerId, fence, status: "completed" });
    expect(await recordedRun(runId)).toMatchObject({ status: "completed", counted_at: 7, due_at: null });
    const { runs } = await new RunHistory(env.DB).list({
      tags: { suite: "conformance" },
      createdFrom: new Date(Number(before?.["created_at"])).toISOString(),
    });
    expect(runs.map((run) => run.runId)).toContain(runId);
  });
});

describe.each([...EARLIER, 3])("an object of version %i", (version) => {
  beforeEach(() => applyD1Migrations(env.DB, env.TEST_MIGRATIONS));

  /** The object's storage as that version left it: D1 holds all up to the watermark. */
  async function earlierObject(
    runId: string,
    watermark: number,
    others: readonly string[] = [],
  ): Promise<void> {
    const queries = migrationsTo(version).flatMap((migration) => migration.queries);
    const creates = queries.filter((query) =>
      TABLES.some(
        (name) => query.includes(`CREATE TABLE ${name} `) || query.includes(`ALTER TABLE ${name} `),
      ),
    );
    expect(creates.length).toBeGreaterThanOrEqual(4);
    await runInDurableObject(stubOf(runId), async (_object, { storage: { sql } }) => {
      for (const query of [...creates, ...others]) sql.exec(query);
      sql.exec(
        "CREATE TABLE durable_meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID",
      );
      const insert =
        "INSERT INTO durable_meta (key, value) VALUES ('schema_version', ?1), ('recorded_revision', ?2)";
      sql.exec(insert, version, watermark);
      await fillAsEarlier(runId, (table, row) => void sql.exec(statement(table, row), ...Object.values(row)));
    });
    await abortAllDurableObjects();
  }

  it("is brought to the newest version at its next start, and has no table of the earlier one left", async () => {
    const runId = newRunId();
    await earlierObject(runId, 7);
    await store().loadRun(runId);
    const tables = "SELECT name FROM sqlite_master WHERE name LIKE 'durable_%'";
    const numbers =
      "SELECT id, row FROM durable_rows WHERE id IN ('schema_version', 'recorded_revision') ORDER BY id";
    const found = await runInDurableObject(stubOf(runId), (_object, { storage: { sql } }) => ({
      tables: sql.exec(tables).toArray(),
      numbers: sql.exec(numbers).toArray(),
    }));
    expect(found).toEqual({
      tables: [{ name: "durable_rows" }],
      numbers: [
        { id: "recorded_revision", row: 7 },
        { id: "schema_version", row: 4 },
      ],
    });
  });

  it("whose code was rolled back and deployed again goes on from what the earlier version wrote last", async () => {
    const runId = newRunId();
    await earlierObject(runId, 0, [CREATE_ROWS]);
    expect(await store("coordinator").loadRun(runId)).toMatchObject({ fence: 3 });
    expect(await store("coordinator").loadStep(runId, 0)).toMatchObject({ status: "completed" });
  });

  it("keeps its run, which goes on, and brings D1 what that had not got", async () => {
    const runId = newRunId();
    await earlierObject(runId, 0);
    expect(await recordedRun(runId)).toBeNull();
    await readsAndGoesOn(store("coordinator"), runId);
    await drained(runId);
    expect(await recordedRun(runId)).toMatchObject({ status: "cancelled", fence: 6 });
    expect(await recordedStep(runId, 0)).toMatchObject({
      status: "completed",
      tries: 1,
      path: null,
      in_doubt: 0,
    });
    expect(await recordedStep(runId, 2)).toBeNull();
    const whole = await new D1DurableRunStore(env.DB).loadStep(runId, 0);
    expect(whole?.result === "x".repeat(300_000)).toBe(true);
  });

  it("whose storage is lost after that is rebuilt with all that was written since", async () => {
    const runId = newRunId();
    await earlierObject(runId, 0);
    const { fence = 0 } = await store().startOrResume({ ...aRun("worker-0"), runId });
    const parked = await store().beginStep(aStep(runId, 2, { fence, onInterrupted: "park" }));
    await runInDurableObject(stubOf(runId), (_object, { storage }) => storage.deleteAll());
    await abortAllDurableObjects();
    expect(await store().loadStep(runId, 2)).toEqual(parked);
    expect((await store().loadRun(runId))?.waitingFor).toEqual([{ stepIndex: 2, for: "decision" }]);
    expect(await refusalOf(() => store().resolveStep(runId, 2, { rerun: true }))).toBe("accepted");
  });
});
