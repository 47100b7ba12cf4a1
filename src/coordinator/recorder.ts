/**
 * The recorder: brings a coordinator's changes to D1 (R10, R12, R13, R15).
 *
 * One flush at a time; what accumulates meanwhile goes into the next. A flush is a few batches of constant statements
 * with rows in bulk, each batch guarded by the run's fence, each safe to repeat and to come late. Reads rows from the
 * cache's SQLite only, so D1 never knows more than the object does. A D1 call that misses its deadline may still be
 * committed: nothing here depends on whether it was.
 */
import type { Clock } from "../contract/clock.ts";
import { byteLength } from "../contract/limits.ts";
import type { Body, RunState } from "../ledger/state.ts";
import type { D1DatabaseLike, D1PreparedStatementLike } from "../stores/d1/database.ts";
import { runBatch, STALE } from "../stores/d1/database.ts";
import { chunkCount } from "../stores/sql/bodies.ts";
import type { Cell } from "../stores/sql/rows.ts";
import { toEventRow, toRunRow, toStepRow, toTagRows } from "../stores/sql/rows.ts";
import * as sql from "../stores/sql/statements.ts";
import type { Dirty, RunCache } from "./cache.ts";

/** Half of what D1 takes in one value, so that no row tips it over: a row has at most 512 KiB once escaped. */
const PARAM_BYTES = 1_000_000;

/** Chunks of a batch: about 2 MB. */
const CHUNKS_A_BATCH = 2;

/** ?1: run id, ?2: fence, ?3: the request that claimed under it. Fires when D1 knows of another, later or equal, claim. */
const GUARD_CLAIM = `
SELECT CASE WHEN EXISTS (
  SELECT 1 FROM durable_runs WHERE run_id = ?1 AND (fence > ?2 OR (fence = ?2 AND claim_request_id <> ?3))
) THEN ${STALE} ELSE 1 END`;

export interface RecorderInput {
  readonly runId: string;
  readonly db: D1DatabaseLike;
  readonly cache: RunCache;
  readonly clock: Clock;
  /** For one call to D1. */
  readonly deadlineMs: number;
}

/** A statement and its parameters. */
interface Write {
  readonly statement: string;
  readonly values: readonly Cell[];
}

export class Recorder {
  readonly #input: RecorderInput;
  #current: Promise<void> | undefined;
  #following: Promise<void> | undefined;
  #recordedThrough = 0;
  #failures = 0;

  constructor(input: RecorderInput) {
    this.#input = input;
  }

  /** Every change up to this revision is in D1. */
  get recordedThrough(): number {
    return this.#input.cache.dirtyCount === 0 ? this.#input.cache.revision : this.#recordedThrough;
  }

  /** Flushes that failed since one succeeded. */
  get failures(): number {
    return this.#failures;
  }

  /**
   * Resolves once all that is dirty now is in D1. Rejects with StaleSliceError when D1 stands at a claim that this object
   * does not know, with `store_unavailable` when D1 cannot answer.
   */
  flush(): Promise<void> {
    if (this.#current === undefined) {
      this.#current = this.#flushOnce().finally(() => {
        this.#current = undefined;
      });
      return this.#current;
    }
    this.#following ??= this.#current
      .catch(() => {})
      .then(() => {
        this.#following = undefined;
        return this.flush();
      });
    return this.#following;
  }

  /** After the cache was emptied. */
  forget(): void {
    this.#recordedThrough = 0;
    this.#failures = 0;
  }

  async #flushOnce(): Promise<void> {
    try {
      await this.#sendDirty();
      this.#failures = 0;
    } catch (error) {
      this.#failures += 1;
      throw error;
    }
  }

  async #sendDirty(): Promise<void> {
    const { cache } = this.#input;
    cache.saveUnsaved();
    if (cache.dirtyCount === 0) return;
    const through = cache.revision;
    const taken: Dirty = {
      run: cache.dirty.run,
      steps: new Map(cache.dirty.steps),
      events: new Map(cache.dirty.events),
    };
    const { run } = cache;
    const { bodies, rows } = this.#collect(taken, run);
    for (const ref of bodies) await this.#sendChunks(ref, run);
    for (const statements of rows) await this.#send(statements, run);
    cache.markRecorded(taken, through);
    this.#recordedThrough = Math.max(this.#recordedThrough, through);
  }

  /** What a flush sends, read at one instant: the refs of large bodies, then the rows, in batches. */
  #collect(taken: Dirty, run: RunState | null): { bodies: string[]; rows: D1PreparedStatementLike[][] } {
    const { cache, runId } = this.#input;
    const bodies: string[] = [];
    const note = (body: Body | null): void => void (body && "ref" in body && bodies.push(body.ref));
    const writes: Write[] = [];
    if (taken.run !== null && run !== null) {
      note(run.input);
      note(run.result);
      writes.push({ statement: sql.UPSERT_RUN, values: toRunRow(run, taken.run) });
      if (run.tags !== null) {
        writes.push({ statement: sql.INSERT_TAGS, values: [JSON.stringify(toTagRows(run))] });
      }
    }
    const steps: Cell[][] = [];
    for (const stepIndex of [...taken.steps.keys()].sort((a, b) => a - b)) {
      const step = cache.step(stepIndex);
      if (step === null) continue;
      note(step.result);
      steps.push(toStepRow(runId, step, step.revision));
    }
    const events: Cell[][] = [];
    for (const key of taken.events.keys()) {
      const event = cache.event(key);
      if (event === null) continue;
      note(event.payload);
      events.push(toEventRow(runId, event, event.revision));
    }
    for (const json of inParams(steps)) writes.push({ statement: sql.UPSERT_STEPS, values: [json] });
    for (const json of inParams(events)) writes.push({ statement: sql.INSERT_EVENTS, values: [json] });
    const rows = inBatches(writes).map((batch) =>
      batch.map((one) => this.#prepare(one.statement, ...one.values)),
    );
    return { bodies, rows };
  }

  async #sendChunks(ref: string, run: RunState | null): Promise<void> {
    const { cache, runId } = this.#input;
    for (let first = 0; first < chunkCount(ref); first += CHUNKS_A_BATCH) {
      const texts = cache.chunks(ref, first, Math.min(chunkCount(ref), first + CHUNKS_A_BATCH));
      // Not here: then they came from D1.
      if (texts === null) return;
      await this.#send(
        texts.map((text, i) => this.#prepare(sql.INSERT_CHUNK, runId, ref, first + i, text)),
        run,
      );
    }
  }

  async #send(statements: D1PreparedStatementLike[], run: RunState | null): Promise<void> {
    const { db, runId, clock, deadlineMs } = this.#input;
    const guard = run ? [this.#prepare(GUARD_CLAIM, runId, run.fence, run.claimRequestId)] : [];
    await runBatch(db, [...guard, ...statements], { clock, deadlineMs });
  }

  #prepare(query: string, ...values: readonly Cell[]): D1PreparedStatementLike {
    return this.#input.db.prepare(query).bind(...values);
  }
}

/** JSON arrays of rows, each under what one parameter takes. */
function inParams(rows: Cell[][]): string[] {
  const params: string[] = [];
  let texts: string[] = [];
  let bytes = 0;
  for (const row of rows) {
    const text = JSON.stringify(row);
    const size = byteLength(text) + 1;
    if (bytes + size > PARAM_BYTES && texts.length > 0) {
      params.push(`[${texts.join(",")}]`);
      texts = [];
      bytes = 0;
    }
    texts.push(text);
    bytes += size;
  }
  if (texts.length > 0) params.push(`[${texts.join(",")}]`);
  return params;
}

/** Batches of about 4 MB at most, in order. */
function inBatches(writes: Write[]): Write[][] {
  const batches: Write[][] = [];
  let size = Number.POSITIVE_INFINITY;
  for (const write of writes) {
    const added = write.values.reduce<number>((sum, value) => sum + String(value).length, 0);
    if (size + added > 4 * PARAM_BYTES) {
      batches.push([]);
      size = 0;
    }
    batches.at(-1)?.push(write);
    size += added;
  }
  return batches;
}
