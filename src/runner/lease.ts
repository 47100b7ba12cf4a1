/**
 * One attempt's hold on its run: the heartbeat, the deadline, and the calls that are offered while it lasts (R9, R15).
 *
 * Relies on the store's `renewLease`; knows nothing of steps. The deadline is the runner's own: it counts from the
 * moment before the last renewal that succeeded was sent, so it falls before the store's. Failed and hung renewals are
 * borne until then; `ok: false` ends the hold at once. Once lost, it stays lost.
 */
import type { Clock } from "../contract/clock.ts";
import { backoffMs, unlessAborted, withDeadline } from "../contract/clock.ts";
import type { DurableRunError } from "../contract/errors.ts";
import { codeOf, DurableRunCancelledError, DurableRunLeaseLostError } from "../contract/errors.ts";
import type { DurableRunStore, RunStatus } from "../contract/types.ts";
import { Lifetime } from "./lifetime.ts";
import { noAnswer, PendingCalls } from "./pending-calls.ts";
import { watchLease } from "./watch.ts";

/** A store call without an answer for longer than any stall on record (80 s) is taken for lost, and made again. */
const LOST_CALL_MS = 120_000;

export interface LeaseInput {
  readonly runId: string;
  readonly workerId: string;
  readonly leaseMs: number;
  readonly store: DurableRunStore;
  readonly clock: Clock;
}

export class Lease {
  readonly #input: LeaseInput;
  /** `undefined` over a plain store. */
  readonly fence: number | undefined;
  readonly #lost = new AbortController();
  #lostError: DurableRunError | undefined;
  /** Until the attempt is over. */
  readonly lifetime: Lifetime;
  readonly #calls: PendingCalls;
  /** The runner's clock before the claim, or the last renewal that succeeded, was sent. */
  #heldSince: number;
  /** The runner's clock when the store last answered that this attempt holds the run. */
  #confirmedAt: number;
  /** What the store last failed with: the cause, should the lease be lost to it. */
  #trouble: unknown;
  #ending = false;

  /** `claimedAt`: the runner's clock before the claim was sent; Infinity when there is no lease that could be lost. */
  constructor(input: LeaseInput, fence: number | undefined, claimedAt: number) {
    this.#input = input;
    this.fence = fence;
    this.#heldSince = claimedAt;
    this.#confirmedAt = input.clock.now();
    this.lifetime = new Lifetime(input.clock);
    this.#calls = new PendingCalls(input.clock, this.#lost.signal);
  }

  /** Aborts with the `lease_lost` error, or `run_cancelled`. */
  get lostSignal(): AbortSignal {
    return this.#lost.signal;
  }

  /** The error, once lost. Also notices a deadline that passed while this process slept. */
  get lostError(): DurableRunError | undefined {
    if (!this.#lostError && this.#input.clock.now() >= this.#deadline) this.#loseUnrenewed();
    return this.#lostError;
  }

  get workerId(): string {
    return this.#input.workerId;
  }

  /** Whether the store has said in the last `ms` that the run is held by this fence, and the lease still lasts. */
  isConfirmedWithin(ms: number): boolean {
    if (this.fence === undefined || this.lostError) return false;
    const age = this.#input.clock.now() - this.#confirmedAt;
    // A clock that was set back says nothing.
    return age >= 0 && age < ms;
  }

  startHeartbeat(): void {
    // The loop ends by itself when stopped; whatever else it throws would be a defect, and loses the lease.
    this.#beat().catch((error: unknown) => this.lose(`the heartbeat failed: ${String(error)}`, error));
  }

  /** Hears of a loss as soon as the store does, where the store can tell. */
  startWatch(): void {
    const { fence } = this;
    if (fence === undefined) return;
    const isConfirmedWithin = (ms: number): boolean => this.isConfirmedWithin(ms);
    const watched = { ...this.#input, fence, lifetime: this.lifetime, isConfirmedWithin };
    void watchLease(watched, (status) => this.#refused(status, "it was told so"));
  }

  stop(): void {
    this.lifetime.end();
    this.#calls.stop();
  }

  /** From here on a refused renewal is no loss: the run's end may have freed the lease, and its answer decides. */
  beginEnding(): void {
    this.#ending = true;
  }

  /** Without having heard so from the store. */
  lose(why: string, cause?: unknown): void {
    this.#lose(why, { isConfirmed: false, cause });
  }

  #lose(why: string, { isConfirmed, cause }: { isConfirmed: boolean; cause?: unknown }): void {
    const { runId, workerId } = this.#input;
    const message = `worker "${workerId}" lost its lease on run "${runId}": ${why}. Another worker may resume the run.`;
    const options = { isConfirmed, ...(cause !== undefined && { cause }) };
    this.#loseTo(new DurableRunLeaseLostError(message, options));
  }

  #loseTo(error: DurableRunError): void {
    if (this.#lostError) return;
    this.#lostError = error;
    this.#lost.abort(error);
    this.stop();
  }

  /** The store says that the lease is no longer this attempt's. While that ends its run, its own end may be why. */
  #refused(status: RunStatus | undefined, why: string): void {
    if (this.#ending) return;
    if (status !== "cancelled") return this.#lose(why, { isConfirmed: true });
    this.#loseTo(new DurableRunCancelledError(`run "${this.#input.runId}" was cancelled.`));
  }

  /**
   * Makes a store call, again and again while the store cannot answer, as long as the lease lasts. The call must be
   * the same each time (same request id). Rejects with the store's answer when it is a refusal, else with `lease_lost`.
   *
   * An error that is neither an answer nor `store_unavailable` may be a defect that no patience mends: a whole lease of
   * it, and the lease is given up.
   */
  offer<T>(call: () => Promise<T>): Promise<T> {
    return this.#offer(call, () => false);
  }

  /** The same for a mutation under the fence: that it is taken says that the run is held. */
  commit<T>(call: () => Promise<T>, isTaken: (value: T) => boolean = () => true): Promise<T> {
    return this.#offer(call, isTaken);
  }

  async #offer<T>(call: () => Promise<T>, isTaken: (value: T) => boolean): Promise<T> {
    const { leaseMs, clock } = this.#input;
    try {
      const patienceMs = (error: unknown): number => (isUnavailable(error) ? Infinity : leaseMs);
      const value = await this.#repeat(call, LOST_CALL_MS, patienceMs);
      if (isTaken(value)) this.#confirmedAt = clock.now();
      return value;
    } catch (error) {
      if (!isAnswer(error)) this.lose("the store keeps failing", error);
      throw this.lostError ?? error;
    }
  }

  /** For what is told of a failure, or in passing, for one lease at most: a failure itself must get out (R27). */
  tell<T>(call: () => Promise<T>): Promise<T> {
    const { leaseMs } = this.#input;
    return this.#repeat(call, leaseMs, () => leaseMs);
  }

  /** Settles like `work`, or rejects as soon as the lease is lost. `work` itself goes on. */
  whileHeld<T>(work: Promise<T>): Promise<T> {
    return this.#calls.wait(work);
  }

  async #repeat<T>(
    call: () => Promise<T>,
    callMs: number,
    patienceMs: (error: unknown) => number,
  ): Promise<T> {
    const { clock } = this.#input;
    const since = clock.now();
    for (let attempt = 1; ; attempt += 1) {
      if (this.lostError) throw this.lostError;
      try {
        return await this.#calls.wait(call(), callMs);
      } catch (error) {
        if (codeOf(error) === "lease_lost") {
          this.#lose("the store refused a call under its fence", { isConfirmed: true, cause: error });
        }
        if (codeOf(error) === "run_cancelled") this.#loseTo(new DurableRunCancelledError(messageOf(error)));
        if (this.lostError) throw this.lostError;
        if (isAnswer(error) || clock.now() - since >= patienceMs(error)) throw error;
        this.#trouble = error;
        const untilDeadline = Math.max(0, this.#deadline - clock.now());
        await clock.sleep(Math.min(untilDeadline, backoffMs(attempt, 50, 2_000)), this.#lost.signal);
      }
    }
  }

  async #beat(): Promise<void> {
    const { clock, leaseMs } = this.#input;
    const interval = leaseMs / 3;
    let next = this.#heldSince + interval;
    for (;;) {
      const wake = Math.min(next, this.#deadline);
      await this.lifetime.pause(Math.max(0, wake - clock.now()));
      if (this.lifetime.isOver) return;
      if (clock.now() >= this.#deadline) return this.#loseUnrenewed();
      const sentAt = clock.now();
      const answer = await this.#renew(Math.min(interval, this.#deadline - sentAt));
      if (typeof answer === "object") return this.#refused(answer.refused, "its renewal was refused");
      if (answer === "renewed") {
        this.#heldSince = sentAt;
        this.#confirmedAt = clock.now();
        this.#trouble = undefined;
      }
      next = answer === "renewed" ? sentAt + interval : clock.now() + interval / 4;
    }
  }

  async #renew(patienceMs: number): Promise<"renewed" | { refused: RunStatus | undefined } | "failed"> {
    const { runId, workerId, leaseMs, store, clock } = this.#input;
    const fence = this.fence === undefined ? {} : { fence: this.fence };
    try {
      const renewing = store.renewLease({ runId, workerId, leaseMs, ...fence });
      const sent = unlessAborted(this.lifetime.signal, renewing);
      const { ok, status } = await withDeadline(clock, patienceMs, sent, noAnswer);
      return ok ? "renewed" : { refused: status };
    } catch (error) {
      this.#trouble = error;
      const refused = codeOf(error) === "lease_lost" || codeOf(error) === "run_not_found";
      return refused ? { refused: undefined } : "failed";
    }
  }

  /** A tenth of the lease is kept as a margin for the way to the store and for clocks that run apart. */
  get #deadline(): number {
    return this.#heldSince + this.#input.leaseMs * 0.9;
  }

  #loseUnrenewed(): void {
    this.lose("it could not be renewed in time", this.#trouble);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function isUnavailable(error: unknown): boolean {
  return codeOf(error) === "store_unavailable";
}

/** A refusal is an answer: it will be the same next time. Everything else is weather. */
export function isAnswer(error: unknown): boolean {
  const code = codeOf(error);
  return code !== undefined && ANSWERS.has(code);
}

const ANSWERS: ReadonlySet<string> = new Set([
  "lease_held",
  "lease_lost",
  "manifest_mismatch",
  "step_divergence",
  "step_input_mismatch",
  "step_not_running",
  "step_not_due",
  "step_not_in_doubt",
  "run_not_found",
  "run_exists",
  "run_cancelled",
  "payload_not_json",
  "payload_too_large",
  "invalid_input",
  "forbidden",
  "event_emit_race",
  "await_event_timeout",
]);
