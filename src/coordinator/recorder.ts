/**
 * The recorder: brings a coordinator's changes to D1 (R10, R12, R13, R15).
 *
 * One flush at a time; what accumulates meanwhile goes into the next. A flush is a few batches of constant statements
 * with rows in bulk, each read when it is sent, each safe to repeat and to come late, and guarded by the run's claim and
 * the object's life. What D1 holds is marked batch by batch, and only if the cache was not emptied meanwhile. A D1 call that
 * misses its deadline may still be committed: nothing here depends on whether it was.
 */
import { DurableStoreUnavailableError } from "../contract/errors.ts";
import type { Body } from "../ledger/state.ts";
import type { D1PreparedStatementLike } from "../stores/d1/database.ts";
import { runBatch, STALE, StaleSliceError } from "../stores/d1/database.ts";
import { chunkCount } from "../stores/sql/bodies.ts";
import { inParams, PARAM_BYTES } from "../stores/sql/params.ts";
import type { Cell } from "../stores/sql/rows.ts";
import { SELECT_REFUSED } from "../stores/sql/grouped.ts";
import { toEventRow, toStepRow, toTagRows } from "../stores/sql/rows.ts";
import * as sql from "../stores/sql/statements.ts";
import type { RunCache } from "./cache.ts";
import type { HeldRows } from "./dirty.ts";
import type { RecordInput } from "./rebuild.ts";
import type { RecordEntry } from "./record-entry.ts";
import { entryOf, guardOf, recordedRow } from "./record-entry.ts";
import { commitEntries } from "./commit-entries.ts";

const BATCH_BYTES = 4 * PARAM_BYTES;

/** Chunks of a batch: about 2 MB. */
const CHUNKS_A_BATCH = 2;

/** ?1: one guard, as a JSON array of one row. Aborts the batch if it refuses. */
const GUARD_CLAIM = `SELECT CASE WHEN EXISTS (${SELECT_REFUSED}) THEN ${STALE} ELSE 1 END`;

/** ?1: run id, ?2: fence, ?3: revision. Of what was recorded late, once something after it was not. */
const CLEAR_LAG = `
UPDATE durable_runs SET lag_ms = 0 WHERE run_id = ?1 AND fence = ?2 AND revision = ?3`;

/** What RunHistory.stuck looks for at the least. */
const LATE_MS = 1_000;

export interface RecorderInput extends RecordInput {
  readonly cache: RunCache;
}

/** What was to be recorded is no longer in the cache: D1 knew better. */
export class CacheEmptiedError extends StaleSliceError {
  override readonly name: string = "CacheEmptiedError";
  constructor() {
    super("the cache was emptied meanwhile");
  }
}

/** A statement, the large bodies that must be there before it, and the rows that D1 holds after it. */
interface Write {
  readonly statement: string;
  readonly values: readonly Cell[];
  readonly refs: readonly string[];
  readonly holds: HeldRows;
}

/** What the rows of a batch were read under. */
interface Sending {
  readonly epoch: number;
  readonly readAt: number;
  readonly guard: readonly D1PreparedStatementLike[];
}

export class Recorder {
  readonly #input: RecorderInput;
  #current: Promise<void> | undefined;
  #following: { readonly epoch: number; readonly flush: Promise<void> } | undefined;
  #recordedThrough = 0;
  #failures = 0;
  #sendingSince = Infinity;
  /** Whether somebody waits for the next flush. */
  #isAwaited = false;
  /** The latest version of the run's row, if it was recorded late and nothing has been recorded in time since. */
  #late: { readonly fence: number; readonly revision: number } | undefined;
  /** Large bodies that D1 holds, as far as this instance knows. */
  readonly #sentRefs = new Set<string>();

  constructor(input: RecorderInput) {
    this.#input = input;
  }

  /** Every change up to this revision is in D1. */
  get recordedThrough(): number {
    return this.#input.cache.isDirty ? this.#recordedThrough : this.#input.cache.tellableRevision;
  }

  /** Flushes that failed since one succeeded. */
  get failures(): number {
    return this.#failures;
  }

  /** Epoch milliseconds: when the flush that is under way began; Infinity where there is none. */
  get sendingSince(): number {
    return this.#sendingSince;
  }

  /** Somebody waits for the next flush. */
  expedite(): void {
    this.#isAwaited = true;
  }

  /**
   * Resolves once all that is dirty now is in D1. Rejects with StaleSliceError when D1 stands at a claim that this
   * object does not know, with CacheEmptiedError when the cache was emptied meanwhile, with `store_unavailable` when
   * D1 cannot answer.
   */
  flush(): Promise<void> {
    if (this.#current === undefined) {
      this.#current = this.#flushOnce().finally(() => {
        this.#current = undefined;
      });
      return this.#current;
    }
    const { epoch } = this.#input.cache;
    if (this.#following?.epoch !== epoch) {
      const flush = this.#current
        .catch(() => {})
        .then(() => {
          if (this.#following?.epoch === epoch) this.#following = undefined;
          this.#assertStands(epoch);
          return this.flush();
        });
      this.#following = { epoch, flush };
    }
    return this.#following.flush;
  }

  /** After the cache was emptied. */
  forget(): void {
    this.#recordedThrough = 0;
    this.#failures = 0;
    this.#late = undefined;
    this.#sentRefs.clear();
  }

  async #flushOnce(): Promise<void> {
    const { cache, clock } = this.#input;
    const late = this.#late;
    this.#sendingSince = clock.now();
    try {
      await this.#sendDirty();
      if (this.#failures === 0 && this.#late === late) this.#late = undefined;
      this.#failures = 0;
    } catch (error) {
      this.#failures += 1;
      cache.saveRunSince(Math.floor(clock.now()));
      throw error;
    } finally {
      this.#sendingSince = Infinity;
    }
  }

  async #sendDirty(): Promise<void> {
    const { cache } = this.#input;
    if (cache.exists && !cache.mayTrail) cache.saveUnsaved();
    const through = cache.tellableRevision;
    const { epoch } = cache;
    const readAt = (): number => Math.floor(this.#input.clock.now());
    if (!(await this.#sendEntry(epoch, readAt()))) {
      const standing = (): Sending => ({ epoch, readAt: readAt(), guard: this.#guard() });
      await this.#sendAll(this.#events(), standing);
      await this.#sendAll(this.#runAndSteps(), standing);
    }
    cache.setRecorded(through);
    this.#recordedThrough = Math.max(this.#recordedThrough, through);
  }

  /** Answers false where there is more to send than one entry takes, or where what is late has to be told. */
  async #sendEntry(epoch: number, readAt: number): Promise<boolean> {
    const { cache, runId } = this.#input;
    const lagMs = this.#lagMs();
    const { isAssumed } = cache;
    if (!isAssumed && (this.#late || lagMs >= LATE_MS)) return false;
    if (!cache.isDirty) return true;
    const isAwaited = this.#isAwaited;
    this.#isAwaited = false;
    const told = entryOf(cache, runId, { lagMs, isAwaited });
    if (told === null && isAssumed) throw new StaleSliceError("too long to be assumed");
    if (told === null) return false;
    const isRefused = await this.#isRefused(told.entry);
    this.#assertStands(epoch);
    if (!isRefused) {
      const { run } = cache;
      if (isAssumed && run && lagMs >= LATE_MS) this.#late = { fence: run.fence, revision: run.revision };
      cache.markRecorded(told.holds, readAt);
      return true;
    }
    throw new StaleSliceError("D1 stands at another claim");
  }

  /** By a recorder object, where the way to one is open; else by itself. */
  async #isRefused(entry: RecordEntry): Promise<boolean> {
    const { db, recorder } = this.#input;
    if (!recorder?.isOpen) {
      const refused = await commitEntries(db, [entry], this.#input);
      return refused.has(entry.runId);
    }
    const answer = await recorder
      .ask((one) => one.record(entry))
      .catch((cause: unknown) => {
        throw new DurableStoreUnavailableError("a recorder object could not answer", { cause });
      });
    if (answer.ok) return answer.refused;
    throw new DurableStoreUnavailableError(answer.message);
  }

  /**
   * In order, in batches of bounded size. A batch is guarded by the claim under which the first of its rows was read.
   */
  async #sendAll(writes: Generator<Write>, standing: () => Sending): Promise<void> {
    let batch: Write[] = [];
    let bytes = 0;
    let sending = standing();
    for (const write of writes) {
      const asRead = standing();
      const size = write.values.reduce<number>((sum, value) => sum + String(value).length, 0);
      if (bytes + size > BATCH_BYTES && batch.length > 0) {
        await this.#sendBatch(batch, sending);
        batch = [];
        bytes = 0;
      }
      if (batch.length === 0) sending = asRead;
      batch.push(write);
      bytes += size;
    }
    if (batch.length > 0) await this.#sendBatch(batch, sending);
  }

  async #sendBatch(batch: Write[], sending: Sending): Promise<void> {
    for (const ref of batch.flatMap((write) => write.refs)) await this.#sendBody(ref, sending);
    await this.#send(
      batch.map((write) => this.#prepare(write.statement, ...write.values)),
      sending,
    );
    for (const write of batch) this.#input.cache.markRecorded(write.holds, sending.readAt);
  }

  async #sendBody(ref: string, sending: Sending): Promise<void> {
    if (this.#sentRefs.has(ref)) return;
    const { cache, runId } = this.#input;
    const count = chunkCount(ref);
    for (let first = 0; first < count; first += CHUNKS_A_BATCH) {
      const texts = cache.chunks(ref, first, Math.min(count, first + CHUNKS_A_BATCH));
      // Not here: the row was rebuilt from D1, which has the body.
      if (texts === null) break;
      await this.#send(
        texts.map((text, i) => this.#prepare(sql.INSERT_CHUNK, runId, ref, first + i, text)),
        sending,
      );
    }
    this.#sentRefs.add(ref);
  }

  async #send(statements: D1PreparedStatementLike[], { epoch, guard }: Sending): Promise<void> {
    await runBatch(this.#input.db, [...guard, ...statements], this.#input);
    this.#assertStands(epoch);
  }

  #guard(): D1PreparedStatementLike[] {
    const { cache } = this.#input;
    return cache.run === null
      ? []
      : [this.#prepare(GUARD_CLAIM, JSON.stringify([guardOf(cache, cache.run)]))];
  }

  #assertStands(epoch: number): void {
    if (this.#input.cache.epoch !== epoch) throw new CacheEmptiedError();
  }

  *#events(): Generator<Write> {
    const { cache, runId } = this.#input;
    const dirty = readEach(cache.dirty.events.keys(), (key) => cache.event(key));
    const rows = inParams(dirty, (event) => toEventRow(runId, event, event.revision));
    for (const { json, items } of rows) {
      const refs = items.flatMap((event) => refsOf(event.payload));
      const events = new Map(items.map((event) => [event.key, event.revision]));
      yield { statement: sql.INSERT_EVENTS, values: [json], refs, holds: { ...holdsNothing(), events } };
    }
  }

  /**
   * A run that has ended, or a fork that is sealed, goes after its steps: D1 never says so of what it does not hold.
   */
  *#runAndSteps(): Generator<Write> {
    const { run } = this.#input.cache;
    if (run === null) return;
    const goesLast = run.completedAt !== null || run.forkedFrom?.copying === false;
    yield* this.#dropped({ isAll: !goesLast });
    if (!goesLast) yield* this.#runRow();
    yield* this.#steps();
    if (!goesLast) return;
    // Again, together with the row that fences old batches out: until then one may have come late.
    yield* this.#dropped({ isAll: true });
    yield* this.#runRow();
  }

  /** Before the steps that take the place of the dropped ones; safe to come late, for those bear a higher fence. */
  *#dropped({ isAll }: { isAll: boolean }): Generator<Write> {
    const { cache, runId } = this.#input;
    const { dropped } = cache.dirty;
    if (dropped === null) return;
    const values = [runId, dropped.from, dropped.belowFence];
    yield {
      statement: sql.DELETE_STEPS,
      values,
      refs: [],
      holds: isAll ? { ...holdsNothing(), dropped } : holdsNothing(),
    };
  }

  *#runRow(): Generator<Write> {
    const { run, dirty } = this.#input.cache;
    if (run === null) return;
    if (dirty.run === null) return yield* this.#noLongerLate(run.runId);
    if (run.tags !== null) {
      const values = [JSON.stringify(toTagRows(run))];
      yield { statement: sql.INSERT_TAGS, values, refs: [], holds: holdsNothing() };
    }
    const refs = [...refsOf(run.input), ...refsOf(run.result)];
    const holds = { ...holdsNothing(), run: run.revision };
    const lagMs = this.#lagMs();
    this.#late = lagMs >= LATE_MS ? { fence: run.fence, revision: run.revision } : undefined;
    yield { statement: sql.UPSERT_RUN, values: recordedRow(run, lagMs), refs, holds };
  }

  /** Not by what comes late itself. */
  *#noLongerLate(runId: string): Generator<Write> {
    if (this.#late === undefined || this.#failures > 0) return;
    const { fence, revision } = this.#late;
    yield { statement: CLEAR_LAG, values: [runId, fence, revision], refs: [], holds: holdsNothing() };
  }

  /** Until this very call; what the call itself takes, its row cannot say. */
  #lagMs(): number {
    const { cache, clock } = this.#input;
    return Math.max(0, Math.floor(clock.now() - (cache.dirty.runSince ?? clock.now())));
  }

  *#steps(): Generator<Write> {
    const { cache, runId } = this.#input;
    const positions = [...cache.dirty.steps.keys()].sort((a, b) => a - b);
    const dirty = readEach(positions, (stepIndex) => cache.tellableStep(stepIndex));
    const rows = inParams(dirty, (step) => toStepRow(runId, step, step.revision));
    for (const { json, items } of rows) {
      const refs = items.flatMap((step) => refsOf(step.result));
      const steps = new Map(items.map((step) => [step.stepIndex, step.revision]));
      yield { statement: sql.UPSERT_STEPS, values: [json], refs, holds: { ...holdsNothing(), steps } };
    }
  }

  #prepare(query: string, ...values: readonly Cell[]): D1PreparedStatementLike {
    return this.#input.db.prepare(query).bind(...values);
  }
}

/** Each row when its turn comes, so that a long flush holds few in memory. */
function* readEach<K, T>(keys: Iterable<K>, read: (key: K) => T | null): Generator<T> {
  for (const key of keys) {
    const row = read(key);
    if (row !== null) yield row;
  }
}

function holdsNothing(): HeldRows {
  return { run: null, dropped: null, steps: new Map(), events: new Map() };
}

function refsOf(body: Body | null): string[] {
  return body !== null && "ref" in body ? [body.ref] : [];
}
