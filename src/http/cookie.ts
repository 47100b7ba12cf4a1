/**
 * The cookie of a session: the token itself, out of reach of scripts and never sent on behalf of another site.
 *
 * Under https it has the `__Host-` prefix. Over http only a local machine may have one, without the prefix and without
 * `Secure`, which not every browser takes there.
 */
const LIFETIME_S = 43_200;

/** The token that the cookie carries, if there is one. */
export function cookieOf(request: Request): string | undefined {
  const name = cookieName(new URL(request.url));
  if (name === undefined) return undefined;
  for (const pair of (request.headers.get("cookie") ?? "").split(";")) {
    const at = pair.indexOf("=");
    if (at > 0 && pair.slice(0, at).trim() === name) return pair.slice(at + 1).trim();
  }
  return undefined;
}

/** The `Set-Cookie` of a session, or of its end. `undefined` where no cookie may be set: over http, but on this machine. */
export function setCookie(url: URL, token: string | null): string | undefined {
  const name = cookieName(url);
  if (name === undefined) return undefined;
  const secure = url.protocol === "https:" ? "; Secure" : "";
  return `${name}=${token ?? ""}; Path=/; HttpOnly${secure}; SameSite=Strict; Max-Age=${token === null ? 0 : LIFETIME_S}`;
}

function cookieName({ protocol, hostname }: URL): string | undefined {
  if (protocol === "https:") return "__Host-durable-runs";
  return ["localhost", "127.0.0.1", "[::1]"].includes(hostname) ? "durable-runs" : undefined;
}
