/**
 * One attempt at a run in a step of a Workflow: what `runDurable` came to, as the value that the step leaves on record.
 *
 * Invariants: only what another attempt of the platform could mend is thrown; the task's own failure is told by where it
 * comes from, whatever its code; in this isolate, no attempt claims the run once a later one of the step has begun.
 */
import {
  codeOf,
  type DurableRunLeaseHeldError,
  DurableRunLeaseLostError,
  type DurableRunSuspendedError,
} from "../contract/errors.ts";
import { byteLength } from "../contract/limits.ts";
import { toJsonText } from "../contract/payload.ts";
import type { DurableRunManifest, DurableRunStore, RunOutcome, RunRecord } from "../contract/types.ts";
import { isFinal, type RetryFunction, type RetryPolicy, retryDelayMs } from "../runner/retries.ts";
import { runDurable } from "../runner/run-durable.ts";
import type { DurableContext } from "../runner/types.ts";
import { type Failure, isNonRetryable, toFailure } from "./failures.ts";
import type { RunPointer } from "./tasks.ts";

/** No retry mends these. So does none for an error that says so itself: see {@link isHopeless}. */
const HOPELESS: ReadonlySet<string> = new Set([
  "manifest_mismatch",
  "step_divergence",
  "step_input_mismatch",
  "payload_not_json",
  "payload_too_large",
  "invalid_input",
  "forbidden",
  "run_cancelled",
  "nested_step",
]);

export interface AttemptInput<TResult> {
  readonly runId: string;
  readonly workerId: string;
  readonly store: DurableRunStore;
  readonly manifest: DurableRunManifest;
  readonly taskFn: (ctx: DurableContext) => Promise<TResult>;
  readonly leaseMs?: number;
  readonly outcome?: (result: TResult) => RunOutcome | undefined;
  readonly taskRetries: RetryPolicy | RetryFunction;
  /** How often the task has failed before. */
  readonly failures: number;
}

/** JSON, as it is in the platform's record. */
export type Answer =
  | { readonly pointer: RunPointer }
  /** Another worker has the run: for how long, as far as is known. */
  | { readonly heldForMs: number }
  /** The run was taken from this attempt. Who has it, if anybody does, the next claim tells. */
  | { readonly isTaken: true }
  /** A step in doubt waits for somebody. */
  | { readonly suspendedAt: number }
  /** The task has failed, and is to be tried again. */
  | { readonly failed: Failure; readonly retryAfterMs: number }
  /** The end: nothing is to be tried again. */
  | { readonly refused: Failure };

/** Rejects with what another attempt may mend: the store was out of reach, for the claim or for too long. */
export async function attempt<TResult>(input: AttemptInput<TResult>): Promise<Answer> {
  const { runId, workerId, manifest, leaseMs } = input;
  const turn = beginTurn(input);
  const own = new OwnFailure();
  const { outcome, taskFn } = input;
  try {
    const done = await runDurable({
      runId,
      manifest,
      store: turn.store,
      workerId,
      taskFn: (ctx) => own.of(ctx.signal, () => taskFn(ctx)),
      ...(leaseMs !== undefined && { leaseMs }),
      ...(outcome !== undefined && { outcome: (result: TResult) => own.ofOutcome(() => outcome(result)) }),
    });
    return { pointer: pointerOf(done.record, done.result) };
  } catch (error) {
    return own.is(error) ? failureOf(error, input) : refusalOf(error);
  } finally {
    turn.end();
  }
}

/** Where the run's result is. */
export function pointerOf(record: RunRecord, result: unknown): RunPointer {
  const { runId, projectId, completedAt, updatedAt, stepCount } = record;
  return {
    runId,
    projectId,
    status: "completed",
    completedAt: completedAt ?? updatedAt,
    stepCount,
    resultBytes: byteLength(toJsonText("result", result)),
  };
}

/** What the task, or its outcome, has thrown: not what the runner has thrown through it because it lost the run. */
class OwnFailure {
  #thrown: { readonly error: unknown } | undefined;

  async of<T>(signal: AbortSignal, task: () => Promise<T>): Promise<T> {
    try {
      return await task();
    } catch (error) {
      if (!signal.aborted || error !== signal.reason) this.#thrown = { error };
      throw error;
    }
  }

  ofOutcome<T>(outcome: () => T): T {
    try {
      return outcome();
    } catch (error) {
      this.#thrown = { error };
      throw error;
    }
  }

  is(error: unknown): boolean {
    return this.#thrown !== undefined && this.#thrown.error === error;
  }
}

function failureOf(
  error: unknown,
  { taskRetries, failures }: Pick<AttemptInput<never>, "taskRetries" | "failures">,
): Answer {
  if (isHopeless(error)) return { refused: toFailure(error) };
  try {
    const retryAfterMs = retryDelayMs(taskRetries, error, failures + 1);
    return retryAfterMs === undefined
      ? { refused: toFailure(error) }
      : { failed: toFailure(error), retryAfterMs };
  } catch (broken) {
    return { refused: toFailure(broken) };
  }
}

function refusalOf(error: unknown): Answer {
  switch (codeOf(error)) {
    case "lease_held":
      return { heldForMs: (error as DurableRunLeaseHeldError).retryAfterMs ?? 0 };
    case "lease_lost":
      if ((error as DurableRunLeaseLostError).isConfirmed) return { isTaken: true };
      throw error;
    case "run_suspended":
      return { suspendedAt: (error as DurableRunSuspendedError).stepIndex };
    default:
      if (isHopeless(error)) return { refused: toFailure(error) };
      throw error;
  }
}

function isHopeless(error: unknown): boolean {
  return HOPELESS.has(codeOf(error) ?? "") || isFinal(error) || isNonRetryable(error);
}

/** The latest attempt of each owner at each run in this isolate, while it lasts. */
const latest = new Map<string, object>();

/**
 * The attempt's turn, and the store for it. The platform does not stop an attempt that it has given up on. A claim of such
 * a one would take the run from the attempt that came after it, as both have one owner.
 */
function beginTurn({ runId, workerId, store }: Pick<AttemptInput<never>, "runId" | "workerId" | "store">) {
  const key = JSON.stringify([workerId, runId]);
  const turn = {};
  latest.set(key, turn);
  const assertLatest = (): void => {
    if (latest.get(key) === turn) return;
    throw new DurableRunLeaseLostError(`a later attempt at run "${runId}" has begun.`);
  };
  const claim: DurableRunStore["startOrResume"] = async (input) => {
    assertLatest();
    const claimed = await store.startOrResume(input);
    // Its claim came late. Not to run the task leaves the run to the later attempt, which claims it again.
    assertLatest();
    return claimed;
  };
  const guarded = new Proxy(store, {
    get: (target, property) => {
      if (property === "startOrResume") return claim;
      const value: unknown = Reflect.get(target, property);
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
  const end = (): void => {
    if (latest.get(key) === turn) latest.delete(key);
  };
  return { store: guarded, end };
}
