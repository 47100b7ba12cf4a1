/** What the demo prints: lines with the time since it began, the table of steps, and the report in short. */
import type { StepRecord } from "../../../src/contract/types.ts";
import { label } from "../text.ts";
import type { LinkFinding, SiteAuditReport } from "../types.ts";
import type { RunView } from "./client.ts";

const began = Date.now();

/** A line of the story. */
export function say(text: string): void {
  console.log(`[${((Date.now() - began) / 1_000).toFixed(1).padStart(5)} s] ${text}`);
}

/** A line that belongs to the one before. */
export function detail(text: string): void {
  console.log(`          ${text}`);
}

export function secondsSoFar(): string {
  return ((Date.now() - began) / 1_000).toFixed(1);
}

export function printSteps({ steps }: RunView): void {
  const rows = steps.map((step) => [
    String(step.stepIndex),
    step.kind,
    step.intent.length > 60 ? `${step.intent.slice(0, 59)}…` : step.intent,
    String(step.attempts),
    step.workerId ?? "",
    durationMs(step),
  ]);
  printTable(["step", "kind", "intent", "attempts", "worker", "ms"], rows, new Set([0, 3, 5]));
}

export function printPages(report: SiteAuditReport): void {
  const rows = report.pages.map(({ url, status, words, headings, links, notes }) => [
    label(url),
    String(status),
    String(words),
    String(headings),
    String(links),
    notes.join("; "),
  ]);
  printTable(["page", "status", "words", "headings", "links", "notes"], rows, new Set([1, 2, 3, 4]));
}

export function printReport(report: SiteAuditReport): void {
  const { links, summary } = report;
  const reasons = [...Map.groupBy(links.unchecked, ({ reason }) => reason)];
  const unchecked = reasons.map(([reason, list]) => `${list.length} ${reason}`).join("; ");
  detail(
    `links: ${links.targets} targets, ${links.ok} ok, ${links.broken.length} broken, ` +
      `${links.unchecked.length} not checked${unchecked === "" ? "" : ` (${unchecked})`}`,
  );
  for (const finding of links.broken.slice(0, 10)) detail(`  broken: ${brief(finding)}`);
  if (links.broken.length > 10) detail(`  … and ${links.broken.length - 10} more`);
  if (report.pagesLeftOut > 0) detail(`pages that are known and were not crawled: ${report.pagesLeftOut}`);
  detail(`summary, by ${summary.by}:`);
  for (const line of wrap(summary.text, 96)) detail(`  ${line}`);
  detail(`${report.approved ? "approved" : "not approved"} by ${report.approvedBy}`);
  detail(
    report.publishedTo === undefined
      ? "published in the record of the run"
      : `published at ${report.publishedTo}`,
  );
}

export function printTable(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  numeric: ReadonlySet<number>,
): void {
  const widths = head.map((title, at) => Math.max(title.length, ...rows.map((row) => row[at]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, at) => (numeric.has(at) ? cell.padStart(widths[at] ?? 0) : cell.padEnd(widths[at] ?? 0)))
      .join("  ")
      .trimEnd();
  detail(line(head));
  detail(widths.map((width) => "-".repeat(width)).join("  "));
  for (const row of rows) detail(line(row));
}

function brief({ target, reason, usedOn }: LinkFinding): string {
  const pages = usedOn.map(label);
  return `${target} — ${reason} (on ${pages[0]}${pages.length > 1 ? ` and ${pages.length - 1} more` : ""})`;
}

function durationMs({ startedAt, completedAt }: StepRecord): string {
  return startedAt === undefined || completedAt === undefined
    ? ""
    : String(Date.parse(completedAt) - Date.parse(startedAt));
}

function wrap(text: string, width: number): string[] {
  const lines = [""];
  for (const word of text.split(/\s+/)) {
    const last = lines.at(-1) ?? "";
    if (last !== "" && last.length + word.length >= width) lines.push(word);
    else lines[lines.length - 1] = last === "" ? word : `${last} ${word}`;
  }
  return lines;
}
