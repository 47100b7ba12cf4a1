/**
 * Records entries in D1: one batch, each run under its own guard (R10, R12).
 *
 * A guard is part of the statement that writes, and what it left out is seen by the number of rows that were changed.
 * Only where some were not is D1 asked why: a row that D1 held already is not changed either.
 */
import type { BatchLimits, D1DatabaseLike, D1PreparedStatementLike } from "../stores/d1/database.ts";
import { runBatch, runCounted } from "../stores/d1/database.ts";
import {
  INSERT_EVENTS_OF_RUNS,
  INSERT_NEW_RUNS,
  INSERT_NEW_TAGS,
  INSERT_TAGS_OF_RUNS,
  SELECT_NOT_NEW,
  SELECT_REFUSED,
  UPSERT_RUNS,
  UPSERT_STEPS_OF_RUNS,
} from "../stores/sql/grouped.ts";
import { INSERT_EVENTS } from "../stores/sql/statements.ts";
import type { RecordEntry } from "./record-entry.ts";

/**
 * Answers the ids of the runs that were refused, of which nothing was recorded. Each run at most once. Throws
 * `store_unavailable`, having recorded all or nothing; any other error means that an entry is wrong in itself.
 */
export async function commitEntries(
  db: D1DatabaseLike,
  entries: readonly RecordEntry[],
  limits: BatchLimits,
): Promise<ReadonlySet<string>> {
  const bound = (statement: string, ...texts: string[]): D1PreparedStatementLike[] =>
    texts.at(-1) === "[]" ? [] : [db.prepare(statement).bind(...texts)];
  const [fresh, others] = [entries.filter(({ isNew }) => isNew), entries.filter(({ isNew }) => !isNew)];
  const newRuns = joined(fresh.map(({ runs }) => runs));
  const eventsOf = (some: readonly RecordEntry[]): string => joined(some.map(({ events }) => events));
  const guards = joined(others.map(({ guard }) => guard ?? ""));
  const guarded = [
    ...bound(INSERT_NEW_RUNS, newRuns),
    ...bound(UPSERT_RUNS, guards, joined(others.map(({ runs }) => runs))),
    ...bound(UPSERT_STEPS_OF_RUNS, guards, joined(others.map(({ steps }) => steps))),
    ...bound(INSERT_EVENTS_OF_RUNS, guards, eventsOf(entries.filter(({ v }) => v >= 3))),
  ];
  const statements = [
    ...guarded,
    ...bound(INSERT_EVENTS, eventsOf(entries.filter(({ v }) => v < 3))),
    ...bound(INSERT_NEW_TAGS, joined(fresh.map(({ tags }) => tags))),
    ...bound(INSERT_TAGS_OF_RUNS, guards, joined(others.map(({ tags }) => tags))),
  ];
  if (statements.length === 0) return new Set();
  const changes = await runCounted(db, statements, limits);
  const changed = changes.slice(0, guarded.length).reduce((sum, count) => sum + count, 0);
  if (changed === entries.reduce((sum, { rows }) => sum + rows, 0)) return new Set();
  const [only] = fresh;
  if (only && entries.length === 1) return new Set([only.runId]);
  // Again, since who is refused may be another one by now.
  const questions = [...bound(SELECT_NOT_NEW, newRuns), ...bound(SELECT_REFUSED, guards)];
  const answers = await runBatch(db, [...questions, ...statements], limits);
  const refused = answers.slice(0, questions.length).flat() as { run_id: string }[];
  return new Set(refused.map((row) => row.run_id));
}

/** Texts of rows with commas between them, as one JSON array. */
function joined(texts: readonly string[]): string {
  return `[${texts.filter((text) => text !== "").join(",")}]`;
}
