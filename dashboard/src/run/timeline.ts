/**
 * Steps on an axis of time: where each bar begins and ends, how deep its row is, and the marks of the axis.
 *
 * Pure. Offsets are milliseconds from the timeline's origin, so a row stays what it is while the axis grows; the view
 * turns them into places.
 */
import type { HistoryStep } from "../../../src/history/types.ts";

/** As a reader sees it. "waiting": under way, for an event or for a time. "retrying": pending until its next attempt. */
export type StepState = "completed" | "failed" | "running" | "waiting" | "retrying" | "pending" | "in doubt";

export interface TimelineRow {
  step: HistoryStep;
  state: StepState;
  /** Absent where no attempt has begun. */
  start?: number;
  /** Absent while it is under way. */
  end?: number;
  /** How many branches it lies in. */
  depth: number;
  /** The innermost branch's name. */
  branch?: string;
}

export interface Timeline {
  /** Epoch milliseconds of offset 0. */
  origin: number;
  /** The last offset on record. At least 1. */
  end: number;
  rows: TimelineRow[];
}

export interface Tick {
  at: number;
  label: string;
}

/** @param createdAt of the run: the axis begins there, or with an earlier step, which a fork has. */
export function timelineOf(createdAt: string, steps: readonly HistoryStep[]): Timeline {
  let origin = Date.parse(createdAt);
  for (const { startedAt } of steps) {
    if (startedAt !== undefined) origin = Math.min(origin, Date.parse(startedAt));
  }
  const rows = steps.map((step) => rowOf(step, origin));
  let end = 1;
  for (const row of rows) end = Math.max(end, row.start ?? 0, row.end ?? 0);
  return { origin, end, rows };
}

function rowOf(step: HistoryStep, origin: number): TimelineRow {
  const state = stateOf(step);
  const row: TimelineRow = { step, state, ...branchOf(step.path) };
  if (step.startedAt === undefined) return row;
  row.start = Date.parse(step.startedAt) - origin;
  if (state === "running" || state === "waiting") return row;
  const took = step.durationMs ?? 0;
  row.end = step.completedAt === undefined ? row.start + took : Date.parse(step.completedAt) - origin;
  return row;
}

export function stateOf(step: HistoryStep): StepState {
  if (step.status === "completed") return "completed";
  if (step.inDoubt === true && step.status !== "running") return "in doubt";
  if (step.status === "failed") return "failed";
  if (step.status === "running") return step.deadlineAt === undefined ? "running" : "waiting";
  return step.nextAttemptAt === undefined ? "pending" : "retrying";
}

/** "1/reviewer/0" lies in one branch, "reviewer": numbers and names take turns. */
function branchOf(path: string | undefined): { depth: number; branch?: string } {
  const parts = path?.split("/") ?? [];
  const depth = Math.max(0, Math.floor((parts.length - 1) / 2));
  const branch = parts.at(-2);
  return depth === 0 || branch === undefined ? { depth: 0 } : { depth, branch };
}

const UNITS: readonly (readonly [ms: number, name: string])[] = [
  [1, "ms"],
  [1_000, "s"],
  [60_000, "m"],
  [3_600_000, "h"],
  [86_400_000, "d"],
];
const STEPS_OF: Readonly<Record<string, readonly number[]>> = {
  ms: [1, 2, 5, 10, 20, 50, 100, 200, 500],
  s: [1, 2, 5, 10, 15, 30],
  m: [1, 2, 5, 10, 15, 30],
  h: [1, 2, 3, 6, 12],
  d: [1, 2, 7, 14, 30, 90, 365],
};

/** Round marks, at most `most` of them behind the first, which is 0. */
export function ticksOf(span: number, most = 6): Tick[] {
  for (const [unit, name] of UNITS) {
    for (const count of STEPS_OF[name] ?? []) {
      const distance = unit * count;
      if (span / distance > most) continue;
      const marks = Math.floor(span / distance);
      return Array.from({ length: marks + 1 }, (_, i) => ({
        at: i * distance,
        label: `${i * count} ${name}`,
      }));
    }
  }
  return [{ at: 0, label: "0 d" }];
}
