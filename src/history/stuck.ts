/**
 * RunHistory.stuck: runs with which somebody ought to do something, as far as D1 can know.
 *
 * `due_at` and `lag_ms` are written with each version of a run's row (stores/sql/due.ts); here they only lead to the rows,
 * and what is the matter is read from the row itself.
 */
import { checkInteger, LIMITS } from "../contract/limits.ts";
import type { RunState } from "../ledger/state.ts";
import { toIso } from "../stores/records.ts";
import type { Access } from "./access.ts";
import { fromCursor, toCursor } from "./cursor.ts";
import { checkGiven } from "./filters.ts";
import { checkFields, limitOf } from "./options.ts";
import type { SummaryRow } from "./summaries.ts";
import { SUMMARY_BYTES, SUMMARY_COLUMNS, runOf, toSummary } from "./summaries.ts";
import type { StuckOptions, StuckPage, StuckReason } from "./types.ts";
import type { Arm, RunKey } from "./walk.ts";
import { EVER, Params, walk } from "./walk.ts";

const DEFAULT_GRACE_MS = 60_000;
const DEFAULT_LAG_MS = 10_000;

/** What durable_runs_late holds. */
const MIN_LAG_MS = 1_000;

interface Bounds {
  /** What was due until then is overdue. */
  readonly overdue: number;
  readonly lagMs: number;
}

export async function stuck(access: Access, options: StuckOptions = {}): Promise<StuckPage> {
  checkFields("stuck", options, ["projectId", "graceMs", "lagMs", "limit", "cursor"]);
  const { graceMs = DEFAULT_GRACE_MS, lagMs = DEFAULT_LAG_MS, cursor } = options;
  checkGiven("projectId", options.projectId, LIMITS.projectIdBytes);
  checkInteger("graceMs", graceMs, 0, LIMITS.timeoutMs);
  checkInteger("lagMs", lagMs, MIN_LAG_MS, LIMITS.timeoutMs);
  const limit = limitOf(options.limit);
  const projectId = access.project(options.projectId);
  const question = ["stuck", projectId ?? null, graceMs, lagMs];
  const first: RunKey = [EVER.first, ""];
  const after = cursor === undefined ? first : fromCursor(question, cursor, first);

  const now = Math.floor(access.clock.now());
  const bounds = { overdue: now - graceMs, lagMs };
  const params = new Params();
  const arms = armsOf(bounds, params);
  const { rows, next } = await walk<SummaryRow>(access, params, {
    arms,
    order: "ascending",
    after,
    until: now + 1,
    conditions: projectId === undefined ? [] : [`r.project_id = ${params.add(projectId)}`],
    limit,
    bytes: SUMMARY_BYTES,
    columns: SUMMARY_COLUMNS,
  });
  const runs = rows.flatMap((row) => {
    const reasons = reasonsOf(row, bounds);
    return reasons.length === 0 ? [] : [{ ...toSummary(row), reasons, since: toIso(row.at) }];
  });
  return { runs, ...(next && { cursor: toCursor(question, next) }) };
}

/** What is both overdue and late is in the first one alone. What became due within the grace is passed over. */
function armsOf({ overdue, lagMs }: Bounds, params: Params): Arm[] {
  const until = params.add(overdue);
  return [
    {
      source: "durable_runs AS r INDEXED BY durable_runs_due",
      at: "r.due_at",
      id: "r.run_id",
      where: ["r.completed_at IS NULL", "r.due_at IS NOT NULL"],
      // No condition for the index, which has the end of the walk for that.
      conditions: [`+r.due_at <= ${until}`],
    },
    {
      source: "durable_runs AS r INDEXED BY durable_runs_late",
      at: "r.updated_at",
      id: "r.run_id",
      where: ["r.completed_at IS NULL", `r.lag_ms >= ${MIN_LAG_MS}`],
      conditions: [`r.lag_ms >= ${params.add(lagMs)}`, `coalesce(r.due_at > ${until}, true)`],
    },
  ];
}

function reasonsOf(row: SummaryRow, { overdue, lagMs }: Bounds): StuckReason[] {
  const run = runOf(row);
  const reasons: StuckReason[] = [];
  if (run.status === "running" && lapsedAt(run, row) <= overdue) reasons.push("lease_lapsed");
  if (run.waits.some(({ until }) => until !== null && until <= overdue)) reasons.push("wait_overdue");
  if (row.lag_ms !== null && Number(row.lag_ms) >= lagMs) reasons.push("late_record");
  return reasons;
}

/**
 * When the lease of a running run lapsed, or will. A coordinator says so by taking it off the row; the lease that it set
 * may have been renewed since. Without a coordinator, D1 hears of each renewal, and the row is due by then at the latest.
 */
function lapsedAt(
  { leaseExpiresAt, updatedAt }: RunState,
  { lag_ms: lagMs, due_at: dueAt }: SummaryRow,
): number {
  if (leaseExpiresAt === null) return updatedAt;
  return lagMs === null && Number(dueAt) <= leaseExpiresAt ? leaseExpiresAt : Infinity;
}
