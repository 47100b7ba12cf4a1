/**
 * What all branches of one attempt share: the run, the store behind its lease, the record, and the calls in flight.
 *
 * Invariants: once closed, it takes no further step; a rejection that the task never looks at is no unhandled one; the
 * task never sees that its run was parked: the call that found out, and every later one, stay open.
 */
import type { Clock } from "../contract/clock.ts";
import { DurableRunLeaseLostError, DurableRunSuspendedError } from "../contract/errors.ts";
import type { DurableRunStore, StartOrResumeResult, StepRecord } from "../contract/types.ts";
import { newRequestId } from "../identity.ts";
import { Branch } from "./branch.ts";
import type { Lease } from "./lease.ts";
import { unlessAborted } from "../contract/clock.ts";
import { LateBegins } from "./late-begins.ts";
import { Positions } from "./positions.ts";
import { Replay } from "./replay.ts";
import type { RunDurableInput } from "./types.ts";

export interface AttemptInput {
  readonly input: Pick<RunDurableInput<unknown>, "runId" | "manifest" | "store" | "signal">;
  readonly lease: Lease;
  readonly clock: Clock;
  readonly claimed: StartOrResumeResult;
}

export class Attempt {
  readonly runId: string;
  readonly store: DurableRunStore;
  readonly lease: Lease;
  readonly clock: Clock;
  readonly replay: Replay;
  readonly positions: Positions;
  readonly lateBegins: LateBegins;
  /** The task itself. */
  readonly root: Branch;
  readonly runIsCompleted: boolean;
  /** Whether the store tells of every step on record: what branches need. */
  readonly knowsOpenSteps: boolean;
  readonly #inFlight = new Set<Promise<unknown>>();
  readonly #closing = new AbortController();
  readonly #parking = new AbortController();
  #hasEnded = false;

  constructor({ input, lease, clock, claimed }: AttemptInput) {
    this.runId = input.runId;
    this.store = input.store;
    this.lease = lease;
    this.clock = clock;
    this.replay = new Replay(input.runId, claimed);
    const { completedSteps, caughtSteps = [], openSteps = [] } = claimed;
    this.positions = new Positions([...completedSteps, ...caughtSteps, ...openSteps]);
    this.lateBegins = new LateBegins({ runId: input.runId, store: input.store, lease, clock });
    this.runIsCompleted = claimed.run.status === "completed";
    this.knowsOpenSteps = claimed.openSteps !== undefined;
    const signal = input.signal ? AbortSignal.any([lease.lostSignal, input.signal]) : lease.lostSignal;
    this.root = Branch.root(signal, AbortSignal.any([signal, this.#closing.signal]));
  }

  /** Every step that this attempt replayed or ran, in order of position. */
  records(): StepRecord[] {
    return this.replay.visited();
  }

  /**
   * Calls `work` now and keeps account of it until it settles. When a lease is lost, every call in flight rejects, and
   * the process must live.
   */
  track<T>(work: () => Promise<T>): Promise<T> {
    const tracked = work();
    this.#inFlight.add(tracked);
    const answer = tracked.then(
      (value) => {
        this.#inFlight.delete(tracked);
        return value;
      },
      (error: unknown) => {
        this.#inFlight.delete(tracked);
        if (this.#parking.signal.aborted && error === this.parked) return new Promise<never>(() => {});
        throw error;
      },
    );
    answer.catch(() => {});
    return answer;
  }

  /** Throws why the branch takes no further step, if it does not. */
  assertOpen(branch: Branch): void {
    branch.halted.throwIfAborted();
    if (this.#hasEnded) throw this.#endedError();
    if (this.replay.divergence) throw this.replay.divergence;
  }

  /** Ends the waits and resolves once every call in flight has settled: their results are paid for, and recorded. */
  async settle(): Promise<void> {
    this.#hasEnded = true;
    // To abort a signal that nobody waits on would take longer than all else that the end of a task does.
    if (this.#inFlight.size > 0) this.#closing.abort(this.#endedError());
    while (this.#inFlight.size > 0) await Promise.allSettled(this.#inFlight);
  }

  /** Somebody has to decide on a step before the task can go on. Throws. */
  park({ stepIndex, intent }: StepRecord): never {
    const error = new DurableRunSuspendedError(
      `run "${this.runId}" is suspended: a worker died in step ${stepIndex} ("${intent}"), and what it has done is not ` +
        "known. Resolve the step with resolveStep, then run it again.",
      stepIndex,
    );
    if (!this.#parking.signal.aborted) this.#parking.abort(error);
    this.#closing.abort(this.parked);
    throw this.parked;
  }

  /** The error, once parked. */
  get parked(): DurableRunSuspendedError | undefined {
    const { aborted, reason } = this.#parking.signal;
    return aborted ? (reason as DurableRunSuspendedError) : undefined;
  }

  /** Settles like `work`, or rejects as soon as the attempt takes no further step: nobody waits for `work` any more. */
  unlessClosed<T>(work: Promise<T>): Promise<T> {
    return unlessAborted(this.#closing.signal, work);
  }

  /** Settles like `work`, or rejects as soon as the run is parked. */
  unlessParked<T>(work: Promise<T>): Promise<T> {
    return unlessAborted(this.#parking.signal, work);
  }

  /** One request to end an attempt at a step, however often it is sent. */
  ending(step: StepRecord) {
    const { stepIndex, attempts } = step;
    const begin = this.lateBegins.endOf(step);
    return {
      runId: this.runId,
      stepIndex,
      attempt: attempts,
      requestId: newRequestId(),
      ...this.fence(),
      ...begin,
    };
  }

  #endedError(): Error {
    return new DurableRunLeaseLostError(`the task of run "${this.runId}" has ended`);
  }

  fence(): { fence?: number } {
    return this.lease.fence === undefined ? {} : { fence: this.lease.fence };
  }
}
