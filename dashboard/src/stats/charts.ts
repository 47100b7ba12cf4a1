/** What the charts show: rows of numbers from the stats, with names and colours. Pure. */
import type { RunStats } from "../../../src/history/types.ts";
import { formatDuration } from "../format.ts";

export interface ChartSeries {
  label: string;
  /** A custom property of the style sheet. */
  color: (typeof COLORS)[number];
  values: (number | null)[];
}

export interface ChartData {
  /** Epoch seconds. */
  times: number[];
  /** Stacked bars are drawn from the last to the first. */
  shape: "stacked bars" | "lines";
  series: ChartSeries[];
  format: (value: number) => string;
}

/** Of all series, of all charts. */
export const COLORS = ["--completed", "--failed", "--cancelled", "--line-1", "--line-2", "--line-3"] as const;

export function endsChart({ series }: RunStats): ChartData {
  return {
    times: series.map(({ at }) => Date.parse(at) / 1_000),
    shape: "stacked bars",
    series: [
      { label: "completed", color: "--completed", values: series.map((point) => point.completed) },
      { label: "failed", color: "--failed", values: series.map((point) => point.failed) },
      { label: "cancelled", color: "--cancelled", values: series.map((point) => point.cancelled) },
    ],
    format: (value) => value.toLocaleString("en"),
  };
}

export function durationsChart({ series }: RunStats): ChartData {
  const line = (key: "p50" | "p95" | "p99", color: ChartSeries["color"]): ChartSeries => ({
    label: key,
    color,
    values: series.map((point) => point.durationMs?.[key] ?? null),
  });
  return {
    times: series.map(({ at }) => Date.parse(at) / 1_000),
    shape: "lines",
    series: [line("p50", "--line-1"), line("p95", "--line-2"), line("p99", "--line-3")],
    format: formatDuration,
  };
}

/** Each series on top of those before it. */
export function stacked(series: readonly ChartSeries[]): number[][] {
  const sums: number[] = [];
  return series.map(({ values }) => values.map((value, i) => (sums[i] = (sums[i] ?? 0) + (value ?? 0))));
}
