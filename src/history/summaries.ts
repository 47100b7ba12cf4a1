/** A run as lists show it: its columns, without a body of any size, and the summary that they make. */
import type { RunState } from "../ledger/state.ts";
import { toRunRecord } from "../stores/records.ts";
import type { Cell, RunRow } from "../stores/sql/rows.ts";
import { fromRunRow, RUN_COLUMNS } from "../stores/sql/rows.ts";
import type { RunSummary } from "./types.ts";

/** What a summary does not tell; some of it may be long. */
const LEFT_OUT: ReadonlySet<string> = new Set([
  "claim_request_id",
  "input_ref",
  "result_ref",
  "task",
  "input",
  "outcome",
  "result",
  "interventions",
]);

const COLUMNS = RUN_COLUMNS.filter((column) => !LEFT_OUT.has(column));
const NOTHING = Object.fromEntries([...LEFT_OUT].map((column) => [column, null]));

/** Of the run's row `r`. */
export const SUMMARY_COLUMNS = `${COLUMNS.map((column) => `r.${column}`).join(", ")}, r.task_id,
  r.task ->> '$.intent' AS task_intent, r.task ->> '$.domain' AS task_domain, r.outcome_pass, r.outcome_score,
  (SELECT max(step_index) FROM durable_steps WHERE durable_steps.run_id = r.run_id) AS last_step_index`;

/** Of the texts among them; lengths are read without the texts. */
export const SUMMARY_BYTES = ["tags", "error", "task", "waits"]
  .map((column) => `coalesce(octet_length(r.${column}), 0)`)
  .join(" + ");

export type SummaryRow = RunRow & {
  readonly task_id: string;
  readonly task_intent: string;
  readonly task_domain: Cell;
  readonly outcome_pass: number | null;
  readonly outcome_score: number | null;
  readonly last_step_index: number | null;
};

/** The run, with nothing for what is left out. */
export function runOf(row: SummaryRow): RunState {
  return fromRunRow({ ...row, ...NOTHING });
}

export function toSummary(row: SummaryRow): RunSummary {
  const run = runOf(row);
  const { stepCount: _unknown, ...record } = toRunRecord({ run, stepCount: 0 }, null);
  const task: RunSummary["task"] = { id: row.task_id, intent: row.task_intent };
  return {
    ...record,
    task: typeof row.task_domain === "string" ? { ...task, domain: row.task_domain } : task,
    ...tagsOf(run),
    ...(row.last_step_index !== null && { lastStepIndex: row.last_step_index }),
    ...durationOf(run),
    ...(row.outcome_pass !== null && { pass: row.outcome_pass === 1 }),
    ...(row.outcome_score !== null && { score: row.outcome_score }),
    ...lagOf(row),
  };
}

/** What a list and the run itself tell in the same way. */
export function tagsOf({ tags }: { tags: string | null }): { tags?: Record<string, string> } {
  return tags === null ? {} : { tags: JSON.parse(tags) as Record<string, string> };
}

export function durationOf(ended: { createdAt: number; completedAt: number | null }): {
  durationMs?: number;
} {
  return ended.completedAt === null ? {} : { durationMs: Math.max(0, ended.completedAt - ended.createdAt) };
}

export function lagOf({ lag_ms: lagMs }: RunRow): { lagMs?: number } {
  return lagMs === null ? {} : { lagMs: Number(lagMs) };
}
