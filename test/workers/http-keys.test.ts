/** `Idempotency-Key`: one request under one key has one effect; another caller, address or key is another request. */
import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import type { RunRecord } from "../../src/contract/types.ts";
import { newToken } from "../../src/http/tokens.ts";
import { call, completedRun, json, refusal } from "./http-world.ts";

const START = { task: "approval", input: { steps: 1, seconds: 0 } };

async function startedRun(key: string | undefined, body = {}): Promise<string> {
  const headers = key === undefined ? {} : { "idempotency-key": key };
  const started = await json<{ runId: string }>(
    call("/api/v1/runs", { body: { ...START, ...body }, headers }),
  );
  return started.runId;
}

async function forked(key: string | undefined, body = {}, runId = "source"): Promise<RunRecord> {
  const headers = key === undefined ? {} : { "idempotency-key": key };
  const options = { body: { throughStep: 0, ...body }, headers };
  return (await json<{ run: RunRecord }>(call(`/api/v1/runs/${runId}/fork`, options))).run;
}

describe("a start under a key", () => {
  it("is one run, however often it is sent", async () => {
    const [first, second] = [await startedRun("start-1"), await startedRun("start-1")];
    expect(second).toBe(first);
    expect(first).toMatch(/^[0-9a-f]{32}$/);
    expect(await startedRun("start-2")).not.toBe(first);
    expect(await startedRun(undefined)).not.toBe(await startedRun(undefined));
  });

  it("is one run when it is sent twice at once", async () => {
    const [first, second] = await Promise.all([startedRun("start-3"), startedRun("start-3")]);
    expect(second).toBe(first);
  });

  it("keeps the run id that it names", async () => {
    expect(await startedRun("start-4", { runId: "of-my-own" })).toBe("of-my-own");
  });

  it("is another caller's own", async () => {
    const tokens = ["one", "two"].map((name) => newToken({ name, access: "write", projectId: "approval" }));
    const settings = { API_TOKENS: JSON.stringify(tokens.map(({ entry }) => entry)) };
    const ids: string[] = [];
    for (const { token } of tokens) {
      const headers = { "idempotency-key": "shared", authorization: `Bearer ${token}` };
      const start = () =>
        json<{ runId: string }>(call("/api/v1/runs", { as: null, body: START, headers, settings }));
      ids.push((await start()).runId, (await start()).runId);
    }
    expect(ids[0]).toBe(ids[1]);
    expect(ids[2]).toBe(ids[3]);
    expect(ids[0]).not.toBe(ids[2]);
  });
});

describe("a fork under a key", () => {
  it("is one run, however often it is sent, and another of another source", async () => {
    for (const runId of ["source", "source-2"]) await completedRun(runId, "forked");
    const first = await forked("fork-1");
    expect((await forked("fork-1")).runId).toBe(first.runId);
    expect((await forked("fork-2")).runId).not.toBe(first.runId);
    expect((await forked("fork-1", {}, "source-2")).runId).not.toBe(first.runId);
    expect((await forked("fork-1", { newRunId: "named" })).runId).toBe("named");
    const ofSource = `SELECT run_id FROM durable_runs WHERE forked_from LIKE '%"source"%'`;
    expect((await env.DB.prepare(ofSource).all()).results).toHaveLength(3);
  });

  it.each([".", ".."])("into a run %s, which no path can name, is refused", async (newRunId) => {
    const response = await call("/api/v1/runs/source/fork", { body: { throughStep: 0, newRunId } });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code: "invalid_input", field: "newRunId" });
  });
});

it("one key on two addresses of a run is two requests", async () => {
  await completedRun("two-requests", "keyed");
  const headers = { "idempotency-key": "same" };
  const restart = { body: { fromStep: 1, dropLater: true }, headers };
  const path = "/api/v1/runs/two-requests";
  expect(await json(call(`${path}/restart`, restart))).toMatchObject({ run: { status: "pending" } });
  expect(await json(call(`${path}/cancel`, { body: {}, headers }))).toMatchObject({
    run: { status: "cancelled" },
  });
  // The first one, again, is no second restart.
  expect(await json(call(`${path}/restart`, restart))).toMatchObject({ run: { status: "cancelled" } });
});

it("a key on an address that changes nothing is not looked at", async () => {
  const headers = { "idempotency-key": "x".repeat(128) };
  expect(await json(call("/api/v1/health", { headers }))).toEqual({ ok: true });
  expect(await refusal(call("/api/v1/runs/none", { headers }))).toEqual([404, "run_not_found"]);
});
