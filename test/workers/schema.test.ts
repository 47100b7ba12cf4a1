/** The tables: those of D1, as the migrations make them, and those of the object, which are the same. */
import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { newRunId } from "../../src/identity.ts";
import { CoordinatedDurableRunStore } from "../../src/stores/coordinated/store.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { EVENT_COLUMNS, RUN_COLUMNS, STEP_COLUMNS, TAG_COLUMNS } from "../../src/stores/sql/rows.ts";
import { aRun, aStep } from "../../src/testing/harness.ts";

interface Column {
  name: string;
  type: string;
  notnull: number;
  pk: number;
}

const describeTable = (table: string) =>
  `SELECT name, type, "notnull", pk FROM pragma_table_info('${table}') ORDER BY cid`;

async function columnsInD1(table: string): Promise<Column[]> {
  return (await env.DB.prepare(describeTable(table)).all<Column>()).results;
}

describe("the D1 schema", () => {
  it("is at version 4", async () => {
    expect(await new D1DurableRunStore(env.DB).getSchemaVersion()).toBe(4);
  });

  it("has strict tables, all of them without rowids but for the list of versions", async () => {
    const query = "SELECT name, wr, strict FROM pragma_table_list WHERE name LIKE 'durable_%' ORDER BY name";
    const { results } = await env.DB.prepare(query).all();
    expect(results).toEqual([
      { name: "durable_chunks", wr: 1, strict: 1 },
      { name: "durable_events", wr: 1, strict: 1 },
      { name: "durable_run_stats", wr: 1, strict: 1 },
      { name: "durable_runs", wr: 1, strict: 1 },
      { name: "durable_schema_info", wr: 0, strict: 1 },
      { name: "durable_step_stats", wr: 1, strict: 1 },
      { name: "durable_steps", wr: 1, strict: 1 },
      { name: "durable_tags", wr: 1, strict: 1 },
    ]);
  });

  it("has the columns that rows are made of, in their order", async () => {
    expect((await columnsInD1("durable_runs")).map(({ name }) => name)).toEqual([
      ...RUN_COLUMNS,
      "counted_at",
      "incarnation",
    ]);
    expect((await columnsInD1("durable_steps")).map(({ name }) => name)).toEqual(STEP_COLUMNS);
    expect((await columnsInD1("durable_events")).map(({ name }) => name)).toEqual(EVENT_COLUMNS);
    expect((await columnsInD1("durable_tags")).map(({ name }) => name)).toEqual(TAG_COLUMNS);
  });

  it("refuses statuses and kinds that the contract does not know", async () => {
    const { runId } = aRun();
    await new D1DurableRunStore(env.DB).startOrResume({ ...aRun(), runId });
    const update = env.DB.prepare("UPDATE durable_runs SET status = 'paused' WHERE run_id = ?1").bind(runId);
    await expect(() => update.run()).rejects.toThrow(/CHECK constraint failed/);
  });
});

describe("the object's schema", () => {
  it("is one table, with a row for each record", async () => {
    const runId = newRunId();
    const store = new CoordinatedDurableRunStore(env.RUNS, { ack: "coordinator" });
    const { fence = 0 } = await store.startOrResume({ ...aRun(), runId });
    await store.beginStep(aStep(runId, 0, { fence }));
    await store.completeStep({ runId, stepIndex: 0, fence, result: "x".repeat(300_000) });
    await store.emitEvent({ runId, key: "go", payload: 1 });
    const tables =
      "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_cf\\_%' ESCAPE '\\'";
    const rows =
      "SELECT kind, id, part, revision IS NOT NULL AS is_revised FROM durable_rows WHERE kind <> 'meta'";
    const found = await runInDurableObject(env.RUNS.getByName(runId), (_object, { storage: { sql } }) => ({
      tables: sql.exec(tables).toArray(),
      rows: sql.exec(rows).toArray(),
    }));
    expect(found).toEqual({
      tables: [{ name: "durable_rows" }],
      rows: [
        { kind: "chunk", id: expect.stringMatching(/\/1$/) as string, part: 0, is_revised: 0 },
        { kind: "event", id: "go", part: 0, is_revised: 1 },
        { kind: "manifest", id: 0, part: 0, is_revised: 0 },
        { kind: "run", id: 0, part: 0, is_revised: 1 },
        { kind: "step", id: 0, part: 0, is_revised: 1 },
      ],
    });
  });
});
