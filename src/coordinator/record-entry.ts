/**
 * What a run has to record, in the ordinary case: few and small rows. Flat, in JSON text, so that it can go to a
 * recorder object, and many can be put together without being read (R21).
 */
import type { RunState } from "../ledger/state.ts";
import { dueAt } from "../stores/sql/due.ts";
import type { Cell, Revised } from "../stores/sql/rows.ts";
import { toEventRow, toRunRow, toStepRow, toTagRows } from "../stores/sql/rows.ts";
import type { RunCache } from "./cache.ts";
import type { HeldRows } from "./dirty.ts";

/** What is new has a version of its own: a recorder object that does not know it would take it for unguarded rows. */
export const ENTRY_VERSIONS = [1, 2, 3] as const;

export interface RecordEntry {
  /** 2 where it `isNew`; 3 where it has events, which are guarded and counted: those of version 1 are not. */
  readonly v: (typeof ENTRY_VERSIONS)[number];
  readonly runId: string;
  /** A guard's row (stores/sql/grouped.ts); `null` for what is new, and for events alone, which need no claim. */
  readonly guard: string | null;
  /** D1 is to hold nothing of the run yet: the entry is its row, and its tags. */
  readonly isNew: boolean;
  /** Rows, with commas between them; "" for none. */
  readonly runs: string;
  readonly tags: string;
  readonly steps: string;
  readonly events: string;
  /** How many rows of runs, steps and, from version 3 on, events there are. */
  readonly rows: number;
  /** Whether somebody waits for it. Others may wait a little themselves, so that more go together. */
  readonly isAwaited: boolean;
}

/** `refused`: D1 stands at what the object does not know, and nothing of it was recorded. */
export type RecordAnswer =
  | { readonly ok: true; readonly refused: boolean }
  /** D1 cannot answer now; the rows may have been recorded. */
  | { readonly ok: false; readonly message: string };

/** Of the texts of one entry, together, in UTF-16 code units. What is longer goes to D1 in batches of its own. */
const ENTRY_LENGTH = 128 * 1_024;

/** What a recorder object does. What it throws is weather of its own, or a defect that D1 will tell of by itself. */
export interface RecorderLike extends RecorderSession {
  /** Over RPC this is a promise, on which calls can be made before it has settled. */
  open(): RecorderSession;
}

/** What it hands out for the calls that follow (0031). */
export interface RecorderSession {
  record(entry: RecordEntry): Promise<RecordAnswer>;
  /** Whether D1 holds anything of a run; `null` where D1 cannot answer now. */
  isKnown(runId: string): Promise<boolean | null>;
}

/** A namespace of recorder objects. Cloudflare's `DurableObjectNamespace<RunRecorder>` fits. */
export interface RecorderNamespaceLike {
  getByName(name: string): unknown;
}

/** In UTF-16 code units. */
export function lengthOf({ guard, runs, tags, steps, events }: RecordEntry): number {
  return (guard?.length ?? 0) + runs.length + tags.length + steps.length + events.length;
}

/** An entry, and the rows that D1 holds once it has been recorded. */
export interface Told {
  readonly entry: RecordEntry;
  readonly holds: HeldRows;
}

/** Of more, all are not even looked at. */
const MAX_ROWS = 500;

/**
 * All that D1 lacks of a run, as one entry; `null` where that is too long, drops steps, or has large bodies. `lagMs`:
 * how long D1 has lacked the run's row.
 */
export function entryOf(
  cache: RunCache,
  runId: string,
  { lagMs, isAwaited }: { lagMs: number; isAwaited: boolean },
): Told | null {
  const { dirty, run } = cache;
  if (dirty.dropped !== null || dirty.steps.size + dirty.events.size > MAX_ROWS) return null;
  const changedRun = dirty.run === null ? null : run;
  const steps = run === null ? [] : present([...dirty.steps.keys()], (key) => cache.tellableStep(key));
  const events = present([...dirty.events.keys()], (key) => cache.event(key));
  const bodies = [changedRun?.input, changedRun?.result].concat(
    steps.map(({ result }) => result),
    events.map(({ payload }) => payload),
  );
  if (bodies.some((body) => body && "ref" in body)) return null;
  const entry: RecordEntry = {
    v: cache.isAssumed ? 2 : events.length > 0 ? 3 : 1,
    runId,
    guard: run === null || cache.isAssumed ? null : JSON.stringify(guardOf(cache, run)),
    isNew: cache.isAssumed,
    runs: changedRun === null ? "" : JSON.stringify(recordedRow(changedRun, lagMs)),
    tags: changedRun === null ? "" : toRows(toTagRows(changedRun)),
    steps: toRows(steps.map((step) => toStepRow(runId, step, step.revision))),
    events: toRows(events.map((event) => toEventRow(runId, event, event.revision))),
    rows: (changedRun === null ? 0 : 1) + steps.length + events.length,
    isAwaited,
  };
  if (lengthOf(entry) > ENTRY_LENGTH) return null;
  const holds = {
    run: changedRun?.revision ?? null,
    dropped: null,
    steps: new Map(steps.map(({ stepIndex, revision }) => [stepIndex, revision])),
    events: new Map(events.map(({ key, revision }) => [key, revision])),
  };
  return { entry, holds };
}

/** A guard's row. */
export function guardOf({ revision, known, isOnRecord, incarnation }: RunCache, run: RunState): Cell[] {
  const { runId, fence, claimRequestId, manifestHash, createdAt } = run;
  const standing = [revision, known.runRevision, known.base];
  const held = [isOnRecord ? 1 : 0, incarnation];
  return [runId, fence, claimRequestId, ...standing, manifestHash, createdAt, ...held];
}

/** The run's row as D1 is told of it. */
export function recordedRow(run: RunState & Revised, lagMs: number): Cell[] {
  return toRunRow(run, run.revision, { dueAt: dueAt(run, { recordsHeartbeats: false }), lagMs });
}

function present<K, T>(keys: readonly K[], read: (key: K) => T | null): T[] {
  return keys.map(read).filter((row) => row !== null);
}

function toRows(rows: readonly (readonly Cell[])[]): string {
  return rows.map((row) => JSON.stringify(row)).join(",");
}
