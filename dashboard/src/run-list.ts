/** The list of runs as it grows: a head that is asked for again and again, and older pages behind it. Pure. */
import type { RunPage, RunSummary } from "../../src/history/types.ts";

/** What a list may be filtered by, as both the address and the API name it. */
export const FILTERS = [
  "status",
  "projectId",
  "scenarioId",
  "taskId",
  "tag",
  "createdFrom",
  "createdTo",
  "pass",
  "heldBy",
  "takeoversOver",
] as const;

/** The part of an address's query that filters, in one order. */
export function filtersOf(query: URLSearchParams): URLSearchParams {
  const filters = new URLSearchParams();
  for (const name of FILTERS) {
    for (const value of query.getAll(name)) if (value !== "") filters.append(name, value);
  }
  return filters;
}

/** The newest page in front of what was loaded before: rows it pushed out stay, rows it should have and lacks are gone. */
export function withHead(head: RunPage, known: readonly RunSummary[]): RunSummary[] {
  const last = head.runs.at(-1);
  if (head.cursor === undefined) return [...head.runs];
  const inHead = new Set(head.runs.map((run) => run.runId));
  const isBehind = (run: RunSummary): boolean =>
    !inHead.has(run.runId) && (last === undefined || run.createdAt <= last.createdAt);
  return [...head.runs, ...known.filter(isBehind)];
}

/** An older page behind what is there. */
export function withOlder(known: readonly RunSummary[], page: RunPage): RunSummary[] {
  const ids = new Set(known.map((run) => run.runId));
  return [...known, ...page.runs.filter((run) => !ids.has(run.runId))];
}
