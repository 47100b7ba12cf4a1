/**
 * One attempt's hold on its run: the heartbeat, the deadline, and the calls that are offered while it lasts (R9, R15).
 *
 * Relies on the store's `renewLease`; knows nothing of steps. The deadline is the runner's own: it counts from the
 * moment before the last renewal that succeeded was sent, so it falls before the store's. Failed and hung renewals are
 * borne until then; `ok: false` ends the hold at once. Once lost, it stays lost.
 */
import type { Clock } from "../contract/clock.ts";
import { backoffMs, withDeadline } from "../contract/clock.ts";
import { codeOf, DurableRunLeaseLostError, DurableStoreUnavailableError } from "../contract/errors.ts";
import type { DurableRunStore } from "../contract/types.ts";

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
  readonly #stopped = new AbortController();
  #deadline: number;
  #ending = false;

  /** `claimedAt`: the runner's clock before the claim was sent. */
  constructor(input: LeaseInput, fence: number | undefined, claimedAt: number) {
    this.#input = input;
    this.fence = fence;
    this.#deadline = this.#deadlineFrom(claimedAt);
  }

  /** Aborts with the `lease_lost` error. */
  get lostSignal(): AbortSignal {
    return this.#lost.signal;
  }

  /** The error, once lost. Also notices a deadline that passed while this process slept. */
  get lostError(): DurableRunLeaseLostError | undefined {
    if (!this.#lost.signal.aborted && this.#input.clock.now() >= this.#deadline) this.#loseUnrenewed();
    return this.#lost.signal.aborted ? (this.#lost.signal.reason as DurableRunLeaseLostError) : undefined;
  }

  startHeartbeat(): void {
    // The loop ends by itself when stopped; whatever else it throws would be a defect, and loses the lease.
    this.#beat().catch((error: unknown) => this.lose(`the heartbeat failed: ${String(error)}`, error));
  }

  stop(): void {
    this.#stopped.abort(new Error("the attempt is over"));
  }

  /** From here on a refused renewal is no loss: the run's end may have freed the lease, and its answer decides. */
  beginEnding(): void {
    this.#ending = true;
  }

  lose(why: string, cause?: unknown): void {
    if (this.#lost.signal.aborted) return;
    const { runId, workerId } = this.#input;
    const message = `worker "${workerId}" lost its lease on run "${runId}": ${why}. Another worker may resume the run.`;
    this.#lost.abort(new DurableRunLeaseLostError(message, cause === undefined ? undefined : { cause }));
    this.stop();
  }

  /**
   * Makes a store call, again and again while the store cannot answer, as long as the lease lasts. The call must be
   * the same each time (same request id). Rejects with the store's answer when it is a refusal, else with `lease_lost`.
   */
  async offer<T>(call: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      if (this.lostError) throw this.lostError;
      try {
        return await this.whileHeld(call());
      } catch (error) {
        if (this.lostError) throw this.lostError;
        if (isAnswer(error)) {
          if (codeOf(error) === "lease_lost") this.lose("the store refused a call under its fence", error);
          throw error;
        }
        const until = Math.max(0, this.#deadline - this.#input.clock.now());
        await this.#input.clock.sleep(Math.min(until, backoffMs(attempt, 50, 2_000)), this.#lost.signal);
        if (this.#input.clock.now() >= this.#deadline) this.#loseUnrenewed(error);
      }
    }
  }

  /** Settles like `work`, or rejects as soon as the lease is lost. `work` itself goes on. */
  whileHeld<T>(work: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const signal = this.#lost.signal;
      const onLost = (): void => reject(signal.reason as Error);
      if (signal.aborted) onLost();
      signal.addEventListener("abort", onLost, { once: true });
      work.then(resolve, reject).finally(() => signal.removeEventListener("abort", onLost));
    });
  }

  async #beat(): Promise<void> {
    const { clock, leaseMs } = this.#input;
    const interval = leaseMs / 3;
    let wait = interval;
    while (!this.#stopped.signal.aborted) {
      const untilDeadline = Math.max(0, this.#deadline - clock.now());
      await clock.sleep(Math.min(wait, untilDeadline), this.#stopped.signal).catch(() => {});
      if (this.#stopped.signal.aborted) return;
      if (clock.now() >= this.#deadline) return this.#loseUnrenewed();
      const sentAt = clock.now();
      const answer = await this.#renew(Math.min(interval, this.#deadline - sentAt));
      if (answer === "refused") return this.#ending ? undefined : this.lose("its renewal was refused");
      if (answer === "renewed") this.#deadline = this.#deadlineFrom(sentAt);
      wait = answer === "renewed" ? interval : interval / 4;
    }
  }

  async #renew(patienceMs: number): Promise<"renewed" | "refused" | "failed"> {
    const { runId, workerId, leaseMs, store, clock } = this.#input;
    const fence = this.fence === undefined ? {} : { fence: this.fence };
    try {
      const sent = store.renewLease({ runId, workerId, leaseMs, ...fence });
      const { ok } = await withDeadline(clock, patienceMs, sent, () => new DurableStoreUnavailableError("no answer"));
      return ok ? "renewed" : "refused";
    } catch (error) {
      return codeOf(error) === "lease_lost" || codeOf(error) === "run_not_found" ? "refused" : "failed";
    }
  }

  /** A tenth of the lease is kept as a margin for the way to the store and for clocks that run apart. */
  #deadlineFrom(sentAt: number): number {
    return sentAt + this.#input.leaseMs * 0.9;
  }

  #loseUnrenewed(cause?: unknown): void {
    this.lose("it could not be renewed in time", cause);
  }
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
  "run_not_found",
  "run_cancelled",
  "payload_not_json",
  "payload_too_large",
  "invalid_input",
  "event_emit_race",
  "await_event_timeout",
]);
