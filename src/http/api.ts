/**
 * The HTTP API as a Hono app: `/api/v1`.
 *
 * Owns the way of a request: who asks, may they, what do they ask, and the one shape of errors. What the endpoints do is
 * in endpoints.ts; what a project may see is decided below, by the store and the history that are made with its scope.
 */
import { Hono } from "hono";
import type { Context } from "hono";
import { DurableInvalidInputError } from "../contract/errors.ts";
import { checkText, LIMITS } from "../contract/limits.ts";
import type { RunHistoryReads } from "../history/types.ts";
import type { RunWorkflowBinding } from "../workflows/start-run.ts";
import type { TaskRegistry } from "../workflows/tasks.ts";
import { sha256Hex } from "../identity.ts";
import { readJson } from "./body.ts";
import type { Credentials, Identified } from "./caller.ts";
import { checkMayWrite, identify, scopeOf } from "./caller.ts";
import type { ApiStore, Endpoint, Reply, Services } from "./endpoint.ts";
import { ENDPOINTS } from "./endpoints.ts";
import { withSecurityHeaders } from "./headers.ts";
import { openApiDocument } from "./openapi.ts";
import { HttpError, problemResponse } from "./problems.ts";
import type { Caller, Scope } from "./scope.ts";

export const API_BASE = "/api/v1";

export interface RunsApiOptions<Env extends object> {
  /** A store that refuses with `forbidden` what lies outside the scope. Made and closed once a request, where it needs one. */
  storeFor: (env: Env, scope: Scope) => ApiStore;
  /** A history that shows nothing outside the scope. Asked once a request. */
  historyFor: (env: Env, scope: Scope) => RunHistoryReads;
  /** Whom to let in: see {@link credentialsFrom}. With none, nobody. */
  credentials: (env: Env) => Credentials;
  /** What can be started. Default: nothing. */
  tasks?: TaskRegistry<Env>;
  /** The binding of the Workflow that runs the tasks: a class that extends DurableRunWorkflow. Default: nothing can be started. */
  workflow?: (env: Env) => RunWorkflowBinding;
  /** What to do after an answer of `/stats`, such as counting what has ended since. It delays nothing. */
  afterStats?: (env: Env) => Promise<unknown>;
  /** Of a request. Default 1 MiB. */
  maxBodyBytes?: number;
  /** Told of errors that are not of the contract. Default: `console.error`. */
  report?: (error: unknown) => void;
}

const MAX_BODY_BYTES = 1_024 * 1_024;
/** Of the path, and of the query. Two ids of 1,024 bytes, percent-encoded, fit. */
const MAX_ADDRESS_LENGTH = 8_192;

/** An app with routes at {@link API_BASE} alone, to be served as it is or mounted with `app.route("/", api)`. */
export function createRunsApi<Env extends object>(options: RunsApiOptions<Env>): Hono<{ Bindings: Env }> {
  const { report = (error) => console.error(error) } = options;
  const app = new Hono<{ Bindings: Env }>();
  const finish = (c: Context, response: Response): Response =>
    withSecurityHeaders(response, c.req.raw, "no-store");
  let document: object | undefined;
  const documentOf = (): object => (document ??= openApiDocument(ENDPOINTS, API_BASE));

  for (const endpoint of ENDPOINTS) {
    app.on(endpoint.method, API_BASE + endpoint.path, async (c) => {
      try {
        return finish(c, await answer(c, endpoint, options, documentOf));
      } catch (error) {
        return finish(c, problemResponse(error, report));
      }
    });
  }
  const refuse = async (c: Context<{ Bindings: Env }>): Promise<Response> => {
    try {
      await identify(c.req.raw, options.credentials(c.env));
      throw methodOrAddress(c.req.path);
    } catch (error) {
      return finish(c, problemResponse(error, report));
    }
  };
  app.all(API_BASE, refuse);
  app.all(`${API_BASE}/*`, refuse);
  return app;
}

async function answer<Env extends object>(
  c: Context<{ Bindings: Env }>,
  endpoint: Endpoint,
  options: RunsApiOptions<Env>,
  document: () => object,
): Promise<Response> {
  const { raw } = c.req;
  const identified =
    endpoint.access === "public" ? undefined : await identify(raw, options.credentials(c.env));
  if (endpoint.access === "write") checkMayWrite(identified, raw);
  const url = new URL(raw.url);
  const params = paramsOf(url.pathname, endpoint.path);
  const query = queryOf(url);
  const keyed = keyedOf(raw, endpoint, params, identified?.caller);
  const body =
    endpoint.body === undefined ? undefined : await readJson(raw, options.maxBodyBytes ?? MAX_BODY_BYTES);
  const { close, ...services } = servicesOf(c, identified, options);
  try {
    return toResponse(await endpoint.call({ ...services, ...keyed, document }, { params, query, body }));
  } finally {
    await close();
  }
}

/** What an endpoint works with. Where nobody was asked who it is, nothing but the address can be used. */
function servicesOf<Env extends object>(
  c: Context<{ Bindings: Env }>,
  identified: Identified | undefined,
  options: RunsApiOptions<Env>,
): Omit<Services, "request" | "keyedRunId" | "document"> & { readonly close: () => Promise<void> } {
  const { afterStats, tasks = {} } = options;
  let store: ApiStore | undefined;
  const caller = (): Caller => {
    if (identified === undefined) throw new HttpError("unauthorized");
    return identified.caller;
  };
  return {
    caller,
    store: () => (store ??= options.storeFor(c.env, scopeOf(caller()))),
    history: () => options.historyFor(c.env, scopeOf(caller())),
    tasks: tasks as TaskRegistry,
    workflow: options.workflow?.(c.env),
    afterStats: () => {
      if (afterStats === undefined) return;
      const work = afterStats(c.env).catch((error: unknown) => console.error(error));
      c.executionCtx.waitUntil(work);
    },
    close: async () => store?.close(),
  };
}

function toResponse({ status, body, location }: Reply): Response {
  const headers = new Headers({ "content-type": "application/json" });
  if (location !== undefined) headers.set("location", API_BASE + location);
  return new Response(JSON.stringify(body), { status, headers });
}

/**
 * The parts of the path that the endpoint names, decoded. An encoded slash belongs to its part. What the endpoint spells
 * out has to come as it is: the router has matched the decoded path, in which it may stand elsewhere.
 */
function paramsOf(pathname: string, pattern: string): Record<string, string> {
  checkLength("path", pathname);
  const parts = pathname.split("/");
  const names = (API_BASE + pattern).split("/");
  if (parts.length !== names.length) throw new HttpError("not_found");
  const params: Record<string, string> = {};
  for (const [at, name] of names.entries()) {
    if (!name.startsWith(":")) {
      if (parts[at] !== name) throw new HttpError("not_found");
      continue;
    }
    try {
      params[name.slice(1)] = decodeURIComponent(parts[at] ?? "");
    } catch {
      throw new DurableInvalidInputError(name.slice(1), "is not percent-encoded UTF-8");
    }
  }
  return params;
}

/** A name that is repeated has an array of values. */
function queryOf({ search, searchParams }: URL): Record<string, string | string[]> {
  checkLength("query", search);
  const names = new Set(searchParams.keys());
  return Object.fromEntries(
    Array.from(names, (name) => {
      const values = searchParams.getAll(name);
      return [name, values.length === 1 ? (values[0] ?? "") : values];
    }),
  );
}

/**
 * What stands for this very request: the same whenever its caller repeats it under its key, and another one for any other
 * address, caller or key.
 */
function keyedOf(
  raw: Request,
  { id }: Endpoint,
  params: Record<string, string>,
  caller: Caller | undefined,
): Pick<Services, "request" | "keyedRunId"> {
  const key = raw.headers.get("idempotency-key");
  if (key === null || caller === undefined) return { request: {}, keyedRunId: undefined };
  checkText("Idempotency-Key", key, LIMITS.requestIdBytes);
  const hash = sha256Hex(JSON.stringify([caller.projectId ?? null, caller.name, id, params, key]));
  return { request: { requestId: hash }, keyedRunId: hash.slice(0, 32) };
}

function checkLength(field: string, text: string): void {
  if (text.length <= MAX_ADDRESS_LENGTH) return;
  throw new DurableInvalidInputError(field, `has more than ${MAX_ADDRESS_LENGTH} characters`);
}

/** Why no endpoint took the request. */
function methodOrAddress(path: string): HttpError {
  const here = ENDPOINTS.filter((endpoint) => {
    const pattern = endpoint.path.replaceAll(".", "\\.").replaceAll(/:\w+/g, "[^/]+");
    return new RegExp(`^${API_BASE}${pattern}$`).test(path);
  });
  if (here.length === 0) return new HttpError("not_found");
  const methods = here.flatMap(({ method }) => (method === "get" ? ["GET", "HEAD"] : ["POST"]));
  return new HttpError("method_not_allowed", { allow: methods.join(", ") });
}
