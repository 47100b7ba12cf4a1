/**
 * Was anything done twice that was on record? Pure judgements over the page server's log and the run's record.
 *
 * Each answer lists what is wrong; an empty list is the proof.
 */
import type { StepRecord } from "../../../src/contract/types.ts";
import type { Visit } from "./docs-site.ts";

export interface PageProof {
  path: string;
  /** Was its step recorded when the runtime was killed? */
  recorded: boolean;
  getsBefore: number;
  getsAfter: number;
}

export interface LogProof {
  pages: PageProof[];
  violations: string[];
}

/** From the page server's log: each page whose step was recorded before the kill was asked for once, before it. */
export function proveFromLog(
  visits: readonly Visit[],
  killedAt: number,
  recordedPaths: readonly string[],
): LogProof {
  const recorded = new Set(recordedPaths);
  const gets = visits.filter(({ method }) => method === "GET");
  const paths = [...new Set([...recordedPaths, ...gets.map(({ path }) => path)])];
  const pages = paths.map((path): PageProof => {
    const times = gets.filter((visit) => visit.path === path);
    const getsBefore = times.filter(({ at }) => at <= killedAt).length;
    return { path, recorded: recorded.has(path), getsBefore, getsAfter: times.length - getsBefore };
  });
  const violations = pages.flatMap(({ path, recorded: isRecorded, getsBefore, getsAfter }) => {
    if (!isRecorded) return [];
    if (getsAfter > 0)
      return [`${path} was recorded before the kill, and fetched ${getsAfter} more times after it`];
    return getsBefore === 1
      ? []
      : [`${path} is on record, but the page server saw ${getsBefore} requests for it`];
  });
  return { pages, violations };
}

/** From the record: each step that was completed at the kill is as it was, down to its attempts and its worker. */
export function proveFromRecord(atKill: readonly StepRecord[], atEnd: readonly StepRecord[]): string[] {
  const final = new Map(atEnd.map((step) => [step.stepIndex, step]));
  return completed(atKill).flatMap((before) => {
    const after = final.get(before.stepIndex);
    const same =
      after?.status === "completed" &&
      after.attempts === before.attempts &&
      after.completedAt === before.completedAt &&
      after.workerId === before.workerId;
    return same
      ? []
      : [`step ${before.stepIndex} ("${before.intent}") was completed at the kill, and changed after it`];
  });
}

/** Every step whose completion the first worker was told of is on record after the restart. */
export function proveNothingLost(acknowledged: readonly number[], atKill: readonly StepRecord[]): string[] {
  const kept = new Set(completed(atKill).map(({ stepIndex }) => stepIndex));
  return acknowledged
    .filter((at) => !kept.has(at))
    .map((at) => `step ${at} was acknowledged, and is not on record`);
}

/** The paths of the pages whose fetch is recorded, by the intents that the agent gives. */
export function recordedPaths(steps: readonly StepRecord[]): string[] {
  return completed(steps)
    .filter(isFetch)
    .map(({ intent }) => decodeURIComponent(intent.slice("fetch ".length)));
}

export function isFetch(step: { kind: string; intent: string }): boolean {
  return step.kind === "tool" && step.intent.startsWith("fetch ");
}

export function completed(steps: readonly StepRecord[]): StepRecord[] {
  return steps.filter(({ status }) => status === "completed");
}
