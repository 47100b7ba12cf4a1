/** Classes of durations: that what is answered for one is near every duration in it, and percentiles by nearest rank. */
import { expect, test } from "vitest";
import { addDurations, classMs, type Durations, percentilesOf } from "../src/history/duration-classes.ts";

/** The class by its definition: the first one whose upper end lies above. */
function classByDefinition(durationMs: number): number {
  let durationClass = 0;
  while (durationMs >= 1.1 ** durationClass) durationClass += 1;
  return durationClass;
}

const YEAR_MS = 31_536_000_000;

test("a class answers within 5 % of every duration in it, from 0 ms to a hundred years", () => {
  let checked = 0;
  for (let ms = 0; ms < 100 * YEAR_MS; ms = ms < 5_000 ? ms + 1 : Math.ceil(ms * 1.0007)) {
    const answered = classMs(classByDefinition(ms));
    if (Math.abs(answered - ms) > ms * 0.05) expect.fail(`${ms} ms is answered as ${answered} ms`);
    checked += 1;
  }
  expect(checked).toBeGreaterThan(20_000);
});

test("percentiles are those of nearest rank", () => {
  const durations: Durations = new Map();
  for (let ms = 1; ms <= 200; ms += 1) addDurations(durations, [[classByDefinition(ms), 1]]);
  const { p50 = 0, p95 = 0, p99 = 0 } = percentilesOf(durations) ?? {};
  for (const [answered, exact] of [
    [p50, 100],
    [p95, 190],
    [p99, 198],
  ] as const) {
    expect(Math.abs(answered - exact)).toBeLessThanOrEqual(exact * 0.05);
  }
});

test("a single duration is each percentile, and none has no percentiles", () => {
  const ms = classMs(classByDefinition(1_234));
  expect(percentilesOf(new Map([[classByDefinition(1_234), 1]]))).toEqual({ p50: ms, p95: ms, p99: ms });
  expect(percentilesOf(new Map([[0, 3]]))).toEqual({ p50: 0, p95: 0, p99: 0 });
  expect(percentilesOf(new Map())).toBeUndefined();
});
