/** The API's endpoints over the real coordinator, D1 and Workflows. Every answer is held against the document. */
import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { approvalTask } from "../../examples/approval/task.ts";
import { siteAuditTask } from "../../examples/site-audit/task.ts";
import type { RunRecord } from "../../src/contract/types.ts";
import type {
  EventPage,
  HistoryStep,
  RunDetails,
  RunPage,
  RunStats,
  StepPage,
} from "../../src/history/types.ts";
import { call, completedRun, json, parkedRun, refusal, store } from "./http-world.ts";
import { RunWorkflow } from "./worker.ts";

Object.assign(RunWorkflow.registry, { approval: approvalTask, "site-audit": siteAuditTask });

describe("what is read", () => {
  it("is the run with its manifest, its steps and its events", async () => {
    await completedRun("read", "alpha", { greeting: "hello" });
    const { run } = await json<{ run: RunDetails }>(call("/api/v1/runs/read"));
    expect(run).toMatchObject({
      runId: "read",
      projectId: "alpha",
      status: "completed",
      task: { id: "greet" },
      input: { greeting: "hello" },
      result: "Hello, Ada",
      tags: { kind: "test" },
    });
    const page = await json<StepPage>(call("/api/v1/runs/read/steps"));
    expect(page.steps.map(({ intent }) => intent)).toEqual(["ask", "greet"]);
    expect(page.steps.some((step) => "result" in step)).toBe(false);
    const whole = await json<StepPage>(call("/api/v1/runs/read/steps?results=true&limit=1"));
    expect(whole.steps).toMatchObject([{ result: { name: "Ada" } }]);
    const next = await json<StepPage>(call(`/api/v1/runs/read/steps?limit=1&cursor=${whole.cursor}`));
    expect(next.steps.map(({ stepIndex }) => stepIndex)).toEqual([1]);
    const { step } = await json<{ step: HistoryStep }>(call("/api/v1/runs/read/steps/1"));
    expect(step).toMatchObject({ result: "Hello, Ada", attempts: 1 });
    const { events } = await json<EventPage>(call("/api/v1/runs/read/events"));
    expect(events).toMatchObject([{ key: "news", payload: { n: 1 } }]);
    expect(await json(call("/api/v1/runs/read/events/news"))).toMatchObject({ event: { payload: { n: 1 } } });
    expect(await json(call("/api/v1/runs/read/lag"))).toEqual({ rows: 0 });
  });

  it("is a list that filters narrow, page by page", async () => {
    for (const runId of ["l1", "l2", "l3"]) await completedRun(runId, "listed");
    await parkedRun("l4", "listed");
    const ids = async (query: string): Promise<string[]> => {
      const { runs } = await json<RunPage>(call(`/api/v1/runs?projectId=listed&${query}`));
      return runs.map(({ runId }) => runId);
    };
    expect(await ids("")).toEqual(["l4", "l3", "l2", "l1"]);
    expect(await ids("status=suspended&status=failed")).toEqual(["l4"]);
    expect(await ids("tag=kind:test&scenarioId=s&limit=2")).toEqual(["l3", "l2"]);
    expect(await ids("taskId=pay")).toEqual(["l4"]);
    const first = await json<RunPage>(call("/api/v1/runs?projectId=listed&limit=3"));
    expect(await ids(`limit=3&cursor=${first.cursor}`)).toEqual(["l1"]);
  });

  it("is what has ended, and what is stuck", async () => {
    await completedRun("counted", "numbers");
    const stats = await json<RunStats>(call("/api/v1/stats?projectId=numbers&by=day"));
    expect(stats.by).toBe("day");
    // What has ended since is counted after an answer.
    const later = await json<RunStats>(call("/api/v1/stats?projectId=numbers"));
    expect(later.counts).toMatchObject({ completed: 1, failed: 0 });
    const manifest = { projectId: "numbers", task: { id: "t", intent: "t" }, input: {} };
    await store().startOrResume({ runId: "gone", manifest, workerId: "dead", leaseMs: 1 });
    await expect
      .poll(async () => (await json<RunPage>(call("/api/v1/stuck?projectId=numbers&graceMs=0"))).runs)
      .toMatchObject([{ runId: "gone", reasons: ["lease_lapsed"] }]);
  });

  it("tells who is asking, and which tasks there are for them", async () => {
    expect(await json(call("/api/v1/me", { as: "alphaReader" }))).toEqual({
      name: "alpha reader",
      projectId: "alpha",
      access: "read",
    });
    const { tasks } = await json<{ tasks: { name: string }[] }>(call("/api/v1/tasks"));
    expect(tasks.map(({ name }) => name)).toEqual(["site-audit", "approval"]);
    expect(await json(call("/api/v1/tasks", { as: "alpha" }))).toEqual({ tasks: [] });
    expect(await json(call("/api/v1/health", { as: null }))).toEqual({ ok: true });
  });
});

describe("what is changed", () => {
  it("keeps the first of two events under one key", async () => {
    const path = "/api/v1/runs/not-begun/events/a%2Fb";
    const first = await call(path, { body: { n: 1 } });
    const second = await call(path, { body: { n: 2 } });
    expect([first.status, second.status]).toEqual([201, 200]);
    expect(await second.json()).toMatchObject({ accepted: false, event: { key: "a/b", payload: { n: 1 } } });
    const nothing = await call("/api/v1/runs/not-begun/events/null", { body: null });
    expect(await nothing.json()).toMatchObject({ accepted: true, event: { payload: null } });
  });

  it("cancels, restarts and forks a run", async () => {
    await completedRun("origin", "alpha");
    const fork = await call("/api/v1/runs/origin/fork", {
      body: { throughStep: 0, newRunId: "a fork", edits: { 0: {} } },
    });
    expect([fork.status, fork.headers.get("location")]).toEqual([201, "/api/v1/runs/a%20fork"]);
    const located = await json<{ run: RunRecord }>(call(fork.headers.get("location") ?? ""));
    expect(located.run).toMatchObject({ status: "pending", forkedFrom: { runId: "origin", throughStep: 0 } });
    const restart = { fromStep: 1, dropLater: true };
    const restarted = await json(call("/api/v1/runs/origin/restart", { body: restart }));
    expect(restarted).toMatchObject({ run: { status: "pending", stepCount: 1 } });
    const cancelled = await json(call("/api/v1/runs/origin/cancel", { body: { reason: "enough" } }));
    expect(cancelled).toMatchObject({ run: { status: "cancelled", error: { message: "enough" } } });
    expect(await json(call("/api/v1/runs/a%20fork/cancel", { method: "POST" }))).toMatchObject({
      run: { status: "cancelled" },
    });
  });

  it("resolves a step in doubt, once", async () => {
    await parkedRun("parked", "alpha");
    const path = "/api/v1/runs/parked/steps/0/resolve";
    const headers = { "idempotency-key": "once" };
    const body = { result: { paid: true } };
    for (const _ of [1, 2])
      expect(await json(call(path, { body, headers }))).toMatchObject({ step: { result: { paid: true } } });
    expect(await refusal(call(path, { body: { rerun: true } }))).toEqual([409, "step_not_in_doubt"]);
  });

  it("starts a run as a Workflow instance, which goes on by itself", async () => {
    const body = {
      task: "approval",
      runId: "started",
      input: { steps: 1, seconds: 0 },
      tags: { by: "test" },
    };
    for (const _ of [1, 2]) {
      const response = await call("/api/v1/runs", { body });
      expect([response.status, response.headers.get("location")]).toEqual([202, "/api/v1/runs/started"]);
      expect(await response.json()).toEqual({ runId: "started" });
    }
    await call("/api/v1/runs/started/events/approve", { body: { by: "Ada" } });
    await expect
      .poll(async () => (await json<{ run: RunDetails }>(call("/api/v1/runs/started"))).run.status)
      .toBe("completed");
    const { run } = await json<{ run: RunDetails }>(call("/api/v1/runs/started"));
    expect(run).toMatchObject({
      projectId: "approval",
      tags: { by: "test" },
      result: { approved: true, by: "Ada" },
    });
    const instance = await (env.RUN_WORKFLOW as Workflow).get("started");
    expect((await instance.status()).status).toBe("complete");
  });

  it("restarts a run whose instance has ended, and the instance with it", async () => {
    const body = { task: "approval", runId: "again", input: { steps: 1, seconds: 0 } };
    await call("/api/v1/runs/again/events/approve", { body: {} });
    await call("/api/v1/runs", { body });
    const ended = async (): Promise<string | undefined> => {
      const response = await call("/api/v1/runs/again");
      return response.ok ? (await response.json<{ run: RunDetails }>()).run.completedAt : undefined;
    };
    await expect.poll(ended).toBeDefined();
    const first = await ended();
    const restart = { fromStep: 0, dropLater: true };
    expect((await call("/api/v1/runs/again/restart", { body: restart })).status).toBe(200);
    await expect.poll(async () => [undefined, first].includes(await ended())).toBe(false);
  });
});

describe("what is refused", () => {
  it.each([
    ["an unknown run", "/api/v1/runs/nobody", undefined, 404, "run_not_found", undefined],
    ["the steps of an unknown run", "/api/v1/runs/nobody/steps", undefined, 404, "run_not_found", undefined],
    ["an unknown step", "/api/v1/runs/nobody/steps/0", undefined, 404, "not_found", undefined],
    ["an unknown event", "/api/v1/runs/nobody/events/k", undefined, 404, "not_found", undefined],
    ["an unknown address", "/api/v1/nowhere", undefined, 404, "not_found", undefined],
    ["the API's own root", "/api/v1", undefined, 404, "not_found", undefined],
    ["an unknown parameter", "/api/v1/runs?color=red", undefined, 400, "invalid_input", "query"],
    ["a repeated parameter", "/api/v1/runs?limit=1&limit=2", undefined, 400, "invalid_input", "limit"],
    ["a page of none", "/api/v1/runs?limit=0", undefined, 400, "invalid_input", "limit"],
    ["a page of too many", "/api/v1/runs?limit=201", undefined, 400, "invalid_input", "limit"],
    ["a limit that is no number", "/api/v1/runs?limit=1e1", undefined, 400, "invalid_input", "limit"],
    ["an unknown status", "/api/v1/runs?status=dead", undefined, 400, "invalid_input", "status"],
    ["a tag without a value", "/api/v1/runs?tag=x", undefined, 400, "invalid_input", "tag"],
    ["a tag's key twice", "/api/v1/runs?tag=x:1&tag=x:2", undefined, 400, "invalid_input", "tag"],
    [
      "an instant that is none",
      "/api/v1/runs?createdFrom=soon",
      undefined,
      400,
      "invalid_input",
      "createdFrom",
    ],
    ["a long run id", `/api/v1/runs/${"x".repeat(1_025)}`, undefined, 400, "invalid_input", "runId"],
    ["a run id of control characters", "/api/v1/runs/a%00b", undefined, 400, "invalid_input", "runId"],
    ["a run id that is no UTF-8", "/api/v1/runs/%ff", undefined, 400, "invalid_input", "runId"],
    ["a position that is none", "/api/v1/runs/r/steps/x", undefined, 400, "invalid_input", "stepIndex"],
    ["a position out of range", "/api/v1/runs/r/steps/100000", undefined, 400, "invalid_input", "stepIndex"],
    ["an unknown field", "/api/v1/runs/r/cancel", { why: "?" }, 400, "invalid_input", "body"],
    ["a field of another type", "/api/v1/runs/r/cancel", { reason: 1 }, 400, "invalid_input", "reason"],
    [
      "a restart without a word on what is dropped",
      "/api/v1/runs/r/restart",
      { fromStep: 0 },
      400,
      "invalid_input",
      "dropLater",
    ],
    ["a resolution of nothing", "/api/v1/runs/r/steps/0/resolve", {}, 400, "invalid_input", "body"],
    [
      "a resolution of both",
      "/api/v1/runs/r/steps/0/resolve",
      { result: 1, rerun: true },
      400,
      "invalid_input",
      "body",
    ],
    [
      "edits that name no position",
      "/api/v1/runs/r/fork",
      { throughStep: 0, edits: { x: 1 } },
      400,
      "invalid_input",
      "edits",
    ],
    ["an unknown task", "/api/v1/runs", { task: "constructor", input: {} }, 400, "invalid_input", "task"],
    [
      "a task's input",
      "/api/v1/runs",
      { task: "approval", input: { steps: 99 } },
      400,
      "invalid_input",
      "input.steps",
    ],
    [
      "an id that no instance can have",
      "/api/v1/runs",
      { task: "approval", input: {}, runId: "a b" },
      400,
      "invalid_input",
      "runId",
    ],
    ["a cancel of an unknown run", "/api/v1/runs/nobody/cancel", {}, 404, "run_not_found", undefined],
  ])("is %s", async (_name, path, body, status, code, field) => {
    const response = await call(path, body === undefined ? {} : { body });
    const problem = await response.json<{ code: string; field?: string }>();
    expect([response.status, problem.code, problem.field]).toEqual([status, code, field]);
  });

  it.each([
    ["/api/v1/runs?limit=201", "limit must be at most 200"],
    ["/api/v1/runs?limit=x", "limit must be a whole number"],
    ["/api/v1/stats?by=week", "by must be one of hour, day"],
    ["/api/v1/runs?cursor=", "cursor must be at least 1 characters long"],
    ["/api/v1/runs?nope=1", "query must have no field that is not known"],
    ["/api/v1/runs/x/steps?results=yes", "results must be one of true, false"],
  ])("%s is told the rule", async (path, detail) => {
    expect(await (await call(path)).json()).toMatchObject({ detail });
  });

  it("is a method that an address does not take, with those that it does", async () => {
    const response = await call("/api/v1/runs/x/cancel", { method: "DELETE" });
    expect([response.status, response.headers.get("allow")]).toEqual([405, "POST"]);
    const other = await call("/api/v1/runs/x/events/k", { method: "PUT", body: 1 });
    expect([other.status, other.headers.get("allow")]).toEqual([405, "GET, HEAD, POST"]);
    expect((await call("/api/v1/runs", { method: "HEAD" })).status).toBe(200);
  });

  it("is the fork into an id that is taken, and the start of a run that is another", async () => {
    await completedRun("taken", "approval");
    await completedRun("source", "approval");
    const fork = call("/api/v1/runs/source/fork", { body: { throughStep: 0, newRunId: "taken" } });
    expect(await refusal(fork)).toEqual([409, "run_exists"]);
    const start = call("/api/v1/runs", { body: { task: "approval", input: {}, runId: "taken" } });
    expect(await refusal(start)).toEqual([409, "manifest_mismatch"]);
  });
});
