/** Results as Markdown. */
import type { CountedCost } from "../counts/counters.ts";
import { figureOf, shown, shownFigure } from "./figures.ts";
import type { MeasuredMemory } from "./memory.ts";
import type { MeasuredWork } from "./rounds.ts";
import type { Target } from "./targets.ts";

export interface Results {
  /** What it was measured on. */
  readonly machine: string;
  readonly versions: string;
  readonly rounds: number;
  readonly works: readonly MeasuredWork[];
  /** Empty when W5 was left out. */
  readonly memory: readonly MeasuredMemory[];
  readonly counts: readonly CountedCost[];
  readonly targets: readonly Target[];
}

export function toMarkdown(results: Results): string {
  const { machine, versions, rounds, works, memory, counts, targets } = results;
  return [
    `Medians of ${rounds} rounds after a warm-up, with the lowest and the highest in brackets. ${machine}; ${versions}.`,
    ...works.map(workTable),
    ...(memory.length > 0 ? [memoryTable(memory)] : []),
    countsTable(counts),
    targetsTable(targets),
  ].join("\n\n");
}

function workTable({ id, title, unit, rows }: MeasuredWork): string {
  const variants = [...new Set(rows.map((row) => row.variant))];
  const subjects = [...new Set(rows.map((row) => row.subject))];
  const cell = (subject: string, variant: string): string => {
    const found = rows.find((row) => row.subject === subject && row.variant === variant);
    return found ? shownFigure(figureOf(found.samples)) : "";
  };
  const heads = variants.map((variant) => (variant === "" ? unit : `${variant}, ${unit}`));
  const lines = subjects.map((subject) => [subject, ...variants.map((variant) => cell(subject, variant))]);
  return `### ${id}: ${title}\n\n${table([id, ...heads], lines)}`;
}

function memoryTable(measured: readonly MeasuredMemory[]): string {
  const lines = measured.map(({ subject, variant, peak, looks, live, resident }) => [
    subject,
    variant,
    ...[peak, live, resident].map((samples) => shownFigure(figureOf(samples))),
    String(figureOf(looks).median),
  ]);
  const heads = ["highest heap seen", "highest seen after a collection", "memory of workerd"];
  const head = ["W5, memory", "resumed", ...heads.map((title) => `${title}, MB`), "looks"];
  return `### W5: memory of a resume of 10,000 steps\n\n${table(head, lines)}`;
}

const COUNTED: readonly (readonly [keyof CountedCost["step"], string])[] = [
  ["d1RoundTrips", "D1 round trips"],
  ["d1RowsWritten", "D1 rows written"],
  ["d1RowsRead", "D1 rows read"],
  ["d1Bytes", "bytes to and from D1"],
  ["objectRowsWritten", "object rows written"],
  ["alarmsSet", "alarms set"],
  ["rpcCalls", "RPC calls"],
  ["requests", "of them requests"],
  ["rpcBytes", "bytes over RPC"],
];

function countsTable(costs: readonly CountedCost[]): string {
  const lines = costs.flatMap(({ store, step, stepOfMany, run, heartbeat }) =>
    (
      [
        ["a step", step],
        ["a step, 50 runs at once", stepOfMany],
        ["a run of one step", run],
        ["a heartbeat", heartbeat],
      ] as const
    ).map(([of, counts]) => [
      store,
      of,
      ...COUNTED.map(([name]) => String(Math.round(counts[name] * 100) / 100)),
    ]),
  );
  return `### Counted\n\n${table(["store", "of", ...COUNTED.map(([, title]) => title)], lines)}`;
}

function targetsTable(targets: readonly Target[]): string {
  const lines = targets.map(({ what, toReach, measured, reached }) => [
    what,
    toReach,
    measured === undefined
      ? "not measured"
      : measured.min === measured.max
        ? shown(measured.median)
        : shownFigure(measured),
    reached === undefined ? "" : reached ? "yes" : "**no**",
  ]);
  return `### To reach\n\nEach ratio is taken within a round.\n\n${table(["what", "to reach", "measured", "reached"], lines)}`;
}

function table(head: readonly string[], lines: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...lines.map(line)].join("\n");
}
