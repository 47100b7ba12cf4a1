/** The Worker's small HTTP surface, over the real coordinator and D1. */
import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { Progress } from "../../examples/site-audit/progress.ts";
import type { RunRecord, StepRecord } from "../../src/contract/types.ts";
import app from "../../src/worker.ts";

const ORIGIN = "https://site.test";
const INPUT = { startUrl: `${ORIGIN}/`, maxPages: 2 };

afterEach(() => vi.restoreAllMocks());

describe("POST /runs", () => {
  it("runs the audit, streams its progress, and answers the recorded result when asked again", async () => {
    serveSite();
    await call("/runs/whole/events/approve", { approvedBy: "Ada" });
    const lines = await progressOf({ runId: "whole", workerId: "w1", input: INPUT });
    expect(lines[0]).toMatchObject({ type: "claimed", workerId: "w1", fence: 1, replayed: 0 });
    expect(lines.at(-1)).toMatchObject({ type: "finished", result: { approvedBy: "Ada" } });
    const again = await progressOf({ runId: "whole", workerId: "w2", input: INPUT });
    expect(again.map(({ type }) => type)).toEqual(["claimed", "finished"]);
  });

  it("goes on when the client goes away, and takes an approval then", async () => {
    serveSite();
    const ctx = createExecutionContext();
    const response = await app.fetch(post("/runs", { runId: "left", input: INPUT }), env, ctx);
    await response.body?.cancel();
    await call("/runs/left/events/approve", {});
    await waitOnExecutionContext(ctx);
    expect((await readRun("left")).run.status).toBe("completed");
  });

  it("tells what a run failed of, and goes on with it when asked again", async () => {
    const site = serveSite();
    site.down = true;
    const failed = await progressOf({ runId: "down", input: INPUT });
    expect(failed.at(-1)).toMatchObject({ type: "failed", error: { code: "task_failed" } });
    expect((await readRun("down")).run).toMatchObject({ status: "failed" });
    site.down = false;
    await call("/runs/down/events/approve", {});
    expect((await progressOf({ runId: "down", input: INPUT })).at(-1)).toMatchObject({ type: "finished" });
  });

  it("refuses a run that another worker holds, and says when to ask again", async () => {
    serveSite();
    const ctx = createExecutionContext();
    const first = await app.fetch(post("/runs", { runId: "held", workerId: "w1", input: INPUT }), env, ctx);
    const second = await call("/runs", { runId: "held", workerId: "w2", input: INPUT });
    expect(second.status).toBe(409);
    expect(Number(second.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(await second.json()).toMatchObject({
      error: { code: "lease_held", retryAfterMs: expect.any(Number) },
    });
    await call("/runs/held/events/approve", {});
    await first.text();
    await waitOnExecutionContext(ctx);
  });

  it("refuses another input for the same run", async () => {
    serveSite();
    await call("/runs/same/events/approve", {});
    await progressOf({ runId: "same", input: INPUT });
    const other = await call("/runs", { runId: "same", input: { ...INPUT, maxPages: 1 } });
    expect([other.status, await codeIn(other)]).toEqual([409, "manifest_mismatch"]);
  });

  it.each([
    ["no JSON", "{", 400, "invalid_input"],
    ["no object", [], 400, "invalid_input"],
    ["an unknown field", { run: "x", input: INPUT }, 400, "invalid_input"],
    ["an empty run id", { runId: "", input: INPUT }, 400, "invalid_input"],
    ["a negative lease", { leaseMs: -1, input: INPUT }, 400, "invalid_input"],
    ["no input", {}, 400, "invalid_input"],
    ["a body that is too large", { input: "x".repeat(1_100_000) }, 413, "payload_too_large"],
  ])("refuses %s", async (_name, body, status, code) => {
    const response = await call("/runs", body);
    expect([response.status, await codeIn(response)]).toEqual([status, code]);
  });
});

describe("the other routes", () => {
  it("read a run with its steps, without what the steps returned", async () => {
    serveSite();
    await call("/runs/read/events/approve", {});
    await progressOf({ runId: "read", input: INPUT });
    const { run, steps } = await readRun("read");
    expect(run).toMatchObject({ runId: "read", status: "completed", stepCount: steps.length });
    expect(steps.map(({ stepIndex }) => stepIndex)).toEqual(steps.map((_, at) => at));
    expect(steps.some((step) => "result" in step)).toBe(false);
  });

  it("keep the first of two events under one key, also before the run began", async () => {
    const first = await call("/runs/two/events/approve", { n: 1 });
    const second = await call("/runs/two/events/approve", { n: 2 });
    expect([first.status, second.status]).toEqual([201, 200]);
    expect(await second.json()).toMatchObject({ accepted: false, event: { payload: { n: 1 } } });
  });

  it("answer 404 for what is not there, in the one shape of errors", async () => {
    const run = await call("/runs/nobody");
    expect([run.status, await codeIn(run)]).toEqual([404, "run_not_found"]);
    const route = await call("/nowhere");
    expect([route.status, await codeIn(route)]).toEqual([404, "not_found"]);
    expect((await call("/health")).status).toBe(200);
  });
});

describe("what is done to a run from outside", () => {
  it("cancels a run that waits: its worker stops, and nobody resumes it", async () => {
    serveSite();
    const ctx = createExecutionContext();
    const live = await app.fetch(post("/runs", { runId: "stop", input: INPUT }), env, ctx);
    const cancelled = await call("/runs/stop/cancel", { reason: "not needed" });
    expect(await cancelled.json()).toMatchObject({
      run: { status: "cancelled", error: { message: "not needed", code: "run_cancelled" } },
    });
    const lines = (await live.text()).trim().split("\n");
    expect(JSON.parse(lines.at(-1) ?? "")).toMatchObject({
      type: "failed",
      error: { code: "run_cancelled" },
    });
    await waitOnExecutionContext(ctx);
    const again = await progressOf({ runId: "stop", input: INPUT });
    expect(again.at(-1)).toMatchObject({ error: { code: "run_cancelled" } });
  });

  it("restarts a run from a step, and forks one", async () => {
    serveSite();
    await call("/runs/origin/events/approve", {});
    await progressOf({ runId: "origin", input: INPUT });
    const { steps } = await readRun("origin");
    const fork = await call("/runs/origin/fork", { newRunId: "forked", throughStep: 1 });
    expect(fork.status).toBe(201);
    expect(await fork.json()).toMatchObject({
      run: { status: "pending", stepCount: 2, forkedFrom: { runId: "origin", throughStep: 1 } },
    });
    const restart = await call("/runs/origin/restart", { fromStep: 1, dropLater: true });
    expect(await restart.json()).toMatchObject({ run: { status: "pending", stepCount: 1 } });
    expect((await progressOf({ runId: "origin", input: INPUT })).at(-1)).toMatchObject({ type: "finished" });
    expect((await readRun("origin")).steps).toHaveLength(steps.length);
  });

  it.each([
    ["/runs/origin/restart", { fromStep: 99, dropLater: true }, 400, "invalid_input"],
    ["/runs/origin/restart", { fromStep: 0 }, 400, "invalid_input"],
    ["/runs/origin/fork", { newRunId: "beyond", throughStep: 99 }, 400, "invalid_input"],
    ["/runs/origin/cancel", { why: "?" }, 400, "invalid_input"],
    ["/runs/origin/steps/0/resolve", { rerun: true }, 409, "step_not_in_doubt"],
    ["/runs/origin/steps/x/resolve", { rerun: true }, 400, "invalid_input"],
    ["/runs/nobody/cancel", {}, 404, "run_not_found"],
  ])("refuses POST %s of %o", async (path, body, status, code) => {
    const response = await call(path, body);
    expect([response.status, await codeIn(response)]).toEqual([status, code]);
  });
});

/** Stands in for the network: two pages. */
function serveSite(): { down: boolean } {
  const site = { down: false };
  const pages: Record<string, string> = { "/": '<a href="/a">a</a>', "/a": "<h1>A</h1>" };
  vi.spyOn(globalThis, "fetch").mockImplementation(async (url) => {
    const body = pages[new URL(url as string).pathname];
    if (site.down || body === undefined) return new Response("none", { status: 503 });
    return new Response(body, { headers: { "content-type": "text/html" } });
  });
  return site;
}

async function call(path: string, body?: unknown): Promise<Response> {
  const ctx = createExecutionContext();
  return app.fetch(
    body === undefined ? new Request(`http://worker.test${path}`) : post(path, body),
    env,
    ctx,
  );
}

function post(path: string, body: unknown): Request {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return new Request(`http://worker.test${path}`, { method: "POST", body: text });
}

async function progressOf(body: unknown): Promise<Progress[]> {
  const text = await (await call("/runs", body)).text();
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Progress);
}

async function readRun(runId: string): Promise<{ run: RunRecord; steps: StepRecord[] }> {
  return (await call(`/runs/${runId}`)).json();
}

async function codeIn(response: Response): Promise<string> {
  return (await response.json<{ error: { code: string } }>()).error.code;
}
