/**
 * From D1 back into an empty cache (R17). Inline bodies come along, page by page; large ones stay in D1 and are read
 * through when they are asked for.
 */
import type { Clock } from "../contract/clock.ts";
import type { RunState } from "../ledger/state.ts";
import type { D1DatabaseLike } from "../stores/d1/database.ts";
import { runBatch } from "../stores/d1/database.ts";
import { joinChunks } from "../stores/sql/bodies.ts";
import type { EventRow, RunRow, StepRow } from "../stores/sql/rows.ts";
import { EVENT_COLUMNS, fromEventRow, fromRunRow, fromStepRow } from "../stores/sql/rows.ts";
import { SELECT_CHUNKS, SELECT_RUN, SELECT_STEPS } from "../stores/sql/statements.ts";
import type { RunCache } from "./cache.ts";

/** ?1: run id, ?2: the last key of the page before, "" for the first. At most about 4 MB. */
const SELECT_EVENTS = `
SELECT ${EVENT_COLUMNS.join(", ")} FROM durable_events WHERE run_id = ?1 AND key > ?2 ORDER BY key LIMIT 15`;

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
  readonly deadlineMs: number;
}

/**
 * Fills the cache with what D1 holds of the run; leaves it empty when that is nothing. Throws `store_unavailable`, having
 * filled it in part: a cache without its run's row does not count.
 */
export async function rebuild(cache: RunCache, input: RecordInput): Promise<void> {
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
  const now = Math.floor(input.clock.now());
  cache.finishAdopting(row === undefined ? null : withLease(fromRunRow(row), now), now);
}

/** D1 hears of no heartbeats, so what it says of a lease is old: the holder is given one more to speak up. */
function withLease<R extends RunState>(run: R, now: number): R {
  return run.leaseExpiresAt === null ? run : { ...run, leaseExpiresAt: now + run.leaseMs };
}

/** R17: whether D1 stands above the cache, or has let its run go, so that the cache is to be thrown away. */
export async function recordIsAhead(cache: RunCache, input: RecordInput): Promise<boolean> {
  const [rows] = await query(input, [[SELECT_HEAD, input.runId]]);
  const [head] = (rows ?? []) as {
    manifest_hash: string;
    created_at: number;
    fence: number;
    claim_request_id: string;
    run_revision: number;
    revision: number;
  }[];
  if (head === undefined) return cache.isOnRecord;
  const { runRevision, base } = cache.adopted;
  if (head.run_revision > runRevision && head.run_revision <= base) return true;
  const { run } = cache;
  if (run === null || head.manifest_hash !== run.manifestHash || head.created_at !== run.createdAt)
    return true;
  if (head.fence !== run.fence) return head.fence > run.fence;
  return head.claim_request_id !== run.claimRequestId || head.revision > cache.revision;
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
