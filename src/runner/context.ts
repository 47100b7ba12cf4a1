/**
 * The context of one attempt: hands out positions, answers from the record, records what is not on it (R23 to R26).
 *
 * Relies on the lease for every store call. Invariants: a position is taken synchronously at the call; a recorded
 * result answers without `fn`; a result of `fn` is offered until it is recorded or the lease is gone, and a failure of
 * the store is never recorded as one of the step; a completed run takes no new step.
 */
import type { Clock } from "../contract/clock.ts";
import {
  codeOf,
  DurableAwaitEventTimeoutError,
  DurableRunDivergenceError,
  DurableRunLeaseLostError,
} from "../contract/errors.ts";
import { checkInteger, checkStepIndex, checkText, DEFAULT_WAIT_MS, LIMITS } from "../contract/limits.ts";
import { fromJsonText, toJsonText } from "../contract/payload.ts";
import type { StartOrResumeResult, StepRecord } from "../contract/types.ts";
import { canonicalHash, newRequestId, stepId } from "../identity.ts";
import { fromStepError, toStepError } from "./failures.ts";
import { type Lease, unlessAborted } from "./lease.ts";
import { Replay, type StepPlan } from "./replay.ts";
import { withTimeout } from "./timeout.ts";
import type { AwaitEventOptions, DurableContext, RunDurableInput, StepInfo, StepOptions } from "./types.ts";

const DEFAULT_POLL_MS = 250;

export interface ContextInput {
  readonly input: Pick<RunDurableInput<unknown>, "runId" | "manifest" | "store" | "signal">;
  readonly lease: Lease;
  readonly clock: Clock;
  readonly claimed: StartOrResumeResult;
}

export class RunContext implements DurableContext {
  readonly runId: string;
  readonly projectId: string;
  declare readonly scenarioId?: string;
  readonly signal: AbortSignal;

  readonly #store: ContextInput["input"]["store"];
  readonly #lease: Lease;
  readonly #clock: Clock;
  readonly #replay: Replay;
  readonly #runIsCompleted: boolean;
  readonly #inFlight = new Set<Promise<unknown>>();
  /** How often each key was emitted. */
  readonly #emits = new Map<string, number>();
  readonly #closing = new AbortController();
  #nextPosition = 0;

  constructor({ input, lease, clock, claimed }: ContextInput) {
    this.runId = input.runId;
    this.projectId = input.manifest.projectId;
    if (input.manifest.scenarioId !== undefined) this.scenarioId = input.manifest.scenarioId;
    this.signal = input.signal ? AbortSignal.any([lease.lostSignal, input.signal]) : lease.lostSignal;
    this.#store = input.store;
    this.#lease = lease;
    this.#clock = clock;
    this.#replay = new Replay(input.runId, claimed);
    this.#runIsCompleted = claimed.run.status === "completed";
  }

  step<T>(intent: string, fn: (info: StepInfo) => Promise<T>, opts: StepOptions = {}): Promise<T> {
    return this.#take((stepIndex) => {
      const { kind = "logic", inputFingerprint, timeoutMs } = opts;
      checkText("intent", intent, LIMITS.intentBytes);
      const inputHash = inputFingerprint === undefined ? "" : canonicalHash(inputFingerprint);
      const idempotencyKey = stepId(this.runId, stepIndex, intent);
      if (timeoutMs !== undefined) checkInteger("timeoutMs", timeoutMs, 1, LIMITS.timeoutMs);
      return this.#answer<T>({ stepIndex, intent, kind, inputHash }, ({ attempts: attempt }) => {
        const call = (signal: AbortSignal) => fn({ signal, attempt, idempotencyKey, stepIndex });
        return withTimeout(this.#clock, { intent, timeoutMs, signal: this.signal }, call);
      });
    });
  }

  awaitEvent<T = unknown>(key: string, opts: AwaitEventOptions = {}): Promise<T> {
    return this.#take((stepIndex) => {
      const { timeoutMs = DEFAULT_WAIT_MS, pollMs = DEFAULT_POLL_MS } = opts;
      checkText("key", key, LIMITS.eventKeyBytes - "event:".length);
      checkInteger("timeoutMs", timeoutMs, 0, LIMITS.timeoutMs);
      checkInteger("pollMs", pollMs, 1, LIMITS.timeoutMs);
      const plan: StepPlan = { stepIndex, intent: `event:${key}`, kind: "event", inputHash: "", timeoutMs };
      return this.#answer<T>(plan, (begun) => this.#waitFor(key, this.#deadlineOf(begun, timeoutMs), pollMs));
    });
  }

  emitEvent(key: string, payload: unknown): Promise<{ accepted: boolean }> {
    return this.#track(async () => {
      const nth = this.#emits.get(key) ?? 0;
      this.#emits.set(key, nth + 1);
      this.#assertOpen();
      checkText("key", key, LIMITS.eventKeyBytes);
      // A run's nth emit of a key is the same request at each replay, so that it is answered the same.
      const requestId = stepId(this.runId, nth, `emit:${key}`);
      const emit = {
        runId: this.runId,
        key,
        payload: fromJsonText(toJsonText("payload", payload)),
        requestId,
      };
      const { accepted } = await this.#lease.offer(() => this.#store.emitEvent(emit));
      return { accepted };
    });
  }

  now(): Promise<Date> {
    const read = async (): Promise<string> => new Date(this.#clock.now()).toISOString();
    return this.#track(async () => new Date(await this.step("ctx.now", read, { kind: "deterministic" })));
  }

  uuid(): Promise<string> {
    return this.step("ctx.uuid", async () => crypto.randomUUID(), { kind: "deterministic" });
  }

  /** Ends the waits and resolves once every call in flight has settled: their results are paid for, and recorded. */
  async settle(): Promise<void> {
    this.#closing.abort(new DurableRunLeaseLostError(`the task of run "${this.runId}" has ended`));
    while (this.#inFlight.size > 0) await Promise.allSettled(this.#inFlight);
  }

  /** R23 */
  assertAllReplayed(): void {
    this.#replay.assertAllReplayed();
  }

  records(): StepRecord[] {
    return this.#replay.visited();
  }

  /** Takes the next position, now. */
  #take<T>(run: (stepIndex: number) => Promise<T>): Promise<T> {
    const stepIndex = this.#nextPosition++;
    return this.#track(async () => {
      this.#assertOpen();
      checkStepIndex(stepIndex);
      return run(stepIndex);
    });
  }

  /**
   * Calls `work` now and keeps account of it until it settles. A rejection that the task never looks at is no unhandled
   * one: when a lease is lost, every call in flight rejects, and the process must live.
   */
  #track<T>(work: () => Promise<T>): Promise<T> {
    const answer = work();
    const settled = answer.then(
      () => {},
      () => {},
    );
    this.#inFlight.add(settled);
    void settled.then(() => this.#inFlight.delete(settled));
    return answer;
  }

  async #answer<T>(plan: StepPlan, fn: (begun: StepRecord) => Promise<T>): Promise<T> {
    const step = this.#replay.recorded(plan.stepIndex) ?? (await this.#begin(plan));
    if (!hasEnded(step)) return this.#run(plan, step, fn);
    this.#replay.assertSame(step, plan);
    this.#replay.visit(step);
    if (step.status === "failed") throw fromStepError(step.error ?? { message: "failed" });
    return structuredClone(step.result) as T;
  }

  async #begin(plan: StepPlan): Promise<StepRecord> {
    if (this.#runIsCompleted) return this.#recall(plan);
    const caught = this.#replay.unreportedFailures();
    const seen = caught.length > 0 ? { caught } : {};
    const request = { runId: this.runId, requestId: newRequestId(), ...plan, ...this.#fence(), ...seen };
    try {
      const begun = await this.#lease.offer(() => this.#store.beginStep(request));
      this.#replay.reported(caught);
      return begun;
    } catch (error) {
      throw isDivergence(error) ? this.#replay.diverge(error) : error;
    }
  }

  /** For a completed run whose store did not keep its result, so that the task is replayed to find it again. */
  async #recall(plan: StepPlan): Promise<StepRecord> {
    const step = await this.#lease.offer(() => this.#store.loadStep(this.runId, plan.stepIndex));
    if (step === undefined) {
      throw this.#replay.diverge(
        new DurableRunDivergenceError(
          `run "${this.runId}" has completed without a step ${plan.stepIndex}, but the code now comes with ` +
            `${plan.kind} "${plan.intent}" there. Restore the steps, or start a new run.`,
        ),
      );
    }
    // The run completed without waiting for a step that has not ended: so does this replay.
    return hasEnded(step) ? step : unlessAborted(this.#closing.signal, new Promise(() => {}));
  }

  async #run<T>(plan: StepPlan, begun: StepRecord, fn: (begun: StepRecord) => Promise<T>): Promise<T> {
    this.#replay.visit(begun);
    let text: string;
    try {
      text = toJsonText(`the result of step ${plan.stepIndex} ("${plan.intent}")`, await fn(begun));
    } catch (error) {
      return this.#fail(plan, begun, error);
    }
    const completion = { ...this.#ending(begun), result: fromJsonText(text) };
    try {
      const completed = await this.#lease.offer(() => this.#store.completeStep(completion));
      this.#replay.visit(completed);
      // What stands is what a replay will answer, should another attempt's result have been recorded first.
      return ("result" in completed ? structuredClone(completed.result) : fromJsonText(text)) as T;
    } catch (error) {
      if (isPayloadError(error)) return this.#fail(plan, begun, error);
      throw error;
    }
  }

  /** Records the failure as well as it can, and throws it as it is (R27). */
  async #fail(plan: StepPlan, begun: StepRecord, error: unknown): Promise<never> {
    const { aborted: closed, reason } = this.#closing.signal;
    const cutShort = this.#lease.lostError !== undefined || (closed && error === reason);
    if (!cutShort) {
      const failure = { ...this.#ending(begun), error: toStepError(error) };
      await this.#lease
        .tell(() => this.#store.failStep(failure))
        .then(
          (failed) => this.#replay.visit(failed),
          () => {},
        );
      // Also when the store did not say so: it may well have recorded it.
      this.#replay.sawFailure(plan.stepIndex);
    }
    throw error;
  }

  async #waitFor<T>(key: string, deadline: number, pollMs: number): Promise<T> {
    const signal = AbortSignal.any([this.signal, this.#closing.signal]);
    for (;;) {
      signal.throwIfAborted();
      const askedAt = this.#clock.now();
      const event = await this.#lease.offer(() => this.#store.loadEvent(this.runId, key));
      if (event) return event.payload as T;
      if (askedAt >= deadline) {
        const when = new Date(deadline).toISOString();
        throw new DurableAwaitEventTimeoutError(`no event "${key}" came to run "${this.runId}" by ${when}.`);
      }
      await this.#clock.sleep(Math.min(pollMs, deadline - askedAt), signal);
    }
  }

  /** R24: fixed when the wait first began. A plain store keeps no deadline; there it counts from the latest begin. */
  #deadlineOf(begun: StepRecord, timeoutMs: number): number {
    if (begun.deadlineAt !== undefined) return Date.parse(begun.deadlineAt);
    const from = begun.startedAt === undefined ? this.#clock.now() : Date.parse(begun.startedAt);
    return from + timeoutMs;
  }

  /** One request to end an attempt at a step, however often it is sent. */
  #ending({ stepIndex, attempts }: StepRecord) {
    return { runId: this.runId, stepIndex, attempt: attempts, requestId: newRequestId(), ...this.#fence() };
  }

  #fence(): { fence?: number } {
    return this.#lease.fence === undefined ? {} : { fence: this.#lease.fence };
  }

  #assertOpen(): void {
    this.signal.throwIfAborted();
    this.#closing.signal.throwIfAborted();
    if (this.#replay.divergence) throw this.#replay.divergence;
  }
}

function hasEnded(step: StepRecord): boolean {
  return step.status === "completed" || step.status === "failed";
}

function isPayloadError(error: unknown): boolean {
  const code = codeOf(error);
  return code === "payload_not_json" || code === "payload_too_large";
}

function isDivergence(error: unknown): error is Error {
  const code = codeOf(error);
  return code === "step_divergence" || code === "step_input_mismatch";
}
