/**
 * The public contract: what a run, a step and an event look like, and what a store promises.
 *
 * Owns the shapes that callers, stores and runners share. Imports nothing. Every name, field, status and code that
 * the plain declaration has is here with the same meaning; what we add is optional, so that a store or a runner
 * written to the plain declaration fits (test/contract.types.test.ts holds both directions).
 *
 * Units: names that end in `Ms` are milliseconds; instants are ISO-8601 strings in UTC.
 */

/** What a step is, for people who read a run. The engine treats all kinds alike, but for `event`, which has a deadline. */
export type StepKind = "logic" | "llm" | "tool" | "readiness" | "deterministic" | "event";

/**
 * `pending`: on record, with no attempt under way. It waits for its next attempt (`nextAttemptAt`), for somebody to
 * resolve it (`inDoubt`), or, once that was done, for the task to come by again.
 */
export type StepStatus = "pending" | "running" | "completed" | "failed";

/** A failure as it is recorded. Message and stack are cut at {@link LIMITS.errorTextBytes}. */
export interface StepError {
  message: string;
  /** The error's own `code`, when it had a string one. */
  code?: string;
  /** For people. Never replayed. */
  stack?: string;
  /** The error's `name`, so that a replayed failure can be told apart as the first one could. */
  name?: string;
}

export interface StepRecord<T = unknown> {
  runId: string;
  /** 0-based position in the run: the step's identity. */
  stepIndex: number;
  /** The caller's label. It must be the same at each replay. */
  intent: string;
  kind: StepKind;
  /** SHA-256 (hex) of the canonical input fingerprint; empty when none was given, and then never compared. */
  inputHash: string;
  status: StepStatus;
  /** How many times the step has begun. */
  attempts: number;
  /** What JSON gives back of the result. Present once completed, unless the result was `undefined`. */
  result?: T;
  /** Present when failed. */
  error?: StepError;
  /** The failure of an earlier attempt, of a step that has not failed for good: it is under way, pending, or completed. */
  lastError?: StepError;
  /** Attempts since the step last failed for good: what a retry limit counts. */
  tries?: number;
  /** While `pending` after a failed attempt: the next one is refused before then. */
  nextAttemptAt?: string;
  /**
   * A worker died inside this step, and nobody knows what it has done. `pending`: parked until {@link
   * DurableRunStore.resolveStep}. `failed`: for good, unless resolved or begun with another policy. `running`: it is
   * being reconciled.
   */
  inDoubt?: boolean;
  /**
   * Where the step stands in the task's tree of branches, such as "1/reviewer/0". Absent where that is the position
   * itself, as in every run without branches.
   */
  path?: string;
  /** When the latest attempt began. */
  startedAt?: string;
  /** When the step completed or failed. */
  completedAt?: string;
  /** The worker that made the latest attempt. */
  workerId?: string;
  /** For a step that waits: when it gives up. Fixed when the step first begins. */
  deadlineAt?: string;
}

export interface EventRecord {
  runId: string;
  key: string;
  payload: unknown;
  emittedAt: string;
}

/** The statuses of the plain declaration: all that a claim or an end can answer with. */
export type DeclaredRunStatus = "pending" | "running" | "completed" | "failed" | "suspended";

/**
 * `running`: claimed, and not ended; its worker may be dead. `suspended`: waits for somebody to resolve a step, with no
 * worker. `pending`: restarted, forked or resolved, and waits for a worker. `completed` and `cancelled` are final,
 * unless the run is restarted. All others may be claimed, `failed` included, and go on.
 */
export type RunStatus = DeclaredRunStatus | "cancelled";

/** What a run waits for. */
export interface RunWait {
  stepIndex: number;
  /**
   * "event": somebody emits `key`. "time": a sleep ends. "retry": the delay before a step's next attempt is over.
   * "decision": somebody calls {@link DurableRunStore.resolveStep}.
   */
  for: "event" | "time" | "retry" | "decision";
  key?: string;
  /** When the wait ends by itself. */
  until?: string;
}

export interface RunOutcome {
  pass?: boolean;
  score?: number;
  notes?: string;
  /** Metrics of the run, as the caller likes them. JSON. */
  metadata?: Record<string, unknown>;
}

/** What the agent is asked to do. `id`, `intent` and `domain` are part of the run's identity. */
export interface AgentTaskSpec {
  id: string;
  intent: string;
  domain?: string;
  inputs?: Record<string, unknown>;
  requiredKnowledge?: readonly unknown[];
  budget?: Record<string, unknown>;
  metadata?: Record<string, unknown>;
}

export interface DurableRunManifest {
  /** A stable id of the product, such as "legal-agent". */
  projectId: string;
  /** A scenario, persona or session within the project. */
  scenarioId?: string;
  task: AgentTaskSpec;
  /** Part of the run's identity: the same run id with another input is refused with `manifest_mismatch`. */
  input: Record<string, unknown>;
  /** For finding the run later. Not part of its identity. */
  tags?: Record<string, string>;
}

export interface RunRecord {
  runId: string;
  manifestHash: string;
  projectId: string;
  scenarioId?: string;
  status: RunStatus;
  createdAt: string;
  updatedAt: string;
  /** When the run last became completed, failed or cancelled. */
  completedAt?: string;
  /** The worker that holds the lease. Absent when nobody does. */
  leaseHolderId?: string;
  leaseExpiresAt?: string;
  outcome?: RunOutcome;
  /** How many steps have begun at least once. */
  stepCount: number;
  /** Grows by one at each claim. A mutation that carries a lower one is refused. */
  fence?: number;
  /** How often a claim found the run still running, that is, its worker dead or restarted. */
  takeovers?: number;
  /**
   * What the task returned, as JSON gives it back. The key is present exactly when a result was recorded: a task
   * that returned nothing leaves it present and `undefined`.
   */
  result?: unknown;
  /** Why the run failed, or was cancelled. */
  error?: StepError;
  /**
   * Present when the run waits: a run with branches may wait for several things, and work meanwhile. The first hundred are
   * listed, and every decision.
   */
  waitingFor?: readonly RunWait[];
  /** The run whose steps this one began with. */
  forkedFrom?: { runId: string; throughStep: number };
}

/** A run as a claim or an end answers it: never `cancelled`, which both refuse. */
export interface ClaimedRunRecord extends RunRecord {
  status: DeclaredRunStatus;
}

export interface StartOrResumeInput {
  runId: string;
  manifest: DurableRunManifest;
  workerId: string;
  /** Default {@link DEFAULT_LEASE_MS}; 1 to {@link LIMITS.leaseMs}. */
  leaseMs?: number;
  /** Repeat a call whose answer was lost with the same id: one effect, one answer. Minted when absent. */
  requestId?: string;
}

export interface StartOrResumeResult {
  run: ClaimedRunRecord;
  /** In order of position. Every completed step, whoever completed it. */
  completedSteps: ReadonlyArray<StepRecord>;
  /**
   * Failed steps that the task had caught and moved past (a later step was begun after it saw the failure). They
   * replay as the same failure; any other failed step runs again. A plain store leaves this out.
   */
  caughtSteps?: ReadonlyArray<StepRecord>;
  /** All other steps on record: begun, failed or pending. A plain store leaves this out, and then has no branches. */
  openSteps?: ReadonlyArray<StepRecord>;
  leaseExpiresAt: string;
  /** The fence of this claim. Pass it to each mutation. A plain store has none. */
  fence?: number;
}

export interface RenewLeaseInput {
  runId: string;
  workerId: string;
  leaseMs?: number;
  fence?: number;
}

/**
 * What to do with a step that a worker died in: run it again; fail it with `step_interrupted`; park the run until
 * somebody resolves the step; or begin an attempt that finds out what became of the earlier one (`inDoubt` is set in
 * its record).
 */
export type InterruptionPolicy = "rerun" | "fail" | "park" | "reconcile";

export interface BeginStepInput {
  runId: string;
  stepIndex: number;
  intent: string;
  kind: StepKind;
  inputHash: string;
  fence?: number;
  requestId?: string;
  /** For a step that waits: fixes {@link StepRecord.deadlineAt} at the first begin that names one. 0 or more. */
  timeoutMs?: number;
  /** Positions of failed steps that the task has seen fail before it came here. They will replay as failures. */
  caught?: readonly number[];
  /** {@link StepRecord.path}. Default: the position. */
  path?: string;
  /** Says that the step waits, until its deadline: shown in {@link RunRecord.waitingFor}. */
  waitFor?: { kind: "event"; key: string } | { kind: "time" };
  /** Which attempt it begins, from 1: then a late copy of this call begins no later one. */
  attempt?: number;
  /** Default "rerun". With any other, the begin is as durable as a completion before it is answered. */
  onInterrupted?: InterruptionPolicy;
}

/** The begin of an attempt that its store was not told of by itself: it comes with the attempt's end (R16). */
export interface LateBegin extends Pick<BeginStepInput, "intent" | "kind" | "inputHash" | "path"> {
  /** How long ago it was, in milliseconds: 0 or more. The store's clock then says when. */
  elapsedMs: number;
}

/** Completing and failing say which attempt they end, so that a late duplicate cannot end another one. */
interface EndStepInput {
  runId: string;
  stepIndex: number;
  fence?: number;
  requestId?: string;
  /** `attempts` of the record that `beginStep` answered; with `begin`, which attempt that is. */
  attempt?: number;
  /** For a store with {@link DurableRunStore.beginAfterMs}. Where the attempt is on record, that stands. */
  begin?: LateBegin;
}

export interface CompleteStepInput extends EndStepInput {
  /** JSON, or `undefined`. At most {@link LIMITS.payloadBytes} of UTF-8 once serialised. */
  result: unknown;
}

export interface FailStepInput extends EndStepInput {
  error: StepError;
  /** The step is to be attempted again, after so many milliseconds: it becomes `pending`. Default: it has failed. */
  retryAfterMs?: number;
  /** What became of an interrupted attempt is still not known. Default false. */
  inDoubt?: boolean;
}

export interface EndRunInput {
  runId: string;
  workerId: string;
  status: "completed" | "failed";
  outcome?: RunOutcome;
  fence?: number;
  requestId?: string;
  /** What the task returned. Give the key, even as `undefined`, to have it recorded. */
  result?: unknown;
  /** Why the run failed. */
  error?: StepError;
}

/** Leaves the run to whoever claims it next: {@link DurableRunStore.suspendRun}. */
export interface SuspendRunInput {
  runId: string;
  workerId: string;
  fence?: number;
  requestId?: string;
}

export interface WaitForEventInput {
  runId: string;
  key: string;
  /** 0 to {@link LIMITS.holdMs}. */
  timeoutMs: number;
  /** Nobody waits any longer: the call may be answered with `undefined` at once. */
  signal?: AbortSignal;
  /**
   * A step of the run that is to be completed with the event's payload. A store that can does so as it accepts the event,
   * or at once where the event is there; {@link AwaitedEvent.step} says whether it did.
   */
  step?: Omit<CompleteStepInput, "runId" | "result">;
}

export interface AwaitedEvent extends EventRecord {
  /** The step that was to be completed with the event, as it then stands. Absent: that is left to the caller. */
  step?: StepRecord;
}

export interface WatchLeaseInput {
  runId: string;
  fence: number;
  /** 0 to {@link LIMITS.holdMs}. */
  timeoutMs: number;
  /** Nobody waits any longer: the call may be answered with `held: true` at once. */
  signal?: AbortSignal;
}

/** For calls that people make: repeat one whose answer was lost with the same id. Minted when absent. */
export interface RequestOptions {
  requestId?: string;
}

/** How a step in doubt is resolved: with what it is to have returned, or by another attempt. */
export type StepResolution = { result: unknown } | { rerun: true };

export interface RestartRunOptions extends RequestOptions {
  /** The first step to be run again. It must be on record. */
  fromStep: number;
  /** Says that this step and all after it are to be forgotten. */
  dropLater: true;
}

export interface ForkRunOptions extends RequestOptions {
  /** The last step to be copied. It must be on record. */
  throughStep: number;
  /** Results to put in place of recorded ones, by position. */
  edits?: Readonly<Record<number, unknown>>;
}

export interface EmitEventInput {
  runId: string;
  /** 1 to {@link LIMITS.eventKeyBytes} bytes. */
  key: string;
  payload: unknown;
  requestId?: string;
}

/**
 * A store of durable runs.
 *
 * One worker at a time holds a run's lease; each claim mints a higher fence, and a mutation under a lower fence is
 * refused and changes nothing. The store's own clock decides leases. All payloads are JSON: what a caller gets is
 * what JSON gives back, never the object that was put in.
 *
 * Every method may reject with `store_unavailable` (nothing is known of the effect; repeat it with the same request
 * id) or `invalid_input` (nothing happened). Mutations of a run that does not exist reject with `run_not_found`;
 * reads answer `undefined`. A method that rejects has changed nothing, but for `store_unavailable`.
 */
export interface DurableRunStore {
  /**
   * More than 0: `completeStep` and `failStep` take the begin along, so that the store need not be told of one on which
   * nothing depends before the step has run for about so many milliseconds. Absent, or 0: each begin is recorded first.
   */
  readonly beginAfterMs?: number;

  /**
   * Claims a run, creating it if need be.
   *
   * A completed run is answered as it is, with no new lease. A failed run is running again. Rejects with
   * `manifest_mismatch`, `lease_held` (a live lease of another worker; the same worker id claims again, under a new
   * fence), `run_cancelled`, `payload_not_json` or `payload_too_large`.
   */
  startOrResume(input: StartOrResumeInput): Promise<StartOrResumeResult>;

  /**
   * Extends a live lease. `ok: false` when it is not the caller's, has lapsed, or the run has ended: a lapsed lease is
   * never revived. `status` tells that the run was cancelled.
   */
  renewLease(input: RenewLeaseInput): Promise<{ ok: boolean; leaseExpiresAt?: string; status?: "cancelled" }>;

  /** The step at a position, or `undefined` when it has not begun or the run is unknown. */
  loadStep(runId: string, stepIndex: number): Promise<StepRecord | undefined>;

  /**
   * Records that an attempt begins and counts it. A completed step is answered unchanged: use its result. A step that a
   * worker died in is answered as {@link BeginStepInput.onInterrupted} says, and runs only if it is `running`.
   * Rejects with `step_divergence` (another intent, kind or path stands there), `step_input_mismatch`, `step_not_due`
   * (with `retryAfterMs`: its next attempt is not to begin yet), `lease_lost`, `run_cancelled`.
   */
  beginStep(input: BeginStepInput): Promise<StepRecord>;

  /**
   * Records a result. The first one stands: completing again answers the standing record.
   * Rejects with `step_not_running`, `lease_lost`, `payload_not_json`, `payload_too_large`; with `begin`, also as a begin
   * does.
   */
  completeStep(input: CompleteStepInput): Promise<StepRecord>;

  /**
   * Records a failure. Failing again answers the standing record. Rejects with `step_not_running`, `lease_lost`; with
   * `begin`, also as a begin does.
   */
  failStep(input: FailStepInput): Promise<StepRecord>;

  /** Ends the run and frees its lease. Ending again in the same way answers the standing record. Rejects with `lease_lost`. */
  endRun(input: EndRunInput): Promise<ClaimedRunRecord>;

  /**
   * Emits an event, to a run that may not have begun yet. The first emit of a key wins; a later one answers
   * `accepted: false` and the standing record.
   */
  emitEvent(input: EmitEventInput): Promise<{ accepted: boolean; record: EventRecord }>;

  /** The event under a key, or `undefined`. */
  loadEvent(runId: string, key: string): Promise<EventRecord | undefined>;

  /** The run, or `undefined`. A plain store lacks it, and all that follows but `close`. */
  loadRun?(runId: string): Promise<RunRecord | undefined>;

  /**
   * Resolves to the event as soon as it is accepted, or to `undefined` after `timeoutMs`. For stores that can tell
   * without being asked again and again. With a `step`, rejects as `completeStep` does once there is the event, which
   * stands all the same.
   */
  waitForEvent?(input: WaitForEventInput): Promise<AwaitedEvent | undefined>;

  /**
   * Resolves to `held: false`, with the run's status, as soon as `fence` no longer holds the run, or to `held: true`
   * after `timeoutMs`. A lease that lapses goes unnoticed: that is for the next claim.
   */
  watchLease?(input: WatchLeaseInput): Promise<{ held: boolean; status?: RunStatus }>;

  /**
   * Frees the lease of a run that waits for a decision: `suspended`, or `pending` when it was made meanwhile. Rejects
   * with `lease_lost`.
   */
  suspendRun?(input: SuspendRunInput): Promise<RunRecord>;

  /**
   * Cancels a run: its lease is fenced, so that a live worker's next call is refused with `run_cancelled`, and no claim
   * succeeds. Answers the run as it then stands; one that has completed stays completed. Cancelling again changes nothing.
   */
  cancelRun?(runId: string, reason?: string, options?: RequestOptions): Promise<RunRecord>;

  /**
   * Frees a step in doubt: with a result, which then stands, or for another attempt. A suspended run without a further
   * step in doubt is `pending` again. Rejects with `step_not_in_doubt`, also for a failed step whose task has gone on from
   * that failure, or is at work.
   */
  resolveStep?(
    runId: string,
    stepIndex: number,
    resolution: StepResolution,
    options?: RequestOptions,
  ): Promise<StepRecord>;

  /**
   * Forgets the steps from one on, for good, and fences a live worker, whatever the run's status was: it is `pending`,
   * and the next claim goes on from the steps that are left. Events stay.
   */
  restartRun?(runId: string, options: RestartRunOptions): Promise<RunRecord>;

  /**
   * Makes a new run, `pending`, of the same manifest and the steps of another up to one; events are not copied. Rejects
   * with `run_exists`, or with `lease_lost` when another fork into the same run overtook this one. A fork that was cut short
   * can be claimed by nobody: call it again with the same arguments.
   */
  forkRun?(runId: string, newRunId: string, options: ForkRunOptions): Promise<RunRecord>;

  /** Frees what the store holds in this process. Idempotent. Recorded runs stay. */
  close(): Promise<void>;
}
