/** What a task is given, and what `runDurable` takes and answers. */
import type { Clock } from "../contract/clock.ts";
import type {
  ClaimedRunRecord,
  DurableRunManifest,
  DurableRunStore,
  RunOutcome,
  StepKind,
  StepRecord,
} from "../contract/types.ts";

export interface StepOptions {
  /** Default "logic". */
  kind?: StepKind;
  /** JSON. Hashed and compared at replay; without one, drift of the input is allowed. */
  inputFingerprint?: unknown;
  /**
   * How long one attempt may take, in milliseconds: 1 or more. Then its signal aborts, the attempt fails with
   * `step_timeout`, and what its function still comes to is dropped. Default: as long as it takes.
   */
  timeoutMs?: number;
}

/** What a step's function is given. */
export interface StepInfo {
  /** Aborts when the lease is lost, when the caller's signal does, and when the attempt has timed out. */
  readonly signal: AbortSignal;
  /** 1 for the first attempt of this step, whichever worker made it. */
  readonly attempt: number;
  /** The same at every attempt of this step, and no other step's: for services that take a key against doing it twice. */
  readonly idempotencyKey: string;
  /** The step's position in the run. */
  readonly stepIndex: number;
}

export interface AwaitEventOptions {
  /** Default 24 hours, at most 100 years, counted from when the wait first began, whoever resumes it. */
  timeoutMs?: number;
  /** How often the store is asked. Default 250. */
  pollMs?: number;
}

/**
 * What a task works with. All that is not deterministic goes through it: steps, the clock, random ids, events.
 *
 * The position of a step is taken when the method is called, in order of the calls, so `Promise.all` over single
 * steps replays.
 */
export interface DurableContext {
  readonly runId: string;
  readonly projectId: string;
  readonly scenarioId?: string;
  /** Aborts when the lease is lost (with `lease_lost` as its reason) and when the caller's signal does. */
  readonly signal: AbortSignal;

  /**
   * Runs `fn` once and records what it returns; replays the record without calling `fn` again.
   *
   * Resolves to what JSON gives back of the result, on the first run as on each replay; `undefined` stays `undefined`.
   * A step begun inside another step's `fn` takes a position that no replay will give it again: begin it outside.
   * `fn` is given what it needs to do its work once: a signal, the attempt, and a key ({@link StepInfo}).
   * A failure of `fn` is recorded and rethrown as it is. Once the task has gone on to another step after it, the same
   * failure (name, message and code) is replayed; a failure that ended the attempt is run again.
   * A rejection that the task never looks at does not reach the process as an unhandled one.
   * Rejects with `step_divergence`, `step_input_mismatch`, `payload_not_json` or `payload_too_large` (recorded as the
   * step's failure), `invalid_input`, or `lease_lost`. Of the first two there is no way on: each later step is refused
   * with the same error, and so is the run's completion.
   */
  step<T>(intent: string, fn: (info: StepInfo) => Promise<T>, opts?: StepOptions): Promise<T>;

  /** Waits for an event and records its payload as a step. Rejects with `await_event_timeout` after the deadline. */
  awaitEvent<T = unknown>(key: string, opts?: AwaitEventOptions): Promise<T>;

  /** Emits an event to this run. Not a step: it is idempotent, and answers the same at each replay. */
  emitEvent(key: string, payload: unknown): Promise<{ accepted: boolean }>;

  /** The time, recorded as a step. */
  now(): Promise<Date>;

  /** A random UUID, recorded as a step. */
  uuid(): Promise<string>;
}

export interface RunDurableInput<TResult> {
  /** 1 to 1,024 bytes, without control characters. `newRunId()` makes one. */
  runId: string;
  manifest: DurableRunManifest;
  store: DurableRunStore;
  /** Default: a new one for each call. */
  workerId?: string;
  /** How long the run stays this worker's without a heartbeat. Default 30,000. Renewed every third of it. */
  leaseMs?: number;
  /** Aborts `ctx.signal`. The step in flight is not killed; the next one is refused with the signal's reason. */
  signal?: AbortSignal;
  taskFn: (ctx: DurableContext) => Promise<TResult>;
  /** The outcome that is recorded when the task succeeds. */
  defaultOutcome?: RunOutcome;
  /** For tests. */
  clock?: Clock;
}

export interface RunDurableResult<TResult> {
  /** What the task returned, as JSON gives it back. */
  result: TResult;
  record: ClaimedRunRecord;
  /** Every step that this call replayed or ran, in order of position. */
  steps: ReadonlyArray<StepRecord>;
}
