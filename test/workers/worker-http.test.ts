/** The example's own route, and the Worker's schedule, over the real coordinator and D1. */
import { createExecutionContext, createScheduledController, waitOnExecutionContext } from "cloudflare:test";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { Progress } from "../../examples/site-audit/progress.ts";
import type { RunDetails, RunStats } from "../../src/history/types.ts";
import worker from "../../src/worker.ts";
import { call, completedRun, envWith, json, tokenOf } from "./http-world.ts";

const ORIGIN = "https://site.test";
const INPUT = { startUrl: `${ORIGIN}/`, maxPages: 2 };

afterEach(() => vi.restoreAllMocks());

describe("POST /examples/site-audit", () => {
  it("runs the audit, streams its progress, and answers the recorded result when asked again", async () => {
    serveSite();
    await api("/runs/whole/events/approve", { approvedBy: "Ada" });
    const lines = await progressOf({ runId: "whole", workerId: "w1", input: INPUT });
    expect(lines[0]).toMatchObject({ type: "claimed", workerId: "w1", fence: 1, replayed: 0 });
    expect(lines.at(-1)).toMatchObject({ type: "finished", result: { approvedBy: "Ada" } });
    const again = await progressOf({ runId: "whole", workerId: "w2", input: INPUT });
    expect(again.map(({ type }) => type)).toEqual(["claimed", "finished"]);
  });

  it("goes on when the client goes away, and takes an approval then", async () => {
    serveSite();
    const ctx = createExecutionContext();
    const response = await worker.fetch(post({ runId: "left", input: INPUT }), envWith(), ctx);
    await response.body?.cancel();
    await api("/runs/left/events/approve", {});
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
    await api("/runs/down/events/approve", {});
    expect((await progressOf({ runId: "down", input: INPUT })).at(-1)).toMatchObject({ type: "finished" });
  });

  it("refuses a run that another worker holds, and says when to ask again", async () => {
    serveSite();
    const ctx = createExecutionContext();
    const first = await worker.fetch(post({ runId: "held", workerId: "w1", input: INPUT }), envWith(), ctx);
    const second = await start({ runId: "held", workerId: "w2", input: INPUT });
    expect(second.status).toBe(409);
    expect(Number(second.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(await second.json()).toMatchObject({
      code: "lease_held",
      retryAfterMs: expect.any(Number),
    });
    await api("/runs/held/events/approve", {});
    await first.text();
    await waitOnExecutionContext(ctx);
  });

  it("refuses another input for the same run", async () => {
    serveSite();
    await api("/runs/same/events/approve", {});
    await progressOf({ runId: "same", input: INPUT });
    const other = await start({ runId: "same", input: { ...INPUT, maxPages: 1 } });
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
    const response = await start(body);
    expect([response.status, await codeIn(response)]).toEqual([status, code]);
  });
});

describe("the example's route", () => {
  it("is for those who may change something, and for none of another project", async () => {
    serveSite();
    for (const [as, status] of [
      [null, 401],
      ["reader", 403],
      ["alpha", 403],
    ] as const) {
      const response = await call("/examples/site-audit", { as, body: { runId: "guarded", input: INPUT } });
      expect([as, response.status]).toEqual([as, status]);
    }
    expect((await call("/api/v1/runs/guarded")).status).toBe(404);
  });

  it("cancels a run that waits: its worker stops, and nobody resumes it", async () => {
    serveSite();
    const ctx = createExecutionContext();
    const live = await worker.fetch(post({ runId: "stop", input: INPUT }), envWith(), ctx);
    await api("/runs/stop/cancel", { reason: "not needed" });
    const lines = (await live.text()).trim().split("\n");
    expect(JSON.parse(lines.at(-1) ?? "")).toMatchObject({
      type: "failed",
      error: { code: "run_cancelled" },
    });
    await waitOnExecutionContext(ctx);
    const again = await progressOf({ runId: "stop", input: INPUT });
    expect(again.at(-1)).toMatchObject({ code: "run_cancelled" });
  });

  it("goes on with a run that was restarted", async () => {
    serveSite();
    await api("/runs/origin/events/approve", {});
    await progressOf({ runId: "origin", input: INPUT });
    await api("/runs/origin/restart", { fromStep: 1, dropLater: true });
    expect((await progressOf({ runId: "origin", input: INPUT })).at(-1)).toMatchObject({ type: "finished" });
  });
});

describe("the schedule", () => {
  it("counts what has ended, all of it", async () => {
    for (const runId of ["ended-1", "ended-2"]) await completedRun(runId, "scheduled");
    await worker.scheduled(createScheduledController(), envWith());
    const stats = await json<RunStats>(call("/api/v1/stats?projectId=scheduled"));
    expect(stats).toMatchObject({ counts: { completed: 2 }, isBehind: false });
    const counted = Object.fromEntries(stats.steps.map(({ intent, steps }) => [intent, steps]));
    expect(counted).toEqual({ ask: 2, greet: 2 });
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

function api(path: string, body: unknown): Promise<unknown> {
  return json(call(`/api/v1${path}`, { body }));
}

function start(body: unknown): Promise<Response> {
  return call("/examples/site-audit", typeof body === "string" ? { raw: body } : { body });
}

function post(body: unknown): Request {
  const headers = { "content-type": "application/json", authorization: `Bearer ${tokenOf("admin")}` };
  return new Request("https://worker.test/examples/site-audit", {
    method: "POST",
    headers,
    body: JSON.stringify(body),
  });
}

async function progressOf(body: unknown): Promise<Progress[]> {
  const text = await (await start(body)).text();
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Progress);
}

async function readRun(runId: string): Promise<{ run: RunDetails }> {
  return json(call(`/api/v1/runs/${runId}`));
}

async function codeIn(response: Response): Promise<string> {
  return (await response.json<{ code: string }>()).code;
}
