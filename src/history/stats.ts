/**
 * What RunHistory.stats answers: the roll-up's tables, and the runs that it has not counted yet, in one transaction, so
 * that each end is in exactly one of the two.
 *
 * Reads a bounded number of rows, however many runs there are: one for each hour or day and project, those of steps in
 * the fewest periods that make up the range, and a bounded part of what is not counted.
 */
import { checkText, LIMITS } from "../contract/limits.ts";
import type { RunStatus, StepKind } from "../contract/types.ts";
import type { Access } from "./access.ts";
import { addDurations, classInSql, type Durations, percentilesOf } from "./duration-classes.ts";
import { checkFields } from "./options.ts";
import type { Range } from "./periods.ts";
import { beganInSql, entriesOf, piecesOf, rangeOf } from "./periods.ts";
import type { EndedStatus, RunStats, StatsOptions, StatsPoint, StepStats } from "./types.ts";
import { CHOSEN, ENDED_STEPS, STEP_SUMS } from "./uncounted.ts";

/** Of a status, the newest. */
const MAX_ACTIVE = 10_000;

/** Runs that are not counted yet, and positions of their steps. */
const MAX_TAIL = 300;
const MAX_TAIL_POSITIONS = 6_000;

const MAX_STEP_ROWS = 100;

/** ?1: project, or NULL for all. The index durable_runs_by_status has all that it takes. */
export const COUNT_ACTIVE = `
SELECT value AS status, (
  SELECT count(*) FROM (
    SELECT project_id FROM durable_runs WHERE status = active.value ORDER BY created_at DESC LIMIT ${MAX_ACTIVE}
  ) WHERE ?1 IS NULL OR project_id = ?1
) AS runs
FROM json_each('["pending", "running", "suspended"]') AS active`;

/** ?1: unit, ?2: project, '' for all, ?3: from, ?4: before. */
export const SELECT_COUNTED_RUNS = `
SELECT began_at, completed, failed, cancelled, durations FROM durable_run_stats
WHERE unit = ?1 AND project_id = ?2 AND began_at >= ?3 AND began_at < ?4`;

/** Those of CHOSEN; ?6: project, or NULL for all, ?7: unit. One row, whose `ends` are [began, status, class, runs]. */
export const SELECT_TAIL_RUNS = `
WITH ${CHOSEN}
SELECT (SELECT count(*) FROM candidates) > (SELECT count(*) FROM chosen) AS is_cut,
  (SELECT json_group_array(json_array(began_at, status, duration_class, runs)) FROM (
    SELECT ${beganInSql("?7", "completed_at")} AS began_at, status, ${classInSql("duration_ms")} AS duration_class,
      count(*) AS runs
    FROM chosen WHERE ?6 IS NULL OR project_id = ?6 GROUP BY 1, 2, 3
  )) AS ends`;

/** Those of CHOSEN; ?6: project, or NULL for all, ?7: pieces of the range as [unit, from, before]. */
export const SELECT_STEP_STATS = `
WITH ${CHOSEN}
SELECT intent, kind, sum(steps) AS steps, sum(failed) AS failed, sum(attempts) AS attempts, sum(duration_ms) AS duration_ms
FROM (
  SELECT kept.intent, kept.kind, kept.steps, kept.failed, kept.attempts, kept.duration_ms
  FROM json_each(?7) AS piece CROSS JOIN durable_step_stats AS kept
    ON kept.unit = piece.value ->> 0 AND kept.project_id = coalesce(?6, '')
    AND kept.began_at >= piece.value ->> 1 AND kept.began_at < piece.value ->> 2
  UNION ALL
  SELECT intent, kind, ${STEP_SUMS}
  FROM ${ENDED_STEPS} AND (?6 IS NULL OR run.project_id = ?6) GROUP BY 1, 2
)
GROUP BY intent, kind ORDER BY 3 DESC, intent, kind LIMIT ${MAX_STEP_ROWS}`;

interface CountedRow extends Record<EndedStatus, number> {
  began_at: number;
  durations: string;
}

interface StepRow {
  intent: string;
  kind: StepKind;
  steps: number;
  failed: number;
  attempts: number;
  duration_ms: number;
}

type Ends = Record<EndedStatus, number> & { readonly durations: Durations };

/** Throws `invalid_input` that names the option, or `forbidden`. See {@link RunStats}. */
export async function stats(access: Access, options: StatsOptions = {}): Promise<RunStats> {
  checkFields("stats", options, ["projectId", "from", "to", "by"]);
  if (options.projectId !== undefined) checkText("projectId", options.projectId, LIMITS.projectIdBytes);
  const project = access.project(options.projectId) ?? null;
  const range = rangeOf(options, access.clock.now());
  const { by, from, to } = range;
  const tail = [from, to, MAX_TAIL, MAX_TAIL_POSITIONS, 0, project];
  const pieces = piecesOf(range).map((piece) => [piece.unit, piece.from, piece.to]);
  const [active, counted, [live], steps] = (await access.batch([
    { sql: COUNT_ACTIVE, values: [project] },
    { sql: SELECT_COUNTED_RUNS, values: [by, project ?? "", from, to] },
    { sql: SELECT_TAIL_RUNS, values: [...tail, by] },
    { sql: SELECT_STEP_STATS, values: [...tail, JSON.stringify(pieces)] },
  ])) as [{ status: RunStatus; runs: number }[], CountedRow[], [{ is_cut: number; ends: string }], StepRow[]];
  const entries = toEntries(range, counted, live.ends);
  const whole = sumOf(entries.values());
  const durationMs = percentilesOf(whole.durations);
  const runsOf = (status: RunStatus): number => active.find((row) => row.status === status)?.runs ?? 0;
  return {
    from: toInstant(from),
    to: toInstant(to),
    by,
    counts: {
      pending: runsOf("pending"),
      running: runsOf("running"),
      suspended: runsOf("suspended"),
      completed: whole.completed,
      failed: whole.failed,
      cancelled: whole.cancelled,
    },
    ...(durationMs && { durationMs }),
    steps: steps.map(toStepStats),
    series: [...entries].map(([at, ends]) => toPoint(at, ends)),
    isBehind: live.is_cut === 1,
  };
}

function toEntries(range: Range, counted: readonly CountedRow[], tail: string): Map<number, Ends> {
  const entries = new Map<number, Ends>();
  for (const at of entriesOf(range)) entries.set(at, noEnds());
  for (const row of counted) {
    const entry = entries.get(row.began_at);
    if (entry) add(entry, { ...row, durations: JSON.parse(row.durations) as [number, number][] });
  }
  for (const [at, status, durationClass, runs] of JSON.parse(tail) as [
    number,
    EndedStatus,
    number,
    number,
  ][]) {
    const entry = entries.get(at);
    if (!entry) continue;
    entry[status] += runs;
    if (status === "completed") addDurations(entry.durations, [[durationClass, runs]]);
  }
  return entries;
}

function sumOf(entries: Iterable<Ends>): Ends {
  const whole = noEnds();
  for (const entry of entries) add(whole, entry);
  return whole;
}

function noEnds(): Ends {
  return { completed: 0, failed: 0, cancelled: 0, durations: new Map() };
}

function add(
  to: Ends,
  more: Record<EndedStatus, number> & { readonly durations: Iterable<readonly [number, number]> },
): void {
  to.completed += more.completed;
  to.failed += more.failed;
  to.cancelled += more.cancelled;
  addDurations(to.durations, more.durations);
}

function toPoint(at: number, { completed, failed, cancelled, durations }: Ends): StatsPoint {
  const durationMs = percentilesOf(durations);
  return { at: toInstant(at), completed, failed, cancelled, ...(durationMs && { durationMs }) };
}

function toStepStats({ intent, kind, steps, failed, attempts, duration_ms }: StepRow): StepStats {
  return {
    intent,
    kind,
    steps,
    failed,
    failureRate: failed / steps,
    attempts,
    meanDurationMs: Math.round(duration_ms / steps),
  };
}

function toInstant(at: number): string {
  return new Date(at).toISOString();
}
