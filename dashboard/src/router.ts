/**
 * Where the dashboard is: the fragment of the address, as a path of encoded parts and a query.
 *
 * A fragment, and no path: a run id may be any text, such as "..", which browsers take out of a path, however it is
 * encoded; and the server needs no rule for it.
 */
import { useEffect, useState } from "preact/hooks";

export interface Place {
  /** Decoded; none for the list of runs. */
  parts: readonly string[];
  query: URLSearchParams;
}

export function placeOf(hash: string): Place {
  const [path = "", query = ""] = splitOnce(hash.replace(/^#?\/?/, ""), "?");
  const parts = path.split("/").filter((part) => part !== "");
  return { parts: parts.map(decoded), query: new URLSearchParams(query) };
}

export function hrefTo(parts: readonly string[], query?: URLSearchParams): string {
  const text = query?.toString() ?? "";
  return `#/${parts.map(encodeURIComponent).join("/")}${text === "" ? "" : `?${text}`}`;
}

export function runHref(runId: string): string {
  return hrefTo(["runs", runId]);
}

export function goTo(href: string): void {
  location.hash = href;
}

/** Another query at the same place. It makes no entry in the browser's history. */
export function replaceQuery(parts: readonly string[], query: URLSearchParams): void {
  location.replace(hrefTo(parts, query));
}

export function usePlace(): Place {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const look = (): void => setHash(location.hash);
    addEventListener("hashchange", look);
    return () => removeEventListener("hashchange", look);
  }, []);
  return placeOf(hash);
}

function splitOnce(text: string, mark: string): string[] {
  const at = text.indexOf(mark);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
