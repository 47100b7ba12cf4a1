/**
 * One step, from its plan to its answer: from the record, or begun, run, tried again, and recorded (R23 to R27, R30,
 * R31).
 *
 * Relies on the lease for every store call. Invariants: a recorded result answers without `fn`; a result of `fn` is
 * offered until it is recorded or the lease is gone, and a failure of the store is never recorded as one of the step;
 * the next attempt begins no sooner than the record allows; a completed run takes no new step. A begin on which nothing
 * depends is not waited for (late-begins.ts).
 */
import type { Clock } from "../contract/clock.ts";
import {
  codeOf,
  DurableRunDivergenceError,
  DurableStepInterruptedError,
  type DurableStepNotDueError,
} from "../contract/errors.ts";
import { checkStepIndex, checkText, LIMITS } from "../contract/limits.ts";
import { copyOf, fromJsonText, toJsonText } from "../contract/payload.ts";
import type { StepRecord } from "../contract/types.ts";
import { newRequestId } from "../identity.ts";
import type { Attempt } from "./attempt.ts";
import type { Branch } from "./branch.ts";
import { fromStepError, toStepError } from "./failures.ts";
import { unlessAborted } from "../contract/clock.ts";
import type { StepPlan } from "./replay.ts";
import { type RetryFunction, type RetryPolicy, isUsedUp, retryDelayMs } from "./retries.ts";

/** What work comes to whose result the store has recorded along with what the work waited for. */
export class Completed {
  readonly step: StepRecord;

  constructor(step: StepRecord) {
    this.step = step;
  }
}

export interface StepWork<T> {
  run(begun: StepRecord): Promise<T | Completed>;
  /** Whether the store may complete the step by itself, so that a failure may come too late. */
  readonly mayBeCompleted?: boolean;
  readonly retries?: RetryPolicy | RetryFunction | undefined;
  /** Whether what became of an interrupted attempt is still not known. */
  readonly isInDoubt?: () => boolean;
}

export class StepRunner {
  readonly #attempt: Attempt;

  constructor(attempt: Attempt) {
    this.#attempt = attempt;
  }

  async answer<T>(branch: Branch, plan: StepPlan, work: StepWork<T>): Promise<T> {
    const { replay } = this.#attempt;
    const recorded = replay.recorded(plan.path);
    if (recorded) replay.assertSame(recorded, plan);
    // Awaited in any case: no function runs before `ctx.step` has returned.
    const step = recorded ?? (await (this.#begunLate(branch, plan, work) ?? this.#begin(branch, plan)));
    if (step.status === "running") return this.#run(branch, plan, step, work);
    return this.#answered<T>(branch, plan, step);
  }

  /** What stands on record. */
  #answered<T>(branch: Branch, plan: StepPlan, step: StepRecord): T {
    const { replay } = this.#attempt;
    replay.assertSame(step, plan);
    replay.visit(step);
    if (step.status === "completed") return copyOf(step.result) as T;
    if (step.status === "failed") {
      if (step.inDoubt) branch.sawFailure(step.stepIndex);
      throw fromStepError(step.error ?? { message: "failed" });
    }
    if (branch.isOutdone) branch.halted.throwIfAborted();
    return this.#attempt.park(step);
  }

  /**
   * The step, under way without the store having been told; `undefined` where something depends on that: the limit of
   * retries counts attempts that kill workers.
   */
  #begunLate<T>(branch: Branch, plan: StepPlan, { retries }: StepWork<T>): StepRecord | undefined {
    const { replay, lateBegins, knowsOpenSteps, runIsCompleted } = this.#attempt;
    checkStepIndex(plan.stepIndex);
    checkText("path", plan.path, LIMITS.pathBytes);
    const isNew = !runIsCompleted && knowsOpenSteps && replay.open(plan.path) === undefined;
    const mayBeLate = isNew && retries === undefined && branch.unreportedFailures().length === 0;
    return mayBeLate ? lateBegins.begin(plan) : undefined;
  }

  /** `earlier`: the step as it was last known. */
  async #begin(
    branch: Branch,
    plan: StepPlan,
    earlier = this.#attempt.replay.open(plan.path),
  ): Promise<StepRecord> {
    const { knowsOpenSteps, runId, store, lease, clock, replay, runIsCompleted } = this.#attempt;
    if (runIsCompleted) return this.#recall(branch, plan);
    const caught = branch.unreportedFailures();
    const seen = caught.length > 0 ? { caught } : {};
    const { path, ...facts } = plan;
    const place = path === String(plan.stepIndex) ? {} : { path };
    const request = {
      runId,
      requestId: newRequestId(),
      ...facts,
      ...place,
      ...(knowsOpenSteps && { attempt: (earlier?.attempts ?? 0) + 1 }),
      ...this.#attempt.fence(),
      ...seen,
    };
    for (;;) {
      try {
        const begun = await lease.commit(() => store.beginStep(request));
        branch.reported(caught);
        return begun;
      } catch (error) {
        if (isDivergence(error)) throw replay.diverge(error);
        if (codeOf(error) !== "step_not_due") throw error;
        const { retryAfterMs = 0 } = error as Partial<DurableStepNotDueError>;
        await delay(clock, Math.max(1, retryAfterMs), branch.halted);
      }
    }
  }

  /** For a completed run whose store did not keep its result, so that the task is replayed to find it again. */
  async #recall(branch: Branch, plan: StepPlan): Promise<StepRecord> {
    const { runId, store, lease, replay } = this.#attempt;
    const step = await lease.offer(() => store.loadStep(runId, plan.stepIndex));
    if (step === undefined) {
      throw replay.diverge(
        new DurableRunDivergenceError(
          `run "${runId}" has completed without a step ${plan.stepIndex}, but the code now comes with ` +
            `${plan.kind} "${plan.intent}" there. Restore the steps, or start a new run.`,
        ),
      );
    }
    // The run completed without waiting for a step that has not ended: so does this replay.
    const hasEnded = step.status === "completed" || step.status === "failed";
    return hasEnded ? step : unlessAborted(branch.halted, new Promise(() => {}));
  }

  async #run<T>(branch: Branch, plan: StepPlan, first: StepRecord, work: StepWork<T>): Promise<T> {
    const { replay } = this.#attempt;
    // A plain store does not count.
    for (let [step, tries] = [first, 1]; ; tries += 1) {
      replay.visit(step);
      let end: string | Completed;
      if (!step.inDoubt && isUsedUp(work.retries, step.tries ?? tries)) {
        return this.#fail(branch, step, interrupted(step), work);
      }
      try {
        const value = await branch.unlessAbandoned(() => work.run(step));
        const what = `the result of step ${plan.stepIndex} ("${plan.intent}")`;
        end = value instanceof Completed ? value : toJsonText(what, value);
      } catch (error) {
        const [failure, delayMs] = this.#judge(branch, work, error, step.tries ?? tries);
        if (delayMs === undefined) return this.#fail(branch, step, failure, work);
        step = await this.#again(branch, plan, step, failure, { delayMs, work });
        if (step.status === "running") continue;
        return this.#answered<T>(branch, plan, step);
      }
      if (end instanceof Completed) return this.#answered<T>(branch, plan, end.step);
      return this.#complete<T>(branch, step, end, work);
    }
  }

  /** The failure that an attempt ends with, and the delay before the next one, if there is to be one. */
  #judge<T>(
    branch: Branch,
    { retries }: StepWork<T>,
    error: unknown,
    tries: number,
  ): [failure: unknown, delayMs?: number | undefined] {
    if (branch.halted.aborted || this.#attempt.lease.lostError) return [error];
    try {
      return [error, retryDelayMs(retries, error, tries)];
    } catch (problem) {
      const takesCause = problem instanceof Error && problem !== error && Object.isExtensible(problem);
      if (takesCause) problem.cause ??= error;
      return [problem];
    }
  }

  async #complete<T>(branch: Branch, begun: StepRecord, text: string, work: StepWork<T>): Promise<T> {
    const { store, lease, replay } = this.#attempt;
    const completion = { ...this.#attempt.ending(begun), result: fromJsonText(text) };
    try {
      const completed = await lease.commit(() => store.completeStep(completion));
      replay.visit(completed);
      // What stands is what a replay will answer, should another attempt's result have been recorded first.
      return ("result" in completed ? copyOf(completed.result) : fromJsonText(text)) as T;
    } catch (error) {
      if (isPayloadError(error)) return this.#fail(branch, begun, error, work);
      throw error;
    }
  }

  /** Records the failure of an attempt, lets the delay pass, and begins the next one. */
  async #again<T>(
    branch: Branch,
    plan: StepPlan,
    begun: StepRecord,
    error: unknown,
    { delayMs, work }: { delayMs: number; work: StepWork<T> },
  ): Promise<StepRecord> {
    const { store, lease, clock, replay } = this.#attempt;
    const failure = { ...this.#failure(begun, error, work), retryAfterMs: delayMs };
    replay.visit(await lease.commit(() => store.failStep(failure)));
    await delay(clock, delayMs, branch.halted);
    return this.#begin(branch, plan, begun);
  }

  /** Records the failure as well as it can, and throws it as it is (R27). */
  async #fail<T>(branch: Branch, begun: StepRecord, error: unknown, work: StepWork<T>): Promise<T> {
    const { store, lease, replay } = this.#attempt;
    const { aborted: halted, reason } = branch.halted;
    // A wait that was ended by what the task cannot see has not failed: it goes on when the run does.
    const isCutShort = halted && error === reason && !branch.signal.aborted;
    if (isCutShort) this.#attempt.lateBegins.endOf(begun);
    if (lease.lostError === undefined && !isCutShort) {
      const failure = this.#failure(begun, error, work);
      const refusal = await lease
        .tell(() => store.failStep(failure))
        .then((failed) => replay.visit(failed), codeOf);
      if (work.mayBeCompleted && refusal === "step_not_running") {
        const standing = await this.#completedMeanwhile(begun);
        if (standing) return copyOf(standing.result) as T;
      }
      // Also when the store did not say so: it may well have recorded it.
      branch.sawFailure(begun.stepIndex);
    }
    throw error;
  }

  /** The step, if its store has completed it before its failure came. */
  async #completedMeanwhile({ runId, stepIndex }: StepRecord): Promise<StepRecord | undefined> {
    const { store, lease, replay } = this.#attempt;
    const step = await lease.offer(() => store.loadStep(runId, stepIndex));
    if (step?.status !== "completed") return undefined;
    replay.visit(step);
    return step;
  }

  #failure<T>(begun: StepRecord, error: unknown, { isInDoubt }: StepWork<T>) {
    const doubt = isInDoubt?.() ? { inDoubt: true } : {};
    return { ...this.#attempt.ending(begun), error: toStepError(error), ...doubt };
  }
}

/** Attempts that killed their workers failed of nothing that could be told. */
function interrupted({ stepIndex, intent, tries }: StepRecord): Error {
  return new DurableStepInterruptedError(
    `step ${stepIndex} ("${intent}") is not run again: its limit of retries was used up in ${(tries ?? 1) - 1} attempts. ` +
      "One that was interrupted counts too.",
  );
}

/** A delay that the task asked for. */
export function delay(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return clock.delay ? clock.delay(ms, signal) : clock.sleep(ms, signal);
}

function isPayloadError(error: unknown): boolean {
  const code = codeOf(error);
  return code === "payload_not_json" || code === "payload_too_large";
}

function isDivergence(error: unknown): error is Error {
  const code = codeOf(error);
  return code === "step_divergence" || code === "step_input_mismatch";
}
