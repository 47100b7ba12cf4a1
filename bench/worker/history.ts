/**
 * W8: RunHistory over 100,000 runs in D1. The rows are copies of one real run, made by SQL, for the runs themselves
 * would take minutes.
 */
import { RunHistory } from "../../src/history/run-history.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { RUN_COLUMNS, STEP_COLUMNS } from "../../src/stores/sql/rows.ts";
import { WorksOverAStore } from "../works/over-a-store.ts";
import { copyOf } from "./copies.ts";
import type { BenchEnv } from "./env.ts";

export type HistoryOperation = "seed" | "rollUp" | "list" | "listByProject" | "get" | "steps" | "stats";

const SEED_AT_ONCE = 5_000;

/** Between two seeded runs: 100,000 of them span about 17 hours. */
const APART_MS = 600;

/** Ten projects, in each of which one run in 20 has failed. */
const RUN_CELLS: Readonly<Record<string, string>> = {
  run_id: "printf('bench-history-%08d', n)",
  project_id: "'project-' || (n % 10)",
  status: "CASE WHEN n / 10 % 20 = 0 THEN 'failed' ELSE 'completed' END",
  created_at: `created_at - n * ${APART_MS}`,
  updated_at: `updated_at - n * ${APART_MS}`,
  completed_at: `completed_at - n * ${APART_MS}`,
};

const STEP_CELLS: Readonly<Record<string, string>> = {
  run_id: "printf('bench-history-%08d', n)",
  started_at: `started_at - n * ${APART_MS}`,
  completed_at: `completed_at - n * ${APART_MS}`,
};

export async function onHistory(
  { DB }: BenchEnv,
  operation: HistoryOperation,
  { runs = 0, times = 1 }: { runs?: number; times?: number },
): Promise<unknown> {
  if (operation === "seed") return seed(DB, runs);
  const history = new RunHistory(DB);
  if (operation === "rollUp") return history.rollUp({ limit: 500 });
  for (let i = 0; i < times; i += 1) await ask(history, operation, i);
  return undefined;
}

async function seed(db: D1Database, runs: number): Promise<void> {
  await new WorksOverAStore(new D1DurableRunStore(db)).runs({
    runs: 1,
    steps: 2,
    bytes: 20,
    concurrent: false,
  });
  const newest =
    "SELECT run_id FROM durable_runs WHERE status = 'completed' ORDER BY created_at DESC LIMIT 1";
  const { run_id: model } = (await db.prepare(newest).first<{ run_id: string }>()) ?? {};
  for (let first = 1; first <= runs; first += SEED_AT_ONCE) {
    const count = Math.min(SEED_AT_ONCE, runs - first + 1);
    await db.batch([
      db.prepare(copyOf("durable_steps", STEP_COLUMNS, STEP_CELLS)).bind(model, first, count),
      db.prepare(copyOf("durable_runs", RUN_COLUMNS, RUN_CELLS)).bind(model, first, count),
    ]);
  }
}

async function ask(history: RunHistory, operation: HistoryOperation, i: number): Promise<void> {
  const runId = `bench-history-${String(i * 997 + 1).padStart(8, "0")}`;
  switch (operation) {
    case "list":
      return full((await history.list()).runs.length, 50);
    case "listByProject":
      // A page is a bounded walk over the failed runs of all projects: it may come short of 50.
      return full((await history.list({ projectId: `project-${i % 10}`, status: "failed" })).runs.length, 25);
    case "get":
      return full((await history.get(runId)) ? 1 : 0, 1);
    case "steps":
      return full((await history.steps(runId)).steps.length, 2);
    case "stats":
      return full((await history.stats()).counts.completed, 1);
    default:
      throw new Error(`no operation "${operation}" of history`);
  }
}

/** What is not there was not measured. */
function full(found: number, least: number): void {
  if (found < least) throw new Error(`${found} rows were found, and ${least} have to be there`);
}
