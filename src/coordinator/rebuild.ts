/**
 * From D1 back into an empty cache, and into one that trails behind it (R17). Inline bodies come along, page by page;
 * large ones stay in D1 and are read through when they are asked for.
 */
import type { Clock } from "../contract/clock.ts";
import { DurableStoreUnavailableError } from "../contract/errors.ts";
import type { RunState, StepState } from "../ledger/state.ts";
import type { D1DatabaseLike } from "../stores/d1/database.ts";
import { runBatch, runQuery } from "../stores/d1/database.ts";
import { joinChunks } from "../stores/sql/bodies.ts";
import type { EventRow, Revised, RunRow, StepRow } from "../stores/sql/rows.ts";
import { EVENT_COLUMNS, fromEventRow, fromRunRow, fromStepRow, STEP_COLUMNS } from "../stores/sql/rows.ts";
import {
  SELECT_CHUNKS,
  SELECT_INCARNATION,
  SELECT_RUN,
  SELECT_STEPS,
  TAKE_INCARNATION,
} from "../stores/sql/statements.ts";
import { SELECT_KNOWN } from "../stores/sql/grouped.ts";
import type { Known, Later, RunCache } from "./cache.ts";
import { isHeldAlike, REVISION_GAP } from "./cache.ts";
import type { Event } from "./recent-events.ts";
import { isSmallEvent, SMALL_PAYLOAD } from "./recent-events.ts";
import { isSmall } from "./recent-steps.ts";
import type { RecorderWay } from "./recorder-way.ts";

/** ?1: run id, ?2: the last key of the page before, "" for the first. At most about 4 MB. */
const SELECT_EVENTS = `
SELECT ${EVENT_COLUMNS.join(", ")} FROM durable_events WHERE run_id = ?1 AND key > ?2 ORDER BY key LIMIT 15`;

/** ?1: run id, ?2: a position, ?3: a revision, or ?4 to ?5: those of earlier instances. What was deferred is small. */
const SELECT_LATER_STEPS = `
SELECT ${STEP_COLUMNS.join(", ")} FROM durable_steps
WHERE run_id = ?1 AND step_index > ?2 AND (revision > ?3 OR (revision > ?4 AND revision <= ?5))
ORDER BY step_index LIMIT 50`;

/** ?1: run id, ?2 to ?4: as ?3 to ?5 of SELECT_LATER_STEPS. Of what is not small, only as much as shows that. */
const SELECT_LATER_EVENTS = `
SELECT ${EVENT_COLUMNS.filter((column) => column !== "payload").join(", ")}, substr(payload, 1, ${SMALL_PAYLOAD + 1}) AS payload
FROM durable_events
WHERE run_id = ?1 AND (revision > ?2 OR (revision > ?3 AND revision <= ?4)) LIMIT 65`;

/** More than an object defers at once, unless its storage was restored. */
const MAX_LATER_STEPS = 600;
const MAX_LATER_EVENTS = 64;

/** Longer than an object keeps what it has deferred in memory alone, unless its storage was restored. */
const MAX_DEFERRED_MS = 10_000;

/** ?1: run id. */
const SELECT_HEAD = `
SELECT manifest_hash, created_at, fence, claim_request_id, incarnation, revision AS run_revision,
  coalesce((SELECT max(revision) FROM durable_steps WHERE run_id = ?1), 0) AS step_revision,
  coalesce((SELECT max(revision) FROM durable_events WHERE run_id = ?1), 0) AS event_revision
FROM durable_runs WHERE run_id = ?1`;

type PagedStepRow = StepRow & { readonly last_index: number };

type Query = readonly [text: string, ...values: (string | number)[]];

export interface RecordInput {
  readonly runId: string;
  readonly db: D1DatabaseLike;
  readonly clock: Clock;
  /** For one call to D1. */
  readonly deadlineMs: number;
  /** Absent where there are no recorder objects. */
  readonly recorder?: RecorderWay | undefined;
}

/**
 * Fills the cache with what D1 holds of the run; leaves it empty when that is nothing. Throws `store_unavailable`,
 * having filled it in part: a cache without its run's row does not count. `mayBeNew`: most often it is nothing, which
 * takes less to ask.
 */
export async function rebuild(cache: RunCache, input: RecordInput, mayBeNew = true): Promise<void> {
  const now = (): number => Math.floor(input.clock.now());
  if (mayBeNew && !(await isKnown(input))) return cache.finishAdopting(null, now(), 0);
  const [incarnation, runs, firstSteps, firstEvents] = await lookedAt(cache, input, [
    [SELECT_RUN, input.runId],
    [SELECT_STEPS, input.runId, 0],
    [SELECT_EVENTS, input.runId, ""],
  ]);
  for (let events = (firstEvents ?? []) as EventRow[]; events.length > 0;) {
    cache.adopt({ events: events.map(fromRecorded) });
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
  const run = row === undefined ? null : withLease(fromRunRow(row), now());
  cache.finishAdopting(run, now(), incarnation);
}

function fromRecorded(row: EventRow): Event {
  return { ...fromEventRow(row), revision: Number(row.revision) };
}

/** Whether D1 holds anything of the run. */
async function isKnown({ runId, db, recorder, ...limits }: RecordInput): Promise<boolean> {
  if (recorder?.isOpen) {
    // Where it cannot answer, D1 is asked without it.
    const known = await recorder.ask((one) => one.isKnown(runId)).catch(() => undefined);
    if (known === null) throw new DurableStoreUnavailableError("D1 did not answer a recorder object");
    if (known !== undefined) return known;
  }
  const rows = await runQuery(db.prepare(SELECT_KNOWN).bind(JSON.stringify([runId])), limits);
  return rows.length > 0;
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
  readonly incarnation: number;
  readonly run_revision: number;
  readonly step_revision: number;
  readonly event_revision: number;
}

/**
 * R17: compares the cache with D1, and catches up with it where storage may trail. Answers whether D1 stands above
 * the cache, or has let its run go, so that the cache is to be thrown away. Throws `store_unavailable`, having
 * changed nothing. `isRefused`: D1 has refused what this life has sent, be it for another look, so it takes a number in any case.
 */
export async function recordIsAhead(
  cache: RunCache,
  input: RecordInput,
  isRefused: boolean,
): Promise<boolean> {
  const { epoch, mayTrail } = cache;
  const look: Query[] = [[SELECT_HEAD, input.runId]];
  const [incarnation, rows] =
    mayTrail || isRefused
      ? await lookedAt(cache, input, look)
      : [cache.incarnation, ...(await query(input, look))];
  const [head] = (rows ?? []) as Head[];
  if (cache.epoch !== epoch) return false;
  if (head === undefined ? cache.isOnRecord : isOfAnother(claimOf(head), cache.run)) return true;
  if (!mayTrail) {
    if (head !== undefined && isLater(head, cache)) return true;
    // By the look of an instance that was replaced, or one of its own whose answer was lost.
    if (head !== undefined && head.incarnation > incarnation) return recordIsAhead(cache, input, true);
    cache.takeIncarnation(incarnation);
    return false;
  }
  const later = await readLater(cache, input);
  if (cache.epoch !== epoch) return false;
  if (later === null || (isRefused && isOverDirty(later, cache))) return true;
  cache.catchUp({ ...later, incarnation });
  return false;
}

/**
 * Whether D1 has a later version of what it has not been told of here. At the start of a life an earlier one may have deferred that;
 * in the midst of it, it is somebody else's.
 */
function isOverDirty({ steps, run }: Omit<Later, "incarnation">, { dirty, run: held }: RunCache): boolean {
  if (steps.some(({ stepIndex }) => dirty.steps.has(stepIndex))) return true;
  return dirty.run !== null && run !== null && run.revision > (held?.revision ?? 0);
}

/**
 * Queries in the batch that takes the number of the object's life, whose answer comes first. `expected`: where D1 is taken to stand.
 * It is tried again where that is wrong, so that a call which was given up, and comes late, takes nothing from whoever it was that looked since.
 * Not for a cache that was emptied meanwhile: then what is there now has a number.
 */
async function lookedAt(
  cache: RunCache,
  input: RecordInput,
  queries: readonly Query[],
  expected = cache.incarnation,
): Promise<readonly [incarnation: number, ...rows: unknown[][]]> {
  const { epoch } = cache;
  const [taken = [], standing = [], ...rows] = await query(input, [
    [TAKE_INCARNATION, input.runId, expected],
    [SELECT_INCARNATION, input.runId],
    ...queries,
  ]);
  const found = incarnationIn(standing);
  const isDone = taken.length > 0 || standing.length === 0 || cache.epoch !== epoch;
  return isDone ? [found, ...rows] : lookedAt(cache, input, queries, found);
}

/** 0 where D1 has no run. */
function incarnationIn(rows: unknown[]): number {
  const [row] = rows as { incarnation: number }[];
  return row?.incarnation ?? 0;
}

/** Another run, or another claim as late or later. */
function isOfAnother(recorded: Claim, run: RunState | null): boolean {
  if (run === null || recorded.manifestHash !== run.manifestHash || recorded.createdAt !== run.createdAt)
    return true;
  if (recorded.fence === run.fence) return recorded.claimRequestId !== run.claimRequestId;
  return recorded.fence > run.fence;
}

type Claim = Pick<RunState, "manifestHash" | "createdAt" | "fence" | "claimRequestId">;

function claimOf({ manifest_hash, created_at, fence, claim_request_id }: Head): Claim {
  return { manifestHash: manifest_hash, createdAt: created_at, fence, claimRequestId: claim_request_id };
}

/**
 * A change that was made by nobody known here; or, of the same claim, the object's storage was restored to an earlier
 * state.
 */
function isLater(head: Head, { run, revision, known }: RunCache): boolean {
  if (head.run_revision > known.runRevision && head.run_revision <= known.base) return true;
  const recorded = Math.max(head.run_revision, head.step_revision, head.event_revision);
  return head.fence === run?.fence && recorded > revision;
}

/** What D1 holds and the cache lacks; `null` where that cannot all have been deferred by an earlier instance. */
async function readLater(cache: RunCache, input: RecordInput): Promise<Omit<Later, "incarnation"> | null> {
  const { revision, known } = cache;
  const beyond = [revision, known.base - REVISION_GAP, known.base] as const;
  const [runs, eventRows] = await query(input, [
    [SELECT_RUN, input.runId],
    [SELECT_LATER_EVENTS, input.runId, ...beyond],
  ]);
  const [row] = (runs ?? []) as RunRow[];
  const recorded = row === undefined ? null : fromRunRow(row);
  const recordedEvents = ((eventRows ?? []) as EventRow[]).map(fromRecorded);
  if (recordedEvents.length > MAX_LATER_EVENTS || !recordedEvents.every(isSmallEvent)) return null;
  const steps: (StepState & Revised)[] = [];
  for (let last = -1; ;) {
    const [rows] = await query(input, [[SELECT_LATER_STEPS, input.runId, last, ...beyond]]);
    const page = ((rows ?? []) as StepRow[]).map(fromStepRow);
    if (page.length === 0) break;
    last = page.at(-1)?.stepIndex ?? last;
    steps.push(...page.filter((step) => !isDropped(step, cache) && isNewer(step, cache)));
    if (steps.length > MAX_LATER_STEPS || !steps.every(isSmall)) return null;
  }
  const { run } = cache;
  if (run === null || (recorded !== null && isForeign(recorded, run, known))) return null;
  const events = recordedEvents.filter(({ key }) => cache.event(key) === null);
  const instants = [
    ...steps.flatMap(({ completedAt }) => completedAt ?? []),
    ...events.map(({ emittedAt }) => emittedAt),
  ];
  return {
    steps,
    events,
    run: recorded?.fence === run.fence ? recorded : null,
    revision: Math.max(recorded?.revision ?? 0, ...[...steps, ...events].map(({ revision: at }) => at)),
    leaseUntil: isRestored(instants) ? Math.floor(input.clock.now()) + run.leaseMs : null,
  };
}

/** Whether a run's row, of the same claim or an earlier one, says what no instance of this object can have told D1. */
function isForeign(recorded: RunState & Revised, run: RunState & Revised, known: Known): boolean {
  const { revision } = recorded;
  if (isOfAnother(recorded, run)) return true;
  if (revision <= known.runRevision || (revision > known.base && revision <= run.revision)) return false;
  return run.revision > revision ? recorded.status !== "running" : !isHeldAlike(recorded, run);
}

/** What a restart has deleted here, and D1 has not heard of yet. */
function isDropped({ stepIndex, fence }: StepState, { dirty: { dropped } }: RunCache): boolean {
  return dropped !== null && stepIndex >= dropped.from && fence < dropped.belowFence;
}

function isNewer({ stepIndex, revision }: StepState & Revised, cache: RunCache): boolean {
  return revision > (cache.step(stepIndex)?.revision ?? 0);
}

/**
 * Storage knows of each renewal, unless it was restored to an older state: of that tell changes which were made too
 * far apart to have been in memory alone at once. Then the holder is given one more lease to speak up.
 */
function isRestored(instants: readonly number[]): boolean {
  return Math.max(...instants) - Math.min(...instants) > MAX_DEFERRED_MS;
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

function query(input: RecordInput, queries: readonly Query[]): Promise<unknown[][]> {
  const statements = queries.map(([text, ...values]) => input.db.prepare(text).bind(...values));
  return runBatch(input.db, statements, input);
}
