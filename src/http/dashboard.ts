/**
 * The dashboard's files and the way in: `/login`, `/logout`, and static assets for whoever bears a session.
 *
 * Only the sign-in page and its own files are public. A session is a cookie that carries the token (cookie.ts); the API
 * takes it as it takes the token, so nothing is kept here.
 */
import type { Context } from "hono";
import { Hono } from "hono";
import { DurableForbiddenError, DurableInvalidInputError } from "../contract/errors.ts";
import { readJson } from "./body.ts";
import type { Credentials } from "./caller.ts";
import { identify, isSameOrigin } from "./caller.ts";
import { setCookie } from "./cookie.ts";
import { withSecurityHeaders } from "./headers.ts";
import { HttpError, problemResponse } from "./problems.ts";

export interface DashboardOptions<Env extends object> {
  credentials: (env: Env) => Credentials;
  /** The files, as an assets binding serves them. Absent: they were not built, and there is no dashboard. */
  assets: (env: Env) => { fetch(request: Request): Promise<Response> } | undefined;
  /** Told of errors that are not of the contract. Default: `console.error`. */
  report?: (error: unknown) => void;
}

const MAX_LOGIN_BYTES = 4_096;
/** What a browser needs before there is a session. */
const PUBLIC = /^\/(?:login|favicon\.svg|assets\/login[-.][\w.-]+)$/;

/** An app that takes every path that is left: mount it last. */
export function createDashboard<Env extends object>(options: DashboardOptions<Env>): Hono<{ Bindings: Env }> {
  const { report = (error) => console.error(error) } = options;
  const app = new Hono<{ Bindings: Env }>();
  type Handler = (c: Context<{ Bindings: Env }>) => Promise<Response>;
  const secured =
    (handle: Handler, cacheControl: string): Handler =>
    async (c) => {
      try {
        return withSecurityHeaders(await handle(c), c.req.raw, cacheControl);
      } catch (error) {
        return withSecurityHeaders(problemResponse(error, report), c.req.raw, "no-store");
      }
    };

  app.post(
    "/login",
    secured((c) => signIn(c.req.raw, options.credentials(c.env)), "no-store"),
  );
  app.post(
    "/logout",
    secured((c) => signOut(c.req.raw), "no-store"),
  );
  app.get(
    "*",
    secured((c) => file(c.req.raw, c.env, options), "private, no-cache"),
  );
  app.all(
    "*",
    secured(() => Promise.reject(new HttpError("not_found")), "no-store"),
  );
  return app;
}

/** Takes `{ token }`, and answers 204 with the cookie. A page of another site may not sign anybody in. */
async function signIn(request: Request, { tokens }: Credentials): Promise<Response> {
  if (!isSameOrigin(request, true)) throw new DurableForbiddenError("the request came from another site");
  const body = await readJson(request, MAX_LOGIN_BYTES);
  const token = (body as { token?: unknown } | null | undefined)?.token;
  if (typeof token !== "string") throw new DurableInvalidInputError("token", "must be a string");
  if (tokens?.find(token) === undefined) throw new HttpError("unauthorized");
  const cookie = setCookie(new URL(request.url), token);
  if (cookie === undefined) throw new DurableForbiddenError("a session needs https");
  return new Response(null, { status: 204, headers: { "set-cookie": cookie } });
}

async function signOut(request: Request): Promise<Response> {
  if (!isSameOrigin(request)) throw new DurableForbiddenError("the request came from another site");
  const cookie = setCookie(new URL(request.url), null);
  return new Response(null, { status: 204, headers: cookie === undefined ? {} : { "set-cookie": cookie } });
}

async function file<Env extends object>(
  request: Request,
  env: Env,
  options: DashboardOptions<Env>,
): Promise<Response> {
  const url = new URL(request.url);
  if (!PUBLIC.test(url.pathname)) {
    const isKnown = await identify(request, options.credentials(env)).then(
      () => true,
      () => false,
    );
    if (!isKnown) return new Response(null, { status: 302, headers: { location: "/login" } });
  }
  const assets = options.assets(env);
  if (assets === undefined) throw new HttpError("not_found");
  // Neither the token nor anything else of the caller is the files' business.
  return assets.fetch(new Request(url, { method: request.method, headers: conditional(request.headers) }));
}

function conditional(headers: Headers): Headers {
  const kept = ["accept", "accept-encoding", "if-none-match", "if-modified-since"];
  return new Headers(
    kept.flatMap((name): [string, string][] => {
      const value = headers.get(name);
      return value === null ? [] : [[name, value]];
    }),
  );
}
