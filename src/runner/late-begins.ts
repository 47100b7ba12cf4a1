/**
 * Begins that the store is not told of at once (R16, 0027). The end of the attempt takes its begin along; a step that
 * runs on is told of meanwhile, so that it is seen running.
 *
 * Owns which steps may begin so, their records until the store has one, and one timer for all of them. Relies on the
 * lease for every call. Invariant: nothing depends on such a begin but that the step is seen running. What is more, the
 * store has said within the same short time that the run is still held: its answer to a begin would say no more.
 */
import type { Clock } from "../contract/clock.ts";
import type { DurableRunStore, LateBegin, StepRecord } from "../contract/types.ts";
import { newRequestId } from "../identity.ts";
import type { Lease } from "./lease.ts";
import type { StepPlan } from "./replay.ts";

export interface LateBeginsInput {
  readonly runId: string;
  readonly store: DurableRunStore;
  readonly lease: Lease;
  readonly clock: Clock;
}

interface Late {
  readonly step: StepRecord;
  /** By the runner's clock. */
  readonly beganAt: number;
  hasEnded: boolean;
}

export class LateBegins {
  readonly #input: LateBeginsInput;
  readonly #afterMs: number;
  /** Of which the store has no record yet. */
  readonly #late = new WeakMap<StepRecord, Late>();
  /** Under way, and not told of: the earliest first. */
  readonly #untold = new Set<Late>();
  #isWatching = false;

  constructor(input: LateBeginsInput) {
    this.#input = input;
    this.#afterMs = input.store.beginAfterMs ?? 0;
  }

  /** The step, under way from now on; `undefined` where the store is to be told first. */
  begin(plan: StepPlan): StepRecord | undefined {
    const { runId, lease, clock } = this.#input;
    const isPlain = plan.timeoutMs === undefined && plan.waitFor === undefined && !plan.onInterrupted;
    if (!isPlain || !lease.isConfirmedWithin(this.#afterMs)) return undefined;
    const beganAt = clock.now();
    const step = {
      runId,
      ...labelsOf(plan),
      status: "running",
      attempts: 1,
      workerId: lease.workerId,
    } as const;
    const late: Late = { step, beganAt, hasEnded: false };
    this.#late.set(step, late);
    this.#untold.add(late);
    if (!this.#isWatching) void this.#watch();
    return step;
  }

  /** What the end of an attempt says of its begin. */
  endOf(step: StepRecord): { begin?: LateBegin } {
    const late = this.#late.get(step);
    if (late === undefined) return {};
    late.hasEnded = true;
    this.#untold.delete(late);
    const elapsedMs = Math.max(0, Math.floor(this.#input.clock.now() - late.beganAt));
    const { intent, kind, inputHash, path } = step;
    return { begin: { intent, kind, inputHash, ...(path !== undefined && { path }), elapsedMs } };
  }

  /** Twice in the time that the store allows, as long as there is anything to tell. Never rejects. */
  async #watch(): Promise<void> {
    this.#isWatching = true;
    const { clock, lease } = this.#input;
    const periodMs = this.#afterMs / 2;
    while (this.#untold.size > 0) {
      await lease.lifetime.pause(periodMs);
      if (lease.lifetime.isOver) break;
      for (const late of this.#untold) {
        if (clock.now() - late.beganAt < periodMs) break;
        this.#untold.delete(late);
        void this.#tell(late);
      }
    }
    this.#isWatching = false;
  }

  /**
   * For people who look, and to hear of a lost lease. Once the attempt has ended, its end decides: a begin that comes
   * after that, or even after the run's end, is refused for that reason alone.
   */
  async #tell(late: Late): Promise<void> {
    const { runId, store, lease } = this.#input;
    const fence = lease.fence === undefined ? {} : { fence: lease.fence };
    const request = { runId, requestId: newRequestId(), ...labelsOf(late.step), attempt: 1, ...fence };
    const begin = async (): Promise<boolean> => {
      if (late.hasEnded) return false;
      try {
        await store.beginStep(request);
        return true;
      } catch (error) {
        if (late.hasEnded) return false;
        throw error;
      }
    };
    const isTold = await lease.tell(begin).catch(() => false);
    if (isTold) this.#late.delete(late.step);
  }
}

function labelsOf({ stepIndex, intent, kind, inputHash, path }: StepPlan | StepRecord) {
  return {
    stepIndex,
    intent,
    kind,
    inputHash,
    ...(path !== undefined && path !== String(stepIndex) && { path }),
  };
}
