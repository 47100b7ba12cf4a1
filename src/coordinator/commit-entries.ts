/**
 * Records entries in D1: one batch, each run under its own guard (R10, R12).
 *
 * A guard is part of the statement that writes, and what it left out is seen by the number of rows that were changed.
 * Only where some were not is D1 asked why: a row that D1 held already is not changed either.
 */
import type { BatchLimits, D1DatabaseLike, D1PreparedStatementLike } from "../stores/d1/database.ts";
import { runBatch, runCounted } from "../stores/d1/database.ts";
import {
  INSERT_TAGS_OF_RUNS,
  SELECT_REFUSED,
  UPSERT_RUNS,
  UPSERT_STEPS_OF_RUNS,
} from "../stores/sql/grouped.ts";
import { INSERT_EVENTS } from "../stores/sql/statements.ts";
import type { RecordEntry } from "./record-entry.ts";

/**
 * Answers the ids of the runs that were refused; their events are recorded all the same. Each run at most once. Throws
 * `store_unavailable`, having recorded all or nothing; any other error means that an entry is wrong in itself.
 */
export async function commitEntries(
  db: D1DatabaseLike,
  entries: readonly RecordEntry[],
  limits: BatchLimits,
): Promise<ReadonlySet<string>> {
  const guards = joined(entries.map(({ guard }) => guard ?? ""));
  const bound = (statement: string, texts: string[]): D1PreparedStatementLike[] => {
    const rows = joined(texts);
    return rows === "[]" ? [] : [db.prepare(statement).bind(guards, rows)];
  };
  const runs = bound(
    UPSERT_RUNS,
    entries.map((entry) => entry.runs),
  );
  const steps = bound(
    UPSERT_STEPS_OF_RUNS,
    entries.map((entry) => entry.steps),
  );
  const tags = bound(
    INSERT_TAGS_OF_RUNS,
    entries.map((entry) => entry.tags),
  );
  const events = joined(entries.map((entry) => entry.events));
  const unguarded = events === "[]" ? [] : [db.prepare(INSERT_EVENTS).bind(events)];
  const guarded = [...runs, ...steps];
  const statements = [...guarded, ...tags, ...unguarded];
  if (statements.length === 0) return new Set();
  const changes = await runCounted(db, statements, limits);
  const changed = changes.slice(0, guarded.length).reduce((sum, count) => sum + count, 0);
  if (changed === entries.reduce((sum, { rows }) => sum + rows, 0)) return new Set();
  // Again, since who is refused may be another one by now.
  const asked = [db.prepare(SELECT_REFUSED).bind(guards), ...statements];
  const [refused = []] = await runBatch(db, asked, limits);
  return new Set((refused as { run_id: string }[]).map((row) => row.run_id));
}

/** Texts of rows with commas between them, as one JSON array. */
function joined(texts: readonly string[]): string {
  return `[${texts.filter((text) => text !== "").join(",")}]`;
}
