/** The report of an audit: its rows, and the Markdown that is published. Pure. */
import { plural } from "./text.ts";
import type { Approval, AuditedPage, LinkFinding, PageRow, SiteAuditReport } from "./types.ts";

/** Lists longer than this are cut in the report, with the number that is left out. */
const LISTED = 50;

/** What an approval event says. It approves if it says `approved: true`, or says nothing of it. */
export function toApproval(
  payload: unknown,
): Pick<SiteAuditReport, "approved" | "approvedBy" | "approvalNote"> {
  const { approved, approvedBy, note }: Record<keyof Approval, unknown> = {
    approved: true,
    approvedBy: undefined,
    note: undefined,
    ...(isObject(payload ?? {}) ? (payload as object | null) : { approved: false }),
  };
  return {
    approved: approved === true,
    approvedBy:
      typeof approvedBy === "string" && approvedBy !== "" ? approvedBy : "somebody who gave no name",
    ...(typeof note === "string" && { approvalNote: note }),
  };
}

function isObject(value: unknown): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function pageRow(page: AuditedPage): PageRow {
  const { facts } = page;
  const notes = [...(facts?.notes ?? [])];
  if (page.truncated)
    notes.push(`cut at ${page.bytes} bytes; words, headings and links after that are not counted`);
  if (page.reason !== undefined) notes.push(page.reason);
  if (page.finalUrl !== page.url) notes.push(`redirects to ${page.finalUrl}`);
  return {
    url: page.url,
    status: page.status,
    title: facts?.title ?? "",
    words: facts?.words ?? 0,
    headings: facts?.headings.length ?? 0,
    links: facts?.links.length ?? 0,
    notes,
  };
}

export function toMarkdown(report: Omit<SiteAuditReport, "publishedTo">): string {
  const { site, pages, pagesLeftOut, links, summary } = report;
  const approval = report.approved ? "Approved" : "Not approved";
  return [
    `# Audit of ${site}`,
    "",
    cell(summary.text),
    "",
    `(Summary: ${cell(summary.by)}.) ${approval} by ${cell(report.approvedBy)}.`,
    "",
    "| page | status | title | words | headings | links | notes |",
    "|---|---|---|---|---|---|---|",
    ...pages.map(
      ({ url, status, title, words, headings, links: count, notes }) =>
        `| ${cell(url)} | ${status} | ${cell(title)} | ${words} | ${headings} | ${count} | ${cell(notes.join("; "))} |`,
    ),
    "",
    ...(pagesLeftOut > 0 ? [`${plural(pagesLeftOut, "page")} more known, not crawled.`, ""] : []),
    `${plural(links.targets, "link target")}: ${links.ok} work, ${links.broken.length} broken, ${links.unchecked.length} not checked.`,
    "",
    ...findings("Broken links", links.broken),
    ...findings("Links that were not checked", links.unchecked),
  ].join("\n");
}

function findings(title: string, list: readonly LinkFinding[]): string[] {
  if (list.length === 0) return [];
  const rows = list.slice(0, LISTED).map(({ target, reason, usedOn }) => {
    const on = usedOn.slice(0, 3).join(", ") + (usedOn.length > 3 ? ` and ${usedOn.length - 3} more` : "");
    return `- ${cell(target)}: ${cell(reason)} (on ${cell(on)})`;
  });
  const more = list.length - rows.length;
  return [`## ${title}`, "", ...rows, ...(more > 0 ? [`- … and ${more} more`] : []), ""];
}

/** What a site says about itself must not become markup of the report. */
function cell(text: string): string {
  return text.replace(/[\r\n]+/g, " ").replace(/[\\|<>`[\]*_]/g, (mark) => `\\${mark}`);
}
