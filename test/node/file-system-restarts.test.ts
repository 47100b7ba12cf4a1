/** Restarts in a log that is only appended to; and logs of the version before, which knew none. */
import { readFileSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { newRequestId } from "../../src/identity.ts";
import {
  claimOf,
  completedIndexes,
  HOUR_MS,
  readLog,
  recordStep,
  storeAt,
  tearLastLine,
  temporaryRoot,
  Worker,
} from "./helpers/file-system.ts";

// Processes start slowly on a machine that is busy with other tests.
vi.setConfig({ testTimeout: 60_000 });

const runId = "run-1";
const from = (fromStep: number) => ({ fromStep, dropLater: true, requestId: newRequestId() }) as const;

async function runWithSteps(count: number) {
  const root = await temporaryRoot();
  const store = storeAt(root);
  const { fence = 0 } = await store.startOrResume(claimOf(runId));
  for (let stepIndex = 0; stepIndex < count; stepIndex++)
    await recordStep(store, { runId, stepIndex, fence });
  return { root, store, fence, log: join(root, runId, "steps.jsonl") };
}

describe("a restart", () => {
  test("is one line more: what it drops stays in the log, and counts no longer", async () => {
    const { root, store, log } = await runWithSteps(4);
    const before = await readFile(log, "utf8");
    await store.restartRun(runId, from(1));
    const after = await readFile(log, "utf8");
    expect(after.startsWith(before)).toBe(true);
    const [line] = (await readLog(log)).slice(-1);
    expect(line).toMatchObject({ dropFrom: 1, run: { status: "pending", fence: 2, stepCount: 1 } });
    for (const reader of [store, storeAt(root)]) {
      expect(await reader.loadRun(runId)).toMatchObject({ status: "pending", stepCount: 1 });
      expect(await reader.loadStep(runId, 0)).toMatchObject({ result: "result 0" });
      expect(await reader.loadStep(runId, 1)).toBeUndefined();
    }
    const view = JSON.parse(await readFile(join(root, runId, "run.json"), "utf8")) as unknown;
    expect(view).toMatchObject({ status: "pending", stepCount: 1 });
  });

  test("whose line is torn has not happened, and happens when it is repeated", async () => {
    const { root, log, store } = await runWithSteps(3);
    const options = from(1);
    await store.restartRun(runId, options);
    await tearLastLine(log);
    for (const reader of [store, storeAt(root)]) {
      expect(await reader.loadRun(runId)).toMatchObject({ status: "running", fence: 1, stepCount: 3 });
      expect(await reader.loadStep(runId, 2)).toMatchObject({ result: "result 2" });
    }
    expect(await storeAt(root).restartRun(runId, options)).toMatchObject({ fence: 2, stepCount: 1 });
    expect(await store.loadStep(runId, 2)).toBeUndefined();
    expect(await completedIndexes(store, claimOf(runId, "worker-b"))).toEqual([0]);
  });

  test("outlives what it dropped: large results before and after it are read back from their own lines", async () => {
    const { root, store } = await runWithSteps(0);
    const large = (life: string) => `${life} `.repeat(20_000);
    for (const stepIndex of [0, 1, 2]) await recordStep(store, { runId, stepIndex, result: large("old") });
    await store.restartRun(runId, from(1));
    const { fence = 0 } = await store.startOrResume(claimOf(runId));
    for (const stepIndex of [1, 2])
      await recordStep(store, { runId, stepIndex, fence, result: large("new") });
    for (const reader of [store, storeAt(root)]) {
      const steps = await Promise.all([0, 1, 2].map((stepIndex) => reader.loadStep(runId, stepIndex)));
      expect(steps.map((step) => step?.result === large("old"))).toEqual([true, false, false]);
      expect(steps.map((step) => step?.result === large("new"))).toEqual([false, true, true]);
    }
  });
});

describe("several processes", () => {
  test("a restart against a worker that goes on recording: it is fenced, and leaves nothing behind", async () => {
    const { root } = await runWithSteps(0);
    const [working, restarting] = [await Worker.start(root), await Worker.start(root)];
    const store = storeAt(root);
    for (let round = 0; round < 5; round++) {
      const { value: fence = 0 } = await working.call({ op: "claim", input: claimOf(runId) });
      working.send({ op: "loop", runId, fence });
      for (let at = 0; at < 4 + round; at++) await working.next();
      const restarted = await restarting.call({ op: "restart", runId, fromStep: 2 });
      expect(restarted).toEqual({ value: fence + 1 });
      for (;;) {
        const answer = await working.next();
        if (answer?.code === undefined && answer !== null) continue;
        expect(answer).toEqual({ code: "lease_lost" });
        break;
      }
      for (const reader of [store, storeAt(root)]) {
        expect(await reader.loadRun(runId)).toMatchObject({
          status: "pending",
          fence: fence + 1,
          stepCount: 2,
        });
        for (let at = 2; at < 12 + round; at++) expect(await reader.loadStep(runId, at)).toBeUndefined();
      }
      const begin = { runId, stepIndex: 2, intent: "step 2", kind: "logic", inputHash: "", fence } as const;
      expect(await working.call({ op: "begin", input: begin })).toEqual({ code: "lease_lost" });
    }
    expect(await completedIndexes(store, claimOf(runId, "worker-b"))).toEqual([0, 1]);
  });

  test("that restart a run from one step at once: one of them does, and all see it", async () => {
    const { root } = await runWithSteps(0);
    const workers = await Promise.all(Array.from({ length: 4 }, () => Worker.start(root)));
    for (let round = 0; round < 5; round++) {
      const store = storeAt(root, round * HOUR_MS);
      const { fence = 0 } = await store.startOrResume(claimOf(runId));
      for (const stepIndex of [0, 1, 2]) await recordStep(store, { runId, stepIndex, fence });
      const answers = await Promise.all(
        workers.map((worker) => worker.call({ op: "restart", runId, fromStep: 1 })),
      );
      expect(answers.filter((answer) => answer.value === fence + 1)).toHaveLength(1);
      expect(answers.filter((answer) => answer.code === "invalid_input")).toHaveLength(3);
      const begin = { runId, stepIndex: 1, intent: "step 1", kind: "logic", inputHash: "", fence } as const;
      for (const worker of workers) {
        expect(await worker.call({ op: "begin", input: begin })).toEqual({ code: "lease_lost" });
      }
    }
  });
});

describe("a log of the version before", () => {
  /** As that version wrote it: no tries, paths, waits, forks or interventions. */
  const LINES = join(import.meta.dirname, "helpers", "log-of-version-1.jsonl");

  async function copied() {
    const root = await temporaryRoot();
    await mkdir(join(root, runId));
    await writeFile(join(root, runId, "steps.jsonl"), readFileSync(LINES));
    return { root, store: storeAt(root) };
  }

  test("reads as it did", async () => {
    const { store } = await copied();
    const run = await store.loadRun(runId);
    expect(run).toMatchObject({ status: "running", fence: 2, stepCount: 3, leaseHolderId: "worker-0" });
    for (const field of ["waitingFor", "forkedFrom", "error"]) expect(run).not.toHaveProperty(field);
    const done = await store.loadStep(runId, 0);
    expect(done).toMatchObject({ status: "completed", result: { a: 1 }, attempts: 1, tries: 1 });
    for (const field of ["path", "inDoubt", "nextAttemptAt", "lastError"])
      expect(done).not.toHaveProperty(field);
    const error = { name: "TypeError", message: "no" };
    expect(await store.loadStep(runId, 1)).toMatchObject({ status: "failed", error, tries: 1 });
    const deadlineAt = "2023-11-14T22:14:26.000Z";
    expect(await store.loadStep(runId, 2)).toMatchObject({ status: "running", kind: "event", deadlineAt });
  });

  test("goes on with all that this version brings", async () => {
    const { root, store } = await copied();
    const next = await store.startOrResume(claimOf(runId, "worker-b"));
    expect(next.completedSteps.map((step) => step.stepIndex)).toEqual([0]);
    expect(next.caughtSteps).toMatchObject([{ stepIndex: 1 }]);
    expect(next.openSteps).toMatchObject([{ stepIndex: 2, status: "running" }]);
    const { fence = 0 } = next;
    const waiting = { runId, stepIndex: 2, intent: "step 2", kind: "event", inputHash: "", fence } as const;
    const parked = await store.beginStep({ ...waiting, onInterrupted: "park" });
    expect(parked).toMatchObject({ status: "pending", inDoubt: true, attempts: 1 });
    await store.resolveStep(runId, 2, { result: "by hand" });
    await store.forkRun(runId, "run-2", { throughStep: 2 });
    await store.restartRun(runId, from(1));
    for (const reader of [store, storeAt(root)]) {
      expect(await reader.loadRun(runId)).toMatchObject({
        status: "pending",
        stepCount: 1,
        fence: fence + 1,
      });
      expect(await reader.loadStep("run-2", 2)).toMatchObject({ status: "completed", result: "by hand" });
      expect(await reader.loadRun("run-2")).toMatchObject({ forkedFrom: { runId, throughStep: 2 } });
    }
    const { caughtSteps } = await store.startOrResume(claimOf("run-2"));
    expect(caughtSteps).toMatchObject([{ stepIndex: 1, error: { message: "no" } }]);
  });
});
