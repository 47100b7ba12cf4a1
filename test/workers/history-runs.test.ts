/** RunHistory over what real runs have written: with a coordinator, and without; and what a scope keeps from view. */
import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import type { DurableRunStore } from "../../src/contract/types.ts";
import { RunHistory } from "../../src/history/run-history.ts";
import { newRunId } from "../../src/identity.ts";
import { CoordinatedDurableRunStore } from "../../src/stores/coordinated/store.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { aRun, aStep, MANIFEST } from "../../src/testing/harness.ts";
import { eventRow, insert, runRow, stepRow } from "./history-world.ts";

const history = new RunHistory(env.DB);
const LARGE = "ü".repeat(700_000);
const LARGE_BYTES = 1_400_002;

const STORES: [string, DurableRunStore][] = [
  ["without a coordinator", new D1DurableRunStore(env.DB)],
  ["of a coordinator", new CoordinatedDurableRunStore(env.RUNS, { ack: "record" })],
];

/** Three steps (a large result, a failure, nothing), two events, and an end. */
async function aWholeRun(store: DurableRunStore): Promise<{ runId: string; fence: number }> {
  const input = aRun();
  const { runId } = input;
  const { fence = 0 } = await store.startOrResume(input);
  for (const stepIndex of [0, 1, 2]) await store.beginStep(aStep(runId, stepIndex, { fence }));
  await store.completeStep({ runId, stepIndex: 0, fence, result: LARGE });
  await store.failStep({ runId, stepIndex: 1, fence, error: { name: "E", message: "no" } });
  await store.completeStep({ runId, stepIndex: 2, fence, result: undefined });
  await store.emitEvent({ runId, key: "big", payload: LARGE });
  await store.emitEvent({ runId, key: "small", payload: { by: "ann" } });
  const outcome = { pass: true, score: 0.5, notes: "well" };
  await store.endRun({ runId, workerId: "worker-1", fence, status: "completed", outcome, result: [1] });
  return { runId, fence };
}

describe.each(STORES)("a run %s", (name, store) => {
  it("is told as the store tells it, with its manifest and with sizes", async () => {
    const { runId } = await aWholeRun(store);
    const record = await store.loadRun?.(runId);
    const { projectId, scenarioId, task, input, tags } = MANIFEST;
    const run = await history.get(runId);
    expect(run).toMatchObject({ ...record, projectId, scenarioId, task, input, tags, resultBytes: 3 });
    expect(run?.inputBytes).toBe(JSON.stringify(input).length);
    expect(run?.durationMs).toBe(Date.parse(run?.completedAt ?? "") - Date.parse(run?.createdAt ?? ""));
    expect(run && "lagMs" in run).toBe(name === "of a coordinator");
    const { runs } = await history.list({ taskId: task.id, limit: 200 });
    const summary = runs.find((one) => one.runId === runId);
    const { id, intent, domain } = task;
    expect(summary).toMatchObject({
      task: { id, intent, domain },
      tags,
      lastStepIndex: 2,
      pass: true,
      score: 0.5,
    });
    expect(summary?.durationMs).toBe(run?.durationMs);
    for (const field of ["result", "outcome", "stepCount", "input"])
      expect(summary).not.toHaveProperty(field);
  });

  it("has its steps, in pages that leave out large results, and each alone with the whole of it", async () => {
    const { runId } = await aWholeRun(store);
    const { steps, cursor } = await history.steps(runId, { limit: 2 });
    expect(steps[0]).toMatchObject({
      stepIndex: 0,
      status: "completed",
      attempts: 1,
      resultBytes: LARGE_BYTES,
    });
    expect(steps[0]).not.toHaveProperty("result");
    expect(steps[1]).toEqual({
      ...(await store.loadStep(runId, 1)),
      durationMs: expect.any(Number) as number,
    });
    const rest = await history.steps(runId, { limit: 2, cursor: cursor ?? "" });
    expect(rest).toMatchObject({ steps: [{ stepIndex: 2, resultBytes: 0 }] });
    expect(rest).not.toHaveProperty("cursor");
    const whole = await history.step(runId, 0);
    expect(whole?.result === LARGE).toBe(true);
    expect(whole?.resultBytes).toBe(LARGE_BYTES);
    expect(await history.step(runId, 3)).toBeUndefined();
  });

  it("has its events, in pages that leave out large payloads, and each alone with the whole of it", async () => {
    const { runId } = await aWholeRun(store);
    const { events, cursor } = await history.events(runId, { limit: 1 });
    expect(events).toEqual([
      { runId, key: "big", emittedAt: expect.any(String) as string, payloadBytes: LARGE_BYTES },
    ]);
    const rest = await history.events(runId, { limit: 1, cursor: cursor ?? "" });
    expect(rest.events).toMatchObject([{ key: "small", payload: { by: "ann" }, payloadBytes: 12 }]);
    expect(rest).not.toHaveProperty("cursor");
    expect((await history.event(runId, "big"))?.payload === LARGE).toBe(true);
    expect(await history.event(runId, "none")).toBeUndefined();
  });

  it("is found by the worker that holds it for as long as it does", async () => {
    const workerId = `worker-${newRunId()}`;
    const input = aRun(workerId);
    const { fence = 0 } = await store.startOrResume(input);
    const held = async () => (await history.list({ heldBy: workerId })).runs.map((run) => run.runId);
    expect(await held()).toEqual([input.runId]);
    await store.endRun({ runId: input.runId, workerId, fence, status: "failed" });
    expect(await held()).toEqual([]);
  });
});

describe("pages of steps", () => {
  it("end before their results are too many bytes, and without results they do not", async () => {
    const runId = newRunId();
    const result = JSON.stringify("x".repeat(250_000));
    await insert("durable_runs", [runRow(runId)]);
    for (let i = 0; i < 40; i += 1) await insert("durable_steps", [stepRow(runId, i * 2, { result })]);
    const seen: number[] = [];
    for (let cursor: string | undefined = ""; cursor !== undefined;) {
      const page = await history.steps(runId, { limit: 200, ...(cursor && { cursor }) });
      expect(page.steps.length).toBeLessThanOrEqual(17);
      expect(page.steps.every((step) => step.resultBytes === 250_002 && step.result !== undefined)).toBe(
        true,
      );
      seen.push(...page.steps.map((step) => step.stepIndex));
      ({ cursor } = page);
    }
    expect(seen).toEqual(Array.from({ length: 40 }, (_one, i) => i * 2));
    const { steps, cursor } = await history.steps(runId, { limit: 200, results: false });
    expect(steps.map((step) => [step.resultBytes, "result" in step])).toEqual(
      seen.map(() => [250_002, false]),
    );
    expect(cursor).toBeUndefined();
  });

  it("of a run that is not on record reject, while the run, a step and events are just not there", async () => {
    const runId = newRunId();
    await expect(() => history.steps(runId)).rejects.toMatchObject({ code: "run_not_found" });
    expect(await history.get(runId)).toBeUndefined();
    expect(await history.step(runId, 0)).toBeUndefined();
    expect(await history.events(runId)).toEqual({ events: [] });
  });

  it("take no cursor of another run, and no other fields", async () => {
    const [one, other] = [newRunId(), newRunId()];
    await insert("durable_runs", [runRow(one), runRow(other)]);
    await insert("durable_steps", [stepRow(one, 0), stepRow(one, 1)]);
    const { cursor = "" } = await history.steps(one, { limit: 1 });
    const refusal = { code: "invalid_input", field: "cursor" };
    await expect(() => history.steps(other, { cursor })).rejects.toMatchObject(refusal);
    await expect(() => history.events(one, { cursor })).rejects.toMatchObject(refusal);
    const options = { result: true } as object;
    await expect(() => history.steps(one, options)).rejects.toMatchObject({ field: "result" });
    const results = "yes" as unknown as boolean;
    await expect(() => history.steps(one, { results })).rejects.toMatchObject({ field: "results" });
    await expect(() => history.step(one, -1)).rejects.toMatchObject({ field: "stepIndex" });
    await expect(() => history.event(one, "")).rejects.toMatchObject({ field: "key" });
    await expect(() => history.get("")).rejects.toMatchObject({ field: "runId" });
  });
});

describe("history that is bound to a project", () => {
  const scoped = new RunHistory(env.DB, { projectId: "mine" });

  it("shows its runs, and refuses those of another in every way", async () => {
    const [mine, other] = [newRunId(), newRunId()];
    await insert("durable_runs", [
      runRow(mine, { project_id: "mine" }),
      runRow(other, { project_id: "other" }),
    ]);
    await insert("durable_steps", [stepRow(mine, 0), stepRow(other, 0)]);
    await insert("durable_events", [eventRow(mine, "k"), eventRow(other, "k")]);
    expect(await scoped.get(mine)).toMatchObject({ runId: mine });
    expect((await scoped.steps(mine)).steps).toHaveLength(1);
    expect(await scoped.step(mine, 0)).toMatchObject({ result: 1 });
    expect((await scoped.events(mine)).events).toHaveLength(1);
    expect(await scoped.event(mine, "k")).toMatchObject({ payload: 1 });
    const asks: (() => Promise<unknown>)[] = [
      () => scoped.get(other),
      () => scoped.steps(other),
      () => scoped.step(other, 0),
      () => scoped.step(other, 7),
      () => scoped.events(other),
      () => scoped.event(other, "k"),
      () => scoped.event(other, "none"),
      () => scoped.list({ projectId: "other" }),
      () => scoped.stats({ projectId: "other" }),
      () => scoped.stuck({ projectId: "other" }),
      () => scoped.purge({ projectId: "other", before: "2020-01-01" }),
    ];
    for (const ask of asks) await expect(ask).rejects.toMatchObject({ code: "forbidden" });
    for (const options of [{}, { projectId: "mine" }]) {
      const { runs } = await scoped.list(options);
      expect(new Set(runs.map((run) => run.projectId))).toEqual(new Set(["mine"]));
    }
  });

  it("shows no events of a run that has not begun", async () => {
    const runId = newRunId();
    await insert("durable_events", [eventRow(runId, "k")]);
    expect((await history.events(runId)).events).toHaveLength(1);
    expect(await scoped.events(runId)).toEqual({ events: [] });
    expect(await scoped.event(runId, "k")).toBeUndefined();
  });

  it("is not made for a project without a name", () => {
    expect(() => new RunHistory(env.DB, { projectId: "" })).toThrow(/projectId/);
  });
});

describe("a session", () => {
  it("has a bookmark after its first read, and another one goes on from there", async () => {
    const reader = new RunHistory(env.DB, { session: "first-primary" });
    expect(reader.bookmark).toBeUndefined();
    await reader.list();
    expect(reader.bookmark).toEqual(expect.any(String));
    const next = new RunHistory(env.DB, { session: reader.bookmark ?? "" });
    expect(await next.list()).toHaveProperty("runs");
  });
});
