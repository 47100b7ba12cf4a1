/** The way in, and the dashboard's files. The files are those of a service that serves some, as an assets binding does. */
import { describe, expect, it } from "vitest";
import type { Env } from "../../src/env.ts";
import { call, completedRun, tokenOf } from "./http-world.ts";

const asked: Request[] = [];
const ASSETS = {
  fetch: async (request: Request) => {
    asked.push(request);
    const headers = { "content-type": "text/html", "cache-control": "public, max-age=0", etag: '"1"' };
    return new Response(`the file ${new URL(request.url).pathname}`, { headers });
  },
} as unknown as Fetcher;
const settings: Partial<Env> = { ASSETS };
const SESSION = { cookie: `__Host-durable-runs=${tokenOf("reader")}` };

describe("signing in", () => {
  const signIn = (body: unknown, options = {}): Promise<Response> =>
    call("/login", { as: null, body, settings, ...options });

  it("gives a cookie that no script and no other site gets at", async () => {
    const response = await signIn({ token: tokenOf("reader") });
    expect(response.status).toBe(204);
    expect(response.headers.get("set-cookie")).toBe(
      `__Host-durable-runs=${tokenOf("reader")}; Path=/; HttpOnly; Secure; SameSite=Strict; Max-Age=43200`,
    );
  });

  it("over http is for this machine alone", async () => {
    const local = await signIn({ token: tokenOf("reader") }, { origin: "http://localhost:8787" });
    expect(local.headers.get("set-cookie")).toBe(
      `durable-runs=${tokenOf("reader")}; Path=/; HttpOnly; SameSite=Strict; Max-Age=43200`,
    );
    const other = await signIn({ token: tokenOf("reader") }, { origin: "http://runs.test" });
    expect([other.status, other.headers.get("set-cookie")]).toEqual([403, null]);
  });

  it.each<[string, unknown, object, number]>([
    ["a token that nobody has", { token: "dr_x" }, {}, 401],
    ["no token", {}, {}, 400],
    ["a token that is none", { token: 1 }, {}, 400],
    ["no object", null, {}, 400],
    [
      "a form",
      undefined,
      { raw: "token=x", headers: { "content-type": "application/x-www-form-urlencoded" } },
      415,
    ],
    ["a large body", { token: "x".repeat(5_000) }, {}, 413],
    [
      "another site's page",
      { token: tokenOf("reader") },
      { headers: { "sec-fetch-site": "cross-site" } },
      403,
    ],
    ["another site's form", { token: tokenOf("reader") }, { headers: { origin: "https://evil.test" } }, 403],
  ])("with %s is refused, with no cookie", async (_name, body, options, status) => {
    const response = await signIn(body, options);
    expect([response.status, response.headers.get("set-cookie")]).toEqual([status, null]);
    expect(response.headers.get("content-type")).toBe("application/problem+json");
  });

  it("is not possible where nothing is configured", async () => {
    const response = await signIn({ token: tokenOf("reader") }, { settings: { ASSETS, API_TOKENS: "" } });
    expect(response.status).toBe(401);
  });

  it("ends: the cookie goes, when a page of this site asks for it", async () => {
    const signOut = (headers: Record<string, string>) =>
      call("/logout", { as: null, method: "POST", headers: { ...SESSION, ...headers }, settings });
    const response = await signOut({ "sec-fetch-site": "same-origin" });
    expect(response.headers.get("set-cookie")).toMatch(/^__Host-durable-runs=; .*Max-Age=0$/);
    expect((await signOut({ "sec-fetch-site": "cross-site" })).status).toBe(403);
  });
});

describe("the dashboard's files", () => {
  it.each([
    "/",
    "/index.html",
    "/assets/app-1.js",
    "/loginx",
    "/login/",
    "/assets/app.js/login-1.js",
    "/favicon.svg/x",
  ])("%s is for whoever is signed in", async (path) => {
    for (const headers of [
      {},
      { cookie: "__Host-durable-runs=dr_x" },
      { cookie: `x__Host-durable-runs=${tokenOf("reader")}` },
    ]) {
      const response = await call(path, { as: null, headers, settings });
      expect([response.status, response.headers.get("location")]).toEqual([302, "/login"]);
      expect(await response.text()).toBe("");
    }
    const known = await call(path, { as: null, headers: SESSION, settings });
    expect([known.status, await known.text()]).toEqual([200, `the file ${path}`]);
  });

  it.each(["/login", "/favicon.svg", "/assets/login-1a_B.js", "/assets/login-1.css"])(
    "%s is for anybody",
    async (path) => {
      expect((await call(path, { as: null, settings })).status).toBe(200);
    },
  );

  it("are asked for without the cookie or the token", async () => {
    asked.length = 0;
    await call("/", { as: "reader", headers: { ...SESSION, "if-none-match": '"1"' }, settings });
    expect(asked).toHaveLength(1);
    expect([...(asked[0]?.headers.keys() ?? [])]).toEqual(["if-none-match"]);
  });

  it("are not there where they were not built, and take no other method", async () => {
    expect((await call("/", { as: "reader", settings: { ASSETS: undefined as never } })).status).toBe(404);
    for (const method of ["POST", "PUT", "DELETE"])
      expect((await call("/index.html", { as: "admin", method, settings })).status).toBe(404);
  });
});

describe("every answer", () => {
  it.each([
    ["the API", "/api/v1/me", "no-store"],
    ["a refusal of the API", "/api/v1/runs/nobody", "no-store"],
    ["health", "/api/v1/health", "no-store"],
    ["a file", "/", "private, no-cache"],
    ["the sign-in", "/login", "private, no-cache"],
  ])("of %s carries the security headers", async (_name, path, cacheControl) => {
    await completedRun("headers", "alpha");
    const { headers } = await call(path, { settings });
    expect(Object.fromEntries(headers)).toMatchObject({
      "cache-control": cacheControl,
      "content-security-policy": expect.stringContaining("default-src 'none'; script-src 'self'"),
      "referrer-policy": "no-referrer",
      "strict-transport-security": "max-age=31536000",
      "x-content-type-options": "nosniff",
      "x-frame-options": "DENY",
      "cross-origin-resource-policy": "same-origin",
    });
    expect(headers.get("content-security-policy")).not.toContain("unsafe");
    expect(headers.get("access-control-allow-origin")).toBeNull();
  });

  it("over http names no HSTS", async () => {
    const { headers } = await call("/api/v1/health", { origin: "http://localhost:8787" });
    expect(headers.get("strict-transport-security")).toBeNull();
  });
});
