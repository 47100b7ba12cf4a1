/**
 * Who is calling, and what a caller may do.
 *
 * Owns the way from a request to a caller: a bearer token, the cookie of a session, or a Cloudflare Access JWT, in this
 * order; the first that is present decides. Knows no route.
 */
import { DurableForbiddenError } from "../contract/errors.ts";
import type { AccessVerifier } from "./access.ts";
import { cookieOf } from "./cookie.ts";
import { HttpError } from "./problems.ts";
import type { Caller, Scope } from "./scope.ts";
import type { TokenBook } from "./tokens.ts";

export interface Credentials {
  /** Default: none is known. */
  tokens?: TokenBook | undefined;
  /** Default: no JWT is accepted. */
  access?: AccessVerifier | undefined;
}

/** How a caller showed who it is. A browser sends the last two by itself, also for a page of another site. */
export type Via = "bearer" | "cookie" | "access";

export interface Identified {
  caller: Caller;
  via: Via;
}

/** Rejects with `unauthorized`. */
export async function identify(request: Request, credentials: Credentials): Promise<Identified> {
  const { tokens, access } = credentials;
  const header = request.headers.get("authorization");
  if (header !== null) {
    const token = /^Bearer +([\x21-\x7e]+)$/i.exec(header)?.[1];
    return { caller: orRefuse(token === undefined ? undefined : tokens?.find(token)), via: "bearer" };
  }
  const cookie = cookieOf(request);
  if (cookie !== undefined) {
    const caller = tokens?.find(cookie);
    if (caller !== undefined) return { caller, via: "cookie" };
  }
  const jwt = request.headers.get("cf-access-jwt-assertion");
  const caller = jwt === null ? undefined : await access?.verify(jwt);
  return { caller: orRefuse(caller), via: "access" };
}

/** Throws `forbidden` when the caller may only read, or when a browser was made to ask by another site. */
export function checkMayWrite(identified: Identified | undefined, request: Request): void {
  if (identified === undefined) throw new HttpError("unauthorized");
  const { caller, via } = identified;
  if (caller.access !== "write") throw new DurableForbiddenError("the caller may only read");
  if (via !== "bearer" && !isSameOrigin(request, via === "access"))
    throw new DurableForbiddenError("the request came from another site");
}

/**
 * Whether the page that made the request is of this origin. A browser says so by itself, and no page can make it say
 * otherwise. `unless`: what to answer for a request that says nothing, which no current browser sends to change something.
 */
export function isSameOrigin(request: Request, unless = false): boolean {
  const site = request.headers.get("sec-fetch-site");
  if (site !== null) return site === "same-origin" || site === "none";
  const origin = request.headers.get("origin");
  return origin === null ? unless : origin === new URL(request.url).origin;
}

/** The scope alone, with no key where there is no project. */
export function scopeOf({ projectId, access }: Caller): Scope {
  return { access, ...(projectId !== undefined && { projectId }) };
}

function orRefuse(caller: Caller | undefined): Caller {
  if (caller === undefined) throw new HttpError("unauthorized", { "www-authenticate": "Bearer" });
  return caller;
}
