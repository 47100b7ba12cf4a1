/**
 * RunHistory.purge: deletes runs that ended long ago, in bounded batches.
 *
 * Each batch is one transaction in which every statement looks again whether its runs are still ended and old: so a run
 * that was claimed or restarted meanwhile is left alone. A run's row goes last, in one transaction with all that is left of
 * the run, so that a purge that was cut short is found again by the next one. Steps go from the last one down, and the run's
 * own input and result with its row: what is left of a run until then is what a restart would have left.
 */
import { DurableInvalidInputError } from "../contract/errors.ts";
import { checkInteger, LIMITS } from "../contract/limits.ts";
import { toIso } from "../stores/records.ts";
import { chunkCount } from "../stores/sql/bodies.ts";
import type { Cell } from "../stores/sql/rows.ts";
import type { Access, Statement } from "./access.ts";
import { fromCursor, toCursor } from "./cursor.ts";
import { checkGiven } from "./filters.ts";
import { instantOf } from "./instants.ts";
import { completedArm } from "./list.ts";
import { checkFields, someOf } from "./options.ts";
import type { EndedStatus, PurgeOptions, PurgeResult } from "./types.ts";
import type { RunKey } from "./walk.ts";
import { EVER, Params, walk } from "./walk.ts";

const ENDED: readonly EndedStatus[] = ["completed", "failed", "cancelled"];

const DEFAULT_LIMIT = 1_000;
const MAX_LIMIT = 10_000;

/** A coordinator holds a run for an hour after its end, and would bring D1 what it holds. */
const MIN_AGE_MS = 2 * 60 * 60 * 1_000;

/** Of one transaction. A chunk, of up to 1 MB, counts as ten rows. */
const ROWS_A_BATCH = 1_000;
const ROWS_OF_CHUNK = 10;

/** Whose rows are counted at once. */
const RUNS_A_BATCH = 20;

/** Of one call: D1 answers 1,000 queries within one invocation of a Worker. */
const MAX_BATCHES = 50;

/** ?1: run ids as a JSON array, ?2: completed before. */
const STILL_OLD = `
SELECT r.run_id FROM json_each(?1) AS chosen CROSS JOIN durable_runs AS r ON r.run_id = chosen.value
WHERE r.completed_at < ?2`;

const DELETE_WHOLE = [
  `DELETE FROM durable_steps WHERE run_id IN (${STILL_OLD})`,
  `DELETE FROM durable_events WHERE run_id IN (${STILL_OLD})`,
  `DELETE FROM durable_chunks WHERE run_id IN (${STILL_OLD})`,
  `DELETE FROM durable_tags WHERE (key, value, run_id) IN (
    SELECT tag.key, tag.value, r.run_id FROM durable_runs AS r CROSS JOIN json_each(r.tags) AS tag
    WHERE r.run_id IN (${STILL_OLD})
  )`,
  `DELETE FROM durable_runs WHERE run_id IN (${STILL_OLD})`,
];

/** A chunk `one` of the run `r`, but not of its own input or result. */
const OF_ANOTHER_BODY = "one.ref IS NOT r.input_ref AND one.ref IS NOT r.result_ref";

/** Those of STILL_OLD; ?3: rows. Of one run. */
const DELETE_PART = {
  steps: `DELETE FROM durable_steps WHERE (run_id, step_index) IN (
    SELECT run_id, step_index FROM durable_steps WHERE run_id = (${STILL_OLD}) ORDER BY step_index DESC LIMIT ?3)`,
  events: `DELETE FROM durable_events WHERE (run_id, key) IN (
    SELECT run_id, key FROM durable_events WHERE run_id = (${STILL_OLD}) ORDER BY key DESC LIMIT ?3)`,
  chunks: `DELETE FROM durable_chunks WHERE (run_id, ref, chunk) IN (
    SELECT one.run_id, one.ref, one.chunk FROM durable_runs AS r CROSS JOIN durable_chunks AS one ON one.run_id = r.run_id
    WHERE r.run_id = (${STILL_OLD}) AND ${OF_ANOTHER_BODY} ORDER BY one.ref, one.chunk LIMIT ?3)`,
} as const;

const COUNT_DELETED: Statement = { sql: "SELECT changes() AS n", values: [] };

interface Sized {
  readonly at: number;
  readonly id: string;
  readonly steps: number;
  readonly events: number;
  /** But for those of the run's own input and result, which have the refs that follow. */
  readonly chunks: number;
  readonly input_ref: Cell;
  readonly result_ref: Cell;
}

export async function purge(access: Access, options: PurgeOptions): Promise<PurgeResult> {
  checkFields("purge", options, ["projectId", "before", "status", "limit", "cursor"]);
  const { limit = DEFAULT_LIMIT, cursor } = options;
  checkGiven("projectId", options.projectId, LIMITS.projectIdBytes);
  checkInteger("limit", limit, 1, MAX_LIMIT);
  const statuses = someOf("status", options.status, ENDED) ?? ENDED;
  const before = beforeOf(access, options.before);
  const projectId = access.project(options.projectId);
  const question = ["purge", projectId ?? null, before, statuses];
  const first: RunKey = [EVER.first, ""];
  let after = cursor === undefined ? first : fromCursor(question, cursor, first);

  const gone = { runs: 0, rows: 0 };
  for (let batch = 0; batch < MAX_BATCHES && gone.rows < limit; batch += 1) {
    const budget = Math.min(limit - gone.rows, ROWS_A_BATCH);
    const { rows, next } = await oldest(access, { projectId, before, statuses, after, budget });
    const whole = wholeRuns(rows, budget);
    const [head] = rows;
    if (head && whole.length === 0) {
      gone.rows += sum(await deleteAll(access, partOf(head, before, budget)));
      continue;
    }
    if (whole.length > 0) {
      const counts = await deleteAll(access, allOf(whole, before));
      gone.rows += sum(counts);
      gone.runs += counts.at(-1) ?? 0;
    }
    const last = whole.length < rows.length ? whole.at(-1) : undefined;
    const reached: RunKey | undefined = last ? [last.at, last.id] : next;
    if (reached === undefined) return { ...gone, done: true };
    after = reached;
  }
  return { ...gone, done: false, cursor: toCursor(question, after) };
}

function beforeOf(access: Access, before: unknown): number {
  const instant = instantOf("before", before);
  const latest = Math.floor(access.clock.now()) - MIN_AGE_MS;
  if (instant <= latest) return instant;
  throw new DurableInvalidInputError(
    "before",
    `must be 2 hours ago at least, ${toIso(latest)} or earlier: until then a coordinator may hold the runs, and would record them again`,
  );
}

/** The runs that ended first, and how many rows there are of each; counted no further than the budget goes. */
function oldest(
  access: Access,
  of: {
    projectId: string | undefined;
    before: number;
    statuses: readonly EndedStatus[];
    after: RunKey;
    budget: number;
  },
): Promise<{ rows: Sized[]; next: RunKey | undefined }> {
  const params = new Params();
  const atMost = params.add(of.budget);
  const countOf = (table: string, which = "true"): string =>
    `(SELECT count(*) FROM (SELECT 1 FROM ${table} AS one WHERE one.run_id = r.run_id AND ${which} LIMIT ${atMost}))`;
  return walk<Sized>(access, params, {
    arms: of.statuses.map((status) => completedArm(status, params)),
    order: "ascending",
    after: of.after,
    until: of.before,
    conditions: of.projectId === undefined ? [] : [`r.project_id = ${params.add(of.projectId)}`],
    limit: RUNS_A_BATCH,
    bytes: "0",
    columns: `${countOf("durable_steps")} AS steps, ${countOf("durable_events")} AS events,
      ${countOf("durable_chunks", OF_ANOTHER_BODY)} AS chunks, r.input_ref, r.result_ref`,
  });
}

/** The first of them that go into one batch; and the first one anyway, if it has nothing that could go before its row. */
function wholeRuns(rows: readonly Sized[], budget: number): Sized[] {
  const whole: Sized[] = [];
  let left = budget;
  for (const run of rows) {
    const chunks = run.chunks + chunksOf(run.input_ref) + chunksOf(run.result_ref);
    left -= 1 + run.steps + run.events + chunks * ROWS_OF_CHUNK;
    const hasParts = run.steps + run.events + run.chunks > 0;
    if (left < 0 && (hasParts || whole.length > 0)) break;
    whole.push(run);
  }
  return whole;
}

function chunksOf(ref: Cell): number {
  return ref === null ? 0 : chunkCount(String(ref));
}

function allOf(runs: readonly Sized[], before: number): Statement[] {
  const values = [JSON.stringify(runs.map(({ id }) => id)), before];
  return DELETE_WHOLE.map((sql) => ({ sql, values }));
}

/** As much of one run as goes into a batch, but never its row. */
function partOf(run: Sized, before: number, budget: number): Statement[] {
  const steps = Math.min(run.steps, budget);
  const events = Math.min(run.events, budget - steps);
  const left = budget - steps - events;
  const chunks = Math.min(run.chunks, Math.ceil(left / ROWS_OF_CHUNK));
  const counts = { steps, events, chunks };
  const id = JSON.stringify([run.id]);
  return (["steps", "events", "chunks"] as const)
    .filter((what) => counts[what] > 0)
    .map((what) => ({ sql: DELETE_PART[what], values: [id, before, counts[what]] }));
}

/** In one transaction; how many rows each statement has deleted. */
async function deleteAll(access: Access, statements: readonly Statement[]): Promise<number[]> {
  const answered = await access.batch(statements.flatMap((statement) => [statement, COUNT_DELETED]));
  return answered.filter((_rows, i) => i % 2 === 1).map((rows) => (rows as { n: number }[])[0]?.n ?? 0);
}

function sum(counts: readonly number[]): number {
  return counts.reduce((total, count) => total + count, 0);
}
