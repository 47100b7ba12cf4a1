/**
 * A chart by uPlot, as wide as its place, in the colours of the style sheet; and the same numbers as a table, for those
 * who cannot see it.
 */
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { formatInstant } from "../format.ts";
import type { ChartData } from "./charts.ts";
import { COLORS, stacked } from "./charts.ts";

const HEIGHT = 220;

export function Chart({ of, label }: { of: ChartData; label: string }) {
  const place = useRef<HTMLDivElement>(null);
  const content = JSON.stringify([of.times, of.series]);
  useEffect(() => {
    const element = place.current;
    if (element === null) return undefined;
    let plot = draw(element, of);
    const redraw = (): void => {
      plot.destroy();
      plot = draw(element, of);
    };
    const resize = new ResizeObserver(() => {
      if (plot.width !== element.clientWidth) plot.setSize({ width: element.clientWidth, height: HEIGHT });
    });
    resize.observe(element);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", redraw);
    return () => {
      scheme.removeEventListener("change", redraw);
      resize.disconnect();
      plot.destroy();
    };
  }, [content]);
  return (
    <figure class="chart">
      <div ref={place} role="img" aria-label={label} class="plot" />
      <details>
        <summary>As a table</summary>
        <Numbers of={of} />
      </details>
    </figure>
  );
}

function Numbers({ of }: { of: ChartData }) {
  const isSet = (i: number): boolean => of.series.some(({ values }) => (values[i] ?? 0) !== 0);
  const shown = of.times.flatMap((time, i) => (isSet(i) ? [{ time, i }] : []));
  return (
    <div class="scroll" role="region" aria-label="The numbers of the chart" tabIndex={0}>
      <table>
        <thead>
          <tr>
            <th scope="col">From</th>
            {of.series.map(({ label }) => (
              <th key={label} scope="col" class="number">
                {label}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {shown.map(({ time, i }) => (
            <tr key={time}>
              <th scope="row">{formatInstant(new Date(time * 1_000).toISOString())}</th>
              {of.series.map(({ label, values }) => (
                <td key={label} class="number">
                  {values[i] === null || values[i] === undefined ? "–" : of.format(values[i])}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function draw(element: HTMLElement, of: ChartData): uPlot {
  const color = colorsOf(element);
  const isStacked = of.shape === "stacked bars";
  const rows = isStacked ? stacked(of.series) : of.series.map(({ values }) => values);
  const order = of.series.map((_, i) => (isStacked ? of.series.length - 1 - i : i));
  const axis = {
    stroke: color("--muted"),
    grid: { stroke: color("--line"), width: 1 },
    ticks: { stroke: color("--line"), width: 1 },
    font: "11px system-ui, sans-serif",
  };
  const options: uPlot.Options = {
    width: element.clientWidth,
    height: HEIGHT,
    scales: {
      x: { time: true, range: (_, min, max) => withMargin(of, min, max) },
      y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] },
    },
    axes: [
      { ...axis, values: (_, splits) => timeLabels(splits) },
      { ...axis, size: 64, values: (_, splits) => splits.map((value) => labelOf(of, value)) },
    ],
    legend: { live: true },
    series: [
      {
        label: "Time",
        value: (_, value) => (value === null ? "–" : formatInstant(new Date(value * 1_000).toISOString())),
      },
      ...order.map((i) => seriesOf(of, i, color)),
    ],
  };
  return new uPlot(options, [of.times, ...order.map((i) => rows[i] ?? [])], element);
}

/** A custom property as a canvas can take it: resolved for the theme in force. */
function colorsOf(element: HTMLElement): (name: string) => string {
  const probe = document.createElement("span");
  element.append(probe);
  const colors = new Map<string, string>();
  for (const name of ["--muted", "--line", ...COLORS]) {
    probe.style.color = `var(${name})`;
    colors.set(name, getComputedStyle(probe).color);
  }
  probe.remove();
  return (name) => colors.get(name) ?? "";
}

/** Half a bar at either side. */
function withMargin({ times }: ChartData, min: number, max: number): [number, number] {
  const half = ((times[1] ?? 0) - (times[0] ?? 0)) / 2;
  return [min - half, max + half];
}

const hour = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

/** The date where a day begins, and at the first mark; the time elsewhere. */
function timeLabels(splits: readonly number[]): string[] {
  return splits.map((seconds, i) => {
    const at = new Date(seconds * 1_000);
    const isMidnight = at.getHours() === 0 && at.getMinutes() === 0;
    if (isMidnight) return day.format(at);
    return i === 0 ? `${hour.format(at)}\n${day.format(at)}` : hour.format(at);
  });
}

/** Whole numbers alone: there is no half of a run. */
function labelOf(of: ChartData, value: number): string {
  return of.shape === "stacked bars" && !Number.isInteger(value) ? "" : of.format(value);
}

function seriesOf(of: ChartData, i: number, color: (name: string) => string): uPlot.Series {
  const { label = "", color: name = "", values = [] } = of.series[i] ?? {};
  const stroke = color(name);
  const { bars } = uPlot.paths;
  const isBars = of.shape === "stacked bars";
  return {
    label,
    stroke,
    width: isBars ? 0 : 2,
    spanGaps: true,
    points: { show: !isBars, size: 6 },
    // The legend tells the value itself, not its height in the stack.
    value: (_, __, ___, at) => {
      const value = at === null ? null : (values[at] ?? null);
      return value === null ? "–" : of.format(value);
    },
    ...(isBars && { fill: stroke }),
    ...(isBars && bars !== undefined && { paths: bars({ size: [0.7, 40] }) }),
  };
}
