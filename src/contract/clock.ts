/**
 * Time as the engine sees it, so that tests can move it. The rules of the ledger never read a clock: they are told
 * the instant.
 */
export interface Clock {
  /** Epoch milliseconds. */
  now(): number;
  /** Resolves after `ms`; rejects with the signal's reason as soon as it aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /**
   * The same, for the delays that a task asks for: its sleeps, and those between attempts. A clock of tests may skip
   * them. Default: `sleep`.
   */
  delay?(ms: number, signal?: AbortSignal): Promise<void>;
  /**
   * Calls `onDue` after `ms`, unless what it answers is called first. Default: by `sleep`, which takes more to
   * cancel.
   */
  timer?(ms: number, onDue: () => void): () => void;
}

/** Longer timers overflow to 1 ms. */
const MAX_TIMER_MS = 2_147_483_647;

export const systemClock: Clock = {
  now: () => Date.now(),
  async sleep(ms, signal) {
    let left = Math.max(0, ms);
    do {
      const slice = Math.min(left, MAX_TIMER_MS);
      await sleepSlice(slice, signal);
      left -= slice;
    } while (left > 0);
  },
  timer(ms, onDue) {
    if (ms > MAX_TIMER_MS) return timerBySleep(systemClock, ms, onDue);
    const timer = setTimeout(onDue, ms);
    return () => clearTimeout(timer);
  },
};

/** Calls `onDue` after `ms`, unless what it answers is called first. */
export function startTimer(clock: Clock, ms: number, onDue: () => void): () => void {
  return clock.timer?.(ms, onDue) ?? timerBySleep(clock, ms, onDue);
}

function timerBySleep(clock: Clock, ms: number, onDue: () => void): () => void {
  const cancelled = new AbortController();
  clock.sleep(ms, cancelled.signal).then(onDue, () => {});
  return () => cancelled.abort(CANCELLED);
}

/** One for all, since an Error is dear to make. Nobody sees it. */
const CANCELLED = new Error("cancelled");

function sleepSlice(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason as Error);
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/** Settles like `work`, or rejects with `onDeadline()` once `ms` have passed. `work` itself goes on. */
export function withDeadline<T>(
  clock: Clock,
  ms: number,
  work: Promise<T>,
  onDeadline: () => Error,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    // Not at once: what has settled by then comes first.
    const isDue = (): void => void Promise.resolve().then(onDeadline).then(reject, reject);
    const cancel = startTimer(clock, ms, isDue);
    // A function that is written in JavaScript may answer no promise.
    Promise.resolve(work).then(
      (value) => {
        cancel();
        resolve(value);
      },
      (error: Error) => {
        cancel();
        reject(error);
      },
    );
  });
}

/** Settles like `work`, or rejects with the signal's reason as soon as it aborts. `work` itself goes on. */
export function unlessAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error);
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
    work.then(
      (value) => {
        signal.removeEventListener("abort", onAbort);
        resolve(value);
      },
      (error: Error) => {
        signal.removeEventListener("abort", onAbort);
        reject(error);
      },
    );
  });
}

/**
 * A delay before attempt `attempt` (1, 2, …): exponential, full jitter. "Exponential Backoff And Jitter", AWS, 2015.
 */
export function backoffMs(attempt: number, baseMs: number, maxMs: number): number {
  return Math.random() * Math.min(maxMs, baseMs * 2 ** (attempt - 1));
}
