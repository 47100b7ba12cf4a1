/**
 * From the ledger's states to the contract's records: ISO instants, parsed JSON, absent instead of `null`.
 */
import { fromJsonText } from "../contract/payload.ts";
import type {
  EventRecord,
  RunOutcome,
  RunRecord,
  RunWait,
  StepError,
  StepRecord,
} from "../contract/types.ts";
import type { EventState, ForkOrigin, RunView, StepState, Wait } from "../ledger/state.ts";
import type { CountedRun } from "./journal.ts";

/** `resultText`: the text of the run's result, or `null` when none was recorded. */
export function toRunRecord({ run, stepCount }: CountedRun, resultText: string | null): RunRecord {
  return {
    runId: run.runId,
    manifestHash: run.manifestHash,
    projectId: run.projectId,
    ...(run.scenarioId !== null && { scenarioId: run.scenarioId }),
    status: run.status,
    createdAt: toIso(run.createdAt),
    updatedAt: toIso(run.updatedAt),
    ...(run.completedAt !== null && { completedAt: toIso(run.completedAt) }),
    ...leaseFields(run),
    ...(run.outcome !== null && { outcome: fromJsonText(run.outcome) as RunOutcome }),
    stepCount,
    fence: run.fence,
    takeovers: run.takeovers,
    ...(resultText !== null && { result: fromJsonText(resultText) }),
    ...(run.error !== null && { error: fromJsonText(run.error) as StepError }),
    ...(run.waits.length > 0 && { waitingFor: run.waits.map(toRunWait) }),
    ...(run.forkedFrom !== null && { forkedFrom: toForkOrigin(run.forkedFrom) }),
  };
}

/** `resultText`: the text of the step's result; ignored unless it has completed. */
export function toStepRecord(runId: string, step: StepState, resultText: string): StepRecord {
  const record: { -readonly [K in keyof StepRecord]: StepRecord[K] } = {
    runId,
    stepIndex: step.stepIndex,
    intent: step.intent,
    kind: step.kind,
    inputHash: step.inputHash,
    status: step.status,
    attempts: step.attempts,
    tries: step.tries,
    startedAt: toIso(step.startedAt),
    workerId: step.workerId,
  };
  const result = step.status === "completed" ? fromJsonText(resultText) : undefined;
  if (result !== undefined) record.result = result;
  if (step.error !== null) Object.assign(record, errorField(step));
  if (step.nextAttemptAt !== null) record.nextAttemptAt = toIso(step.nextAttemptAt);
  if (step.inDoubt) record.inDoubt = true;
  if (step.path !== String(step.stepIndex)) record.path = step.path;
  if (step.completedAt !== null) record.completedAt = toIso(step.completedAt);
  if (step.deadlineAt !== null) record.deadlineAt = toIso(step.deadlineAt);
  return record;
}

export function toEventRecord(runId: string, event: EventState, payloadText: string): EventRecord {
  return { runId, key: event.key, payload: fromJsonText(payloadText), emittedAt: toIso(event.emittedAt) };
}

/** The farthest that a Date reaches from 1970, either way. */
const LAST_INSTANT = 8.64e15;

let latest = { epochMs: 0, iso: "1970-01-01T00:00:00.000Z" };

/**
 * An instant beyond what a Date can be is shown as the last, or the first, that it can: one bad row spoils no list.
 * What happens in one millisecond is told many times.
 */
export function toIso(epochMs: number): string {
  if (latest.epochMs === epochMs) return latest.iso;
  const iso = new Date(Math.max(-LAST_INSTANT, Math.min(LAST_INSTANT, epochMs))).toISOString();
  latest = { epochMs, iso };
  return iso;
}

function toRunWait({ stepIndex, for: what, key, until }: Wait): RunWait {
  return {
    stepIndex,
    for: what,
    ...(key !== null && { key }),
    ...(until !== null && { until: toIso(until) }),
  };
}

function toForkOrigin({ runId, throughStep }: ForkOrigin): { runId: string; throughStep: number } {
  return { runId, throughStep };
}

/** The failure of a failed step; of any other, that of an earlier attempt. */
function errorField({ status, error }: StepState): { error?: StepError; lastError?: StepError } {
  if (error === null) return {};
  const parsed = fromJsonText(error) as StepError;
  return status === "failed" ? { error: parsed } : { lastError: parsed };
}

function leaseFields(run: RunView): { leaseHolderId?: string; leaseExpiresAt?: string } {
  if (run.leaseExpiresAt === null) return {};
  return { leaseHolderId: run.workerId, leaseExpiresAt: toIso(run.leaseExpiresAt) };
}
