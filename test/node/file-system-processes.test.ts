import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import {
  claimOf,
  completedIndexes,
  HOUR_MS,
  readLog,
  recordStep,
  storeAt,
  temporaryRoot,
  Worker,
} from "./helpers/file-system.ts";

// Processes start slowly on a machine that is busy with other tests.
vi.setConfig({ testTimeout: 60_000 });

const runId = "run-1";

function startWorkers(root: string, count: number): Promise<Worker[]> {
  return Promise.all(Array.from({ length: count }, () => Worker.start(root)));
}

/** The first positions that a looping worker is told are recorded. */
async function acknowledged(worker: Worker, count: number): Promise<number[]> {
  const positions: number[] = [];
  while (positions.length < count) positions.push((await worker.next())!.value!);
  return positions;
}

/** What ends the loop of a worker. */
async function refusal(worker: Worker): Promise<string> {
  for (;;) {
    const answer = await worker.next();
    if (answer === null || answer.code !== undefined) return answer?.code ?? "the worker ended";
  }
}

describe("several processes", () => {
  test("that claim one run at once have one winner, and the others see that the lease is held", async () => {
    const root = await temporaryRoot();
    const workers = await startWorkers(root, 6);
    for (let round = 0; round < 5; round++) {
      const answers = await Promise.all(
        workers.map((worker, i) =>
          worker.call({ op: "claim", input: claimOf(`run-${round}`, `worker-${i}`) }),
        ),
      );
      expect(answers.filter((answer) => answer.value === 1)).toHaveLength(1);
      expect(answers.filter((answer) => answer.code === "lease_held")).toHaveLength(5);
    }
  });

  test("never mint one fence twice, and leave views that show the last claim", async () => {
    const root = await temporaryRoot();
    const workers = await startWorkers(root, 4);
    const answers = await Promise.all(
      workers.map((worker) => worker.call({ op: "claims", input: claimOf(runId), count: 60 })),
    );
    const fences = answers.flatMap((answer) => answer.values!);
    expect(fences.sort((a, b) => a - b)).toEqual(Array.from({ length: 240 }, (_, i) => i + 1));
    for (const view of ["run.json", "lease.json"]) {
      expect(JSON.parse(await readFile(join(root, runId, view), "utf8"))).toMatchObject({ fence: 240 });
    }
  });

  test("that work on one run together lose no step of one another", async () => {
    const root = await temporaryRoot();
    const workers = await startWorkers(root, 4);
    await storeAt(root).startOrResume(claimOf(runId));
    await Promise.all(
      workers.map((worker, from) => worker.call({ op: "steps", runId, from, stride: 4, count: 50 })),
    );
    const { completedSteps } = await storeAt(root).startOrResume(claimOf(runId));
    expect(completedSteps.map((step) => step.result)).toEqual(
      Array.from({ length: 200 }, (_, i) => `result ${i}`),
    );
    expect(completedSteps.every((step) => step.attempts === 1)).toBe(true);
  });

  test("that emit the same events agree on who was first", async () => {
    const root = await temporaryRoot();
    const workers = await startWorkers(root, 4);
    const answers = await Promise.all(
      workers.map((worker, payload) => worker.call({ op: "emits", runId, payload, count: 60 })),
    );
    const store = storeAt(root);
    for (let i = 0; i < 60; i++) {
      const winners = answers.flatMap(({ values }, payload) => (values!.includes(i) ? [payload] : []));
      expect(winners).toHaveLength(1);
      expect(await store.loadEvent(runId, `key ${i}`)).toMatchObject({ payload: winners[0] });
    }
  });
});

describe("a zombie", () => {
  test("cannot complete its step once another process has taken over", async () => {
    const root = await temporaryRoot();
    const zombie = await Worker.start(root);
    const { value: fence } = await zombie.call({ op: "claim", input: claimOf(runId, "worker-a") });
    const begin = { runId, stepIndex: 0, intent: "pay", kind: "tool", inputHash: "", fence: fence! } as const;
    await zombie.call({ op: "begin", input: begin });

    const store = storeAt(root, HOUR_MS);
    const { fence: next } = await store.startOrResume(claimOf(runId, "worker-b"));
    const late = await zombie.call({
      op: "complete",
      input: { runId, stepIndex: 0, result: "late", fence: fence! },
    });
    expect(late).toEqual({ code: "lease_lost" });
    expect(await store.loadStep(runId, 0)).toMatchObject({ status: "running" });
    await store.beginStep({ ...begin, fence: next! });
    await store.completeStep({ runId, stepIndex: 0, result: "mine", fence: next! });
    expect(
      await zombie.call({ op: "complete", input: { runId, stepIndex: 0, result: "late", fence: fence! } }),
    ).toEqual({ code: "lease_lost" });
    expect(await store.loadStep(runId, 0)).toMatchObject({ result: "mine" });
  });

  test("that is frozen anywhere in its work, and wakes after a takeover, adds nothing", async () => {
    const root = await temporaryRoot();
    for (let round = 0; round < 3; round++) {
      const id = `run-${round}`;
      const zombie = await Worker.start(root);
      await zombie.call({ op: "claim", input: claimOf(id, "worker-a") });
      zombie.send({ op: "loop", runId: id, fence: 1 });
      const known = await acknowledged(zombie, 5 + round);
      zombie.signal("SIGSTOP");

      const store = storeAt(root, HOUR_MS);
      const { completedSteps } = await store.startOrResume(claimOf(id, "worker-b"));
      expect(completedSteps.map((step) => step.stepIndex)).toEqual(expect.arrayContaining(known));
      zombie.signal("SIGCONT");
      expect(await refusal(zombie)).toBe("lease_lost");
      const ends = await completedIndexes(storeAt(root, 2 * HOUR_MS), claimOf(id, "worker-c"));
      expect(ends).toEqual(completedSteps.map((step) => step.stepIndex));
    }
  });
});

describe("a crash", () => {
  test("in the middle of a loop of steps loses no step that was acknowledged", async () => {
    const root = await temporaryRoot();
    const known: number[] = [];
    for (let attempt = 1; attempt <= 3; attempt++) {
      const worker = await Worker.start(root);
      expect(await worker.call({ op: "claim", input: claimOf(runId) })).toEqual({ value: attempt });
      worker.send({ op: "loop", runId, fence: attempt });
      await acknowledged(worker, attempt * 10);
      known.push(attempt * 10 - 1);
      await worker.kill();
    }
    const recovering = await Worker.start(root);
    expect(await recovering.call({ op: "claim", input: claimOf(runId) })).toEqual({ value: 4 });
    const store = storeAt(root);
    const { completedSteps } = await store.startOrResume(claimOf(runId));
    const expected = Array.from({ length: Math.max(...known) + 1 }, (_, i) => i);
    expect(completedSteps.map((step) => step.stepIndex).slice(0, expected.length)).toEqual(expected);
    expect(completedSteps.every((step) => step.result === `result ${step.stepIndex}`)).toBe(true);
    await recordStep(store, { runId, stepIndex: completedSteps.length });
  });

  test("of a write that the system cuts short is store_unavailable, and harms neither that process nor another", async () => {
    const root = await temporaryRoot();
    // Files of this process end at 16 blocks of 512 bytes or of 1 KiB, as the shell counts.
    const worker = await Worker.start(root, "ulimit -f 16;");
    await worker.call({ op: "claim", input: claimOf(runId) });
    const begin = { runId, stepIndex: 0, intent: "step 0", kind: "logic", inputHash: "" } as const;
    await worker.call({ op: "begin", input: begin });
    const complete = { runId, stepIndex: 0, result: "x".repeat(20_000) };
    expect(await worker.call({ op: "complete", input: complete })).toEqual({ code: "store_unavailable" });
    expect(await worker.call({ op: "complete", input: complete })).toEqual({ code: "store_unavailable" });

    const store = storeAt(root);
    expect(await store.loadStep(runId, 0)).toMatchObject({ status: "running" });
    await store.completeStep(complete);
    await recordStep(store, { runId, stepIndex: 1 });
    expect(await worker.call({ op: "complete", input: complete })).toEqual({ value: 0 });
    expect(await completedIndexes(storeAt(root), claimOf(runId))).toEqual([0, 1]);
  });
});

describe("one store", () => {
  test("takes the calls on one run one after another, so that they do not race", async () => {
    const root = await temporaryRoot();
    const store = storeAt(root);
    await store.startOrResume(claimOf(runId));
    await Promise.all(Array.from({ length: 30 }, (_, stepIndex) => recordStep(store, { runId, stepIndex })));
    const log = await readLog(join(root, runId, "steps.jsonl"));
    expect(log.map((line) => line["seq"])).toEqual(Array.from({ length: 61 }, (_, i) => i + 1));
  });

  test("works on many runs at once", async () => {
    const root = await temporaryRoot();
    const store = storeAt(root);
    const runIds = Array.from({ length: 50 }, (_, i) => `run-${String(i).padStart(2, "0")}`);
    await Promise.all(
      runIds.map(async (id) => {
        const { fence } = await store.startOrResume(claimOf(id));
        for (let stepIndex = 0; stepIndex < 5; stepIndex++)
          await recordStep(store, { runId: id, stepIndex, fence: fence! });
        await store.endRun({ runId: id, workerId: "worker-a", status: "completed", fence: fence! });
      }),
    );
    expect(await store._listRunIds()).toEqual(runIds);
    for (const id of runIds)
      expect(await store.loadRun(id)).toMatchObject({ status: "completed", stepCount: 5 });
  });
});
