/**
 * Rows and states: the one place where a table's columns become the ledger's records and back.
 *
 * Of D1: a coordinator's own SQLite has the records themselves (coordinator/rows.ts). Rows travel to SQL as one JSON
 * text, an array of arrays, in the order of the column lists (see statements.ts).
 */
import type { RunStatus, StepKind, StepStatus } from "../../contract/types.ts";
import type { Body, EventState, ForkOrigin, RunState, StepState, Wait } from "../../ledger/state.ts";

/** Which change last touched a row. A row is only ever replaced by one with a higher (fence, revision). */
export interface Revised {
  readonly revision: number;
}

/** In the order of the tables: long texts towards the end, for what lies behind one in a row costs its pages to read. */
export const RUN_COLUMNS = [
  "run_id",
  "manifest_hash",
  "project_id",
  "scenario_id",
  "status",
  "fence",
  "takeovers",
  "revision",
  "worker_id",
  "claim_request_id",
  "lease_ms",
  "lease_expires_at",
  "created_at",
  "updated_at",
  "completed_at",
  "input_ref",
  "result_ref",
  "tags",
  "error",
  "task",
  "input",
  "outcome",
  "result",
  "waits",
  "forked_from",
  "interventions",
  "due_at",
  "lag_ms",
] as const;

/**
 * Those of a run's columns that are the same in each of its versions: an upsert leaves them alone, and so the indexes
 * on them.
 */
export const FIXED_RUN_COLUMNS: ReadonlySet<(typeof RUN_COLUMNS)[number]> = new Set([
  "run_id",
  "manifest_hash",
  "project_id",
  "scenario_id",
  "created_at",
  "input_ref",
  "tags",
  "task",
  "input",
]);

export const STEP_COLUMNS = [
  "run_id",
  "step_index",
  "intent",
  "kind",
  "input_hash",
  "status",
  "attempts",
  "fence",
  "revision",
  "worker_id",
  "begin_request_id",
  "deadline_at",
  "started_at",
  "completed_at",
  "caught",
  "result_ref",
  "error",
  "result",
  "path",
  "tries",
  "next_attempt_at",
  "in_doubt",
] as const;

export const EVENT_COLUMNS = [
  "run_id",
  "key",
  "emitted_at",
  "request_id",
  "revision",
  "payload_ref",
  "payload",
] as const;

export const TAG_COLUMNS = ["key", "value", "run_id", "created_at"] as const;

export type Cell = string | number | null;
export type RunRow = Record<(typeof RUN_COLUMNS)[number], Cell>;
export type StepRow = Record<(typeof STEP_COLUMNS)[number], Cell>;
export type EventRow = Record<(typeof EVENT_COLUMNS)[number], Cell>;

/** What the writer of a row tells those who look across runs. */
export interface Timeliness {
  /** When somebody ought to have acted: see due.ts. */
  readonly dueAt: number | null;
  /** How long the row waited for D1, from the first change that D1 lacked; `null` where no coordinator writes it. */
  readonly lagMs: number | null;
}

export function toRunRow(run: RunState, revision: number, { dueAt, lagMs }: Timeliness): Cell[] {
  return inOrder<RunRow>(RUN_COLUMNS, {
    run_id: run.runId,
    manifest_hash: run.manifestHash,
    project_id: run.projectId,
    scenario_id: run.scenarioId,
    task: run.task,
    input: inline(run.input),
    input_ref: ref(run.input),
    tags: run.tags,
    status: run.status,
    fence: run.fence,
    takeovers: run.takeovers,
    worker_id: run.workerId,
    claim_request_id: run.claimRequestId,
    lease_ms: run.leaseMs,
    lease_expires_at: run.leaseExpiresAt,
    created_at: run.createdAt,
    updated_at: run.updatedAt,
    completed_at: run.completedAt,
    outcome: run.outcome,
    result: inline(run.result),
    result_ref: ref(run.result),
    error: run.error,
    waits: run.waits.length === 0 ? null : JSON.stringify(run.waits),
    interventions: run.interventions.length === 0 ? null : JSON.stringify(run.interventions),
    forked_from: run.forkedFrom === null ? null : JSON.stringify(run.forkedFrom),
    due_at: dueAt,
    lag_ms: lagMs,
    revision,
  });
}

export function fromRunRow(row: RunRow): RunState & Revised {
  return {
    runId: text(row.run_id),
    manifestHash: text(row.manifest_hash),
    projectId: text(row.project_id),
    scenarioId: row.scenario_id as string | null,
    task: text(row.task),
    input: body(row.input, row.input_ref) ?? { text: "" },
    tags: row.tags as string | null,
    status: row.status as RunStatus,
    fence: Number(row.fence),
    takeovers: Number(row.takeovers),
    workerId: text(row.worker_id),
    claimRequestId: text(row.claim_request_id),
    leaseMs: Number(row.lease_ms),
    leaseExpiresAt: row.lease_expires_at as number | null,
    createdAt: Number(row.created_at),
    updatedAt: Number(row.updated_at),
    completedAt: row.completed_at as number | null,
    outcome: row.outcome as string | null,
    result: body(row.result, row.result_ref),
    error: row.error as string | null,
    waits: row.waits === null ? [] : (JSON.parse(text(row.waits)) as Wait[]),
    interventions: row.interventions === null ? [] : (JSON.parse(text(row.interventions)) as string[]),
    forkedFrom: row.forked_from === null ? null : (JSON.parse(text(row.forked_from)) as ForkOrigin),
    revision: Number(row.revision),
  };
}

export function toStepRow(runId: string, step: StepState, revision: number): Cell[] {
  return inOrder<StepRow>(STEP_COLUMNS, {
    run_id: runId,
    step_index: step.stepIndex,
    intent: step.intent,
    kind: step.kind,
    input_hash: step.inputHash,
    status: step.status,
    attempts: step.attempts,
    result: inline(step.result),
    result_ref: ref(step.result),
    error: step.error,
    caught: step.caught.length === 0 ? null : JSON.stringify(step.caught),
    deadline_at: step.deadlineAt,
    started_at: step.startedAt,
    completed_at: step.completedAt,
    worker_id: step.workerId,
    fence: step.fence,
    begin_request_id: step.beginRequestId,
    path: step.path === String(step.stepIndex) ? null : step.path,
    tries: step.tries,
    next_attempt_at: step.nextAttemptAt,
    in_doubt: step.inDoubt ? 1 : 0,
    revision,
  });
}

export function fromStepRow(row: StepRow): StepState & Revised {
  return {
    stepIndex: Number(row.step_index),
    intent: text(row.intent),
    kind: row.kind as StepKind,
    inputHash: text(row.input_hash),
    status: row.status as StepStatus,
    attempts: Number(row.attempts),
    result: body(row.result, row.result_ref),
    error: row.error as string | null,
    caught: row.caught === null ? [] : (JSON.parse(text(row.caught)) as number[]),
    deadlineAt: row.deadline_at as number | null,
    startedAt: Number(row.started_at),
    completedAt: row.completed_at as number | null,
    workerId: text(row.worker_id),
    fence: Number(row.fence),
    beginRequestId: text(row.begin_request_id),
    path: row.path === null ? text(row.step_index) : text(row.path),
    tries: Number(row.tries),
    nextAttemptAt: row.next_attempt_at as number | null,
    inDoubt: Number(row.in_doubt) === 1,
    revision: Number(row.revision),
  };
}

export function toEventRow(runId: string, event: EventState, revision: number): Cell[] {
  return inOrder<EventRow>(EVENT_COLUMNS, {
    run_id: runId,
    key: event.key,
    payload: inline(event.payload),
    payload_ref: ref(event.payload),
    emitted_at: event.emittedAt,
    request_id: event.requestId,
    revision,
  });
}

export function fromEventRow(row: EventRow): EventState {
  return {
    key: text(row.key),
    payload: body(row.payload, row.payload_ref) ?? { text: "" },
    emittedAt: Number(row.emitted_at),
    requestId: text(row.request_id),
  };
}

/** The tags of a run as rows. */
export function toTagRows(run: RunState): Cell[][] {
  if (run.tags === null) return [];
  const tags = JSON.parse(run.tags) as Record<string, string>;
  return Object.entries(tags).map(([key, value]) => [key, value, run.runId, run.createdAt]);
}

function inOrder<Row extends Record<string, Cell>>(columns: readonly (keyof Row)[], row: Row): Cell[] {
  return columns.map((column) => row[column]);
}

function inline(value: Body | null): string | null {
  return value !== null && "text" in value ? value.text : null;
}

function ref(value: Body | null): string | null {
  return value !== null && "ref" in value ? value.ref : null;
}

function body(inlineText: Cell, bodyRef: Cell): Body | null {
  if (bodyRef !== null) return { ref: text(bodyRef) };
  return inlineText === null ? null : { text: text(inlineText) };
}

function text(cell: Cell): string {
  return String(cell);
}
