/** The tables: those of D1, as the migrations make them, and those of the object, which are the same. */
import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { newRunId } from "../../src/identity.ts";
import { CoordinatedDurableRunStore } from "../../src/stores/coordinated/store.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { EVENT_COLUMNS, RUN_COLUMNS, STEP_COLUMNS, TAG_COLUMNS } from "../../src/stores/sql/rows.ts";
import { aRun } from "../../src/testing/harness.ts";
import { saved } from "./coordinator-world.ts";

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
  it("is at version 3", async () => {
    expect(await new D1DurableRunStore(env.DB).getSchemaVersion()).toBe(3);
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
  it("has the tables of D1, to the letter", async () => {
    const runId = newRunId();
    await new CoordinatedDurableRunStore(env.RUNS).startOrResume({ ...aRun(), runId });
    await saved(runId);
    const query = "SELECT name, sql FROM sqlite_master WHERE name IN (?1, ?2, ?3, ?4) ORDER BY name";
    const names = ["durable_chunks", "durable_events", "durable_runs", "durable_steps"];
    const inObject = await runInDurableObject(env.RUNS.getByName(runId), (_object, state) =>
      state.storage.sql.exec(query, ...names).toArray(),
    );
    const inD1 = await env.DB.prepare(query)
      .bind(...names)
      .all();
    expect(inObject).toEqual(inD1.results);
    expect(inObject).toHaveLength(4);
  });
});
