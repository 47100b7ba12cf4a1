/** The site audit as a registered task: what a Workflow instance runs by name. */
import { cutText } from "../../src/contract/limits.ts";
import type { RegisteredTask } from "../../src/workflows/tasks.ts";
import { siteAudit } from "./agent.ts";
import { type ModelConfig, summariser } from "./summarise.ts";
import { parseSiteAuditInput, type SiteAuditInput, type SiteAuditReport } from "./types.ts";

/** Of an approver's name in the outcome. */
const MAX_NAME_BYTES = 256;

export const siteAuditTask: RegisteredTask<ModelConfig, SiteAuditInput, SiteAuditReport> = {
  description:
    "Crawls a web site, checks its links, summarises what it found, and publishes the report once a person approves it.",
  projectId: "site-audit",
  intent: "Audit a web site and publish a report",
  parse: parseSiteAuditInput,
  run: (ctx, input, env) => {
    const fetcher = (url: string, request?: RequestInit): Promise<Response> => fetch(url, request);
    return siteAudit(input, { fetch: fetcher, summarise: summariser(env, fetcher) })(ctx);
  },
  outcome: ({ approved, approvedBy, links, pages }) => ({
    pass: approved,
    ...(links.targets > 0 && { score: links.ok / links.targets }),
    notes: `${approved ? "Approved" : "Not approved"} by ${cutText(approvedBy, MAX_NAME_BYTES)}`,
    metadata: { pages: pages.length, linkTargets: links.targets, brokenLinks: links.broken.length },
  }),
};
