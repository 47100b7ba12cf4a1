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
import type { RetryFunction, RetryPolicy } from "./retries.ts";

export type { RetryFunction, RetryPolicy } from "./retries.ts";

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
  /**
   * Whether a failed attempt is followed by another: a policy, or a function that decides. A {@link NonRetryableError},
   * any error with `retryable: false`, and a result that JSON cannot carry fail the step at once. Each attempt is
   * recorded, and so is the time of the next one: whoever resumes the run neither counts anew nor skips the delay. An
   * attempt that its worker died in counts too: with retries, its begin is on record before it is called. Default: none.
   */
  retries?: RetryPolicy | RetryFunction;
  /**
   * What becomes of an attempt whose worker died while it ran, so that nobody knows what it has done:
   *
   * - "rerun" (the default): the step runs again;
   * - "fail": it fails with `step_interrupted`, for good, unless `resolveStep` says otherwise;
   * - "park": the run is suspended until somebody calls `resolveStep`, and `runDurable` rejects with `run_suspended`;
   * - `{ reconcile }`: that function is called first, to find out. What it returns is the step's result; with
   *   {@link RERUN}, the step runs again. Should it fail, so does the attempt, and it is called at the next one.
   *
   * With all but "rerun", the begin is recorded as safely as a result before the function is called.
   */
  onInterrupted?: "rerun" | "fail" | "park" | { reconcile: (info: StepInfo) => Promise<unknown> };
}

/** What a `reconcile` function returns to have the step run again: nothing was done, or doing it twice does no harm. */
export const RERUN: unique symbol = Symbol.for("durable-runs.rerun");

/** A line of code with steps of its own, which are numbered apart from all others. */
export type Branch<T = unknown> = (ctx: DurableContext) => Promise<T>;

/** Branches by name; or in a list, where their names are their places, unless given: 1 to 128 bytes without "/". */
export type Branches<T = unknown> =
  | Readonly<Record<string, Branch<T>>>
  | readonly (Branch<T> | readonly [name: string, branch: Branch<T>])[];

/** What a branch resolves to. */
export type BranchResult<B> =
  B extends Branch<infer T> ? T : B extends readonly [string, Branch<infer T>] ? T : never;

/** What a step's function is given. */
export interface StepInfo {
  /** Aborts when `ctx.signal` does, and when the attempt has timed out. */
  readonly signal: AbortSignal;
  /**
   * 1 for the first attempt of this step, whichever worker made it. One whose worker died in about its first 100 ms is
   * not counted, unless the step has `retries` or `onInterrupted` ({@link DurableRunStore.beginAfterMs}).
   */
  readonly attempt: number;
  /** The same at every attempt of this step, and no other step's: for services that take a key against doing it twice. */
  readonly idempotencyKey: string;
  /** The step's position in the run. */
  readonly stepIndex: number;
}

export interface AwaitEventOptions {
  /** Default 24 hours, at most 100 years, counted from when the wait first began, whoever resumes it. */
  timeoutMs?: number;
  /** How often a store is asked that cannot tell by itself. Default 250. */
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
  /**
   * Aborts when the lease is lost (with `lease_lost` as its reason, or `run_cancelled`), when the caller's signal does,
   * and in a branch that has lost a race.
   */
  readonly signal: AbortSignal;

  /**
   * Runs `fn` once and records what it returns; replays the record without calling `fn` again.
   *
   * Resolves to what JSON gives back of the result, on the first run as on each replay; `undefined` stays `undefined`.
   * A step begun inside another step's `fn` is refused with `nested_step`.
   * `fn` is given what it needs to do its work once: a signal, the attempt, and a key ({@link StepInfo}).
   * A failure of `fn` is recorded and rethrown as it is. Once the task has gone on to another step after it, the same
   * failure (name, message and code) is replayed; a failure that ended the attempt is run again.
   * A rejection that the task never looks at does not reach the process as an unhandled one.
   * Rejects with `step_divergence`, `step_input_mismatch`, `payload_not_json` or `payload_too_large` (recorded as the
   * step's failure), `invalid_input`, or `lease_lost`. Of the first two there is no way on: each later step is refused
   * with the same error, and so is the run's completion.
   */
  step<T>(intent: string, fn: (info: StepInfo) => Promise<T>, opts?: StepOptions): Promise<T>;

  /**
   * Runs branches side by side and resolves to what they returned: an object for an object, an array for an array.
   *
   * The steps of each branch are numbered apart, so they replay whatever their timing was. Give each its own context:
   * `ctx.all({ a: (ctx) => …, b: (ctx) => … })`; in a branch, any other is refused with `invalid_input`. Rejects with the first failure; the other branches begin no further step
   * then, and what they have under way is recorded when it ends. When the task goes on from that failure, it replays as
   * it was. Rejects with `invalid_input` for bad names, and over a store without branches.
   */
  all<const B extends Branches>(branches: B): Promise<{ -readonly [K in keyof B]: BranchResult<B[K]> }>;

  /**
   * Runs branches side by side and resolves to what the first to settle returned, or rejects with its failure. The
   * outcome is recorded, and so must be JSON; a replay answers it without calling a branch. The others are stopped:
   * their `ctx.signal` aborts, they begin no further step, and the result of a step that they have under way is dropped.
   */
  race<const B extends Branches>(
    branches: B,
  ): Promise<BranchResult<B[keyof B & (B extends readonly unknown[] ? number : string)]>>;

  /** Sleeps, as a step: 0 ms to 100 years. Whoever resumes the run sleeps what is left. */
  sleep(ms: number): Promise<void>;

  /** Sleeps until an instant, as a step. One that has passed is over at once. */
  sleepUntil(date: Date): Promise<void>;

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
  /** The outcome that is recorded when the task succeeds, unless `outcome` answers another. */
  defaultOutcome?: RunOutcome;
  /** Makes the outcome from what the task returned, as JSON gives it back. What it throws fails the run. */
  outcome?: (result: TResult) => RunOutcome | undefined;
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
