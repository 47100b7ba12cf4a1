/** What the statistics of some ends are, by the plainest computation there is. Knows no table. */
import { expect } from "vitest";
import type { StepKind } from "../../src/contract/types.ts";
import type { EndedStatus, Percentiles, RunStats } from "../../src/history/types.ts";

const DAY_MS = 86_400_000;

const KINDS: readonly StepKind[] = ["tool", "llm", "logic"];
export const KIND_OF = (stepIndex: number): StepKind => KINDS[stepIndex % KINDS.length] ?? "logic";
export const INTENT_OF = (stepIndex: number): string => `intent-${stepIndex % 4}`;

export interface ModelStep {
  readonly attempts: number;
  readonly failed: boolean;
  readonly durationMs: number;
}

/** An end, with the steps that it counts. */
export interface Ending {
  readonly runId: string;
  readonly projectId: string;
  readonly status: EndedStatus;
  readonly at: number;
  readonly durationMs: number;
  readonly steps: readonly (ModelStep & { readonly stepIndex: number })[];
}

/** Holds statistics against the ends in their range. */
export function expectStats(answered: RunStats, ends: readonly Ending[]): void {
  expect(answered.counts).toMatchObject(countsOf(ends));
  expectPercentiles(answered.durationMs, ends);
  const size = answered.by === "hour" ? 3_600_000 : DAY_MS;
  const [from, to] = [Date.parse(answered.from), Date.parse(answered.to)];
  expect(answered.series.map((point) => Date.parse(point.at))).toEqual(
    Array.from({ length: (to - from) / size }, (_none, i) => from + i * size),
  );
  for (const { at, durationMs, ...counts } of answered.series) {
    const inside = ends.filter((end) => end.at >= Date.parse(at) && end.at < Date.parse(at) + size);
    expect(counts).toEqual(countsOf(inside));
    expectPercentiles(durationMs, inside);
  }
  const byName = (a: { intent: string; kind: string }, b: { intent: string; kind: string }): number =>
    `${a.intent} ${a.kind}` < `${b.intent} ${b.kind}` ? -1 : 1;
  expect([...answered.steps].sort(byName)).toEqual(stepsOf(ends).sort(byName));
  const sizes = answered.steps.map((row) => row.steps);
  expect(sizes).toEqual([...sizes].sort((a, b) => b - a));
}

function countsOf(ends: readonly Ending[]): Record<EndedStatus, number> {
  const of = (status: EndedStatus): number => ends.filter((end) => end.status === status).length;
  return { completed: of("completed"), failed: of("failed"), cancelled: of("cancelled") };
}

function expectPercentiles(answered: Percentiles | undefined, ends: readonly Ending[]): void {
  const durations = ends.filter((end) => end.status === "completed").map((end) => end.durationMs);
  durations.sort((a, b) => a - b);
  expect(answered === undefined).toBe(durations.length === 0);
  if (!answered) return;
  for (const [name, percent] of [
    ["p50", 50],
    ["p95", 95],
    ["p99", 99],
  ] as const) {
    const exact = durations[Math.ceil((percent * durations.length) / 100) - 1] ?? NaN;
    expect(Math.abs(answered[name] - exact), `${name} of ${durations.join()}`).toBeLessThanOrEqual(
      exact * 0.05,
    );
  }
}

function stepsOf(ends: readonly Ending[]): RunStats["steps"] {
  const sums = new Map<string, { steps: number; failed: number; attempts: number; durationMs: number }>();
  for (const step of ends.flatMap((end) => end.steps)) {
    const name = JSON.stringify([INTENT_OF(step.stepIndex), KIND_OF(step.stepIndex)]);
    const sum = sums.get(name) ?? { steps: 0, failed: 0, attempts: 0, durationMs: 0 };
    sums.set(name, {
      steps: sum.steps + 1,
      failed: sum.failed + (step.failed ? 1 : 0),
      attempts: sum.attempts + step.attempts,
      durationMs: sum.durationMs + step.durationMs,
    });
  }
  return [...sums].map(([name, { durationMs, ...sum }]) => {
    const [intent, kind] = JSON.parse(name) as [string, StepKind];
    const meanDurationMs = Math.round(durationMs / sum.steps);
    return { intent, kind, ...sum, failureRate: sum.failed / sum.steps, meanDurationMs };
  });
}
