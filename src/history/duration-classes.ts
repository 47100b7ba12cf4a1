/**
 * Durations by class, so that percentiles can be added up over any number of runs: class 0 is below 1 ms, class n is
 * from 1.1^(n-1) ms to 1.1^n ms. What is answered for a class is within 5 % of each whole millisecond in it.
 *
 * The one place that knows the classes, in SQL and in TypeScript. Knows no table.
 */
import type { Percentiles } from "./types.ts";

const GROWTH = 1.1;

/** The class of a duration in whole milliseconds, as SQL: the argument is SQL, too. */
export function classInSql(durationMs: string): string {
  return `CASE WHEN ${durationMs} < 1 THEN 0 ELSE 1 + CAST(ln(${durationMs}) / ln(${GROWTH}) AS INTEGER) END`;
}

/** The value whose relative error is the same at both ends of the class, in tenths: 12 would be too far from 13. */
export function classMs(durationClass: number): number {
  if (durationClass === 0) return 0;
  const value = (GROWTH ** (durationClass - 1) * 2 * GROWTH) / (1 + GROWTH);
  return Math.round(value * 10) / 10;
}

/** How many durations there are of each class. */
export type Durations = Map<number, number>;

export function addDurations(to: Durations, counts: Iterable<readonly [number, number]>): void {
  for (const [durationClass, count] of counts) {
    to.set(durationClass, (to.get(durationClass) ?? 0) + count);
  }
}

/** By nearest rank: of n durations in order, the one at place ceil(p * n). `undefined` when there are none. */
export function percentilesOf(durations: Durations): Percentiles | undefined {
  const classes = [...durations].sort(([a], [b]) => a - b);
  const total = classes.reduce((sum, [, count]) => sum + count, 0);
  if (total === 0) return undefined;
  const at = (percent: number): number => {
    let left = Math.ceil((percent * total) / 100);
    for (const [durationClass, count] of classes) {
      left -= count;
      if (left <= 0) return classMs(durationClass);
    }
    throw new Error(`no duration at percent ${percent} of ${total}`);
  };
  return { p50: at(50), p95: at(95), p99: at(99) };
}
