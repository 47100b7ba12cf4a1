/**
 * Waiting, for an event or for a time (R24, R33, 0028).
 *
 * The deadline is the record's. A store that can tell of an event is asked to, in slices, since a held call may be lost,
 * and is told which step ends with it; any other is asked again and again.
 */
import { DurableAwaitEventTimeoutError } from "../contract/errors.ts";
import type { AwaitedEvent, StepRecord, WaitForEventInput } from "../contract/types.ts";
import type { Attempt } from "./attempt.ts";
import { startTimer, unlessAborted } from "../contract/clock.ts";
import { delay } from "./step-runner.ts";

/** How long a store holds one call. */
const SLICE_MS = 30_000;

interface EventWait {
  readonly key: string;
  readonly deadline: number;
  /** The deadline as it is on record. */
  readonly until: string;
  readonly pollMs: number;
  readonly signal: AbortSignal;
  /** The step that waits. */
  readonly step: NonNullable<WaitForEventInput["step"]>;
}

/** Resolves to the event. Rejects with `await_event_timeout` when there is none at the deadline. */
export async function waitForEvent(attempt: Attempt, wait: EventWait): Promise<AwaitedEvent> {
  const { runId, store, lease, clock } = attempt;
  const { key, deadline, pollMs, signal } = wait;
  const isPushed = store.waitForEvent !== undefined;
  for (;;) {
    signal.throwIfAborted();
    const askedAt = clock.now();
    const left = deadline - askedAt;
    const event: AwaitedEvent | undefined =
      isPushed && left > 0
        ? await slice(attempt, wait)
        : await lease.offer(() => store.loadEvent(runId, key));
    if (event) return event;
    if (left <= 0) {
      throw new DurableAwaitEventTimeoutError(`no event "${key}" came to run "${runId}" by ${wait.until}.`);
    }
    // Also a store that does not hold the call is not asked more often than this.
    const isTooSoon = clock.now() - askedAt < Math.min(pollMs, left);
    if (isTooSoon) await clock.sleep(Math.min(pollMs, left), signal);
  }
}

/** One held call. Its time is up by this clock too: the store's may go otherwise. */
function slice(
  attempt: Attempt,
  { key, deadline, signal, step }: EventWait,
): Promise<AwaitedEvent | undefined> {
  const { runId, store, lease, clock } = attempt;
  const call = async (): Promise<AwaitedEvent | undefined> => {
    if (signal.aborted) return undefined;
    const timeoutMs = Math.min(SLICE_MS, Math.max(0, Math.floor(deadline - clock.now())));
    const over = new AbortController();
    const given = AbortSignal.any([signal, over.signal]);
    // Also ends the call when nobody waits any more, should the store take no notice of the signal.
    const ended = Promise.withResolvers<undefined>();
    const end = (): void => ended.resolve(undefined);
    given.addEventListener("abort", end, { once: true });
    const cancel = startTimer(clock, timeoutMs, () => over.abort(new Error("its time is up")));
    try {
      return await Promise.race([
        store.waitForEvent?.({ runId, key, timeoutMs, signal: given, step }),
        ended.promise,
      ]);
    } catch (error) {
      // The reason, which a store may reject with, is not to be taken for its answer.
      if (given.aborted) return undefined;
      throw error;
    } finally {
      cancel();
      // Node keeps a signal that is made of others, and all it leads to, for as long as anybody listens to it.
      given.removeEventListener("abort", end);
    }
  };
  const isCompleted = (event: AwaitedEvent | undefined): boolean => event?.step !== undefined;
  return unlessAborted(signal, lease.commit(call, isCompleted));
}

/** Resolves at the step's deadline. */
export async function sleepUntilDeadline(
  { clock }: Attempt,
  begun: StepRecord,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<void> {
  await delay(clock, Math.max(0, deadlineOf(begun, timeoutMs, clock.now()) - clock.now()), signal);
}

/**
 * R24: the deadline was fixed when the wait first began. By this clock it is as far ahead as it was by the store's when the
 * step began now, so that clocks may run apart. A plain store keeps none: there it counts from the latest begin.
 */
export function deadlineOf({ deadlineAt, startedAt }: StepRecord, timeoutMs: number, now: number): number {
  if (deadlineAt === undefined || startedAt === undefined) return now + timeoutMs;
  return now + (Date.parse(deadlineAt) - Date.parse(startedAt));
}
