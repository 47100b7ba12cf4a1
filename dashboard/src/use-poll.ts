/**
 * Asks again and again while somebody looks.
 *
 * Owns the pace: one call at a time, the next one `intervalMs` after an answer, none while the page is hidden, one at
 * once when it is shown again. The last answer stays while the next is under way or fails.
 */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";

export interface Polled<T> {
  data: T | undefined;
  error: unknown;
  /** Asks at once. */
  refresh: () => void;
}

/** @param key names what is asked: with another one, the last answer is dropped. @param intervalMs 0: ask once. */
export function usePoll<T>(key: string, ask: () => Promise<T>, intervalMs: number): Polled<T> {
  const [answer, setAnswer] = useState<{ key: string; data?: T; error?: unknown }>({ key });
  const [round, setRound] = useState(0);
  const latest = useRef(ask);
  latest.current = ask;
  useEffect(() => {
    // An answer that nobody waits for any longer is dropped, and the request is not: it costs less than a broken connection.
    let isOver = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isAsking = false;
    const look = async (): Promise<void> => {
      clearTimeout(timer);
      if (isAsking || document.hidden || isOver) return;
      isAsking = true;
      try {
        const data = await latest.current();
        if (!isOver) setAnswer({ key, data });
      } catch (error) {
        if (!isOver) setAnswer((last) => ({ ...(last.key === key ? last : { key }), error }));
      }
      isAsking = false;
      if (intervalMs > 0 && !isOver) timer = setTimeout(() => void look(), intervalMs);
    };
    const shown = (): void => void look();
    document.addEventListener("visibilitychange", shown);
    void look();
    return () => {
      isOver = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", shown);
    };
  }, [key, intervalMs, round]);
  const refresh = useCallback(() => setRound((n) => n + 1), []);
  const current = answer.key === key ? answer : undefined;
  return { data: current?.data, error: current?.error, refresh };
}
