/**
 * The lines of steps.jsonl and events.jsonl: from the ledger's states to text and back.
 *
 * A line is the contract's record (a StepRecord, a RunRecord under `run`, an EventRecord), for people, and what only
 * the ledger needs beside it. As in the records, what is absent was `undefined` or not there. Must not know when a
 * line counts: that is the folds'.
 */
import { fromJsonText, NO_VALUE } from "../../contract/payload.ts";
import type { EventRecord, RunRecord, StepRecord } from "../../contract/types.ts";
import type {
  Body,
  EventState,
  ForkOrigin,
  KeptManifest,
  RunState,
  StepState,
  Wait,
} from "../../ledger/state.ts";
import { toEventRecord, toRunRecord, toStepRecord } from "../records.ts";
import type { Place } from "./read-lines.ts";

/** A line of steps.jsonl: a step, the run, or both. `seq` is its place in the order; its writer knows it by `nonce`. */
export type RunLogLine = { seq: number; nonce: string } & (StepFields | RunFields | (StepFields & RunFields));

export interface StepFields extends StepRecord {
  caught: number[];
  fence: number;
  beginRequestId: string;
}

export interface RunFields {
  run: RunRecord & {
    fence: number;
    takeovers: number;
    workerId: string;
    claimRequestId: string;
    leaseMs: number;
    /** Whether a result was recorded: `undefined` leaves no other trace. */
    returned: boolean;
    /** With what the record leaves out. Absent in lines of versions without. */
    waits?: Wait[];
    fork?: ForkOrigin;
    interventions?: string[];
  };
  /** The steps from this position on are dropped. */
  dropFrom?: number;
  /** In the first line of a run. It never changes. */
  manifest?: { task: unknown; input: unknown; tags?: unknown };
}

export interface EventLine extends EventRecord {
  requestId: string;
  nonce: string;
}

/** The payload of a longer line is not held in memory, but read again when it is asked for. */
const INLINE_BYTES = 16 * 1_024;

export function stepFields(runId: string, step: StepState): StepFields {
  const { caught, fence, beginRequestId } = step;
  const record = toStepRecord(runId, step, step.result === null ? NO_VALUE : inlineText(step.result));
  return { ...record, caught: [...caught], fence, beginRequestId };
}

/** `known`: the run as the log has it, or `null` before its first line. */
export function runFields(run: RunState, stepCount: number, known: RunState | null): RunFields {
  const { fence, takeovers, workerId, claimRequestId, leaseMs, result, waits, forkedFrom, interventions } =
    run;
  const record = toRunRecord({ run, stepCount }, result === null ? null : inlineText(result));
  return {
    run: {
      ...record,
      fence,
      takeovers,
      workerId,
      claimRequestId,
      leaseMs,
      returned: result !== null,
      ...(waits.length > 0 && { waits: [...waits] }),
      ...(forkedFrom !== null && { fork: forkedFrom }),
      ...(interventions.length > 0 && { interventions: [...interventions] }),
    },
    ...(known === null && { manifest: keptManifest(run) }),
  };
}

export function eventLine(runId: string, event: EventState, nonce: string): string {
  const record = toEventRecord(runId, event, inlineText(event.payload));
  return JSON.stringify({ ...record, requestId: event.requestId, nonce });
}

/** `null`: no line of ours, such as what a crash has cut short. */
export function parseRunLogLine(text: string): RunLogLine | null {
  const line = parseObject(text);
  if (typeof line?.["seq"] !== "number" || typeof line["nonce"] !== "string") return null;
  const known =
    typeof line["stepIndex"] === "number" || (typeof line["run"] === "object" && line["run"] !== null);
  return known ? (line as unknown as RunLogLine) : null;
}

export function parseEventLine(text: string): EventLine | null {
  const line = parseObject(text);
  return typeof line?.["key"] === "string" && typeof line["nonce"] === "string"
    ? (line as unknown as EventLine)
    : null;
}

export function toStepState(line: StepFields, place: Place): StepState {
  return {
    stepIndex: line.stepIndex,
    intent: line.intent,
    kind: line.kind,
    inputHash: line.inputHash,
    status: line.status,
    attempts: line.attempts,
    result: line.status === "completed" ? toBody("result", line.result, place) : null,
    error: toText(line.error ?? line.lastError),
    path: line.path ?? String(line.stepIndex),
    tries: line.tries ?? 1,
    nextAttemptAt: toEpochMs(line.nextAttemptAt),
    inDoubt: line.inDoubt ?? false,
    caught: line.caught,
    deadlineAt: toEpochMs(line.deadlineAt),
    startedAt: toEpochMs(line.startedAt) ?? 0,
    completedAt: toEpochMs(line.completedAt),
    workerId: line.workerId ?? "",
    fence: line.fence,
    beginRequestId: line.beginRequestId,
  };
}

/** The result stays inline: one a run, and a run that has ended is not held. */
export function toRunState(
  { run, manifest }: RunFields,
  known: RunState | null,
  place: Place,
): RunState | null {
  const kept: KeptManifest | null =
    manifest === undefined
      ? known
      : {
          task: JSON.stringify(manifest.task),
          input: toBody("input", manifest.input, place),
          tags: toText(manifest.tags),
        };
  if (kept === null) return null;
  return {
    runId: run.runId,
    manifestHash: run.manifestHash,
    projectId: run.projectId,
    scenarioId: run.scenarioId ?? null,
    task: kept.task,
    input: kept.input,
    tags: kept.tags,
    status: run.status,
    fence: run.fence,
    takeovers: run.takeovers,
    workerId: run.workerId,
    claimRequestId: run.claimRequestId,
    leaseMs: run.leaseMs,
    leaseExpiresAt: toEpochMs(run.leaseExpiresAt),
    createdAt: toEpochMs(run.createdAt) ?? 0,
    updatedAt: toEpochMs(run.updatedAt) ?? 0,
    completedAt: toEpochMs(run.completedAt),
    outcome: toText(run.outcome),
    result: run.returned ? { text: toText(run.result) ?? NO_VALUE } : null,
    error: toText(run.error),
    waits: run.waits ?? [],
    interventions: run.interventions ?? [],
    forkedFrom: run.fork ?? null,
  };
}

export function toEventState(line: EventLine, place: Place): EventState {
  return {
    key: line.key,
    payload: toBody("payload", line.payload, place),
    emittedAt: toEpochMs(line.emittedAt) ?? 0,
    requestId: line.requestId,
  };
}

/** Where a body that is not inline lies. */
export interface BodyRef {
  readonly field: "result" | "input" | "payload";
  readonly place: Place;
}

export function parseRef(ref: string): BodyRef {
  const [field, offset, length] = ref.split(":");
  return { field: field as BodyRef["field"], place: { offset: Number(offset), length: Number(length) } };
}

/** The text of a body in the line that its ref points to, or `null` when something else stands there. */
export function bodyText(field: BodyRef["field"], text: string): string | null {
  const line = parseObject(text);
  const holder = field === "input" ? (line?.["manifest"] as Record<string, unknown> | undefined) : line;
  return toText(holder?.[field]);
}

function toBody(field: BodyRef["field"], value: unknown, { offset, length }: Place): Body {
  if (length > INLINE_BYTES && value !== undefined) return { ref: `${field}:${offset}:${length}` };
  return { text: toText(value) ?? NO_VALUE };
}

function keptManifest({ task, input, tags }: KeptManifest): NonNullable<RunFields["manifest"]> {
  return {
    task: fromJsonText(task),
    input: fromJsonText(inlineText(input)),
    ...(tags !== null && { tags: fromJsonText(tags) }),
  };
}

/** A change carries new payloads whole, and drops old ones: no rule passes on a body that it was shown. */
function inlineText(body: Body): string {
  if ("text" in body) return body.text;
  throw new TypeError(`a body to be recorded is only a reference, "${body.ref}"`);
}

function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value = JSON.parse(text) as unknown;
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

function toText(value: unknown): string | null {
  return value === undefined ? null : JSON.stringify(value);
}

let latest = { iso: "1970-01-01T00:00:00.000Z", epochMs: 0 };

/** What happens in one millisecond is told many times, as by `toIso`. */
function toEpochMs(iso: string | undefined): number | null {
  if (iso === undefined) return null;
  if (latest.iso !== iso) latest = { iso, epochMs: Date.parse(iso) };
  return latest.epochMs;
}
