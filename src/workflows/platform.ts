/**
 * The platform's steps, as the rest of the adapter calls them: each leaves an outcome on the platform's record, or answers
 * the one that is there.
 *
 * Invariants: the platform is called before the method first yields, so that it counts in order of the calls; what the
 * platform throws on its own account gets through unchanged, and once it has ended this lifetime of the instance, no
 * group or wait is decided any more.
 */
import { isFinal } from "../runner/retries.ts";
import { fromStepError } from "../runner/failures.ts";
import { DurableBranchStoppedError } from "../contract/errors.ts";
import {
  fromPlatformError,
  isEngineAbort,
  isNonRetryable,
  isSamePlatformError,
  toPlatformError,
  toRecordedError,
} from "./failures.ts";
import { fromRecorded, type Outcome, type Recorded, toRecorded, UNDECIDED } from "./recorded.ts";
import type { WorkflowStepConfig, WorkflowStepMethods } from "./types.ts";

/** https://developers.cloudflare.com/workflows/reference/limits/ */
export const MAX_SLEEP_MS = 365 * 86_400_000;
/** What the platform keeps of a step or an event. */
export const MAX_PAYLOAD_BYTES = 1_048_576;

/** What an attempt of a step comes to. */
export type Work = (attempt: number) => Promise<Outcome>;

export interface PerformOptions {
  readonly config?: WorkflowStepConfig | undefined;
  readonly inputHash?: string;
  /** Whether nobody will ask for the step again: then no further attempt is made. */
  readonly isOver?: () => boolean;
  /** Records every failure as the outcome. Default: those that no further attempt would mend. */
  readonly isFinal?: (error: unknown) => boolean;
}

export interface Decision {
  readonly early?: () => Outcome;
  readonly ready: () => Promise<unknown>;
  readonly decision: Work;
}

export interface Performed extends Recorded {
  /** What the work threw, if it was called in this lifetime and that is the outcome. */
  readonly failure?: { readonly thrown: unknown };
}

export class Platform {
  readonly #steps: WorkflowStepMethods;
  readonly #lifetime = new AbortController();

  constructor(steps: WorkflowStepMethods) {
    this.#steps = steps;
  }

  /** Aborts, with the platform's own error, when the platform has paused or stopped the instance. */
  get ended(): AbortSignal {
    return this.#lifetime.signal;
  }

  /**
   * Resolves to what is on record of the step, having run it if nothing was. Rejects with what the last attempt threw.
   *
   * A failure that no further attempt would mend is recorded as an outcome and not thrown at the platform, which would
   * try the step again, or, told not to by a NonRetryableError, keep no record and run it again at each replay.
   */
  async perform(name: string, work: Work, options: PerformOptions = {}): Promise<Performed> {
    const { config, inputHash, isOver = () => false, isFinal: isLast = isHopeless } = options;
    let failure: { thrown: unknown; sent?: Error } | undefined;
    const run = async ({ attempt = 1 }: { attempt?: number } = {}): Promise<unknown> => {
      failure = undefined;
      try {
        if (isOver())
          throw new DurableBranchStoppedError("the group of the branch has been decided without it");
        return toRecorded(await work(attempt), inputHash);
      } catch (thrown) {
        failure = { thrown };
        if (isLast(thrown) || isOver()) return toRecorded({ error: toRecordedError(thrown) }, inputHash);
        failure.sent = toPlatformError(thrown);
        throw failure.sent;
      }
    };
    try {
      const recorded = fromRecorded(
        released(
          await (config === undefined ? this.#steps.do(name, run) : this.#steps.do(name, config, run)),
        ),
      );
      return failure === undefined ? recorded : { ...recorded, failure };
    } catch (error) {
      // R27: at first the task gets its own error back; at a replay, one of that name, message and code (R24).
      if (failure?.sent && isSamePlatformError(error, failure.sent)) throw failure.thrown;
      throw this.#own(fromPlatformError(error));
    }
  }

  /**
   * Decides something once, whatever its timing is at a replay. Answers the decision that is on record; else one that can
   * be made `early`; else waits until `ready`, and records what `decision` then comes to. Nothing is decided if `ready`
   * rejects.
   *
   * The platform says what is on record only by not calling a step's function. So the first step of the name that is
   * not on record is a mark that nothing was decided before it, and each lifetime that finds no decision leaves one.
   */
  async decide(name: string, { early = () => UNDECIDED, ready, decision }: Decision): Promise<Performed> {
    for (;;) {
      const mark = { isOurs: false };
      const first = await this.perform(name, async () => {
        mark.isOurs = true;
        return early();
      });
      if (!first.isUndecided) return first;
      if (mark.isOurs) break;
    }
    await ready();
    for (;;) {
      const decided = await this.perform(name, decision, { isFinal: () => true });
      // Another lifetime, which should have ended this one, has left a mark.
      if (!decided.isUndecided) return decided;
    }
  }

  /** A durable sleep, in as many of the platform's as it takes. */
  async sleep(name: string, ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= MAX_SLEEP_MS) {
      await this.#unlessEnded(this.#steps.sleep(name, Math.min(left, MAX_SLEEP_MS)));
    }
  }

  async waitForEvent(name: string, type: string, timeoutMs: number): Promise<unknown> {
    const timeout = `${timeoutMs / 1_000} seconds` as const;
    const event = await this.#unlessEnded(this.#steps.waitForEvent(name, { type, timeout }));
    return released(event).payload;
  }

  async #unlessEnded<T>(call: Promise<T>): Promise<T> {
    try {
      return await call;
    } catch (error) {
      throw this.#own(error);
    }
  }

  #own(error: unknown): unknown {
    if (isEngineAbort(error)) this.#lifetime.abort(error);
    return error;
  }
}

/**
 * Lets go of the call that an object came by, as the platform hands it out; the object stays as it is. A call that is not
 * let go of is reported as one that hung (https://github.com/cloudflare/workers-sdk/issues/14959).
 */
export function released<T>(answer: T): T {
  if (typeof answer === "object" && answer !== null) (answer as Partial<Disposable>)[Symbol.dispose]?.();
  return answer;
}

/** What a step came to: a copy, without the `Symbol.dispose` that the platform gives the objects that it hands out. */
export function valueOf({ error, failure, result }: Performed): unknown {
  if (error) throw failure ? failure.thrown : fromStepError(error);
  return structuredClone(result);
}

function isHopeless(thrown: unknown): boolean {
  return isFinal(thrown) || isNonRetryable(thrown);
}
