/**
 * From D1 back into an empty cache, and into one that trails behind it (R17). Inline bodies come along, page by page; large ones stay in D1 and are read
 * through when they are asked for.
 */
import type { Clock } from "../contract/clock.ts";
import { withDeadline } from "../contract/clock.ts";
import type { RunState, StepState } from "../ledger/state.ts";
import type { D1DatabaseLike } from "../stores/d1/database.ts";
import { runBatch, runQuery } from "../stores/d1/database.ts";
import { joinChunks } from "../stores/sql/bodies.ts";
import type { EventRow, Revised, RunRow, StepRow } from "../stores/sql/rows.ts";
import { EVENT_COLUMNS, fromEventRow, fromRunRow, fromStepRow, STEP_COLUMNS } from "../stores/sql/rows.ts";
import { SELECT_CHUNKS, SELECT_RUN, SELECT_STEPS } from "../stores/sql/statements.ts";
import { SELECT_KNOWN } from "../stores/sql/grouped.ts";
import type { RunCache } from "./cache.ts";
import type { RecorderLike } from "./record-entry.ts";

/** ?1: run id, ?2: the last key of the page before, "" for the first. At most about 4 MB. */
const SELECT_EVENTS = `
SELECT ${EVENT_COLUMNS.join(", ")} FROM durable_events WHERE run_id = ?1 AND key > ?2 ORDER BY key LIMIT 15`;

/** ?1: run id, ?2: a position, ?3: a revision. At most about 4 MB. */
const SELECT_LATER_STEPS = `
SELECT ${STEP_COLUMNS.join(", ")} FROM durable_steps
WHERE run_id = ?1 AND step_index > ?2 AND revision > ?3 ORDER BY step_index LIMIT 15`;

/** More than an object defers at once, unless its storage was restored. */
const MAX_LATER_STEPS = 600;

/** ?1: run id. */
const SELECT_HEAD = `
SELECT manifest_hash, created_at, fence, claim_request_id, revision AS run_revision, max(
  revision,
  coalesce((SELECT max(revision) FROM durable_steps WHERE run_id = ?1), 0),
  coalesce((SELECT max(revision) FROM durable_events WHERE run_id = ?1), 0)
) AS revision
FROM durable_runs WHERE run_id = ?1`;

type PagedStepRow = StepRow & { readonly last_index: number };

export interface RecordInput {
  readonly runId: string;
  readonly db: D1DatabaseLike;
  readonly clock: Clock;
  /** For one call to D1, or to a recorder object. */
  readonly deadlineMs: number;
  /** A fresh stub of this run's recorder object; absent where there is none. */
  readonly recorder?: (() => RecorderLike) | undefined;
}

/**
 * Fills the cache with what D1 holds of the run; leaves it empty when that is nothing. Throws `store_unavailable`, having
 * filled it in part: a cache without its run's row does not count.
 */
export async function rebuild(cache: RunCache, input: RecordInput): Promise<void> {
  const now = (): number => Math.floor(input.clock.now());
  if (!(await isKnown(input))) return cache.finishAdopting(null, now());
  const [runs, firstSteps, firstEvents] = await query(input, [
    [SELECT_RUN, input.runId],
    [SELECT_STEPS, input.runId, 0],
    [SELECT_EVENTS, input.runId, ""],
  ]);
  for (let events = (firstEvents ?? []) as EventRow[]; events.length > 0;) {
    cache.adopt({ events: events.map((row) => ({ ...fromEventRow(row), revision: Number(row.revision) })) });
    const [more] = await query(input, [[SELECT_EVENTS, input.runId, String(events.at(-1)?.key)]]);
    events = (more ?? []) as EventRow[];
  }
  for (let steps = (firstSteps ?? []) as PagedStepRow[]; steps.length > 0;) {
    cache.adopt({ steps: steps.map(fromStepRow) });
    const last = Number(steps.at(-1)?.step_index);
    if (last >= Number(steps[0]?.last_index)) break;
    const [more] = await query(input, [[SELECT_STEPS, input.runId, last + 1]]);
    steps = (more ?? []) as PagedStepRow[];
  }
  const [row] = (runs ?? []) as RunRow[];
  cache.finishAdopting(row === undefined ? null : withLease(fromRunRow(row), now()), now());
}

/** Whether D1 holds anything of the run. */
async function isKnown({ runId, db, recorder, ...limits }: RecordInput): Promise<boolean> {
  const { clock, deadlineMs } = limits;
  if (recorder) {
    const known = await withDeadline(clock, deadlineMs, recorder().isKnown(runId), noAnswer).catch(
      () => null,
    );
    if (known !== null) return known;
  }
  const rows = await runQuery(db.prepare(SELECT_KNOWN).bind(JSON.stringify([runId])), limits);
  return rows.length > 0;
}

function noAnswer(): Error {
  return new Error("a recorder object did not answer in time");
}

/** D1 hears of no heartbeats, so what it says of a lease is old: the holder is given one more to speak up. */
function withLease<R extends RunState>(run: R, now: number): R {
  return run.leaseExpiresAt === null ? run : { ...run, leaseExpiresAt: now + run.leaseMs };
}

interface Head {
  readonly manifest_hash: string;
  readonly created_at: number;
  readonly fence: number;
  readonly claim_request_id: string;
  readonly run_revision: number;
  readonly revision: number;
}

/**
 * R17: compares the cache with D1, and catches up with it where storage may trail. Answers whether D1 stands above the
 * cache, or has let its run go, so that the cache is to be thrown away. Throws `store_unavailable`, having changed nothing.
 */
export async function recordIsAhead(cache: RunCache, input: RecordInput): Promise<boolean> {
  const { epoch } = cache;
  const [rows] = await query(input, [[SELECT_HEAD, input.runId]]);
  const [head] = (rows ?? []) as Head[];
  if (head === undefined) return cache.isOnRecord;
  if (isOfAnother(head, cache)) return true;
  if (!cache.mayTrail) return isLater(head, cache);
  const later = head.revision > cache.revision ? await laterRows(cache, input) : { steps: [], run: null };
  if (later === null) return true;
  const recorded = { revision: head.revision, runRevision: head.run_revision };
  if (cache.epoch === epoch) cache.catchUp(later.steps, later.run, recorded);
  return false;
}

/** Another run, another claim as late or later, or a change that was made by nobody known here. */
function isOfAnother(head: Head, { run, known }: RunCache): boolean {
  if (head.run_revision > known.runRevision && head.run_revision <= known.base) return true;
  if (run === null || head.manifest_hash !== run.manifestHash || head.created_at !== run.createdAt)
    return true;
  return head.fence > run.fence || (head.fence === run.fence && head.claim_request_id !== run.claimRequestId);
}

/** Of the same claim: the object's storage was restored to an earlier state. */
function isLater(head: Head, { run, revision }: RunCache): boolean {
  return head.fence === run?.fence && head.revision > revision;
}

/** What D1 holds above the cache's revision; `null` where that is more than can have been deferred. */
async function laterRows(
  { revision, run }: RunCache,
  input: RecordInput,
): Promise<{ steps: (StepState & Revised)[]; run: (RunState & Revised) | null } | null> {
  const [runs] = await query(input, [[SELECT_RUN, input.runId]]);
  const [row] = (runs ?? []) as RunRow[];
  const steps: (StepState & Revised)[] = [];
  for (let last = -1; ;) {
    const [rows] = await query(input, [[SELECT_LATER_STEPS, input.runId, last, revision]]);
    const page = ((rows ?? []) as StepRow[]).map(fromStepRow);
    if (page.length === 0) break;
    steps.push(...page);
    last = page.at(-1)?.stepIndex ?? last;
    if (steps.length > MAX_LATER_STEPS) return null;
  }
  const recorded = row === undefined ? null : fromRunRow(row);
  return { steps, run: recorded?.fence === run?.fence ? recorded : null };
}

/** Chunks `first` to before `end` of a body, from D1, joined. */
export async function recordedChunks(
  input: RecordInput,
  ref: string,
  first: number,
  end: number,
): Promise<string> {
  const [rows] = await query(input, [[SELECT_CHUNKS, input.runId, ref, first, end - 1]]);
  return joinChunks(
    ref,
    first,
    end,
    ((rows ?? []) as { text: string }[]).map((row) => row.text),
  );
}

function query(
  input: RecordInput,
  queries: (readonly [string, ...(string | number)[]])[],
): Promise<unknown[][]> {
  const statements = queries.map(([text, ...values]) => input.db.prepare(text).bind(...values));
  return runBatch(input.db, statements, input);
}
