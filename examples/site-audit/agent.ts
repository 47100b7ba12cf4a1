/**
 * The example agent: audits a web site and publishes a report once a person has approved it.
 *
 * A plain async function over `DurableContext`. Everything that is not deterministic happens inside a step, and what
 * stands between the steps depends on their results alone; so when the process dies, another worker calls the same
 * function with the same input, the recorded steps answer at once, and the crawl goes on at the page it was cut off at.
 */
import type { DurableContext } from "../../src/runner/types.ts";
import { extractPage } from "./extract.ts";
import type { Fetch, HttpTools } from "./http.ts";
import { fetchPage, probeLink, probeStart } from "./http.ts";
import { judgeLinks, looksLikePage, planLinkChecks } from "./links.ts";
import { pageRow, toApproval, toMarkdown } from "./report.ts";
import type { Draft, Summarise } from "./summarise.ts";
import { localSummary } from "./summarise.ts";
import { label } from "./text.ts";
import type {
  AuditedPage,
  LinkProbe,
  LinkReport,
  SiteAuditInput,
  SiteAuditReport,
  Summary,
} from "./types.ts";

/** The world that the agent works on. */
export interface SiteAuditTools {
  fetch: Fetch;
  summarise: Summarise;
}

const PROBES_PER_STEP = 10;

/** The task of an audit, for `runDurable`. */
export function siteAudit(
  input: SiteAuditInput,
  tools: SiteAuditTools,
): (ctx: DurableContext) => Promise<SiteAuditReport> {
  return async (ctx) => {
    const http: HttpTools = { fetch: tools.fetch, signal: ctx.signal };
    const start = await ctx.step(`probe ${label(input.startUrl)}`, () => probeStart(input.startUrl, http), {
      kind: "readiness",
      inputFingerprint: { url: input.startUrl },
    });
    const { pages, leftOut } = await crawl(ctx, start.url, input.maxPages, http);
    const links = await checkLinks(ctx, pages, new URL(start.url).origin, input, http);
    const summary = await summarise(ctx, { site: start.url, pages, links }, tools);
    const approval = toApproval(
      await ctx.awaitEvent(input.approvalKey, { timeoutMs: input.approvalTimeoutMs }),
    );
    const report: SiteAuditReport = {
      site: start.url,
      pages: pages.map(pageRow),
      pagesLeftOut: leftOut,
      links,
      summary,
      ...approval,
    };
    return report.approved ? publish(ctx, report, input.publishUrl, http) : report;
  };
}

/** Breadth first within one origin: a step for each page that is fetched and one for each that is read. */
async function crawl(
  ctx: DurableContext,
  startUrl: string,
  maxPages: number,
  http: HttpTools,
): Promise<{ pages: AuditedPage[]; leftOut: number }> {
  const { origin } = new URL(startUrl);
  const queue = [startUrl];
  const seen = new Set(queue);
  const pages: AuditedPage[] = [];
  while (pages.length < maxPages) {
    const url = queue.shift();
    if (url === undefined) break;
    const fetched = await ctx.step(`fetch ${label(url)}`, () => fetchPage(url, http), {
      kind: "tool",
      inputFingerprint: { url },
    });
    const { html, ...answer } = fetched;
    const page: AuditedPage = { ...answer, facts: null };
    const isOurs = new URL(page.finalUrl).origin === origin;
    if (!isOurs) page.reason = "leads to another site, so it was not read";
    if (html !== undefined && isOurs && page.status < 400) {
      page.facts = await ctx.step(`read ${label(url)}`, () => extractPage(html, page.finalUrl), {
        kind: "logic",
        inputFingerprint: { url: page.finalUrl, bytes: page.bytes },
      });
    }
    pages.push(page);
    seen.add(page.finalUrl);
    for (const { href } of page.facts?.links ?? []) {
      if (seen.has(href) || new URL(href).origin !== origin || !looksLikePage(href)) continue;
      seen.add(href);
      queue.push(href);
    }
  }
  return { pages, leftOut: queue.length };
}

/** Every link: those within the crawl by what it saw, others by asking for them. */
async function checkLinks(
  ctx: DurableContext,
  pages: readonly AuditedPage[],
  origin: string,
  { checkExternal, maxLinkChecks }: SiteAuditInput,
  http: HttpTools,
): Promise<LinkReport> {
  const rules = { origin, checkExternal, maxLinkChecks };
  const plan = await ctx.step("plan the link checks", async () => planLinkChecks(pages, rules), {
    kind: "logic",
    inputFingerprint: { pages: pages.map(({ url }) => url), rules },
  });
  const probes: LinkProbe[] = [];
  for (let from = 0; from < plan.probes.length; from += PROBES_PER_STEP) {
    const urls = plan.probes.slice(from, from + PROBES_PER_STEP);
    const intent = `ask for links ${from + 1} to ${from + urls.length} of ${plan.probes.length}`;
    const answers = await ctx.step(intent, () => Promise.all(urls.map((url) => probeLink(url, http))), {
      kind: "tool",
      inputFingerprint: { urls },
    });
    probes.push(...answers);
  }
  return ctx.step("check every link", async () => judgeLinks(pages, probes, rules), {
    kind: "logic",
    inputFingerprint: { probes },
  });
}

/** A model that fails three times, or refuses, does not stop the audit. */
async function summarise(ctx: DurableContext, draft: Draft, tools: SiteAuditTools): Promise<Summary> {
  try {
    return await ctx.step("summarise the audit", ({ signal }) => tools.summarise(draft, signal), {
      kind: "llm",
      inputFingerprint: { site: draft.site, pages: draft.pages.map(({ url }) => url), links: draft.links },
      retries: { limit: 2, jitter: true },
      timeoutMs: 60_000,
    });
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return ctx.step("summarise without a model", async () => localSummary(draft, why));
  }
}

/** PUT, because it may happen twice: a worker that dies after it and before its record leaves it to the next one. */
async function publish(
  ctx: DurableContext,
  report: SiteAuditReport,
  publishUrl: string | undefined,
  { fetch, signal }: HttpTools,
): Promise<SiteAuditReport> {
  const published = await ctx.step(
    "publish the report",
    async () => {
      const markdown = toMarkdown(report);
      if (publishUrl === undefined) return { markdown };
      const headers = { "content-type": "text/markdown; charset=utf-8" };
      const response = await fetch(publishUrl, { method: "PUT", headers, body: markdown, signal });
      await response.body?.cancel();
      if (!response.ok) throw new Error(`${publishUrl} refused the report: HTTP ${response.status}`);
      return { markdown, publishedTo: publishUrl };
    },
    { kind: "tool", inputFingerprint: { publishUrl: publishUrl ?? null } },
  );
  return { ...report, ...(published.publishedTo !== undefined && { publishedTo: published.publishedTo }) };
}
