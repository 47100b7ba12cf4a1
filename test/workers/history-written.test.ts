/** What runs cost in rows of D1: each index is one row more whenever its columns are set (R29, decision 0022). */
import { env } from "cloudflare:workers";
import { afterEach, expect, it } from "vitest";
import type { DurableRunStore } from "../../src/contract/types.ts";
import { CoordinatedDurableRunStore } from "../../src/stores/coordinated/store.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { aRun, aStep, MANIFEST } from "../../src/testing/harness.ts";
import { drained } from "./disasters.ts";
import { faults, resetFaults } from "./faults.ts";
import { MeteredDatabase } from "./history-world.ts";

afterEach(resetFaults);

/** Rows written by each of the things that befall a run. */
async function costs(
  store: DurableRunStore,
  db: MeteredDatabase,
  settled: (runId: string) => Promise<void>,
): Promise<Record<string, number>> {
  const { projectId, task, input } = MANIFEST;
  const claimed = { ...aRun(), manifest: { projectId, task, input } };
  const { runId, workerId } = claimed;
  const cost: Record<string, number> = {};
  const count = async (what: string, work: Promise<unknown>): Promise<void> => {
    await work;
    await settled(runId);
    cost[what] = db.taken().rowsWritten;
  };
  await count("create", store.startOrResume(claimed));
  const { fence = 0 } = (await store.loadRun?.(runId)) ?? {};
  const at = (stepIndex: number) => ({ runId, stepIndex, fence });
  const step = async (): Promise<void> => {
    await store.beginStep(aStep(runId, 0, { fence }));
    await store.completeStep({ ...at(0), result: 1 });
  };
  await count("step", step());
  await count("heartbeat", store.renewLease({ runId, workerId, fence }));
  const wait = { fence, kind: "event", timeoutMs: 60_000, waitFor: { kind: "event", key: "k" } } as const;
  await count("begin a wait", store.beginStep(aStep(runId, 1, wait)));
  await count("end a wait", store.completeStep({ ...at(1), result: 1 }));
  const outcome = { pass: true, score: 0.5 };
  await count("end", store.endRun({ runId, workerId, fence, status: "completed", outcome }));

  const tagged = { ...aRun(), manifest: { ...MANIFEST, tags: { a: "1", b: "2" } } };
  await store.startOrResume(tagged);
  await settled(tagged.runId);
  cost["create with a scenario and two tags"] = db.taken().rowsWritten;
  return cost;
}

it("a coordinator writes one row for a step, and few more for what else befalls a run", async () => {
  const db = new MeteredDatabase();
  faults.wrap = () => db;
  const store = new CoordinatedDurableRunStore(env.RUNS, { ack: "record" });
  expect(await costs(store, db, drained)).toEqual({
    create: 5,
    step: 1,
    heartbeat: 0,
    "begin a wait": 4,
    "end a wait": 3,
    end: 5,
    "create with a scenario and two tags": 10,
  });
});

it("without a coordinator, a begin and a completion write a row each, and a heartbeat writes two", async () => {
  const db = new MeteredDatabase();
  expect(await costs(new D1DurableRunStore(db), db, async () => {})).toEqual({
    create: 6,
    step: 2,
    heartbeat: 2,
    "begin a wait": 4,
    "end a wait": 4,
    end: 5,
    "create with a scenario and two tags": 11,
  });
});
