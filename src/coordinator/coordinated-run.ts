/**
 * One run as its coordinator keeps it: the requests' way through ledger, cache and recorder (R11 to R19).
 *
 * Each mutation is one synchronous block (read, decide, apply, persist); only then is anything awaited, and nothing
 * read before an await is acted on after it. Knows no platform class: storage, database, clock and alarm come from
 * outside.
 */
import type { Clock } from "../contract/clock.ts";
import { DurableInvalidInputError, DurableRunError, errorFromData } from "../contract/errors.ts";
import type { DurableRunErrorCode, ErrorData } from "../contract/errors.ts";
import { LIMITS } from "../contract/limits.ts";
import type { RunStatus } from "../contract/types.ts";
import { checkRequest } from "../ledger/check-request.ts";
import { decide } from "../ledger/decide.ts";
import type { Ended } from "../ledger/events.ts";
import { completeWith } from "../ledger/events.ts";
import type { Decision, Op, Request } from "../ledger/requests.ts";
import { withBody } from "../ledger/requests.ts";
import { lapse, unknownRun } from "../ledger/runs.ts";
import { changeOutOfScope, outOfScope } from "../ledger/scope.ts";
import type { Change, EventState, KeptManifest, StepState } from "../ledger/state.ts";
import { checkCompletion, checkMessage } from "../stores/coordinated/check-message.ts";
import type {
  AckPolicy,
  CompletionMessage,
  CoordinatorReads,
  Envelope,
  WireMessage,
} from "../stores/coordinated/wire.ts";
import { SCOPED_WIRE_VERSION, WIRE_VERSION } from "../stores/coordinated/wire.ts";
import type { D1DatabaseLike } from "../stores/d1/database.ts";
import { StaleSliceError } from "../stores/d1/database.ts";
import { HeldCompletions } from "../stores/held-completions.ts";
import type { Answers, AwaitedState, CountedRun, StepPage } from "../stores/journal.ts";
import { lostLease } from "../stores/journal.ts";
import { chunkCount, splitBody } from "../stores/sql/bodies.ts";
import { eventTopic, LEASE_TOPIC, Waiters } from "../stores/waiters.ts";
import { answerOf, viewOf } from "./answers.ts";
import { RunCache } from "./cache.ts";
import { withCoarseTimers } from "./coarse-timers.ts";
import { Gathering } from "./gathering.ts";
import { filledIn } from "./older-clients.ts";
import { Readiness } from "./readiness.ts";
import { Recording } from "./recording.ts";
import {
  comesAgain,
  isRecorded,
  isRefusedRenewal,
  isShort,
  mayDrop,
  mayLieInMemory,
  NEED_NO_FENCE,
} from "./request-traits.ts";
import type { RecordInput } from "./rebuild.ts";
import { recordedChunks } from "./rebuild.ts";
import type { RecorderLike } from "./record-entry.ts";
import { RecorderWay } from "./recorder-way.ts";
import { Recorder } from "./recorder.ts";
import type { Standing } from "./schedule.ts";
import { mayGo, nextAlarmIn, retryInMs } from "./schedule.ts";
import type { SyncStorage } from "./schema.ts";

export interface CoordinatorTimes {
  /** How long one call to D1 may take. Default 10,000. */
  d1DeadlineMs: number;
  /** How long a caller that waits for D1 does so before it is told `store_unavailable`. Default 15,000. */
  recordDeadlineMs: number;
  /** How long a change may wait for others to share its commit or its flush. Default 100. */
  gatherMs: number;
  /** How long a change that D1 holds may wait to be saved in the object as well. Default 1,000. */
  deferMs: number;
  /** How long the object stays after the run has ended and D1 holds it all. Default 3,600,000. */
  retainMs: number;
}

export interface CoordinatedRunInput {
  readonly runId: string;
  readonly storage: SyncStorage & { deleteAll(): Promise<void> };
  readonly db: D1DatabaseLike;
  readonly clock: Clock;
  readonly times: CoordinatorTimes;
  /** Where small changes go to D1 together with those of other runs; absent: this object goes by itself. */
  readonly recorder?: (() => RecorderLike) | undefined;
  /** Sees to it that `onAlarm` is called after `delayMs`. An earlier call stands. */
  readonly arm: (delayMs: number) => void;
}

/** How often a claim or an emit may find D1 at a claim unknown here. */
const MAX_ROUNDS = 3;

/** About 4 MB. */
const CHUNKS_AN_ANSWER = 4;

/** A completion that is held until its event comes. */
interface Completion extends CompletionMessage {
  readonly scope: string | undefined;
  /** `recorded`: what whoever holds it has to wait for. */
  outcome?: { readonly decision: Decision<"complete">; readonly recorded?: Promise<void> | undefined };
}

type Work<T> = Envelope<T> | Promise<Envelope<T>>;

export class CoordinatedRun implements CoordinatorReads {
  readonly #input: CoordinatedRunInput;
  readonly #cache: RunCache;
  readonly #record: RecordInput;
  readonly #recorder: Recorder;
  readonly #readiness: Readiness;
  readonly #waiters = new Waiters();
  readonly #completions = new HeldCompletions<Completion>();
  readonly #gathering: Gathering;
  readonly #recording: Recording;
  /** Whether storage had more than D1 when this instance began, as far as that was known, and nobody has seen to it yet. */
  #mustCatchUp: boolean;

  constructor(input: CoordinatedRunInput) {
    this.#input = input;
    const { runId, storage, db, clock, times, recorder } = input;
    this.#cache = new RunCache(storage);
    this.#mustCatchUp = this.#cache.isDirty;
    const deadlineMs = times.d1DeadlineMs;
    // Not for those who wait: they may do so for long, and the others are nearly always over in milliseconds.
    const deadlines = withCoarseTimers(clock);
    const way = recorder && new RecorderWay({ stub: recorder, clock: deadlines, deadlineMs });
    this.#record = { runId, db, clock: deadlines, deadlineMs, recorder: way };
    this.#recorder = new Recorder({ ...this.#record, cache: this.#cache });
    this.#gathering = new Gathering({
      cache: this.#cache,
      clock,
      gatherMs: times.gatherMs,
      deferMs: times.deferMs,
      sendingSince: () => this.#recorder.sendingSince,
      failures: () => this.#failures(),
      flush: () => this.#flushUnasked(),
      mustLook: () => this.#readiness.mustLook,
      arm: () => this.#arm(),
    });
    this.#readiness = new Readiness({
      cache: this.#cache,
      record: this.#record,
      deleteAll: () => storage.deleteAll(),
      onRebuilt: () => this.#arm(),
      // What D1 has heard of elsewhere may be what somebody waits for.
      onReady: () => this.#waiters.wakeAll(),
      onEmptied: () => this.#recorder.forget(),
      confirm: () => this.#recording.flush(),
    });
    this.#recording = new Recording({
      cache: this.#cache,
      recorder: this.#recorder,
      readiness: this.#readiness,
      clock: deadlines,
      recordDeadlineMs: times.recordDeadlineMs,
      onAnswered: () => this.#gathering.start(),
      arm: () => this.#arm(),
    });
  }

  submit(message: WireMessage): Promise<Envelope<Answers[Op]>> {
    const scope = (message as WireMessage | null)?.projectId;
    return this.#envelope(scope, () => {
      checkMessage(message);
      const { request, body, ack } = message;
      const version: number = message.v;
      if (version !== (scope === undefined ? WIRE_VERSION : SCOPED_WIRE_VERSION)) {
        const speaks = `${WIRE_VERSION}, or ${SCOPED_WIRE_VERSION} with a scope`;
        return refusal("invalid_input", `v is ${version}: this coordinator speaks version ${speaks}`);
      }
      if (request.runId !== this.#input.runId) {
        return refusal("invalid_input", "runId is not that of this coordinator");
      }
      const whole = body ? withBody(request, { text: new TextDecoder().decode(body) }) : request;
      const filled: Request = filledIn(whole);
      checkRequest(filled, this.#now());
      return this.#submitWhole(filled, ack, scope);
    });
  }

  readRun(scope?: string): Promise<Envelope<CountedRun | null>> {
    return this.#read(scope, () => {
      const { run } = this.#cache;
      return run === null ? null : { run: viewOf(run), stepCount: this.#cache.stepCount() };
    });
  }

  readStep(stepIndex: number, scope?: string): Promise<Envelope<StepState | null>> {
    return this.#read(scope, () => this.#cache.step(stepIndex));
  }

  readSteps(from: number, scope?: string): Promise<Envelope<StepPage>> {
    return this.#read(scope, () => this.#cache.page(from));
  }

  readEvent(key: string, scope?: string): Promise<Envelope<EventState | null>> {
    return this.#read(scope, () => (this.#sees(scope) ? this.#cache.event(key) : null));
  }

  readManifest(scope?: string): Promise<Envelope<KeptManifest | null>> {
    return this.#read(scope, () => {
      const { run } = this.#cache;
      return run === null ? null : { task: run.task, input: run.input, tags: run.tags };
    });
  }

  waitForEvent(
    key: string,
    timeoutMs: number,
    scope?: string,
    completion?: CompletionMessage,
  ): Promise<Envelope<AwaitedState | null>> {
    const look = () => (this.#sees(scope) ? (this.#cache.event(key) ?? undefined) : undefined);
    const event = () => this.#held(eventTopic(key), timeoutMs, look);
    if (completion === undefined) return this.#read(scope, async () => (await event()) ?? null);
    return this.#envelope(scope, async () => {
      checkCompletion(completion, this.#input.runId, this.#now());
      await this.#readyToRead();
      return this.#completeWithEvent(key, { ...completion, scope }, event);
    });
  }

  watchLease(
    fence: number,
    timeoutMs: number,
    scope?: string,
  ): Promise<Envelope<{ held: boolean; status?: RunStatus }>> {
    return this.#read(scope, async () => {
      const look = () => lostLease(this.#sees(scope) ? this.#cache.run : null, fence);
      return (await this.#held(LEASE_TOPIC, timeoutMs, look)) ?? { held: true };
    });
  }

  readBody(
    ref: string,
    first: number,
    scope?: string,
  ): Promise<Envelope<{ text: string; next: number | null }>> {
    return this.#read(scope, async () => {
      if (!this.#sees(scope)) return refuseBody(this.#input.runId);
      const end = Math.min(chunkCount(ref), first + CHUNKS_AN_ANSWER);
      const next = end < chunkCount(ref) ? end : null;
      const here = this.#cache.chunks(ref, first, end)?.join("");
      if (here !== undefined) return { text: here, next };
      const text = await recordedChunks(this.#record, ref, first, end);
      // Meanwhile the run may have gone, and another one of its id begun.
      await this.#readyToRead();
      return this.#sees(scope) ? { text, next } : refuseBody(this.#input.runId);
    });
  }

  /** How many rows D1 does not hold yet. */
  lag(scope?: string): Promise<Envelope<{ rows: number }>> {
    return this.#envelope(scope, async () => {
      // Without a scope it needs nothing of D1.
      if (scope !== undefined) await this.#readyToRead();
      return { ok: true, value: { rows: this.#sees(scope) ? this.#cache.dirty.size : 0 } };
    });
  }

  /** R18: does what is due and arms the next alarm. Never throws. */
  async onAlarm(): Promise<void> {
    try {
      if (this.#cache.run !== null) await this.#noteLapse();
      this.#cache.saveUnsaved();
      if (this.#hasWork()) await this.#recording.flush();
      // What is being loaded is wanted.
      if (!this.#readiness.isLoading && mayGo(this.#standing())) return this.#readiness.remove();
      this.#cache.saveWatermark();
    } catch {
      // The recorder has counted it, and the next alarm tries again.
    }
    // What is being loaded says itself what is due. Storage that is being deleted must not be made again by an alarm.
    if (this.#readiness.isLoading && this.#cache.exists) this.#input.arm(retryInMs(1));
    else this.#arm();
  }

  /**
   * A claim or an emit that finds D1 at a claim unknown here is decided again over what D1 has; whoever acts under a
   * fence has lost it.
   */
  async #submitWhole(
    request: Request,
    ack: AckPolicy,
    scope: string | undefined,
  ): Promise<Envelope<Answers[Op]>> {
    for (let round = 1; ; round += 1) {
      try {
        for (let work = this.#toDoBefore(request); work !== null; work = this.#toDoBefore(request))
          await work;
        const answer = await this.#apply(request, ack, scope);
        if (!isRefusedRenewal(request, answer) || this.#readiness.isReady("end")) return answer;
        // Storage that was restored may know an old lease: D1 is asked before a renewal is refused.
        await this.#readiness.prepare();
      } catch (error) {
        if (!(error instanceof StaleSliceError) || !NEED_NO_FENCE.has(request.op) || round >= MAX_ROUNDS)
          throw error;
      }
    }
  }

  /** Completes a step with an event: in the block that accepts it, or now, where it is there. */
  async #completeWithEvent(
    key: string,
    held: Completion,
    wait: () => Promise<EventState | undefined>,
  ): Promise<Envelope<AwaitedState | null>> {
    const { request, ack, scope } = held;
    const event = await this.#completions.during(key, held, wait);
    if (event === undefined) {
      this.#saveUntold();
      return { ok: true, value: null };
    }
    const answer = held.outcome
      ? await this.#completed(held.outcome)
      : await this.#submitWhole({ ...request, result: event.payload }, ack, scope);
    if (!answer.ok) return answer;
    return { ok: true, value: { ...event, completed: answer.value as Answers["complete"] } };
  }

  async #completed({
    decision,
    recorded,
  }: NonNullable<Completion["outcome"]>): Promise<Envelope<Answers[Op]>> {
    if (!decision.ok) {
      this.#saveUntold();
      return decision;
    }
    await recorded;
    return { ok: true, value: answerOf(this.#cache, "complete", decision.reply) };
  }

  /**
   * `null`: the request may be decided now. One deletion at a time: D1 has to have heard of the last before the next.
   */
  #toDoBefore(request: Request): Promise<void> | null {
    if (!this.#readiness.isReady(request.op))
      return this.#assumes(request) ? null : this.#readiness.prepare();
    return mayDrop(request) && this.#cache.dirty.dropped !== null ? this.#recording.flush() : null;
  }

  /** Whether a claim is made as if D1 held nothing of the run, so that one call of D1 both looks and records (0030). */
  #assumes(request: Request): boolean {
    return this.#readiness.mayAssume && request.op === "claim" && isShort(request);
  }

  /** The synchronous block (R11); an answer that waits for D1 is a promise. */
  #apply(
    whole: Request,
    ack: AckPolicy,
    scope: string | undefined,
  ): Envelope<Answers[Op]> | Promise<Envelope<Answers[Op]>> {
    const { request, chunks } = splitBody(whole);
    const refused = changeOutOfScope(this.#cache.run, request, scope);
    if (refused) {
      this.#saveUntold();
      return refused;
    }
    const isNew = this.#cache.run === null;
    const isAssumed = this.#assumes(request);
    const now = this.#now();
    const decision = decide<Op>(this.#cache.slice(request), request, now);
    if (!decision.ok) {
      this.#saveUntold();
      return decision;
    }
    const { reply } = decision;
    const { change, ends } = this.#withCompletions(decision.change, now);
    const isToRecord = isRecorded(request, reply);
    const allWait = ack === "record" && ends.every(({ held }) => held.ack === "record");
    const mayDefer = allWait && isToRecord && chunks.length === 0;
    if (change.run && isAssumed) {
      this.#cache.assume(change.run, now, { mayTrail: ack === "record" });
      this.#readiness.assumed();
    } else if (change.step && mayLieInMemory(request, change)) {
      this.#saveUntold(change.step.stepIndex);
      this.#cache.applyLazily(change.step);
    } else if (change.run && request.op === "renew") {
      this.#cache.renew(change.run);
    } else if (change.run || change.step || change.event) {
      if (mayDefer && this.#cache.mayDefer(change)) this.#cache.defer(change, now);
      else this.#cache.commit(change, now, { chunks, mayTrail: ack === "record" });
      if (change.run) this.#waiters.wake(LEASE_TOPIC);
      if (change.event) this.#waiters.wake(eventTopic(change.event.key));
      // Now it is known whose the run is, those who are bound to its project may be told of earlier events.
      if (change.run && isNew) this.#waiters.wakeAll();
    } else if (ack !== "record" || !isToRecord) {
      this.#saveUntold();
    }
    const value = answerOf(this.#cache, request.op, reply);
    if (!comesAgain(request)) this.#arm();
    this.#gathering.start();
    const isNewToD1 = this.#isNewToD1();
    const waitsBy = (policy: AckPolicy): boolean => policy === "record" || isNewToD1;
    const waitsForD1 = isToRecord && waitsBy(ack);
    const isAwaited = waitsForD1 || ends.some(({ held }) => waitsBy(held.ack));
    const recorded = isAwaited ? this.#recording.recorded(this.#cache.revision) : undefined;
    for (const { held, decision: end } of ends)
      held.outcome = { decision: end, ...(waitsBy(held.ack) && { recorded }) };
    // Each who waits for it is told by itself.
    recorded?.catch(() => {});
    const answer = (): Envelope<Answers[Op]> => {
      if (isAssumed) this.#waiters.wakeAll();
      return { ok: true, value };
    };
    return waitsForD1 && recorded ? recorded.then(answer) : answer();
  }

  /**
   * Whether D1 is not known to have held the run yet. Until then an insert of an assumed claim, whose object died, may come
   * late and win, though D1 was looked at since: what is to be recorded of the run is not acknowledged before, under either policy.
   */
  #isNewToD1(): boolean {
    return this.#cache.run !== null && !this.#cache.isOnRecord;
  }

  /** With the steps that end with the event. */
  #withCompletions(change: Change, now: number): { change: Change; ends: Ended<Completion>[] } {
    const { event } = change;
    if (event === undefined) return { change, ends: [] };
    const { run } = this.#cache;
    const held = this.#completions.of(event.key).filter(({ scope }) => outOfScope(run, scope) === null);
    const standing = { run, step: (stepIndex: number) => this.#cache.step(stepIndex) };
    const { ends, change: ended } = completeWith(event, standing, held, now);
    return { change: { ...change, ...ended }, ends };
  }

  /** R14: nobody is told of what is in memory alone. */
  #saveUntold(stepIndex?: number): void {
    if (this.#cache.hasUntold(stepIndex)) this.#cache.saveUnsaved();
  }

  /** R19: an object that never made storage is woken by nobody, and goes when it is asked. */
  #letGo(): void {
    if (this.#cache.needsNoStorage && mayGo({ ...this.#standing(), exists: true })) this.#readiness.forget();
  }

  #hasWork(): boolean {
    return !this.#cache.needsNoStorage && (this.#cache.hasUnsaved || this.#cache.isDirty);
  }

  /** A claim that D1 has taken after all, though its caller has given up, is read from there: somebody has to note its lapse. */
  async #flushUnasked(): Promise<void> {
    try {
      if (!this.#readiness.mustLook) return await this.#recording.flush();
    } catch (error) {
      if (!this.#readiness.mustLook) throw error;
    }
    await this.#readyToRead();
  }

  /** Notes when a lease has lapsed, here and in D1: heartbeats are not recorded, so history could not know. */
  async #noteLapse(): Promise<void> {
    await this.#readiness.untilReady();
    const { run } = this.#cache;
    const now = this.#now();
    const lapsed = run ? lapse(run, now) : null;
    if (lapsed) this.#cache.commit({ run: lapsed }, now);
  }

  #arm(): void {
    const delay = nextAlarmIn(this.#standing());
    if (delay !== null) this.#input.arm(delay);
  }

  /** Calls of D1 that failed since one succeeded. */
  #failures(): number {
    return Math.max(this.#recorder.failures, this.#readiness.failures);
  }

  /** Whole milliseconds: what the tables hold. */
  #now(): number {
    return Math.floor(this.#input.clock.now());
  }

  #standing(): Standing {
    const { times } = this.#input;
    return {
      now: this.#now(),
      run: this.#cache.run,
      exists: this.#cache.exists,
      hasWork: this.#hasWork(),
      failures: this.#failures(),
      isAdopted: this.#cache.isAdopted,
      madeAt: this.#cache.madeAt,
      retainMs: times.retainMs,
    };
  }

  /** Holds a call until there is something to find. What is woken looks at the cache as it then is. */
  async #held<T>(topic: string, timeoutMs: number, look: () => T | undefined): Promise<T | undefined> {
    const limit = { clock: this.#input.clock, timeoutMs: Math.min(timeoutMs, LIMITS.holdMs) };
    const lookHere = (): T | undefined => (this.#readiness.isReady("read") ? look() : undefined);
    const found = await this.#waiters.until(topic, limit, lookHere);
    if (found === undefined) await this.#readyToRead();
    return found ?? look();
  }

  #read<T>(scope: string | undefined, read: () => T | Promise<T>): Promise<Envelope<T>> {
    return this.#envelope(scope, async () => {
      await this.#readyToRead();
      try {
        this.#sees(scope);
        return { ok: true, value: await read() };
      } finally {
        this.#saveUntold();
      }
    });
  }

  async #readyToRead(): Promise<void> {
    while (!this.#readiness.isReady("read")) await this.#readiness.prepare();
  }

  /**
   * Whether there is anything that a caller of this scope may be told of. To be asked in the block that reads. Throws
   * `forbidden`.
   */
  #sees(scope: string | undefined): boolean {
    const { run } = this.#cache;
    const refused = outOfScope(run, scope);
    if (refused) throw errorFromData(refused.error);
    return scope === undefined || run !== null;
  }

  /** Says which scope was kept to: nobody answers for an object that knows none. */
  #envelope<T>(scope: string | undefined, work: () => Work<T>): Promise<Envelope<T>> {
    this.#letGo();
    // An earlier instance may have died before it set an alarm (0032): whoever asks, sees to it.
    if (this.#mustCatchUp) this.#gathering.start();
    this.#mustCatchUp = false;
    const answered = this.#answered(work);
    return scope === undefined ? answered : answered.then((envelope) => ({ ...envelope, scope }));
  }

  /** R20: what the contract has a code for is answered; only defects are thrown. */
  async #answered<T>(work: () => Work<T>): Promise<Envelope<T>> {
    try {
      return await work();
    } catch (error) {
      if (error instanceof StaleSliceError) {
        return refusal(
          "lease_lost",
          `run "${this.#input.runId}" was claimed elsewhere: D1 stands at a claim that this coordinator does not know.`,
        );
      }
      if (error instanceof DurableInvalidInputError) {
        const { code, message, field } = error;
        return { ok: false, error: { code, message, field } };
      }
      if (error instanceof DurableRunError) return refusal(error.code, error.message);
      throw error;
    }
  }
}

/** Of a run that does not exist, for a caller with a scope. */
function refuseBody(runId: string): never {
  throw errorFromData(unknownRun(runId).error);
}

function refusal(code: DurableRunErrorCode, message: string): { ok: false; error: ErrorData } {
  return { ok: false, error: { code, message } };
}
