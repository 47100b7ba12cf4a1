/**
 * What goes into a site audit and what comes out of it, in plain data: the Worker, the agent and the demo share it.
 *
 * Owns the input's defaults and limits. Relies on the contract's checks alone, so that it type-checks on any platform.
 */
import { DurableInvalidInputError } from "../../src/contract/errors.ts";
import { checkInteger, checkText } from "../../src/contract/limits.ts";

export interface SiteAuditInput {
  /** http or https. The crawl stays on its origin, after redirects. */
  startUrl: string;
  /** How many pages are fetched at most, 1 to 200. Default 12. */
  maxPages: number;
  /** The event that a person sends to approve the report. Default "approve". */
  approvalKey: string;
  /** How long the run waits for it. Default 10 minutes. */
  approvalTimeoutMs: number;
  /** Also ask other sites whether the links to them work. Default false. */
  checkExternal: boolean;
  /** How many links that the crawl did not visit are asked for at most, 0 to 500. Default 40. */
  maxLinkChecks: number;
  /** Where the report is PUT, as Markdown, once approved. */
  publishUrl?: string;
}

/** The payload of the approval event. */
export interface Approval {
  approved?: boolean;
  approvedBy?: string;
  note?: string;
}

/** One page as the crawl got it. `status` 0 means that no answer came; `reason` then says why. */
export interface FetchedPage {
  url: string;
  /** Where redirects led. */
  finalUrl: string;
  status: number;
  contentType: string;
  bytes: number;
  /** The body was cut at the cap: what comes after it is not in this audit. */
  truncated: boolean;
  html?: string;
  /** Why there is no `html`. */
  reason?: string;
}

export interface Link {
  /** Absolute, without its fragment. */
  href: string;
  /** Without the "#"; empty when there is none. */
  fragment: string;
  text: string;
}

export interface PageFacts {
  title: string;
  description: string;
  words: number;
  headings: { level: number; text: string }[];
  links: Link[];
  /** Hrefs that are no URL. */
  malformedLinks: string[];
  /** What a fragment can point to. */
  anchors: string[];
  /** The first paragraphs, for the summary. */
  paragraphs: string[];
  notes: string[];
}

/** A page without its body, and what was read in it; `facts` is null when it was no HTML. */
export interface AuditedPage extends Omit<FetchedPage, "html"> {
  facts: PageFacts | null;
}

export type LinkVerdict = "ok" | "broken" | "unchecked";

/** What came of one target (address and fragment). */
export interface LinkFinding {
  target: string;
  verdict: LinkVerdict;
  reason: string;
  /** Pages that link to it. */
  usedOn: string[];
}

/** What a link that the crawl did not visit answered. `status` 0 means that no answer came. */
export interface LinkProbe {
  url: string;
  status: number;
  reason?: string;
}

export interface LinkReport {
  targets: number;
  ok: number;
  broken: LinkFinding[];
  unchecked: LinkFinding[];
}

export interface Summary {
  text: string;
  /** In words: which model at which host, or the local method and why. */
  by: string;
  local: boolean;
}

export interface PageRow {
  url: string;
  status: number;
  title: string;
  words: number;
  headings: number;
  links: number;
  notes: string[];
}

export interface SiteAuditReport {
  site: string;
  pages: PageRow[];
  /** Pages of the site that the crawl knew of and did not fetch, because of `maxPages`. */
  pagesLeftOut: number;
  links: LinkReport;
  summary: Summary;
  approved: boolean;
  approvedBy: string;
  approvalNote?: string;
  /** Where the report went; absent when it is only in the record of the run. */
  publishedTo?: string;
}

const DEFAULTS = {
  maxPages: 12,
  approvalKey: "approve",
  approvalTimeoutMs: 600_000,
  checkExternal: false,
  maxLinkChecks: 40,
};

const FIELDS = ["startUrl", "publishUrl", ...Object.keys(DEFAULTS)];

/** Checks the input and fills in the defaults. Throws `invalid_input`, naming the field and the limit. */
export function parseSiteAuditInput(value: unknown): SiteAuditInput {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new DurableInvalidInputError("input", "must be an object with a startUrl");
  }
  const given = value as Record<string, unknown>;
  const unknownField = Object.keys(given).find((field) => !FIELDS.includes(field));
  if (unknownField !== undefined) {
    throw new DurableInvalidInputError(
      `input.${unknownField}`,
      `is not known; the fields are ${FIELDS.join(", ")}`,
    );
  }
  const { maxPages, approvalKey, approvalTimeoutMs, checkExternal, maxLinkChecks } = {
    ...DEFAULTS,
    ...given,
  };
  checkInteger("input.maxPages", maxPages, 1, 200);
  checkText("input.approvalKey", approvalKey, 512);
  checkInteger("input.approvalTimeoutMs", approvalTimeoutMs, 0, 30 * 86_400_000);
  checkInteger("input.maxLinkChecks", maxLinkChecks, 0, 500);
  if (typeof checkExternal !== "boolean")
    throw new DurableInvalidInputError("input.checkExternal", "must be a boolean");
  return {
    startUrl: httpUrl("input.startUrl", given["startUrl"]),
    maxPages,
    approvalKey,
    approvalTimeoutMs,
    checkExternal,
    maxLinkChecks,
    ...(given["publishUrl"] !== undefined && {
      publishUrl: httpUrl("input.publishUrl", given["publishUrl"]),
    }),
  };
}

function httpUrl(field: string, value: unknown): string {
  checkText(field, value, 2_048);
  const url = URL.canParse(value) ? new URL(value) : null;
  if (url?.protocol !== "http:" && url?.protocol !== "https:") {
    throw new DurableInvalidInputError(
      field,
      `must be an http or https address, but is ${JSON.stringify(value)}`,
    );
  }
  url.hash = "";
  return url.href;
}
