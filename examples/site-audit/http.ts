/**
 * HTTP as the audit uses it: pages, probes of links, and the readiness of the start page.
 *
 * Owns the time limit, the cap on a body and what counts as an answer. An address that does not answer is a finding,
 * not a failure; only the caller's own signal makes these functions reject.
 */
import type { FetchedPage, LinkProbe } from "./types.ts";

export type Fetch = (url: string, init?: RequestInit) => Promise<Response>;

export interface HttpTools {
  fetch: Fetch;
  /** Aborts what is in flight; the functions then reject with its reason. */
  signal: AbortSignal;
}

export const USER_AGENT = "durable-runs-site-audit";
export const BODY_CAP_BYTES = 512 * 1_024;
const TIMEOUT_MS = 15_000;

/** Gets a page with redirects followed. HTML is kept up to {@link BODY_CAP_BYTES}; other content is not read. */
export async function fetchPage(url: string, tools: HttpTools): Promise<FetchedPage> {
  const nothing = { url, finalUrl: url, status: 0, contentType: "", bytes: 0, truncated: false };
  const answer = await ask(url, "GET", tools, async (response): Promise<FetchedPage> => {
    const finalUrl = response.url || url;
    const contentType = response.headers.get("content-type") ?? "";
    const page = { ...nothing, finalUrl, status: response.status, contentType };
    if (!/^(text\/html|application\/xhtml\+xml)\b/i.test(contentType)) {
      await response.body?.cancel();
      return { ...page, reason: `not HTML (${contentType || "no content type"})` };
    }
    const { bytes, truncated } = await readCapped(response);
    return { ...page, bytes: bytes.byteLength, truncated, html: decode(bytes, contentType) };
  });
  return "failed" in answer ? { ...nothing, reason: answer.failed } : answer.value;
}

/** Asks for a link with HEAD, and with GET where HEAD is not welcome. */
export async function probeLink(url: string, tools: HttpTools): Promise<LinkProbe> {
  const status = async (response: Response): Promise<number> => {
    await response.body?.cancel();
    return response.status;
  };
  let answer = await ask(url, "HEAD", tools, status);
  const refused = "failed" in answer || (answer.value >= 400 && answer.value !== 404 && answer.value !== 410);
  if (refused) answer = await ask(url, "GET", tools, status);
  return "failed" in answer ? { url, status: 0, reason: answer.failed } : { url, status: answer.value };
}

/** Resolves to where the start page lives, redirects followed; rejects when there is nothing to audit there. */
export async function probeStart(url: string, tools: HttpTools): Promise<{ url: string; status: number }> {
  const look = async (response: Response): Promise<{ url: string; status: number }> => {
    await response.body?.cancel();
    const landed = new URL(response.url || url);
    landed.hash = "";
    return { url: landed.href, status: response.status };
  };
  let answer = await ask(url, "HEAD", tools, look);
  if ("failed" in answer || answer.value.status >= 400) answer = await ask(url, "GET", tools, look);
  if ("failed" in answer) throw new Error(`${url} is not ready to be audited: ${answer.failed}`);
  if (answer.value.status >= 400)
    throw new Error(`${url} is not ready to be audited: HTTP ${answer.value.status}`);
  return answer.value;
}

/** One request, read to its end by `read` within the time limit. */
async function ask<T>(
  url: string,
  method: "GET" | "HEAD",
  { fetch, signal }: HttpTools,
  read: (response: Response) => Promise<T>,
): Promise<{ value: T } | { failed: string }> {
  signal.throwIfAborted();
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  try {
    const headers = { "user-agent": USER_AGENT, accept: "text/html,*/*;q=0.5" };
    const response = await fetch(url, { method, headers, signal: AbortSignal.any([signal, timeout]) });
    return { value: await read(response) };
  } catch (error) {
    signal.throwIfAborted();
    if (timeout.aborted) return { failed: `no full answer within ${TIMEOUT_MS / 1_000} s` };
    return { failed: `no answer: ${error instanceof Error ? error.message : String(error)}` };
  }
}

async function readCapped(response: Response): Promise<{ bytes: Uint8Array; truncated: boolean }> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  const reader = (response.body as ReadableStream<Uint8Array> | null)?.getReader();
  while (reader !== undefined && size <= BODY_CAP_BYTES) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    size += value.byteLength;
  }
  const truncated = size > BODY_CAP_BYTES;
  if (truncated) await reader?.cancel();
  const bytes = new Uint8Array(Math.min(size, BODY_CAP_BYTES));
  let at = 0;
  for (const chunk of chunks) {
    const part = chunk.subarray(0, bytes.byteLength - at);
    bytes.set(part, at);
    at += part.byteLength;
  }
  return { bytes, truncated };
}

function decode(bytes: Uint8Array, contentType: string): string {
  const label = /charset\s*=\s*"?([\w-]+)/i.exec(contentType)?.[1] ?? "utf-8";
  try {
    return new TextDecoder(label).decode(bytes);
  } catch {
    return new TextDecoder().decode(bytes);
  }
}
