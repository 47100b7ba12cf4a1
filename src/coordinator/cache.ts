/**
 * The coordinator's cache of one run: the run's row and the changes of the last moments in memory, everything else in
 * the object's SQLite (R11, R13, R16, R22).
 *
 * A change is committed to storage at once, or deferred: kept in memory until the next commit, or for about a second,
 * where D1 is told of it before anybody is answered (0026). All methods are synchronous, so that a caller can decide,
 * apply and persist with no await between.
 *
 * Invariants: memory changes only after its transaction returned; a row's revision is higher than that of every
 * earlier change; storage holds all changes up to its highest revision, and nothing of a claim that is only assumed; a
 * row is dirty until D1 is known to hold that revision of it; D1 is told of nothing that storage lacks, unless storage
 * says that it may trail, or there is none yet; large bodies are read from SQLite, never kept.
 */
import type { Request } from "../ledger/requests.ts";
import type { Change, RunState, Slice, StepState } from "../ledger/state.ts";
import type { StepPage } from "../stores/journal.ts";
import { subjectOf } from "../stores/journal.ts";
import type { Chunk } from "../stores/sql/bodies.ts";
import type { Revised } from "../stores/sql/rows.ts";
import type { DroppedSteps, HeldRows } from "./dirty.ts";
import { DirtyRows } from "./dirty.ts";
import type { Event } from "./recent-events.ts";
import { isSmallEvent, RecentEvents } from "./recent-events.ts";
import type { Step } from "./recent-steps.ts";
import { isSmall, RecentSteps } from "./recent-steps.ts";
import type { SyncStorage } from "./schema.ts";
import type { Writes } from "./tables.ts";
import { RunTables } from "./tables.ts";

type Run = RunState & Revised;

/**
 * Revisions that a cache leaves out once it was rebuilt, or has caught up: more than an object can have used without
 * D1 hearing of it, so that nothing which an earlier life has written, or storage that was restored, is ever newer than what
 * was written since.
 */
export const REVISION_GAP = 1_000_000;

/**
 * The revision above which all are of this instance, and the highest below it that the run's row is known to have
 * had.
 */
export interface Known {
  readonly runRevision: number;
  readonly base: number;
}

/** What D1 holds, and storage lacks. */
export interface Later {
  readonly steps: readonly Step[];
  readonly events: readonly Event[];
  /** As D1 has it; `null` where D1 has none, or one of an earlier claim. */
  readonly run: Run | null;
  readonly revision: number;
  /** Until when the holder's lease is to last at the least; `null`: as storage has it. */
  readonly leaseUntil: number | null;
  readonly incarnation: number;
}

/** How far D1 may run ahead of the watermark on record before a commit takes it along; and one of a long result. */
const WATERMARK_STRIDE = 256;
const LONG_STRIDE = 16;

export class RunCache {
  readonly #tables: RunTables;
  #run: Run | null = null;
  #revision = 0;
  readonly #steps = new RecentSteps();
  readonly #events = new RecentEvents();
  #runIsDeferred = false;
  #deferredSince = Infinity;
  /** Whether D1 may hold what storage lacks: as storage has it, and as the next transaction says. */
  #mayTrail = false;
  #willTrail = false;
  readonly #dirty = new DirtyRows();
  /** D1 holds every revision up to here; and what storage says of that. */
  #recordedRevision = 0;
  #savedWatermark = 0;
  #known: Known = { runRevision: 0, base: 0 };
  #incarnation = 0;
  /** The run's revision that a rebuild found in D1. */
  #adoptedRevision = 0;
  #isOnRecord = false;
  #isAssumed = false;
  #madeAt = 0;
  /** What storage says of since when the run's row is dirty. */
  #savedRunSince: number | null = null;
  #epoch = 0;

  /** Loads what the object's storage holds. */
  constructor(storage: SyncStorage) {
    this.#tables = new RunTables(storage);
    if (!this.#tables.exist) return;
    this.#loadRun();
    this.#loadDirty();
  }

  /** Whether storage holds anything. */
  get exists(): boolean {
    return this.#tables.exist;
  }

  /** Counts how often the cache was emptied: whoever awaited something looks whether it still stands. */
  get epoch(): number {
    return this.#epoch;
  }

  get run(): Run | null {
    return this.#run;
  }

  get known(): Known {
    return this.#known;
  }

  /**
   * Counts the lives of the run's object, in D1: whatever an earlier one has sent is refused there. 0 is the one that the run
   * began in, and the next begins where one has to look at D1; a life that does not has told D1 of nothing but what is saved.
   */
  get incarnation(): number {
    return this.#incarnation;
  }

  /** Whether the run is as a rebuild found it in D1. */
  get isAdopted(): boolean {
    return this.#run !== null && this.#run.revision <= this.#adoptedRevision;
  }

  /** Whether D1 is known to have held the run's row: if it is gone from there, it was deleted. */
  get isOnRecord(): boolean {
    return this.#isOnRecord;
  }

  /**
   * Whether the run was claimed as if D1 held nothing of it, and D1 has not said so yet. Then it is all that there is,
   * in memory alone, and nobody may be told of it.
   */
  get isAssumed(): boolean {
    return this.#isAssumed;
  }

  /** Whether there is nothing at all, nor has been in the life of this instance. */
  get isUntouched(): boolean {
    return !this.exists && this.#run === null && this.#revision === 0;
  }

  /** Epoch milliseconds: when storage was made, or rebuilt. 0 where an earlier version made it. */
  get madeAt(): number {
    return this.#madeAt;
  }

  /** Of the latest change, also of one in memory. */
  get revision(): number {
    return this.#revision;
  }

  /** Of the latest change before which there is none that D1 is not told of yet. */
  get tellableRevision(): number {
    return Math.min(this.#revision, this.#steps.begunRevision - 1);
  }

  /** Whether D1 may hold changes that storage lost with the last instance of this object. */
  get mayTrail(): boolean {
    return this.#mayTrail;
  }

  get dirty(): HeldRows & Pick<DirtyRows, "size" | "runSince"> {
    return this.#dirty;
  }

  get isDirty(): boolean {
    return this.#dirty.size > 0;
  }

  get hasUnsaved(): boolean {
    const hasUnsaved = this.#steps.hasUnsaved || this.#events.hasUnsaved || this.#runIsDeferred;
    return hasUnsaved && !this.#isAssumed;
  }

  /** Whether there is anything of the run, or of its one step, that neither storage nor D1 is known to hold. */
  hasUntold(position?: number): boolean {
    if (this.#runIsDeferred && this.#dirty.run !== null) return true;
    if (position === undefined && this.#events.unsaved.some(({ key }) => this.#dirty.events.has(key)))
      return true;
    return this.#steps.someDeferred(
      (stepIndex) => (position ?? stepIndex) === stepIndex && this.#dirty.steps.has(stepIndex),
    );
  }

  /** Epoch milliseconds: of the first begin that is in memory alone; Infinity where there is none. */
  get begunSince(): number {
    return this.#steps.begunSince;
  }

  /** Epoch milliseconds: since when changes that were deferred are in memory alone; Infinity where there are none. */
  get deferredSince(): number {
    return this.#deferredSince;
  }

  /** A run that has ended, and that D1 holds all of, before storage was made for it: none is needed any more. */
  get needsNoStorage(): boolean {
    const hasEnded = this.#run !== null && this.#run.completedAt !== null;
    return !this.exists && hasEnded && !this.isDirty && !this.#steps.hasBegun;
  }

  slice(request: Request): Slice {
    const { stepIndex, key } = subjectOf(request);
    return {
      run: this.#run,
      step: stepIndex === undefined ? null : this.step(stepIndex),
      event: key === undefined ? null : this.event(key),
    };
  }

  /** Takes a begin into memory; the next commit saves it. */
  applyLazily(step: StepState): void {
    this.#revision += 1;
    this.#steps.begin({ ...step, revision: this.#revision });
  }

  /**
   * Whether a change may be deferred. Not one of who holds the run, once there is storage: that is asked without D1.
   * Nor an event before D1 has held the run: then it could come late, when this object is dead and the next has taken another. Nor
   * what is long, or drops steps.
   */
  mayDefer({ run, step, steps = [], event, dropFrom }: Change): boolean {
    const changed = stepsOf({ ...(step && { step }), steps }).length;
    if (dropFrom !== undefined || !this.#steps.takes(changed) || !this.#events.takesMore) return false;
    if ((step && !isSmall(step)) || !steps.every(isSmall)) return false;
    if (event && !(this.#isOnRecord && isSmallEvent(event))) return false;
    if (!this.exists) return true;
    return this.#mayTrail && (run === undefined || (this.#run !== null && isHeldAlike(run, this.#run)));
  }

  /**
   * Takes the claim of a run into an untouched cache, as if D1 held nothing of it. Nothing may follow before D1 has it.
   * `mayTrail`: as of `commit`.
   */
  assume(run: RunState, now: number, { mayTrail }: { mayTrail: boolean }): void {
    this.#revision += 1;
    this.#madeAt = now;
    this.#deferredSince = now;
    if (mayTrail) this.#willTrail = true;
    this.#run = { ...run, revision: this.#revision };
    this.#runIsDeferred = true;
    this.#isAssumed = true;
    this.#dirty.noteRun(this.#revision, now);
  }

  /** Takes a change into memory. Nobody may be told of it before D1 holds it. */
  defer(change: Change, now: number): void {
    const { run, event } = change;
    this.#revision += 1;
    const revision = this.#revision;
    this.#willTrail = true;
    this.#deferredSince = Math.min(this.#deferredSince, now);
    if (run) {
      this.#run = { ...run, revision };
      this.#runIsDeferred = true;
    }
    for (const step of stepsOf(change)) this.#steps.defer({ ...step, revision });
    if (event) this.#events.defer({ ...event, revision });
    this.#dirty.noteChange(change, revision, now);
  }

  /**
   * Persists a change, its chunks, and all that is in memory alone, in one transaction. `mayTrail`: from now on,
   * changes may be deferred.
   */
  commit(
    change: Change,
    now: number,
    { chunks = [], mayTrail = false }: { chunks?: readonly Chunk[]; mayTrail?: boolean } = {},
  ): void {
    const revision = this.#revision + 1;
    const run = change.run && { ...change.run, revision };
    const steps = stepsOf(change).map((step) => ({ ...step, revision }));
    const dropped = droppedBy(change);
    if (mayTrail) this.#willTrail = true;
    const isOutdone = ({ stepIndex }: Step): boolean =>
      steps.some((step) => step.stepIndex === stepIndex) || stepIndex >= (dropped?.from ?? Infinity);
    this.#save(
      {
        before: (writes) => {
          for (const chunk of chunks) writes.chunk(chunk);
        },
        run: run ?? null,
        isOutdone,
        stride: steps.every(isSmall) ? WATERMARK_STRIDE : LONG_STRIDE,
      },
      (writes) => {
        if (dropped) noteDropped(writes, dropped);
        for (const step of steps) writes.step(step);
        if (change.event) writes.event({ ...change.event, revision });
      },
    );
    this.#revision = revision;
    if (run) this.#run = run;
    if (dropped) this.#dirty.noteDropped(dropped);
    if (dropped) this.#steps.drop(dropped.from);
    this.#dirty.noteChange(change, revision, now);
    for (const step of steps) this.#steps.keep(step);
  }

  /** Saves a renewed lease. No revision: D1 does not hear of it, and so it is never in memory alone. */
  renew(run: RunState): void {
    if (this.#run === null) throw new Error("there is no run to renew");
    const renewed = { ...run, revision: this.#run.revision };
    if (this.exists && !this.#runIsDeferred) this.#write((writes) => writes.run(renewed));
    else this.#save({ run: renewed });
    this.#run = renewed;
  }

  /** Saves what is in memory alone. */
  saveUnsaved(): void {
    if (this.hasUnsaved) this.#save();
  }

  /** Takes over rows from D1, as recorded. The run's row goes in last, with `finishAdopting`, and makes them count. */
  adopt(rows: { steps?: Step[]; events?: Event[] }): void {
    const { steps = [], events = [] } = rows;
    this.#write((writes) => {
      for (const step of steps) writes.step(step);
      for (const event of events) writes.event(event);
    });
    for (const { revision } of [...steps, ...events]) this.#revision = Math.max(this.#revision, revision);
  }

  /** Ends a rebuild. `run` is null when D1 knows of events alone, or of nothing. */
  finishAdopting(run: Run | null, now: number, incarnation: number): void {
    this.#madeAt = now;
    this.#incarnation = incarnation;
    if (run === null && this.#revision === 0) return;
    const base = Math.max(this.#revision, run?.revision ?? 0) + REVISION_GAP;
    if (!this.isDirty) this.#recordedRevision = base;
    const adoptedRevision = run?.revision ?? 0;
    const known = { runRevision: adoptedRevision, base };
    this.#write((writes) => {
      if (run) writes.run(run);
      writes.meta("recorded_revision", this.#recordedRevision);
      writes.meta("made_at", now);
      writes.meta("adopted_run_revision", adoptedRevision);
      writes.meta("incarnation", incarnation);
      noteKnown(writes, known);
    });
    this.#known = known;
    this.#adoptedRevision = adoptedRevision;
    this.#revision = base;
    if (run) this.#noteOnRecord();
    this.#savedWatermark = this.#recordedRevision;
    if (run) this.#run = run;
  }

  /**
   * Takes over what D1 holds beyond storage, of the same claim: what an earlier instance deferred and did not save.
   * Who holds the run stays as storage has it, for that was never deferred. Leaves revisions out, as a rebuild does.
   */
  catchUp({ steps, events, run, revision, leaseUntil, incarnation }: Later): void {
    const held = this.#run;
    if (held === null) throw new Error("there is no run to catch up with");
    const { leaseMs } = held;
    const leaseExpiresAt = held.leaseExpiresAt && Math.max(held.leaseExpiresAt, leaseUntil ?? 0);
    const taken = run !== null && run.revision > held.revision ? run : held;
    const isNewer = taken !== held || leaseExpiresAt !== held.leaseExpiresAt;
    const newer = isNewer ? { ...taken, leaseMs, leaseExpiresAt } : null;
    const base = Math.max(this.#revision, revision) + REVISION_GAP;
    const known = { runRevision: Math.max(held.revision, run?.revision ?? 0), base };
    this.#save({}, (writes) => {
      for (const step of steps) writes.step(step);
      for (const event of events) writes.event(event);
      if (newer) writes.run(newer);
      writes.meta("incarnation", incarnation);
      noteKnown(writes, known);
    });
    this.#incarnation = incarnation;
    this.#known = known;
    this.#revision = base;
    this.#run = newer ?? held;
    if (run !== null) this.#noteOnRecord();
    for (const { stepIndex } of steps) this.#steps.letGo(stepIndex);
  }

  /** Goes on as another life of the object, in D1's count. A run that is in memory alone has no storage made by it. */
  takeIncarnation(incarnation: number): void {
    if (this.#incarnation === incarnation) return;
    if (this.exists) this.#write((writes) => writes.meta("incarnation", incarnation));
    this.#incarnation = incarnation;
  }

  /** Marks rows as held by D1, unless they have changed since those revisions were read, at `readAt`. */
  markRecorded(held: HeldRows, readAt: number): void {
    if (held.dropped !== null && held.dropped === this.#dirty.dropped) {
      this.#write((writes) => writes.deleteMeta("dropped_from", "dropped_below_fence"));
    }
    this.#dirty.settle(held, readAt);
    for (const stepIndex of held.steps.keys()) {
      if (!this.#dirty.steps.has(stepIndex)) this.#steps.letGo(stepIndex);
    }
    if (held.run !== null) this.#noteOnRecord();
    if (held.run !== null) this.#isAssumed = false;
    if (this.#savedRunSince === null || this.#savedRunSince === this.#dirty.runSince) return;
    this.#write((writes) => writes.deleteMeta("run_dirty_since"));
    this.#savedRunSince = null;
  }

  /**
   * Puts on record since when D1 lacks the run's row, for a reset would forget it. To be called when a flush has
   * failed: in the steady state that would be a row for nothing.
   */
  saveRunSince(now: number): void {
    const { run } = this.#dirty;
    if (run === null || this.#isAssumed) return;
    this.#dirty.noteRun(run, now);
    const since = this.#dirty.runSince;
    if (since === null || since === this.#savedRunSince) return;
    this.#save({}, (writes) => writes.meta("run_dirty_since", since));
    this.#savedRunSince = since;
  }

  /** D1 holds every revision up to this one. */
  setRecorded(through: number): void {
    this.#recordedRevision = Math.max(this.#recordedRevision, through);
  }

  /**
   * Throws away what D1 knows better, to be rebuilt from there. Events that D1 lacks stay: they need no claim, and were
   * acknowledged. Revisions go on, so that none is given out twice.
   */
  discard(): void {
    const kept = [...this.#dirty.events.keys()]
      .map((key) => this.event(key))
      .filter((event) => event !== null);
    const refs = kept.flatMap(({ payload }) => ("ref" in payload ? [payload.ref] : []));
    this.#write((writes) => {
      writes.clear(refs);
      for (const event of kept) writes.event(event);
      writes.deleteMeta("dropped_from", "dropped_below_fence", "run_dirty_since", "on_record", "incarnation");
      writes.meta("base_revision", this.#revision);
    });
    this.#epoch += 1;
    this.#dirty.clearClaimed();
    this.#forgetRun();
  }

  /** Forgets what is in memory, after storage was deleted. */
  forget(): void {
    this.#epoch += 1;
    this.#tables.forget();
    this.#revision = 0;
    this.#recordedRevision = 0;
    this.#savedWatermark = 0;
    this.#mayTrail = false;
    this.#willTrail = false;
    this.#dirty.clear();
    this.#forgetRun();
  }

  step(stepIndex: number): Step | null {
    return this.#steps.get(stepIndex) ?? this.#tables.step(stepIndex);
  }

  /** What D1 may be told. */
  tellableStep(stepIndex: number): Step | null {
    return this.#steps.tellable(stepIndex) ?? this.#tables.step(stepIndex);
  }

  event(key: string): Event | null {
    return this.#events.get(key) ?? this.#tables.event(key);
  }

  stepCount(): number {
    const fresh = this.#steps.unsaved.filter((stepIndex) => this.#tables.step(stepIndex) === null);
    return this.#tables.stepCount() + fresh.length;
  }

  page(from: number): StepPage {
    if (!this.exists) return { steps: this.#steps.from(from), next: null };
    if (this.#steps.hasUnsaved) this.saveUnsaved();
    return this.#tables.page(from);
  }

  /**
   * Chunks `first` to before `end` of a body, or `null` where they are not here: after a rebuild, D1 alone has them.
   */
  chunks(ref: string, first: number, end: number): string[] | null {
    return this.#tables.chunks(ref, first, end);
  }

  /** Puts on record how far D1 has come, so that a restart sends less again. */
  saveWatermark(): void {
    if (this.exists && this.#savedWatermark !== this.#recordedRevision) this.#save({ mark: true });
  }

  /** All that is in memory alone, and what comes along, in one transaction: storage leaves no revision out. */
  #save(
    {
      before = () => {},
      run = null,
      isOutdone = () => false,
      stride = WATERMARK_STRIDE,
      mark = this.#recordedRevision >= this.#savedWatermark + stride,
    }: {
      before?: (writes: Writes) => void;
      run?: Run | null;
      isOutdone?: (step: Step) => boolean;
      stride?: number;
      mark?: boolean;
    } = {},
    after: (writes: Writes) => void = () => {},
  ): void {
    const { steps, begun } = this.#steps.toSave(isOutdone);
    const events = this.#events.unsaved;
    const changedRun = run ?? (this.#runIsDeferred ? this.#run : null);
    this.#write((writes) => {
      before(writes);
      for (const step of steps) writes.step(step);
      for (const event of events) writes.event(event);
      if (changedRun) writes.run(changedRun);
      after(writes);
      if (mark) writes.meta("recorded_revision", this.#recordedRevision);
    });
    if (mark) this.#savedWatermark = this.#recordedRevision;
    this.#runIsDeferred = false;
    this.#deferredSince = Infinity;
    this.#steps.allSaved((stepIndex) => this.#dirty.steps.has(stepIndex));
    this.#events.clear();
    for (const step of begun) {
      this.#dirty.noteStep(step.stepIndex, step.revision);
      this.#steps.keep(step);
    }
  }

  #write(fill: (writes: Writes) => void): void {
    const isNew = !this.exists;
    const trails = this.#willTrail && !this.#mayTrail;
    this.#tables.write((writes) => {
      if (isNew) writes.meta("made_at", this.#madeAt);
      if (isNew && this.#isOnRecord) writes.meta("on_record", 1);
      if (trails) writes.meta("may_trail", 1);
      fill(writes);
    });
    if (trails) this.#mayTrail = true;
  }

  /** D1 has held the run's row. */
  #noteOnRecord(): void {
    if (this.#isOnRecord) return;
    this.#isOnRecord = true;
    if (this.exists) this.#write((writes) => writes.meta("on_record", 1));
  }

  #forgetRun(): void {
    this.#run = null;
    this.#runIsDeferred = false;
    this.#deferredSince = Infinity;
    this.#steps.clear();
    this.#events.clear();
    this.#known = { runRevision: 0, base: 0 };
    this.#incarnation = 0;
    this.#adoptedRevision = 0;
    this.#isOnRecord = false;
    this.#isAssumed = false;
    this.#savedRunSince = null;
  }

  #loadRun(): void {
    const tables = this.#tables;
    this.#run = tables.run();
    this.#recordedRevision = tables.meta("recorded_revision") ?? 0;
    this.#savedWatermark = this.#recordedRevision;
    const isMarked = tables.meta("on_record") !== undefined;
    this.#isOnRecord = this.#run !== null && (isMarked || this.#run.revision <= this.#recordedRevision);
    this.#madeAt = tables.meta("made_at") ?? 0;
    this.#mayTrail = tables.meta("may_trail") !== undefined;
    const base = tables.meta("base_revision") ?? 0;
    this.#adoptedRevision = tables.meta("adopted_run_revision") ?? 0;
    this.#known = { runRevision: tables.meta("base_run_revision") ?? this.#adoptedRevision, base };
    this.#incarnation = tables.meta("incarnation") ?? 0;
    this.#revision = Math.max(tables.highestRevision(), this.#recordedRevision, base);
  }

  /** R13: after a restart, what lies above the watermark is taken for unrecorded. */
  #loadDirty(): void {
    const tables = this.#tables;
    const mark = this.#recordedRevision;
    this.#savedRunSince = tables.meta("run_dirty_since") ?? null;
    if (this.#run && this.#run.revision > mark) this.#dirty.noteRun(this.#run.revision, this.#savedRunSince);
    const from = tables.meta("dropped_from");
    const belowFence = tables.meta("dropped_below_fence");
    if (from !== undefined && belowFence !== undefined) this.#dirty.noteDropped({ from, belowFence });
    for (const row of tables.stepsAbove(mark)) this.#dirty.noteStep(row.id, row.revision);
    for (const row of tables.eventsAbove(mark)) this.#dirty.noteEvent(row.id, row.revision);
  }
}

function noteKnown(writes: Writes, known: Known): void {
  writes.meta("base_run_revision", known.runRevision);
  writes.meta("base_revision", known.base);
}

function noteDropped(writes: Writes, dropped: DroppedSteps): void {
  writes.dropSteps(dropped);
  writes.meta("dropped_from", dropped.from);
  writes.meta("dropped_below_fence", dropped.belowFence);
}

function stepsOf({ step, steps = [] }: Change): readonly StepState[] {
  return step ? [step, ...steps] : steps;
}

function droppedBy({ run, dropFrom }: Change): DroppedSteps | null {
  if (run === undefined || dropFrom === undefined) return null;
  return { from: dropFrom, belowFence: run.fence };
}

/** Whether two states of a run differ in what it waits for, and in a renewed lease, at most. */
export function isHeldAlike(a: RunState, b: RunState): boolean {
  return (
    a.fence === b.fence &&
    a.status === b.status &&
    a.claimRequestId === b.claimRequestId &&
    (a.leaseExpiresAt === null) === (b.leaseExpiresAt === null) &&
    a.completedAt === b.completedAt &&
    a.interventions.join(" ") === b.interventions.join(" ") &&
    a.forkedFrom?.copying === b.forkedFrom?.copying
  );
}
