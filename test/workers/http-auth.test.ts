/** Who is let in, and what they may do: tokens, the cookie of a session, and Cloudflare Access. */
import type { CryptoKey, JWTPayload } from "jose";
import { exportJWK, generateKeyPair, SignJWT, UnsecuredJWT } from "jose";
import { beforeAll, describe, expect, it, vi } from "vitest";
import type { Env } from "../../src/env.ts";
import { accessVerifier } from "../../src/http/access.ts";
import { checkMayWrite, identify } from "../../src/http/caller.ts";
import { credentialsFrom } from "../../src/http/credentials.ts";
import { ENDPOINTS } from "../../src/http/endpoints.ts";
import { parseTokens } from "../../src/http/tokens.ts";
import { call, completedRun, json, refusal, TOKEN_ENTRIES, tokenOf } from "./http-world.ts";

const ADDRESSES = ENDPOINTS.map(({ id, method, path, access }) => ({
  id,
  access,
  method: method.toUpperCase(),
  path: `/api/v1${path.replace(":stepIndex", "0").replaceAll(/:\w+/g, "x")}`,
}));
const GUARDED = ADDRESSES.filter(({ access }) => access !== "public");
const WRITES = ADDRESSES.filter(({ access }) => access === "write");

describe("without a token that is known", () => {
  it.each(GUARDED)("$id answers 401, with a challenge", async ({ method, path }) => {
    const wrong = { authorization: `Bearer dr_${"A".repeat(43)}` };
    for (const headers of [{}, wrong, { authorization: "Basic YTpi" }, { authorization: "Bearer" }]) {
      const response = await call(path, { method, as: null, headers });
      expect([response.status, response.headers.get("www-authenticate")]).toEqual([401, "Bearer"]);
    }
  });

  it.each(GUARDED)("$id answers 401 where nothing is configured", async ({ method, path }) => {
    const settings = { API_TOKENS: "", ACCESS_TEAM_DOMAIN: "", ACCESS_AUD: "" };
    expect(await refusal(call(path, { method, settings }))).toEqual([401, "unauthorized"]);
  });

  it("so do addresses and methods that are not there, but for health", async () => {
    expect(await refusal(call("/api/v1/nowhere", { as: null }))).toEqual([401, "unauthorized"]);
    expect(await refusal(call("/api/v1/runs", { as: null, method: "DELETE" }))).toEqual([
      401,
      "unauthorized",
    ]);
    expect(await refusal(call("/api/v1/health", { as: null, method: "POST" }))).toEqual([
      401,
      "unauthorized",
    ]);
    expect((await call("/api/v1/health", { as: null, settings: { API_TOKENS: "" } })).status).toBe(200);
  });

  it("a token that is wrong is not made good by a session", async () => {
    const headers = { authorization: "Bearer nope", cookie: `__Host-durable-runs=${tokenOf("admin")}` };
    expect((await call("/api/v1/me", { as: null, headers })).status).toBe(401);
  });
});

describe("a token to read", () => {
  it.each(WRITES)("does not let $id", async ({ method, path }) => {
    await completedRun(`kept-${path}`, "alpha");
    expect(await refusal(call(path, { method, as: "reader", body: {} }))).toEqual([403, "forbidden"]);
  });
});

describe("the secret API_TOKENS", () => {
  const [entry] = TOKEN_ENTRIES;
  it.each([
    ["no JSON", "[{"],
    ["no array", JSON.stringify(entry)],
    ["no hash", JSON.stringify([{ ...entry, sha256: "abc" }])],
    ["another access", JSON.stringify([{ ...entry, access: "admin" }])],
    ["no access", JSON.stringify([{ name: "x", sha256: entry?.sha256 }])],
    ["a misspelt scope", JSON.stringify([{ ...entry, project: "alpha" }])],
    ["an empty scope", JSON.stringify([{ ...entry, projectId: "" }])],
  ])("with %s lets nobody in, and says in the log where, and nothing of what", async (_name, API_TOKENS) => {
    const logged = vi.spyOn(console, "error").mockImplementation(() => {});
    expect(await refusal(call("/api/v1/me", { settings: { API_TOKENS } }))).toEqual([401, "unauthorized"]);
    expect(JSON.stringify(logged.mock.calls)).toContain("API_TOKENS");
    expect(JSON.stringify(logged.mock.calls)).not.toContain(entry?.sha256);
    logged.mockRestore();
  });

  it("takes a hash in capitals, and finds the last of the entries as it finds the first", () => {
    const shouted = TOKEN_ENTRIES.map((each) => ({ ...each, sha256: each.sha256.toUpperCase() }));
    const book = parseTokens(JSON.stringify(shouted));
    expect(book.find(tokenOf("admin"))?.name).toBe("admin");
    expect(book.find(tokenOf("alphaReader"))).toEqual({
      name: "alpha reader",
      access: "read",
      projectId: "alpha",
    });
    expect(book.find(`${tokenOf("admin")}x`)).toBeUndefined();
  });
});

describe("a session's cookie", () => {
  const cookie = `a=b; __Host-durable-runs=${tokenOf("admin")}`;
  const cancel = (headers: Record<string, string>): Promise<Response> =>
    call("/api/v1/runs/cookie/cancel", { as: null, body: {}, headers: { cookie, ...headers } });

  it("lets one read, and change only what a page of this origin asks for", async () => {
    await completedRun("cookie", "alpha");
    expect(await json(call("/api/v1/me", { as: null, headers: { cookie } }))).toMatchObject({
      name: "admin",
    });
    expect(await refusal(cancel({}))).toEqual([403, "forbidden"]);
    expect(await refusal(cancel({ "sec-fetch-site": "cross-site" }))).toEqual([403, "forbidden"]);
    expect(await refusal(cancel({ "sec-fetch-site": "same-site" }))).toEqual([403, "forbidden"]);
    expect(await refusal(cancel({ origin: "https://evil.test" }))).toEqual([403, "forbidden"]);
    expect(await refusal(cancel({ origin: "null" }))).toEqual([403, "forbidden"]);
    const mixed = { "sec-fetch-site": "cross-site", origin: "https://runs.test" };
    expect(await refusal(cancel(mixed))).toEqual([403, "forbidden"]);
    expect((await cancel({ "sec-fetch-site": "same-origin" })).status).toBe(200);
    expect((await cancel({ origin: "https://runs.test" })).status).toBe(200);
  });

  it("does not count under the name that http has", async () => {
    const headers = { cookie: `durable-runs=${tokenOf("admin")}` };
    expect((await call("/api/v1/me", { as: null, headers })).status).toBe(401);
    expect((await call("/api/v1/me", { as: null, headers, origin: "http://runs.test" })).status).toBe(401);
    expect((await call("/api/v1/me", { as: null, headers, origin: "http://localhost:8787" })).status).toBe(
      200,
    );
  });
});

describe("a JWT of Cloudflare Access", () => {
  const teamDomain = "team.cloudflareaccess.com";
  const audience = "the-application";
  const issuer = `https://${teamDomain}`;
  let keys: { privateKey: CryptoKey; publicKey: CryptoKey };
  let jwks: object;
  beforeAll(async () => {
    keys = await generateKeyPair("RS256");
    jwks = { keys: [{ ...(await exportJWK(keys.publicKey)), kid: "k", alg: "RS256", use: "sig" }] };
  });

  const asked: string[] = [];
  const verifier = (grant?: { access: "read" | "write"; projectId?: string }) =>
    accessVerifier({
      teamDomain,
      audience,
      ...(grant && { grant }),
      fetch: async (url) => {
        asked.push(url);
        return Response.json(jwks);
      },
    });

  function signed(claims: JWTPayload = {}, key = keys.privateKey, expires = "5m"): Promise<string> {
    return new SignJWT({ email: "ada@team.test", ...claims })
      .setProtectedHeader({ alg: "RS256", kid: "k" })
      .setIssuer((claims.iss as string | undefined) ?? issuer)
      .setAudience((claims.aud as string | undefined) ?? audience)
      .setIssuedAt()
      .setExpirationTime(expires)
      .sign(key);
  }

  it("lets its bearer in, with what is granted: by default, to read", async () => {
    expect(await verifier().verify(await signed())).toEqual({ name: "ada@team.test", access: "read" });
    expect(asked).toContain(`${issuer}/cdn-cgi/access/certs`);
    const grant = { access: "write", projectId: "alpha" } as const;
    const robot = await signed({ email: undefined, common_name: "robot" });
    expect(await verifier(grant).verify(robot)).toEqual({ name: "robot", ...grant });
  });

  it("does not, when it is expired, not yet good, for another application, of another team, or signed by another", async () => {
    const other = await generateKeyPair("RS256");
    const [header, , signature] = (await signed()).split(".");
    const altered = btoa(JSON.stringify({ email: "eve", aud: audience, iss: issuer, exp: 4_000_000_000 }));
    for (const jwt of [
      await signed({}, keys.privateKey, "-1m"),
      await signed({ nbf: Math.floor(Date.now() / 1_000) + 600 }),
      await signed({ aud: "another" }),
      await signed({ iss: "https://other.cloudflareaccess.com" }),
      await signed({}, other.privateKey),
      `${header}.${altered}.${signature}`,
      new UnsecuredJWT({}).setIssuer(issuer).setAudience(audience).setExpirationTime("5m").encode(),
      await new SignJWT({})
        .setProtectedHeader({ alg: "HS256", kid: "k" })
        .setIssuer(issuer)
        .setAudience(audience)
        .setExpirationTime("5m")
        .sign(new TextEncoder().encode(JSON.stringify(jwks))),
      await new SignJWT({})
        .setProtectedHeader({ alg: "RS256", kid: "k" })
        .setIssuer(issuer)
        .setAudience(audience)
        .sign(keys.privateKey),
      "",
      "a.b.c",
      "x".repeat(20_000),
    ])
      expect(await verifier().verify(jwt)).toBeUndefined();
  });

  it("lets nobody in while the team's keys cannot be had", async () => {
    const logged = vi.spyOn(console, "error").mockImplementation(() => {});
    const fetch = (): Promise<Response> => Promise.reject(new TypeError("no network"));
    const jwt = await signed();
    expect(await accessVerifier({ teamDomain, audience, fetch }).verify(jwt)).toBeUndefined();
    expect(logged).toHaveBeenCalled();
    logged.mockRestore();
  });

  it("tells the log of keys that are none, and not of a JWT that does not hold", async () => {
    const logged = vi.spyOn(console, "error").mockImplementation(() => {});
    const jwt = await signed();
    const answers = [
      () => new Response("down", { status: 500 }),
      () => new Response("<html>"),
      () => Response.json({ keys: "none" }),
    ];
    for (const [at, answerOf] of answers.entries()) {
      const fetch = async (): Promise<Response> => answerOf();
      expect(await accessVerifier({ teamDomain, audience, fetch }).verify(jwt)).toBeUndefined();
      expect(logged).toHaveBeenCalledTimes(at + 1);
    }
    logged.mockClear();
    const other = await generateKeyPair("RS256");
    const unknownKey = await new SignJWT({})
      .setProtectedHeader({ alg: "RS256", kid: "unknown" })
      .setIssuer(issuer)
      .setAudience(audience)
      .setExpirationTime("5m")
      .sign(keys.privateKey);
    const bad = [
      await signed({}, keys.privateKey, "-1m"),
      await signed({}, other.privateKey),
      unknownKey,
      "a.b.c",
    ];
    for (const one of bad) expect(await verifier().verify(one)).toBeUndefined();
    expect(logged).not.toHaveBeenCalled();
    logged.mockRestore();
  });

  it("is looked at only where there is no token; a browser has to be on this site to change something", async () => {
    const access = verifier({ access: "write" });
    const request = (headers: Record<string, string>) => new Request("https://runs.test/", { headers });
    const jwt = { "cf-access-jwt-assertion": await signed() };
    expect(await identify(request(jwt), { access })).toMatchObject({ via: "access" });
    const byAccess = await identify(request(jwt), { access });
    const evil = request({ ...jwt, "sec-fetch-site": "cross-site" });
    expect(() => checkMayWrite(byAccess, evil)).toThrow("another site");
    expect(() => checkMayWrite(byAccess, request({ ...jwt, origin: "https://evil.test" }))).toThrow(
      "another site",
    );
    checkMayWrite(byAccess, request({ ...jwt, origin: "https://runs.test" }));
    checkMayWrite(byAccess, request(jwt)); // a service's, which is no browser
    const both = request({ ...jwt, authorization: "Bearer nope" });
    await expect(identify(both, { access })).rejects.toMatchObject({ code: "unauthorized" });
    await expect(identify(request(jwt), {})).rejects.toMatchObject({ code: "unauthorized" });
  });

  it.each<[string, Partial<Env>]>([
    ["no audience", { ACCESS_TEAM_DOMAIN: teamDomain }],
    ["no team", { ACCESS_AUD: audience }],
    ["an address for the team", { ACCESS_TEAM_DOMAIN: issuer, ACCESS_AUD: audience }],
    [
      "a grant of nothing known",
      { ACCESS_TEAM_DOMAIN: teamDomain, ACCESS_AUD: audience, ACCESS_GRANT: '{"access":"all"}' },
    ],
    [
      "a misspelt grant",
      {
        ACCESS_TEAM_DOMAIN: teamDomain,
        ACCESS_AUD: audience,
        ACCESS_GRANT: '{"access":"read","project":"a"}',
      },
    ],
  ])("is not accepted when the settings have %s", (_name, settings) => {
    const logged = vi.spyOn(console, "error").mockImplementation(() => {});
    expect(credentialsFrom(settings).access).toBeUndefined();
    expect(logged).toHaveBeenCalled();
    logged.mockRestore();
  });
});
