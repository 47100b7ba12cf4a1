/** What the demo can be told on its command line. */
import { parseArgs } from "node:util";

export interface DemoOptions {
  /** The site to audit instead of this project's own documentation. */
  url?: string;
  kill: boolean;
  maxPages: number;
  checkExternal: boolean;
}

export const USAGE = `npm run demo -- [options]

Audits a web site with an agent whose runtime is killed midway, and shows that nothing recorded is done twice.

  --url <address>    audit this site, not this project's own documentation
  --max-pages <n>    fetch at most n pages, 1 to 200 (default 12)
  --check-external   also ask other sites whether the links to them work (needs a network)
  --no-kill          let the first worker finish
  --help             show this

With OPENAI_BASE_URL and OPENAI_API_KEY set, a model writes the summary (OPENAI_MODEL, default gpt-4o-mini).`;

/** Throws a UsageError for arguments that are not understood. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

export function parseOptions(args: readonly string[]): DemoOptions | "help" {
  const values = parse(args);
  if (values.help === true) return "help";
  const maxPages = Number(values["max-pages"] ?? "12");
  if (!Number.isInteger(maxPages) || maxPages < 1 || maxPages > 200) {
    throw new UsageError(`--max-pages must be a whole number from 1 to 200, but is "${values["max-pages"]}"`);
  }
  return {
    ...(values.url !== undefined && { url: httpUrl(values.url) }),
    kill: values["no-kill"] !== true,
    maxPages,
    checkExternal: values["check-external"] === true,
  };
}

function parse(args: readonly string[]): {
  url?: string;
  help?: boolean;
  "max-pages"?: string;
  "no-kill"?: boolean;
  "check-external"?: boolean;
} {
  try {
    return parseArgs({
      args: [...args],
      options: {
        url: { type: "string" },
        "max-pages": { type: "string" },
        "check-external": { type: "boolean" },
        "no-kill": { type: "boolean" },
        help: { type: "boolean", short: "h" },
      },
    }).values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function httpUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url?.protocol === "http:" || url?.protocol === "https:") return url.href;
  throw new UsageError(`--url must be an http or https address, but is "${text}"`);
}
