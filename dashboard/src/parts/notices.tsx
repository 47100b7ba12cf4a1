/**
 * What the dashboard says aside: problems in place, and short messages at the foot of the page, which are read out.
 */
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { ApiError, messageOf } from "../api/client.ts";

/** A problem. With `isStale`, what is shown beside it is the last that was known. */
export function Problem({ error, isStale = false }: { error: unknown; isStale?: boolean }) {
  if (error === undefined) return null;
  const code = error instanceof ApiError && error.code !== "unreachable" ? ` (${error.code})` : "";
  return (
    <p class="problem" role="alert">
      {messageOf(error)}
      {code}
      {isStale && " What you see is the last that was known; trying again."}
    </p>
  );
}

export function Note({ children }: { children: ComponentChildren }) {
  return <p class="note">{children}</p>;
}

type Listener = (text: string) => void;
let listener: Listener | undefined;
const SHOWN_MS = 6_000;

/** Shows a message at the foot for a while, and has it read out. */
export function announce(text: string): void {
  listener?.(text);
}

/** Once in the page. It stays there while it is empty, so that screen readers watch it. */
export function LiveRegion() {
  const [message, setMessage] = useState("");
  useEffect(() => {
    listener = setMessage;
    return () => {
      listener = undefined;
    };
  }, []);
  useEffect(() => {
    if (message === "") return undefined;
    const timer = setTimeout(() => setMessage(""), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [message]);
  return (
    <div class="live" role="status" aria-live="polite">
      {message !== "" && <span class="toast">{message}</span>}
    </div>
  );
}
