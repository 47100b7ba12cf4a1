/** What is sent to break the API: cursors, bodies and addresses that nobody sends by mistake. */
import { describe, expect, it } from "vitest";
import { ENDPOINTS } from "../../src/http/endpoints.ts";
import type { RunPage } from "../../src/history/types.ts";
import { call, completedRun, json, refusal, store } from "./http-world.ts";

const PAGED = ["/runs", "/runs/paged/steps", "/runs/paged/events", "/stuck"];
const MARKER = "<script>alert(7361)</script>";

describe("cursors", () => {
  it.each(PAGED)("of %s that were tampered with are refused, or lead nowhere else", async (path) => {
    for (const runId of ["paged", "paged2", "paged3"]) await completedRun(runId, "paging");
    await store().emitEvent({ runId: "paged", key: "second", payload: 2 });
    const { cursor } = await json<RunPage>(call(`/api/v1${path}?limit=1`));
    const good = cursor ?? "";
    const encode = (value: unknown): string =>
      btoa(typeof value === "string" ? value : JSON.stringify(value));
    const bad = [
      "x",
      "null",
      "%00",
      "e30=",
      encode({}),
      encode([]),
      encode([null]),
      encode("'; DROP TABLE durable_runs; --"),
      encode({ v: 1, createdAt: "x", runId: MARKER }),
      `${good}x`,
      good.slice(1),
      good.slice(0, -2),
      good.split("").toReversed().join(""),
      good.repeat(3),
      "A".repeat(4_096),
    ];
    for (const tampered of bad) {
      if (tampered === "" || tampered === good) continue;
      const response = await call(`/api/v1${path}?limit=1&cursor=${encodeURIComponent(tampered)}`);
      expect([tampered, response.status]).toEqual([tampered, 400]);
      expect(await response.json()).toMatchObject({ code: "invalid_input", field: "cursor" });
    }
    expect(await refusal(call(`/api/v1${path}?cursor=${"A".repeat(4_097)}`))).toEqual([400, "invalid_input"]);
  });

  it("of one question do not open another", async () => {
    const { cursor = "" } = await json<RunPage>(call("/api/v1/runs?limit=1"));
    expect(cursor).not.toBe("");
    const path = `/api/v1/runs/paged/steps?cursor=${encodeURIComponent(cursor)}`;
    expect(await refusal(call(path))).toEqual([400, "invalid_input"]);
  });

  it("made by one token show another token only what is its own", async () => {
    const { cursor = "" } = await json<RunPage>(call("/api/v1/runs?limit=1"));
    const response = await call(`/api/v1/runs?cursor=${encodeURIComponent(cursor)}`, { as: "alpha" });
    if (response.ok) expect(await response.text()).not.toContain("paging");
    else expect(response.status).toBe(400);
  });
});

describe("bodies", () => {
  const event = "/api/v1/runs/bodies/events/k";
  const type = { "content-type": "application/json" };

  it.each([
    ["no JSON", "{", 400, "invalid_input"],
    ["two values", "1 2", 400, "invalid_input"],
    ["nothing", "", 400, "invalid_input"],
    ["a depth of 101", "[".repeat(101) + "]".repeat(101), 400, "invalid_input"],
    ["a depth of 400,000", "[".repeat(400_000) + "]".repeat(400_000), 400, "invalid_input"],
    ["brackets that never close", '{"a":'.repeat(150_000), 400, "invalid_input"],
    ["closing brackets alone", "]".repeat(10_000), 400, "invalid_input"],
    ["a lone surrogate", '"\\ud800"', 201, ""],
    ["a depth of 100", "[".repeat(100) + "]".repeat(100), 200, ""],
    ["a byte more than 1 MiB", `"${"x".repeat(1_024 * 1_024 - 1)}"`, 413, "payload_too_large"],
  ])("of %s are answered as they deserve", async (name, raw, status, code) => {
    const response = await call(event, { raw, headers: type });
    const { code: answered = "" } = await response.json<{ code?: string }>();
    if (status < 300) expect([name, response.status < 500]).toEqual([name, true]);
    else expect([response.status, answered]).toEqual([status, code]);
  });

  it("that are no UTF-8 are refused", async () => {
    const raw = new Uint8Array([0x22, 0xff, 0xfe, 0x22]);
    expect(await refusal(call(event, { raw, headers: type }))).toEqual([400, "invalid_input"]);
  });

  it("of a stream that does not end soon are read no further than 1 MiB", async () => {
    let pulled = 0;
    const raw = new ReadableStream({
      pull(controller) {
        pulled += 1;
        if (pulled > 1_000) controller.error(new Error("read for ever"));
        else controller.enqueue(new Uint8Array(65_536).fill(0x20));
      },
    });
    expect(await refusal(call(event, { raw, headers: type }))).toEqual([413, "payload_too_large"]);
    expect(pulled).toBeLessThan(100);
  });

  it.each([
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/jsonp",
    "",
  ])("of the type %j are refused", async (contentType) => {
    const response = await call(event, { raw: "{}", headers: { "content-type": contentType } });
    expect(response.status).toBe(415);
  });

  it.each(["__proto__", "constructor", "toString"])(
    "with a field %s change nothing but a refusal",
    async (field) => {
      const raw = `{"reason":"x","${field}":{"access":"write"}}`;
      expect(await refusal(call("/api/v1/runs/bodies/cancel", { raw, headers: type }))).toEqual([
        400,
        "invalid_input",
      ]);
      expect(({} as { access?: string }).access).toBeUndefined();
    },
  );
});

describe("bodies with names of their own making", () => {
  const type = { "content-type": "application/json" };
  const problemOf = async (path: string, raw: string): Promise<Record<string, unknown>> =>
    (await call(`/api/v1${path}`, { raw, headers: type })).json();

  it.each([
    ["/runs", '{"task":"approval","input":{},"tags":{"__proto__":"x"}}'],
    ["/runs", '{"task":"approval","input":{"a":[{"\\u005f_proto__":1}]}}'],
    ["/runs/r/fork", '{"throughStep":0,"edits":{"__proto__":1}}'],
    ["/runs/r/events/k", '[{"__\\u0070roto__":null}]'],
  ])("of %s that have a key __proto__ are refused: %s", async (path, raw) => {
    expect(await problemOf(path, raw)).toMatchObject({
      code: "invalid_input",
      field: "body",
      detail: "body must have no key __proto__",
    });
  });

  it("may have it as a text", async () => {
    expect((await call("/api/v1/runs/texts/events/k", { body: "__proto__ \u0001" })).status).toBe(201);
  });

  it.each([
    ["/runs/r/restart", { fromStep: 0, dropLater: true, k7361: 1 }, "body"],
    ["/runs/r/fork", { throughStep: 0, edits: { k7361: 1 } }, "edits"],
    ["/runs", { task: "approval", input: {}, tags: { k7361: 1 } }, "tags"],
    ["/runs", { task: "approval", input: {}, tags: { "k7361\u0000": "x" } }, "tags"],
    ["/runs/r/steps/0/resolve", { rerun: true, k7361: 1 }, "body"],
  ])("of %s are told of by the name of the API's own field: %j", async (path, body, field) => {
    const problem = await problemOf(path, JSON.stringify(body));
    expect(problem).toMatchObject({ code: "invalid_input", field });
    expect(JSON.stringify(problem)).not.toContain("7361");
  });

  it.each([
    ["/runs/r/cancel", (many: object) => many, "body"],
    ["/runs", (many: object) => ({ task: "approval", input: {}, tags: many }), "tags"],
    ["/runs/r/fork", (many: object) => ({ throughStep: 0, edits: many }), "edits"],
  ])("of %s are counted before they are looked at", async (path, bodyOf, field) => {
    const many = Object.fromEntries(Array.from({ length: 60_000 }, (_, n) => [n, 1]));
    expect(await problemOf(path, JSON.stringify(bodyOf(many)))).toMatchObject({
      code: "invalid_input",
      field,
      detail: expect.stringContaining("must have at most") as string,
    });
  });

  it("are refused in whole sentences, without what was sent", async () => {
    await completedRun("sentences", "hostile");
    const restart = JSON.stringify({ fromStep: 77, dropLater: true });
    expect(await problemOf("/runs/sentences/restart", restart)).toMatchObject({
      detail: "fromStep must be the position of a step on record",
    });
    expect(await problemOf("/runs/sentences/fork", '{"throughStep":77}')).toMatchObject({
      detail: "throughStep must be the position of a step on record",
    });
  });
});

describe("addresses", () => {
  it.each([
    "/%61%70%69/v1/runs/target/cancel",
    "/api/%76%31/runs/target/cancel",
    "/api/v1/%72uns/target/cancel",
  ])("that spell a route otherwise, as %s, are none", async (path) => {
    for (const runId of ["target", "runs"]) {
      const manifest = { projectId: "p", task: { id: "t", intent: "i" }, input: {} };
      await store().startOrResume({ runId, manifest, workerId: "w" });
    }
    expect((await call(path, { body: {} })).status).toBeGreaterThanOrEqual(400);
    for (const runId of ["target", "runs"])
      expect(await store().loadRun(runId)).toMatchObject({ status: "running" });
  });

  it("of a run that is not there have no lag", async () => {
    expect(await refusal(call("/api/v1/runs/nowhere/lag"))).toEqual([404, "run_not_found"]);
    expect(await refusal(call("/api/v1/runs/nowhere/lag", { as: "alpha" }))).toEqual([404, "run_not_found"]);
  });

  it.each([
    ["a long path", `/runs/${"%20".repeat(3_000)}`, 400],
    ["a long query", `/runs?taskId=${"x".repeat(9_000)}`, 400],
    ["dots", "/runs/../../runs", 404],
    ["encoded slashes", "/runs/..%2f..%2fsecret", 404],
    ["a double slash", "/runs//x", 404],
    ["a slash at the end", "/runs/", 404],
    ["half an escape", "/runs/%", 400],
    ["an overlong escape", "/runs/%c0%af", 400],
  ])("of %s are answered", async (_name, path, status) => {
    expect((await call(`/api/v1${path}`)).status).toBe(status);
  });

  it.each(["\u0001", "x".repeat(129)])("an Idempotency-Key of %j is refused", async (key) => {
    const headers = { "idempotency-key": key };
    const response = await call("/api/v1/runs/any/cancel", { body: {}, headers }).catch(() => undefined);
    // Fetch itself takes no control characters in a header.
    if (response !== undefined) expect(response.status).toBe(400);
  });
});

describe("what is sent", () => {
  it.each(ENDPOINTS.map(({ id, method, path }) => ({ id, method, path })))(
    "never comes back in a refusal of $id",
    async ({ method, path }) => {
      const marked = encodeURIComponent(MARKER);
      const inPath = path.replaceAll(/:\w+/g, marked);
      const bodies =
        method === "post"
          ? [{ [MARKER]: 1 }, { task: MARKER, reason: MARKER, runId: MARKER, fromStep: MARKER }, [MARKER]]
          : [undefined];
      for (const body of bodies) {
        for (const query of [
          "",
          `?${marked}=1`,
          `?limit=${marked}&cursor=${marked}&status=${marked}&by=${marked}&tag=${marked}`,
        ]) {
          const headers = { "idempotency-key": MARKER, referer: `https://x.test/${marked}` };
          const response = await call(`/api/v1${inPath}${query}`, {
            method: method.toUpperCase(),
            headers,
            ...(body !== undefined && { body }),
          });
          if (response.ok) continue;
          const all = (await response.text()) + JSON.stringify([...response.headers]);
          expect(all).not.toMatch(/7361|alert/);
        }
      }
    },
  );

  it("is not in the answer for an address or a method that is not there, nor in a redirect", async () => {
    for (const path of [
      `/api/v1/${encodeURIComponent(MARKER)}`,
      `/${encodeURIComponent(MARKER)}?next=${MARKER}`,
    ]) {
      for (const method of ["GET", "POST", "PATCH"]) {
        const response = await call(path, { method });
        expect((await response.text()) + JSON.stringify([...response.headers])).not.toMatch(/7361|alert/);
      }
    }
  });
});
