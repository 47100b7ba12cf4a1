/**
 * The page server: this project's documentation over plain HTTP on loopback, as a site that an agent can crawl.
 *
 * Owns the log of visits that the demo's proof stands on. README.md and docs/ are rendered; any other file of the
 * repository that a page links to is served as text, so that a link is broken here exactly when its target is missing.
 */
import { readdir, readFile, stat } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join, relative, sep } from "node:path";
import { escapeHtml, renderPage, titleOf } from "./markdown.ts";
import type { NavEntry } from "./markdown.ts";

/** One request, from its arrival on. */
export interface Visit {
  path: string;
  method: string;
  /** Epoch milliseconds. */
  at: number;
  /** Absent while the server holds the request open, or when the client went away first. */
  answeredAt?: number;
}

export interface DocsSite {
  url: string;
  pageCount: number;
  /** Where the agent may PUT its report. */
  publishUrl: string;
  visits: readonly Visit[];
  /** What was PUT there, if anything. */
  published(): string | undefined;
  /** Called at each arrival; the answer waits for what it returns. */
  beforeAnswer(hook: (visit: Visit) => Promise<void>): void;
  close(): Promise<void>;
}

const PUBLISH_PATH = "/_published/report.md";
/** A page takes a moment, as pages do, so that there is something to kill. */
const PAGE_DELAY_MS = 200;
const HTML = "text/html; charset=utf-8";
const TEXT = "text/plain; charset=utf-8";

export async function startDocsSite(root: string): Promise<DocsSite> {
  const pages = await loadPages(root);
  const [startPath] = pages.keys();
  if (startPath === undefined) throw new Error(`${root} has neither a README.md nor docs/*.md to audit`);
  const visits: Visit[] = [];
  let hook: (visit: Visit) => Promise<void> = async () => {};
  let published: string | undefined;

  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const path = decodeURIComponent(new URL(request.url ?? "/", "http://localhost").pathname);
    const visit: Visit = { path, method: request.method ?? "GET", at: Date.now() };
    visits.push(visit);
    response.on("finish", () => (visit.answeredAt = Date.now()));
    if (visit.method === "PUT" && path === PUBLISH_PATH) {
      published = await bodyOf(request);
      return send(response, 201, TEXT, "published\n");
    }
    if (visit.method !== "GET" && visit.method !== "HEAD") return send(response, 405, TEXT, "not allowed\n");
    const page = pages.get(path);
    if (page !== undefined && visit.method === "GET") {
      await new Promise((resolve) => setTimeout(resolve, PAGE_DELAY_MS));
      await hook(visit);
    }
    if (page !== undefined) return send(response, 200, HTML, page);
    if (path === "/") return send(response, 302, TEXT, `see ${startPath}\n`, { location: startPath });
    const file = await repositoryFile(root, path);
    return file === undefined ? send(response, 404, TEXT, `no ${path}\n`) : send(response, 200, TEXT, file);
  };

  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy());
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url: origin + startPath,
    pageCount: pages.size,
    publishUrl: origin + PUBLISH_PATH,
    visits,
    published: () => published,
    beforeAnswer: (next) => void (hook = next),
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** HTML by path: README.md first, then what is in docs/. */
async function loadPages(root: string): Promise<Map<string, string>> {
  const paths = ["README.md", "CHANGELOG.md", ...(await markdownIn(root, "docs"))];
  const sources = new Map<string, string>();
  for (const path of paths) {
    const text = await readFile(join(root, path), "utf8").catch(() => undefined);
    if (text !== undefined) sources.set(`/${path}`, text);
  }
  const nav: NavEntry[] = [...sources].map(([path, text]) => ({ path, title: titleOf(text, path) }));
  return new Map([...sources].map(([path, text]) => [path, renderPage(text, titleOf(text, path), nav)]));
}

async function markdownIn(root: string, folder: string): Promise<string[]> {
  const entries = await readdir(join(root, folder), { recursive: true, withFileTypes: true }).catch(() => []);
  return entries
    .filter((entry) => entry.isFile() && entry.name.endsWith(".md"))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)).split(sep).join("/"))
    .sort();
}

/** A file of the repository, or a list of what is in a folder. Nothing hidden, nothing installed, nothing outside. */
async function repositoryFile(root: string, path: string): Promise<string | undefined> {
  const parts = path.split("/").filter((part) => part !== "");
  if (parts.some((part) => part.startsWith(".") || part === "node_modules" || part.includes("\0")))
    return undefined;
  const place = join(root, ...parts);
  const found = await stat(place).catch(() => undefined);
  if (found?.isFile()) return readFile(place, "utf8");
  if (found?.isDirectory()) return `${(await readdir(place)).map(escapeHtml).join("\n")}\n`;
  return undefined;
}

function send(
  response: ServerResponse,
  status: number,
  contentType: string,
  body: string,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { "content-type": contentType, ...headers });
  response.end(response.req.method === "HEAD" ? undefined : body);
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString("utf8");
}
