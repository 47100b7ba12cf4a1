/** How long one attempt of a step may take. */
import type { Clock } from "../contract/clock.ts";
import { withDeadline } from "../contract/clock.ts";
import { DurableStepTimeoutError } from "../contract/errors.ts";

/**
 * Calls `work` with a signal, and rejects with `step_timeout` when it has not settled after `timeoutMs`, if that is given;
 * the signal then aborts with that error. `work` itself may go on: what comes of it is dropped.
 */
export function withTimeout<T>(
  clock: Clock,
  { intent, timeoutMs, signal }: { intent: string; timeoutMs: number | undefined; signal: AbortSignal },
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  if (timeoutMs === undefined) return work(signal);
  const timedOut = new AbortController();
  const expire = (): Error => {
    const error = new DurableStepTimeoutError(`step "${intent}" did not end within ${timeoutMs} ms.`);
    timedOut.abort(error);
    return error;
  };
  const inTime = withDeadline(clock, timeoutMs, work(AbortSignal.any([signal, timedOut.signal])), expire);
  // Whatever the abort made of `work`, a result or another error: it came too late.
  return inTime.finally(() => timedOut.signal.throwIfAborted());
}
