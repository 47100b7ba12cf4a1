/**
 * The real Worker's app with tokens of its own, runs of two projects, and a client that holds every answer of the API
 * against the OpenAPI document.
 */
import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import type { DurableRunStore } from "../../src/contract/types.ts";
import type { Env } from "../../src/env.ts";
import { storeOf } from "../../src/env.ts";
import { ENDPOINTS } from "../../src/http/endpoints.ts";
import { openApiDocument } from "../../src/http/openapi.ts";
import { newToken } from "../../src/http/tokens.ts";
import type { TokenEntry } from "../../src/http/tokens.ts";
import { runDurable } from "../../src/runner/run-durable.ts";
import worker from "../../src/worker.ts";
import { problemsOfAnswer } from "./openapi-check.ts";

export const ORIGIN = "https://runs.test";

const minted = {
  admin: newToken({ name: "admin", access: "write" }),
  reader: newToken({ name: "reader", access: "read" }),
  alpha: newToken({ name: "alpha", access: "write", projectId: "alpha" }),
  alphaReader: newToken({ name: "alpha reader", access: "read", projectId: "alpha" }),
};

export type TokenName = keyof typeof minted;

export function tokenOf(name: TokenName): string {
  return minted[name].token;
}

export const TOKEN_ENTRIES: TokenEntry[] = Object.values(minted).map(({ entry }) => entry);

/** The bindings of the tests, with the tokens. */
export function envWith(settings: Partial<Env> = {}): Env {
  return { ...(env as unknown as Env), API_TOKENS: JSON.stringify(TOKEN_ENTRIES), ...settings };
}

export const DOCUMENT = openApiDocument(ENDPOINTS, "/api/v1");

export interface CallOptions {
  method?: string;
  /** Default: the administrator's. `null`: none. */
  as?: TokenName | null;
  /** Sent as JSON. */
  body?: unknown;
  /** Sent as it is. */
  raw?: BodyInit;
  headers?: Record<string, string>;
  settings?: Partial<Env>;
  origin?: string;
}

/** Sends one request to the Worker. What the API answers has to be what its document says. */
export async function call(path: string, options: CallOptions = {}): Promise<Response> {
  const { as = "admin", body, raw, settings, origin = ORIGIN } = options;
  const sent = raw ?? (body === undefined ? undefined : JSON.stringify(body));
  const { method = sent === undefined ? "GET" : "POST" } = options;
  const headers = new Headers(sent === undefined ? {} : { "content-type": "application/json" });
  if (as !== null) headers.set("authorization", `Bearer ${tokenOf(as)}`);
  for (const [name, value] of Object.entries(options.headers ?? {})) headers.set(name, value);
  const request = new Request(origin + path, {
    method,
    headers,
    redirect: "manual",
    ...(sent !== undefined && { body: sent }),
  });
  const ctx = createExecutionContext();
  const response = await worker.fetch(request, envWith(settings), ctx);
  if (!new URL(request.url).pathname.startsWith("/api/v1/") || method === "HEAD") return response;
  const text = await response.text();
  await waitOnExecutionContext(ctx);
  const answer = { status: response.status, type: response.headers.get("content-type"), text };
  const problems = problemsOfAnswer(DOCUMENT, method, new URL(request.url).pathname, answer);
  if (problems.length > 0)
    throw new Error(`${method} ${path} answered otherwise than documented: ${problems.join("; ")}`);
  return new Response(text, response);
}

export async function json<T = Record<string, unknown>>(response: Promise<Response>): Promise<T> {
  const answered = await response;
  if (!answered.ok) throw new Error(`${answered.status}: ${await answered.text()}`);
  return (await answered.json()) as T;
}

/** The status and the code of a problem. */
export async function refusal(response: Promise<Response>): Promise<[number, string]> {
  const answered = await response;
  return [answered.status, (await answered.json<{ code: string }>()).code];
}

export function store(): DurableRunStore & Required<Pick<DurableRunStore, "loadRun">> {
  return storeOf(envWith());
}

/** A completed run of two steps, with an event, of a project. */
export async function completedRun(runId: string, projectId: string, input = {}): Promise<void> {
  await runDurable({
    runId,
    store: store(),
    workerId: "w",
    manifest: {
      projectId,
      scenarioId: "s",
      task: { id: "greet", intent: "Greet somebody" },
      input,
      tags: { kind: "test" },
    },
    taskFn: async (ctx) => {
      const name = await ctx.step("ask", async () => ({ name: "Ada" }), { kind: "tool" });
      return ctx.step("greet", async () => `Hello, ${name.name}`);
    },
  });
  await store().emitEvent({ runId, key: "news", payload: { n: 1 } });
}

/** A run that waits for somebody to resolve its only step. */
export async function parkedRun(runId: string, projectId: string): Promise<void> {
  const manifest = { projectId, task: { id: "pay", intent: "Pay" }, input: {} };
  const claimed = await store().startOrResume({ runId, manifest, workerId: "dead", leaseMs: 1 });
  const step = {
    runId,
    stepIndex: 0,
    intent: "pay",
    kind: "tool",
    inputHash: "",
    onInterrupted: "park",
  } as const;
  await store().beginStep({ ...step, ...(claimed.fence !== undefined && { fence: claimed.fence }) });
  const again = await store().startOrResume({ runId, manifest, workerId: "dead" });
  await store().beginStep({ ...step, ...(again.fence !== undefined && { fence: again.fence }) });
  await store().suspendRun?.({
    runId,
    workerId: "dead",
    ...(again.fence !== undefined && { fence: again.fence }),
  });
}
