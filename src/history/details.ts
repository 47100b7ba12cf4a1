/**
 * One run, its steps and its events, as D1 has them.
 *
 * A page ends after so many bytes, too, and a body that does not lie in its row is read only when it is asked for alone.
 * A run of another project is refused by the same round trip that would have read it.
 */
import {
  DurableForbiddenError,
  DurableInvalidInputError,
  DurableRunNotFoundError,
} from "../contract/errors.ts";
import { byteLength, checkRunId, checkStepIndex, checkText, LIMITS } from "../contract/limits.ts";
import { NO_VALUE } from "../contract/payload.ts";
import type { Body } from "../ledger/state.ts";
import { toEventRecord, toRunRecord, toStepRecord } from "../stores/records.ts";
import { chunkCount, joinChunks, refBytes } from "../stores/sql/bodies.ts";
import type { EventRow, RunRow, StepRow } from "../stores/sql/rows.ts";
import { EVENT_COLUMNS, fromEventRow, fromRunRow, fromStepRow, STEP_COLUMNS } from "../stores/sql/rows.ts";
import { SELECT_CHUNKS, SELECT_EVENT, SELECT_RUN, SELECT_STEP } from "../stores/sql/statements.ts";
import type { Access, Statement } from "./access.ts";
import { fromCursor, toCursor } from "./cursor.ts";
import { checkFields, limitOf } from "./options.ts";
import { durationOf, lagOf, tagsOf } from "./summaries.ts";
import type {
  EventPage,
  HistoryEvent,
  HistoryStep,
  PageOptions,
  RunDetails,
  StepPage,
  StepsOptions,
} from "./types.ts";
import { PAGE_BYTES } from "./walk.ts";

/** ?1: run id. */
const SELECT_PROJECT = "SELECT project_id FROM durable_runs WHERE run_id = ?1";

/** ?1: run id, ?2: the position that the page comes after, ?3: rows at most, ?4: 1 with results, 0 without. */
const SELECT_STEP_PAGE = selectPage({
  table: "durable_steps",
  key: "step_index",
  bytes:
    "coalesce(octet_length(error), 0) + CASE ?4 WHEN 1 THEN coalesce(octet_length(result), 0) ELSE 0 END",
  columns: STEP_COLUMNS.map((column) => {
    if (column === "caught") return "NULL AS caught";
    return column === "result"
      ? "CASE ?4 WHEN 1 THEN result END AS result, octet_length(result) AS bytes"
      : column;
  }),
});

/** ?1: run id, ?2: the key that the page comes after, ?3: rows at most. */
const SELECT_EVENT_PAGE = selectPage({
  table: "durable_events",
  key: "key",
  bytes: "coalesce(octet_length(payload), 0)",
  columns: [...EVENT_COLUMNS, "octet_length(payload) AS bytes"],
});

/** Chunks of one answer of D1: about 4 MB. */
const CHUNKS_A_READ = 4;

/** A row of a page. `bytes`: of the body that lies in it; `last_key`: of the last row that there is. */
type Paged<Row> = Row & { readonly bytes: number | null; readonly last_key: number | string };

export async function get(access: Access, runId: string): Promise<RunDetails | undefined> {
  checkRunId(runId);
  const [row] = await access.query<RunRow & { step_count: number }>(SELECT_RUN, runId);
  if (row === undefined) return undefined;
  checkProject(access, runId, row);
  const run = fromRunRow(row);
  const { input, result } = run;
  return {
    ...toRunRecord(
      { run, stepCount: Number(row.step_count) },
      result && "text" in result ? result.text : null,
    ),
    task: JSON.parse(run.task) as RunDetails["task"],
    ...("text" in input && { input: JSON.parse(input.text) as Record<string, unknown> }),
    inputBytes: bytesOf(input),
    ...(result && { resultBytes: bytesOf(result) }),
    ...tagsOf(run),
    ...durationOf(run),
    ...lagOf(row),
  };
}

export async function steps(access: Access, runId: string, options: StepsOptions = {}): Promise<StepPage> {
  checkRunId(runId);
  checkFields("steps", options, ["results", "limit", "cursor"]);
  const { results = true, cursor } = options;
  if (typeof results !== "boolean") throw new DurableInvalidInputError("results", "must be true or false");
  const question = ["steps", runId];
  const [after] = cursor === undefined ? [-1] : fromCursor(question, cursor, [0] as const);
  const values = [runId, after, limitOf(options.limit), results ? 1 : 0];
  const read = { sql: SELECT_STEP_PAGE, values };
  const rows = await rowsOf<Paged<StepRow>>(access, runId, read, { mustExist: true });
  return {
    steps: rows.map((row) =>
      toStep(runId, row, row.result === null ? NO_VALUE : String(row.result), row.bytes),
    ),
    ...cursorOf(question, rows, "step_index"),
  };
}

export async function step(
  access: Access,
  runId: string,
  stepIndex: number,
): Promise<HistoryStep | undefined> {
  checkRunId(runId);
  checkStepIndex(stepIndex);
  const [row] = await rowsOf<StepRow>(access, runId, { sql: SELECT_STEP, values: [runId, stepIndex] });
  if (row === undefined) return undefined;
  const { result } = fromStepRow(row);
  const text = result === null ? NO_VALUE : await wholeText(access, runId, result);
  return toStep(runId, row, text, result === null ? null : byteLength(text));
}

/** Of a run that may not have begun yet; then nobody who is bound to a project may see it. */
export async function events(access: Access, runId: string, options: PageOptions = {}): Promise<EventPage> {
  checkRunId(runId);
  checkFields("events", options, ["limit", "cursor"]);
  const { cursor } = options;
  const question = ["events", runId];
  const [after] = cursor === undefined ? [""] : fromCursor(question, cursor, [""] as const);
  const read = { sql: SELECT_EVENT_PAGE, values: [runId, after, limitOf(options.limit)] };
  const rows = await rowsOf<Paged<EventRow>>(access, runId, read);
  return { events: rows.map((row) => toEvent(runId, row)), ...cursorOf(question, rows, "key") };
}

export async function event(access: Access, runId: string, key: string): Promise<HistoryEvent | undefined> {
  checkRunId(runId);
  checkText("key", key, LIMITS.eventKeyBytes);
  const [row] = await rowsOf<EventRow>(access, runId, { sql: SELECT_EVENT, values: [runId, key] });
  if (row === undefined) return undefined;
  const { payload } = fromEventRow(row);
  return toEvent(runId, row, await wholeText(access, runId, payload));
}

/** Rows that belong to a run, in one round trip with the check that the caller may see them. */
async function rowsOf<Row>(
  access: Access,
  runId: string,
  read: Statement,
  { mustExist = false } = {},
): Promise<Row[]> {
  if (access.projectId === undefined && !mustExist) return access.query<Row>(read.sql, ...read.values);
  const [runs, rows] = await access.batch([{ sql: SELECT_PROJECT, values: [runId] }, read]);
  const [run] = (runs ?? []) as Pick<RunRow, "project_id">[];
  if (run !== undefined) checkProject(access, runId, run);
  else if (mustExist) throw new DurableRunNotFoundError(`no run "${runId}" is on record`);
  return run === undefined ? [] : ((rows ?? []) as Row[]);
}

function checkProject(access: Access, runId: string, run: Pick<RunRow, "project_id">): void {
  if (access.projectId === undefined || access.projectId === run.project_id) return;
  throw new DurableForbiddenError(`run "${runId}" is not of project "${access.projectId}"`);
}

function toStep(runId: string, row: StepRow, resultText: string, inlineBytes: number | null): HistoryStep {
  const state = fromStepRow(row);
  const resultBytes = row.result_ref === null ? inlineBytes : refBytes(String(row.result_ref));
  return {
    ...toStepRecord(runId, state, resultText),
    ...(resultBytes !== null && { resultBytes }),
    ...(state.completedAt !== null && { durationMs: Math.max(0, state.completedAt - state.startedAt) }),
  };
}

/** `wholeText`: of a payload that does not lie in its row. */
function toEvent(runId: string, row: EventRow, wholeText?: string): HistoryEvent {
  const state = fromEventRow(row);
  const text = "text" in state.payload ? state.payload.text : wholeText;
  const payloadBytes = bytesOf(state.payload);
  const { payload, ...shown } = toEventRecord(runId, state, text ?? NO_VALUE);
  return text === undefined ? { ...shown, payloadBytes } : { ...shown, payload, payloadBytes };
}

async function wholeText(access: Access, runId: string, body: Body): Promise<string> {
  if ("text" in body) return body.text;
  const { ref } = body;
  const count = chunkCount(ref);
  const texts: string[] = [];
  for (let first = 0; first < count; first += CHUNKS_A_READ) {
    const end = Math.min(count, first + CHUNKS_A_READ);
    const rows = await access.query<{ text: string }>(SELECT_CHUNKS, runId, ref, first, end - 1);
    texts.push(
      joinChunks(
        ref,
        first,
        end,
        rows.map((row) => row.text),
      ),
    );
  }
  return texts.join("");
}

function bytesOf(body: Body): number {
  return "text" in body ? byteLength(body.text) : refBytes(body.ref);
}

function cursorOf<Row>(question: unknown, rows: readonly Paged<Row>[], key: keyof Row): { cursor?: string } {
  const last = rows.at(-1);
  if (last === undefined || last[key] === last.last_key) return {};
  return { cursor: toCursor(question, [last[key] as number | string]) };
}

/** Where the page ends is found from the lengths alone, so that no long text is read for nothing. It has a row at least. */
function selectPage(from: { table: string; key: string; bytes: string; columns: readonly string[] }): string {
  const { table, key, bytes, columns } = from;
  return `
SELECT ${columns.join(", ")}, (SELECT max(${key}) FROM ${table} WHERE run_id = ?1) AS last_key
FROM ${table} WHERE run_id = ?1 AND ${key} > ?2 AND ${key} <= (
  SELECT max(${key}) FROM (
    SELECT ${key}, sum(bytes) OVER (ORDER BY ${key}) - bytes AS bytes_before FROM (
      SELECT ${key}, ${bytes} AS bytes FROM ${table} WHERE run_id = ?1 AND ${key} > ?2 ORDER BY ${key} LIMIT ?3
    )
  ) WHERE bytes_before < ${PAGE_BYTES}
) ORDER BY ${key}`;
}
