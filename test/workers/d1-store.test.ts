/** What is D1DurableRunStore's own: round trips, versions, and tables that are missing. */
import { env } from "cloudflare:workers";
import { expect, it } from "vitest";
import { systemClock } from "../../src/contract/clock.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { FaultyDatabase } from "../../src/testing/faulty-database.ts";
import { aRun, aStep } from "../../src/testing/harness.ts";

it("costs two D1 round trips a step in the steady state: its begin and its completion", async () => {
  const db = new FaultyDatabase(env.DB, systemClock);
  const store = new D1DurableRunStore(db);
  const input = aRun();
  const { fence = 0 } = await store.startOrResume(input);
  const before = db.batches;
  for (let stepIndex = 0; stepIndex < 10; stepIndex += 1) {
    await store.beginStep(aStep(input.runId, stepIndex, { fence }));
    await store.completeStep({ runId: input.runId, stepIndex, fence, attempt: 1, result: stepIndex });
  }
  expect(db.batches - before).toBe(20);
});

it("goes on at two round trips a step after another store took the run over and gave it back", async () => {
  const db = new FaultyDatabase(env.DB, systemClock);
  const store = new D1DurableRunStore(db);
  const input = aRun();
  const first = await store.startOrResume(input);
  await store.beginStep(aStep(input.runId, 0, { fence: first.fence ?? 0 }));
  const other = new D1DurableRunStore(env.DB);
  const { fence = 0 } = await other.startOrResume(input);
  await other.beginStep(aStep(input.runId, 0, { fence }));
  const before = db.batches;
  // By what it remembers it would refuse: so it reads the run again first.
  await store.completeStep({ runId: input.runId, stepIndex: 0, fence, attempt: 2, result: 0 });
  expect(db.batches - before).toBe(2);
  await store.beginStep(aStep(input.runId, 1, { fence }));
  await store.completeStep({ runId: input.runId, stepIndex: 1, fence, attempt: 1, result: 1 });
  expect(db.batches - before).toBe(4);
});

it("has no version where there are no tables, and says how to make them", async () => {
  const empty = {
    prepare: (query: string) => env.DB.prepare(query.replaceAll("durable_", "durable_no_such_")),
    batch: (statements: D1PreparedStatement[]) => env.DB.batch(statements),
  };
  const store = new D1DurableRunStore(empty as unknown as D1Database);
  expect(await store.getSchemaVersion()).toBeUndefined();
  await expect(() => store.startOrResume(aRun())).rejects.toThrow(/wrangler d1 migrations apply/);
});
