/** Rows made by SQL, as copies of real ones: for what takes minutes to make step by step. */
import type { DurableRunManifest } from "../../src/contract/types.ts";
import { newRunId } from "../../src/identity.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { STEP_COLUMNS } from "../../src/stores/sql/rows.ts";

/** ?1: the run that is copied, ?2: the first number, which D1 binds as a real, ?3: how many. */
export function copyOf(
  table: string,
  columns: readonly string[],
  cells: Readonly<Record<string, string>>,
): string {
  const copied = columns.map((column) => cells[column] ?? column).join(", ");
  return `WITH RECURSIVE numbers (n) AS (
      SELECT CAST(?2 AS INTEGER) UNION ALL SELECT n + 1 FROM numbers WHERE n < ?2 + ?3 - 1)
    INSERT INTO ${table} (${columns.join(", ")}) SELECT ${copied} FROM ${table}, numbers WHERE run_id = ?1`;
}

const PREFIX_CELLS: Readonly<Record<string, string>> = {
  step_index: "n",
  intent: "'step-' || n",
  revision: "revision + n",
};

/**
 * A failed run of so many completed steps, in D1 alone: a coordinator that is asked for it reads it from there (R17).
 * Answers its id.
 */
export async function copiedPrefix(
  db: D1Database,
  steps: number,
  manifest: DurableRunManifest,
): Promise<string> {
  const store = new D1DurableRunStore(db);
  const runId = newRunId();
  const { fence = 0 } = await store.startOrResume({ runId, manifest, workerId: "seed" });
  const step = { runId, fence, stepIndex: 0 };
  await store.beginStep({ ...step, intent: "step-0", kind: "logic", inputHash: "" });
  await store.completeStep({ ...step, result: "of a finished prefix" });
  const copies = copyOf("durable_steps", STEP_COLUMNS, PREFIX_CELLS);
  await db
    .prepare(copies)
    .bind(runId, 1, steps - 1)
    .run();
  const error = { message: "to be resumed" };
  await store.endRun({ runId, fence, workerId: "seed", status: "failed", error });
  return runId;
}
