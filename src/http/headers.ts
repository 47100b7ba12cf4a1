/** The headers that every answer carries, of the API and of the dashboard. */

const ALWAYS: Readonly<Record<string, string>> = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
};

/** A year, and only where the answer goes over https: elsewhere it means nothing. */
const HSTS = "max-age=31536000";

/** The same answer with the headers. `cacheControl`: where the answer says nothing of its own, or where it is to be overruled. */
export function withSecurityHeaders(response: Response, request: Request, cacheControl: string): Response {
  // The headers of what another service answered cannot be changed.
  const answer = new Response(response.body, response);
  for (const [name, value] of Object.entries(ALWAYS)) answer.headers.set(name, value);
  if (new URL(request.url).protocol === "https:") answer.headers.set("strict-transport-security", HSTS);
  answer.headers.set("cache-control", cacheControl);
  return answer;
}
