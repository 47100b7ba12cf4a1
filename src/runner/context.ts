/**
 * The context of one attempt: hands out positions, replays what is recorded, records what is not (R23 to R26).
 *
 * Relies on the lease for every store call. Invariants: a position is taken synchronously at the call; a recorded
 * result answers without `fn`; a result of `fn` is offered until it is recorded or the lease is gone, and a failure of
 * the store is never recorded as one of the step.
 */
import type { Clock } from "../contract/clock.ts";
import { codeOf, DurableAwaitEventTimeoutError, DurableRunDivergenceError, errorFromData } from "../contract/errors.ts";
import { DurableRunLeaseLostError } from "../contract/errors.ts";
import { checkInteger, checkStepIndex, checkText, LIMITS } from "../contract/limits.ts";
import { fromJsonText, toJsonText } from "../contract/payload.ts";
import { mismatch } from "../contract/replay.ts";
import type { StartOrResumeResult, StepKind, StepRecord } from "../contract/types.ts";
import { canonicalHash, newRequestId, stepId } from "../identity.ts";
import { fromStepError, toStepError } from "./failures.ts";
import type { Lease } from "./lease.ts";
import type { AwaitEventOptions, DurableContext, RunDurableInput, StepOptions } from "./types.ts";

const DEFAULT_WAIT_MS = 86_400_000;
const DEFAULT_POLL_MS = 250;

export interface ContextInput {
  readonly input: Pick<RunDurableInput<unknown>, "runId" | "manifest" | "store" | "signal">;
  readonly lease: Lease;
  readonly clock: Clock;
  readonly claimed: StartOrResumeResult;
}

interface StepPlan {
  readonly stepIndex: number;
  readonly intent: string;
  readonly kind: StepKind;
  readonly inputHash: string;
  readonly timeoutMs?: number;
}

export class RunContext implements DurableContext {
  readonly runId: string;
  readonly projectId: string;
  declare readonly scenarioId?: string;
  readonly signal: AbortSignal;

  readonly #store: ContextInput["input"]["store"];
  readonly #lease: Lease;
  readonly #clock: Clock;
  /** Completed steps, and failures that the task moved past, by position. */
  readonly #recorded = new Map<number, StepRecord>();
  /** What this attempt replayed or ran. */
  readonly #visited = new Map<number, StepRecord>();
  readonly #inFlight = new Set<Promise<unknown>>();
  /** Failures that the task has seen, and that no begun step has put on record yet. */
  readonly #seenFailures = new Set<number>();
  readonly #closing = new AbortController();
  #nextPosition = 0;
  #nextEmit = 0;

  constructor({ input, lease, clock, claimed }: ContextInput) {
    this.runId = input.runId;
    this.projectId = input.manifest.projectId;
    if (input.manifest.scenarioId !== undefined) this.scenarioId = input.manifest.scenarioId;
    this.signal = input.signal ? AbortSignal.any([lease.lostSignal, input.signal]) : lease.lostSignal;
    this.#store = input.store;
    this.#lease = lease;
    this.#clock = clock;
    for (const step of claimed.completedSteps) this.#recorded.set(step.stepIndex, step);
    for (const step of claimed.caughtSteps ?? []) this.#recorded.set(step.stepIndex, step);
  }

  step<T>(intent: string, fn: () => Promise<T>, opts: StepOptions = {}): Promise<T> {
    return this.#take((stepIndex) => {
      const { kind = "logic", inputFingerprint } = opts;
      const inputHash = inputFingerprint === undefined ? "" : canonicalHash(inputFingerprint);
      return this.#answer<T>({ stepIndex, intent, kind, inputHash }, fn);
    });
  }

  awaitEvent<T = unknown>(key: string, opts: AwaitEventOptions = {}): Promise<T> {
    return this.#take((stepIndex) => {
      const { timeoutMs = DEFAULT_WAIT_MS, pollMs = DEFAULT_POLL_MS } = opts;
      checkText("key", key, LIMITS.eventKeyBytes - "event:".length);
      checkInteger("timeoutMs", timeoutMs, 0, Number.MAX_SAFE_INTEGER);
      checkInteger("pollMs", pollMs, 1, Number.MAX_SAFE_INTEGER);
      const plan: StepPlan = { stepIndex, intent: `event:${key}`, kind: "event", inputHash: "", timeoutMs };
      return this.#answer<T>(plan, (begun) => this.#waitFor(key, this.#deadlineOf(begun, timeoutMs), pollMs));
    });
  }

  async emitEvent(key: string, payload: unknown): Promise<{ accepted: boolean }> {
    // The nth emit of a run is the same request at each replay, so that it is answered the same.
    const requestId = stepId(this.runId, this.#nextEmit++, `emit:${key}`);
    this.#assertOpen();
    const emit = { runId: this.runId, key, payload, requestId };
    const { accepted } = await this.#lease.offer(() => this.#store.emitEvent(emit));
    return { accepted };
  }

  async now(): Promise<Date> {
    const read = async (): Promise<string> => new Date(this.#clock.now()).toISOString();
    return new Date(await this.step("ctx.now", read, { kind: "deterministic" }));
  }

  uuid(): Promise<string> {
    return this.step("ctx.uuid", async () => crypto.randomUUID(), { kind: "deterministic" });
  }

  /** Ends the waits and resolves once every step in flight has settled: their results are paid for, and recorded. */
  async settle(): Promise<void> {
    this.#closing.abort(new DurableRunLeaseLostError(`the task of run "${this.runId}" has ended`));
    while (this.#inFlight.size > 0) await Promise.allSettled(this.#inFlight);
  }

  /** R23: the task ended; was all that is recorded asked for again? */
  assertAllReplayed(): void {
    for (const step of this.#recorded.values()) {
      if (step.stepIndex < this.#nextPosition) continue;
      throw new DurableRunDivergenceError(
        `the task of run "${this.runId}" ended after ${this.#nextPosition} steps, but step ${step.stepIndex} ` +
          `("${step.intent}") is on record. Restore the step, or start a new run.`,
      );
    }
  }

  records(): Iterable<StepRecord> {
    return this.#visited.values();
  }

  /** Takes the next position, now, and keeps account of the step until it settles. */
  #take<T>(run: (stepIndex: number) => Promise<T>): Promise<T> {
    const stepIndex = this.#nextPosition++;
    const settled = (async () => {
      this.#assertOpen();
      checkStepIndex(stepIndex);
      return run(stepIndex);
    })();
    const tracked = settled.then(
      () => {},
      () => {},
    );
    this.#inFlight.add(tracked);
    void tracked.then(() => this.#inFlight.delete(tracked));
    return settled;
  }

  async #answer<T>(plan: StepPlan, fn: (begun: StepRecord) => Promise<T>): Promise<T> {
    const recorded = this.#recorded.get(plan.stepIndex);
    const begun = recorded ?? (await this.#begin(plan));
    if (begun.status === "running") return this.#run(plan, begun, fn);
    const error = mismatch(this.runId, plan.stepIndex, begun, plan);
    if (error) throw errorFromData(error);
    this.#visited.set(plan.stepIndex, begun);
    if (begun.status === "failed") throw fromStepError(begun.error ?? { message: "failed" });
    return structuredClone(begun.result) as T;
  }

  async #begin(plan: StepPlan): Promise<StepRecord> {
    const caught = [...this.#seenFailures].filter((position) => position < plan.stepIndex);
    const request = { runId: this.runId, requestId: newRequestId(), ...plan, ...this.#fence(), ...(caught.length > 0 && { caught }) };
    const begun = await this.#lease.offer(() => this.#store.beginStep(request));
    for (const position of caught) this.#seenFailures.delete(position);
    return begun;
  }

  async #run<T>(plan: StepPlan, begun: StepRecord, fn: (begun: StepRecord) => Promise<T>): Promise<T> {
    this.#visited.set(plan.stepIndex, begun);
    let text: string;
    try {
      text = toJsonText(`the result of step ${plan.stepIndex} ("${plan.intent}")`, await fn(begun));
    } catch (error) {
      return this.#fail(plan, begun, error);
    }
    const ending = { runId: this.runId, stepIndex: plan.stepIndex, requestId: newRequestId(), ...this.#fence() };
    const result = fromJsonText(text);
    try {
      const completed = await this.#lease.offer(() =>
        this.#store.completeStep({ ...ending, attempt: begun.attempts, result }),
      );
      this.#visited.set(plan.stepIndex, completed);
    } catch (error) {
      if (isPayloadError(error)) return this.#fail(plan, begun, error);
      throw error;
    }
    return fromJsonText(text) as T;
  }

  /** Records the failure as well as it can, and throws it as it is (R27). */
  async #fail(plan: StepPlan, begun: StepRecord, error: unknown): Promise<never> {
    const ending = { runId: this.runId, stepIndex: plan.stepIndex, requestId: newRequestId(), ...this.#fence() };
    const cutShort = this.#lease.lostError !== undefined || error === this.#closing.signal.reason;
    if (!cutShort) {
      const failure = { ...ending, attempt: begun.attempts, error: toStepError(error) };
      await this.#lease.offer(() => this.#store.failStep(failure)).then(
        (failed) => {
          this.#visited.set(plan.stepIndex, failed);
          this.#seenFailures.add(plan.stepIndex);
        },
        () => {},
      );
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
    return Math.min(from + timeoutMs, 8.64e15);
  }

  #fence(): { fence?: number } {
    return this.#lease.fence === undefined ? {} : { fence: this.#lease.fence };
  }

  #assertOpen(): void {
    if (this.#lease.lostError) throw this.#lease.lostError;
    this.signal.throwIfAborted();
    this.#closing.signal.throwIfAborted();
  }
}

function isPayloadError(error: unknown): boolean {
  const code = codeOf(error);
  return code === "payload_not_json" || code === "payload_too_large";
}
