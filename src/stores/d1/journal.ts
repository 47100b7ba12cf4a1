/**
 * Runs in a D1 database, with no object between: optimistic, guarded batches (R10).
 *
 * A request is decided over the slice that this journal last saw, and committed in a batch whose first statement
 * aborts it all if that slice no longer stands; then the slice is read afresh and decided again. So a begin and a
 * completion cost one round trip each in the steady state, whoever else writes. Relies on the ledger giving a repeated
 * request (same request id) its first answer: a batch whose outcome is unknown is simply decided again.
 */
import type { Clock } from "../../contract/clock.ts";
import { DurableStoreUnavailableError } from "../../contract/errors.ts";
import { decide } from "../../ledger/decide.ts";
import type { Decision, Op, Request, RequestOf } from "../../ledger/requests.ts";
import type { Change, EventState, KeptManifest, RunState, Slice, StepState } from "../../ledger/state.ts";
import { answer } from "../answer.ts";
import type { Answer, CountedRun, Journal, StepPage } from "../journal.ts";
import { subjectOf } from "../journal.ts";
import type { Chunk } from "../sql/bodies.ts";
import { chunkCount, joinChunks, splitBody } from "../sql/bodies.ts";
import { dueAt } from "../sql/due.ts";
import type { Cell, EventRow, Revised, RunRow, StepRow } from "../sql/rows.ts";
import {
  fromEventRow,
  fromRunRow,
  fromStepRow,
  toEventRow,
  toRunRow,
  toStepRow,
  toTagRows,
} from "../sql/rows.ts";
import * as sql from "../sql/statements.ts";
import type { D1DatabaseLike, D1PreparedStatementLike } from "./database.ts";
import { runBatch, STALE, StaleSliceError } from "./database.ts";

/** ?1: run id, ?2: fence, ?3: status. A step rule that leaves the run as it is looks at no more of it than
 * this, and at what it waits for, which only its own worker adds to. */
const GUARD_FENCE = `
SELECT CASE WHEN EXISTS (SELECT 1 FROM durable_runs WHERE run_id = ?1 AND fence = ?2 AND status = ?3)
THEN 1 ELSE ${STALE} END`;

/** ?1: run id, ?2: the run's revision, 0 when there was none. */
const GUARD_RUN = `
SELECT CASE WHEN coalesce((SELECT revision FROM durable_runs WHERE run_id = ?1), 0) = ?2 THEN 1 ELSE ${STALE} END`;

/** ?1: run id, ?2: step index, ?3: the step's revision, 0 when there was none. */
const GUARD_STEP = `
SELECT CASE WHEN coalesce((SELECT revision FROM durable_steps WHERE run_id = ?1 AND step_index = ?2), 0) = ?3
THEN 1 ELSE ${STALE} END`;

/** ?1: run id, ?2: key. */
const GUARD_NO_EVENT = `
SELECT CASE WHEN EXISTS (SELECT 1 FROM durable_events WHERE run_id = ?1 AND key = ?2) THEN ${STALE} ELSE 1 END`;

/** How often a request may find its slice stale: each time, somebody else's change was committed. */
const MAX_ROUNDS = 32;

/** Runs whose slices are kept between requests. */
const MAX_KEPT_RUNS = 1_000;

/** Chunks of a batch: about 4 MB. */
const CHUNKS_A_BATCH = 4;

interface KeptRun {
  run: (RunState & Revised) | null;
  readonly steps: Map<number, StepState & Revised>;
}

interface LoadedSlice extends Slice {
  readonly run: (RunState & Revised) | null;
  readonly step: (StepState & Revised) | null;
}

export class D1Journal implements Journal {
  readonly #db: D1DatabaseLike;
  readonly #limits: { clock: Clock; deadlineMs: number };
  readonly #kept = new Map<string, KeptRun>();

  constructor(db: D1DatabaseLike, limits: { clock: Clock; deadlineMs: number }) {
    this.#db = db;
    this.#limits = limits;
  }

  async submit<O extends Op>(whole: RequestOf<O>, now: () => number): Promise<Answer<O>> {
    const { request, chunks } = splitBody<RequestOf<O>>(whole);
    let recalled = this.#recall(request);
    for (let round = 0; round < MAX_ROUNDS; round += 1) {
      const slice = recalled ?? (await this.#load(request));
      const decision = decide<O>(slice, request, now());
      const changes = decision.ok && hasChange(decision.change);
      const tail = changes ? await this.#commit(request, slice, decision.change, chunks) : undefined;
      // A stale slice, or nothing to write and so nothing that proves what was recalled: look, and decide again.
      const settled = changes ? tail !== undefined : recalled === undefined;
      if (settled) return this.#answer(request, decision, tail);
      recalled = undefined;
    }
    throw new DurableStoreUnavailableError(
      `run "${request.runId}" changed under ${MAX_ROUNDS} attempts to write to it`,
    );
  }

  async run(runId: string): Promise<CountedRun | null> {
    const [rows] = await this.#batch([this.#prepare(sql.SELECT_RUN, runId)]);
    return toCountedRun(rows?.[0] as (RunRow & { step_count: number }) | undefined);
  }

  async manifest(runId: string): Promise<KeptManifest | null> {
    const [rows] = await this.#batch([this.#prepare(sql.SELECT_RUN, runId)]);
    return rows?.[0] === undefined ? null : fromRunRow(rows[0] as RunRow);
  }

  async step(runId: string, stepIndex: number): Promise<StepState | null> {
    const [rows] = await this.#batch([this.#prepare(sql.SELECT_STEP, runId, stepIndex)]);
    return rows?.[0] === undefined ? null : fromStepRow(rows[0] as StepRow);
  }

  async steps(runId: string, from: number): Promise<StepPage> {
    const [rows] = await this.#batch([this.#prepare(sql.SELECT_STEPS, runId, from)]);
    return this.#toPage(runId, (rows ?? []) as (StepRow & { last_index: number })[]);
  }

  async event(runId: string, key: string): Promise<EventState | null> {
    const [rows] = await this.#batch([this.#prepare(sql.SELECT_EVENT, runId, key)]);
    return rows?.[0] === undefined ? null : fromEventRow(rows[0] as EventRow);
  }

  async body(runId: string, ref: string): Promise<string> {
    const texts: string[] = [];
    const count = chunkCount(ref);
    for (let first = 0; first < count; first += CHUNKS_A_BATCH) {
      const end = Math.min(count, first + CHUNKS_A_BATCH);
      const [rows] = await this.#batch([this.#prepare(sql.SELECT_CHUNKS, runId, ref, first, end - 1)]);
      texts.push(
        joinChunks(
          ref,
          first,
          end,
          (rows as { text: string }[]).map((row) => row.text),
        ),
      );
    }
    return texts.join("");
  }

  async close(): Promise<void> {
    this.#kept.clear();
  }

  /** The rows that the answer needs, or `undefined` when the slice was stale. When it throws, the outcome is unknown. */
  async #commit(
    request: Request,
    slice: LoadedSlice,
    { run, step, event, dropFrom }: Change,
    chunks: readonly Chunk[],
  ): Promise<unknown[][] | undefined> {
    const { runId } = request;
    const revision = Math.max(slice.run?.revision ?? 0, slice.step?.revision ?? 0) + 1;
    const guards: D1PreparedStatementLike[] = [];
    const writes: D1PreparedStatementLike[] = [];
    if (run) {
      guards.push(this.#prepare(GUARD_RUN, runId, slice.run?.revision ?? 0));
      writes.push(this.#writeRun(request.op, run, revision));
      if (slice.run === null && run.tags !== null) {
        writes.push(this.#prepare(sql.INSERT_TAGS, JSON.stringify(toTagRows(run))));
      }
    }
    if (run && dropFrom !== undefined) {
      writes.push(this.#prepare(sql.DELETE_STEPS, runId, dropFrom, run.fence));
    }
    if (step && slice.run) {
      guards.push(this.#prepare(GUARD_FENCE, runId, slice.run.fence, slice.run.status));
      guards.push(this.#prepare(GUARD_STEP, runId, step.stepIndex, slice.step?.revision ?? 0));
      writes.push(this.#prepare(sql.UPSERT_STEPS, JSON.stringify([toStepRow(runId, step, revision)])));
    }
    if (event) {
      guards.push(this.#prepare(GUARD_NO_EVENT, runId, event.key));
      writes.push(this.#prepare(sql.INSERT_EVENTS, JSON.stringify([toEventRow(runId, event, revision)])));
    }
    const statements = [...guards, ...writes];
    const tail = this.#tail(request);
    await this.#writeChunks(runId, chunks);
    let rows: unknown[][];
    try {
      rows = await this.#batch([...statements, ...tail]);
    } catch (error) {
      this.#kept.delete(runId);
      if (error instanceof StaleSliceError) return undefined;
      throw error;
    }
    if (dropFrom !== undefined) this.#kept.delete(runId);
    if (run) this.#keep(runId, { ...run, revision });
    if (step) this.#keepStep(runId, { ...step, revision });
    return rows.slice(statements.length);
  }

  #writeRun(op: Op, run: RunState, revision: number): D1PreparedStatementLike {
    const due = dueAt(run, { recordsHeartbeats: true });
    if (op === "renew") {
      const { runId, fence, leaseMs, leaseExpiresAt, updatedAt } = run;
      return this.#prepare(sql.UPDATE_LEASE, runId, fence, revision, leaseMs, leaseExpiresAt, updatedAt, due);
    }
    return this.#prepare(sql.UPSERT_RUN, ...toRunRow(run, revision, { dueAt: due, lagMs: null }));
  }

  /** What an answer needs beyond the decision, read in the same round trip as the commit. */
  #tail({ op, runId }: Request): D1PreparedStatementLike[] {
    switch (op) {
      case "claim":
        return [this.#prepare(sql.SELECT_RUN, runId), this.#prepare(sql.SELECT_STEPS, runId, 0)];
      case "end":
      case "suspend":
      case "cancel":
      case "restart":
      case "fork":
      case "seal":
        return [this.#prepare(sql.SELECT_RUN, runId)];
      default:
        return [];
    }
  }

  async #answer<O extends Op>(
    request: RequestOf<O>,
    decision: Decision<O>,
    committed: unknown[][] | undefined,
  ): Promise<Answer<O>> {
    const { runId, op } = request;
    if (op === "end") this.#kept.delete(runId);
    return answer(op as O, decision, async () => {
      const [runs, steps] = committed ?? (await this.#batch(this.#tail(request)));
      const counted = toCountedRun(runs?.[0] as (RunRow & { step_count: number }) | undefined);
      const page = this.#toPage(runId, (steps ?? []) as (StepRow & { last_index: number })[]);
      return { stepCount: counted?.stepCount ?? 0, page };
    });
  }

  /** What was last seen of the slice, if enough of it was: an unseen step is taken for new, and the guard checks it. */
  #recall(request: Request): LoadedSlice | undefined {
    if (request.op === "claim" || request.op === "end") return undefined;
    // Taken for the first: no rule of events looks at the run.
    if (request.op === "emit") return { run: null, step: null, event: null };
    const kept = this.#kept.get(request.runId);
    if (!kept?.run) return undefined;
    const { stepIndex } = subjectOf(request);
    const step = stepIndex === undefined ? undefined : kept.steps.get(stepIndex);
    return { run: kept.run, step: step ?? null, event: null };
  }

  async #load(request: Request): Promise<LoadedSlice> {
    const { runId } = request;
    const { stepIndex, key } = subjectOf(request);
    const statements = [this.#prepare(sql.SELECT_RUN, runId)];
    if (stepIndex !== undefined) statements.push(this.#prepare(sql.SELECT_STEP, runId, stepIndex));
    if (key !== undefined) statements.push(this.#prepare(sql.SELECT_EVENT, runId, key));
    const [runs, subjects] = await this.#batch(statements);
    const run = runs?.[0] === undefined ? null : fromRunRow(runs[0] as RunRow);
    const subject = subjects?.[0];
    const step = stepIndex !== undefined && subject !== undefined ? fromStepRow(subject as StepRow) : null;
    const event = key !== undefined && subject !== undefined ? fromEventRow(subject as EventRow) : null;
    this.#keep(runId, run);
    if (step) this.#keepStep(runId, step);
    return { run, step, event };
  }

  #keep(runId: string, run: (RunState & Revised) | null): void {
    const kept = this.#kept.get(runId) ?? { run, steps: new Map<number, StepState & Revised>() };
    kept.run = run;
    this.#kept.delete(runId);
    this.#kept.set(runId, kept);
    if (this.#kept.size > MAX_KEPT_RUNS) {
      for (const oldest of this.#kept.keys()) {
        this.#kept.delete(oldest);
        break;
      }
    }
  }

  /** Only what may change next; an ended step is read again when it is asked for. */
  #keepStep(runId: string, step: StepState & Revised): void {
    const steps = this.#kept.get(runId)?.steps;
    if (step.status === "running" || step.status === "pending") steps?.set(step.stepIndex, step);
    else steps?.delete(step.stepIndex);
  }

  #toPage(runId: string, rows: (StepRow & { last_index: number })[]): StepPage {
    const steps = rows.map(fromStepRow);
    for (const step of steps) this.#keepStep(runId, step);
    const last = steps.at(-1)?.stepIndex;
    const more = last !== undefined && last < Number(rows[0]?.last_index);
    return { steps, next: more ? last + 1 : null };
  }

  async #writeChunks(runId: string, chunks: readonly Chunk[]): Promise<void> {
    for (let at = 0; at < chunks.length; at += CHUNKS_A_BATCH) {
      const some = chunks.slice(at, at + CHUNKS_A_BATCH);
      await this.#batch(
        some.map(({ ref, chunk, text }) => this.#prepare(sql.INSERT_CHUNK, runId, ref, chunk, text)),
      );
    }
  }

  #prepare(query: string, ...values: Cell[]): D1PreparedStatementLike {
    return this.#db.prepare(query).bind(...values);
  }

  #batch(statements: D1PreparedStatementLike[]): Promise<unknown[][]> {
    return runBatch(this.#db, statements, this.#limits);
  }
}

function hasChange(change: Change): boolean {
  return change.run !== undefined || change.step !== undefined || change.event !== undefined;
}

function toCountedRun(row: (RunRow & { step_count: number }) | undefined): CountedRun | null {
  return row === undefined ? null : { run: fromRunRow(row), stepCount: Number(row.step_count) };
}
