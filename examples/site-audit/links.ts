/**
 * What is right and wrong with a site's links, from what the crawl saw and what probes answered.
 *
 * Pure: the same pages and probes give the same plan and the same verdicts, in the same order.
 */
import type { AuditedPage, LinkFinding, LinkProbe, LinkReport } from "./types.ts";

/** A place that pages link to: an address, with its fragment. */
interface Target {
  href: string;
  fragment: string;
  usedOn: string[];
}

export interface LinkPlan {
  /** Addresses to ask for, in order of first use. */
  probes: string[];
  /** Addresses that are left out because of the cap. */
  leftOut: number;
}

export interface LinkRules {
  origin: string;
  checkExternal: boolean;
  maxLinkChecks: number;
}

/** Answers that tell a program to go away, but say little about what a person would see. */
const UNCLEAR_STATUSES = new Set([401, 403, 407, 408, 425, 429, 503, 999]);

/** Which links need a request: those that the crawl did not visit, other sites only if the rules say so. */
export function planLinkChecks(pages: readonly AuditedPage[], rules: LinkRules): LinkPlan {
  const known = pagesByUrl(pages);
  const open = new Set<string>();
  for (const { href } of targetsOf(pages)) {
    if (!known.has(href) && (rules.checkExternal || isInternal(href, rules))) open.add(href);
  }
  const probes = [...open].slice(0, rules.maxLinkChecks);
  return { probes, leftOut: open.size - probes.length };
}

export function judgeLinks(
  pages: readonly AuditedPage[],
  probes: readonly LinkProbe[],
  rules: LinkRules,
): LinkReport {
  const known = pagesByUrl(pages);
  const probed = new Map(probes.map((probe) => [probe.url, probe]));
  const findings = targetsOf(pages).map((target): LinkFinding => {
    const { href, fragment, usedOn } = target;
    const page = known.get(href);
    const probe = probed.get(href);
    const [verdict, reason] = page
      ? judgePage(page, fragment)
      : probe
        ? judgeProbe(probe, fragment)
        : (["unchecked", isInternal(href, rules) ? "over the cap on link checks" : "external"] as const);
    return { target: fragment === "" ? href : `${href}#${fragment}`, verdict, reason, usedOn };
  });
  for (const page of pages) {
    for (const target of page.facts?.malformedLinks ?? []) {
      findings.push({ target, verdict: "broken", reason: "not a URL", usedOn: [page.url] });
    }
  }
  return {
    targets: findings.length,
    ok: findings.filter(({ verdict }) => verdict === "ok").length,
    broken: findings.filter(({ verdict }) => verdict === "broken"),
    unchecked: findings.filter(({ verdict }) => verdict === "unchecked"),
  };
}

type Judgement = readonly [LinkFinding["verdict"], string];

function judgePage(page: AuditedPage, fragment: string): Judgement {
  const answer = judgeStatus(page.status, page.reason);
  if (answer[0] !== "ok" || fragment === "") return answer;
  if (page.facts === null)
    return ["unchecked", `anchor in a page that was not read (${page.reason ?? "no HTML"})`];
  if (hasAnchor(page.facts.anchors, fragment)) return answer;
  if (page.truncated) return ["unchecked", "anchor may be in the part of the page that was cut"];
  return ["broken", `no anchor "${fragment}" in the page`];
}

function judgeProbe(probe: LinkProbe, fragment: string): Judgement {
  const answer = judgeStatus(probe.status, probe.reason);
  if (answer[0] !== "ok" || fragment === "") return answer;
  return ["unchecked", "the address works; its anchor was not looked for, as the page was not crawled"];
}

function judgeStatus(status: number, reason: string | undefined): Judgement {
  if (status === 0) return ["broken", reason ?? "no answer"];
  if (UNCLEAR_STATUSES.has(status))
    return ["unchecked", `HTTP ${status}, which may be meant for programs only`];
  return status >= 400 ? ["broken", `HTTP ${status}`] : ["ok", `HTTP ${status}`];
}

/** "#" and "#top" lead to the top of any page; others are compared as written, then percent-decoded, as browsers do. */
function hasAnchor(anchors: readonly string[], fragment: string): boolean {
  if (fragment.toLowerCase() === "top" || anchors.includes(fragment)) return true;
  if (fragment.startsWith(":~:")) return true;
  try {
    return anchors.includes(decodeURIComponent(fragment));
  } catch {
    return false;
  }
}

function targetsOf(pages: readonly AuditedPage[]): Target[] {
  const targets = new Map<string, Target>();
  for (const page of pages) {
    for (const { href, fragment } of page.facts?.links ?? []) {
      const key = `${href}#${fragment}`;
      let target = targets.get(key);
      if (target === undefined) targets.set(key, (target = { href, fragment, usedOn: [] }));
      if (!target.usedOn.includes(page.url)) target.usedOn.push(page.url);
    }
  }
  return [...targets.values()];
}

/** By the address that was asked for and by the one that redirects led to. */
function pagesByUrl(pages: readonly AuditedPage[]): Map<string, AuditedPage> {
  const byUrl = new Map(pages.map((page) => [page.finalUrl, page]));
  for (const page of pages) byUrl.set(page.url, page);
  return byUrl;
}

function isInternal(href: string, { origin }: LinkRules): boolean {
  return new URL(href).origin === origin;
}

/** Does the address look like a page, rather than a file to download? */
export function looksLikePage(href: string): boolean {
  const name = new URL(href).pathname.split("/").at(-1) ?? "";
  const dot = name.lastIndexOf(".");
  return dot <= 0 || /^(html?|xhtml|md|php|aspx?|jsp)$/i.test(name.slice(dot + 1));
}
