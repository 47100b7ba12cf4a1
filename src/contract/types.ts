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

/** `pending` is reserved: no store here writes it. */
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

/** `completed` and `cancelled` are final; a `failed` run may be claimed again and goes on. */
export type RunStatus = DeclaredRunStatus | "cancelled";

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
  /** Why the run failed. */
  error?: StepError;
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
}

/** Completing and failing say which attempt they end, so that a late duplicate cannot end another one. */
interface EndStepInput {
  runId: string;
  stepIndex: number;
  fence?: number;
  requestId?: string;
  /** `attempts` of the record that `beginStep` answered. */
  attempt?: number;
}

export interface CompleteStepInput extends EndStepInput {
  /** JSON, or `undefined`. At most {@link LIMITS.payloadBytes} of UTF-8 once serialised. */
  result: unknown;
}

export interface FailStepInput extends EndStepInput {
  error: StepError;
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
   * Claims a run, creating it if need be.
   *
   * A completed run is answered as it is, with no new lease. A failed run is running again. Rejects with
   * `manifest_mismatch`, `lease_held` (a live lease of another worker; the same worker id claims again, under a new
   * fence), `run_cancelled`, `payload_not_json` or `payload_too_large`.
   */
  startOrResume(input: StartOrResumeInput): Promise<StartOrResumeResult>;

  /**
   * Extends a live lease. `ok: false` when it is not the caller's, has lapsed, or the run has ended: a lapsed lease is
   * never revived.
   */
  renewLease(input: RenewLeaseInput): Promise<{ ok: boolean; leaseExpiresAt?: string }>;

  /** The step at a position, or `undefined` when it has not begun or the run is unknown. */
  loadStep(runId: string, stepIndex: number): Promise<StepRecord | undefined>;

  /**
   * Records that an attempt begins and counts it. A completed step is answered unchanged: use its result.
   * Rejects with `step_divergence` (another intent or kind stands there), `step_input_mismatch`, `lease_lost`.
   */
  beginStep(input: BeginStepInput): Promise<StepRecord>;

  /**
   * Records a result. The first one stands: completing again answers the standing record.
   * Rejects with `step_not_running`, `lease_lost`, `payload_not_json`, `payload_too_large`.
   */
  completeStep(input: CompleteStepInput): Promise<StepRecord>;

  /** Records a failure. Failing again answers the standing record. Rejects with `step_not_running`, `lease_lost`. */
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

  /** The run, or `undefined`. A plain store lacks it. */
  loadRun?(runId: string): Promise<RunRecord | undefined>;

  /** Frees what the store holds in this process. Idempotent. Recorded runs stay. */
  close(): Promise<void>;
}
