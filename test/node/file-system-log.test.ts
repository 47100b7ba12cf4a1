import { existsSync } from "node:fs";
import {
  appendFile,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  appendGarbage,
  claimOf,
  completedIndexes,
  HOUR_MS,
  readLog,
  recordStep,
  storeAt,
  tearLastLine,
  temporaryRoot,
} from "./helpers/file-system.ts";

const runId = "run-1";

async function runWithSteps(
  count: number,
): Promise<{ root: string; log: string; store: ReturnType<typeof storeAt> }> {
  const root = await temporaryRoot();
  const store = storeAt(root);
  await store.startOrResume(claimOf(runId));
  for (let stepIndex = 0; stepIndex < count; stepIndex++) await recordStep(store, { runId, stepIndex });
  return { root, log: join(root, runId, "steps.jsonl"), store };
}

/** Blanks what a file holds, byte for byte: whoever reads it again finds nothing there. */
async function blank(path: string): Promise<void> {
  const { size } = await stat(path);
  const file = await open(path, "r+");
  await file.write(Buffer.alloc(size, " "), 0, size, 0);
  await file.close();
}

describe("a torn steps.jsonl", () => {
  test("loses the line that was cut, and no other, and goes on after it", async () => {
    const { root, log } = await runWithSteps(3);
    await tearLastLine(log);
    const store = storeAt(root, HOUR_MS);
    expect(await store.loadStep(runId, 2)).toMatchObject({ status: "running" });
    expect(await completedIndexes(store, claimOf(runId, "worker-b"))).toEqual([0, 1]);
    await recordStep(store, { runId, stepIndex: 2, result: "again" });
    expect(await storeAt(root).loadStep(runId, 2)).toMatchObject({
      status: "completed",
      result: "again",
      attempts: 2,
    });
  });

  test("is recovered by a store that had read it whole before", async () => {
    const { log, store } = await runWithSteps(3);
    await tearLastLine(log);
    expect(await store.loadStep(runId, 2)).toMatchObject({ status: "running" });
    await store.completeStep({ runId, stepIndex: 2, result: "again" });
    expect(await store.loadStep(runId, 2)).toMatchObject({ result: "again" });
  });

  test("that ends in garbage with no newline is appended to on a line of its own", async () => {
    const { root, log, store } = await runWithSteps(1);
    await appendGarbage(log);
    for (const writer of [store, storeAt(root)])
      await recordStep(writer, { runId, stepIndex: writer === store ? 1 : 2 });
    expect(
      (await readFile(log, "utf8")).split("\n").filter((line) => line.includes("half a li")),
    ).toHaveLength(1);
    expect(await completedIndexes(storeAt(root), claimOf(runId))).toEqual([0, 1, 2]);
  });

  test.each([
    ["binary", Buffer.from([0x0a, 0xff, 0xfe, 0x00, 0x0a])],
    ["blank lines", Buffer.from("\n\n  \n")],
    [
      "JSON of another kind",
      Buffer.from('null\n7\n[]\n{"seq":4}\n{"seq":4,"nonce":"x"}\n{"seq":4,"nonce":"x","run":null}\n'),
    ],
  ])("passes over %s", async (_what, garbage) => {
    const { root, log } = await runWithSteps(1);
    await appendFile(log, garbage);
    const store = storeAt(root);
    await recordStep(store, { runId, stepIndex: 1 });
    expect(await completedIndexes(storeAt(root), claimOf(runId))).toEqual([0, 1]);
  });

  test("that was cut within its first line is a run that never began", async () => {
    const { root, log } = await runWithSteps(0);
    await tearLastLine(log);
    const store = storeAt(root);
    expect(await store.loadRun(runId)).toBeUndefined();
    expect(await store._listRunIds()).toEqual([]);
    expect(await store.startOrResume(claimOf(runId, "worker-b"))).toMatchObject({ fence: 1 });
    expect(await storeAt(root)._listRunIds()).toEqual([runId]);
  });

  test("whose last line lacks only its newline has not recorded it yet, and does once somebody appends", async () => {
    const { root, log } = await runWithSteps(1);
    await truncate(log, (await stat(log)).size - 1);
    const store = storeAt(root);
    expect(await store.loadStep(runId, 0)).toMatchObject({ status: "running" });
    expect(await store.completeStep({ runId, stepIndex: 0, result: "late" })).toMatchObject({
      result: "result 0",
    });
  });

  test("keeps the first of two lines that claim the same place", async () => {
    const { root, log } = await runWithSteps(1);
    const last = (await readLog(log)).at(-1);
    await appendFile(log, `${JSON.stringify({ ...last, result: "too late" })}\n`);
    expect(await storeAt(root).loadStep(runId, 0)).toMatchObject({ result: "result 0" });
    await recordStep(storeAt(root), { runId, stepIndex: 1 });
    expect(await completedIndexes(storeAt(root), claimOf(runId))).toEqual([0, 1]);
  });
});

describe("a torn events.jsonl", () => {
  test.each([
    ["cut in its last line", tearLastLine, undefined],
    ["ended by garbage", appendGarbage, { payload: 2 }],
  ])("%s keeps the events before, and takes new ones", async (_how, damage, second) => {
    const root = await temporaryRoot();
    const store = storeAt(root);
    await store.emitEvent({ runId, key: "first", payload: 1 });
    await store.emitEvent({ runId, key: "second", payload: 2 });
    await damage(join(root, runId, "events.jsonl"));

    for (const reader of [store, storeAt(root)]) {
      expect(await reader.loadEvent(runId, "first")).toMatchObject({ payload: 1 });
      if (second) expect(await reader.loadEvent(runId, "second")).toMatchObject(second);
      else expect(await reader.loadEvent(runId, "second")).toBeUndefined();
    }
    expect(await storeAt(root).emitEvent({ runId, key: "third", payload: 3 })).toMatchObject({
      accepted: true,
    });
    expect(await store.emitEvent({ runId, key: "third", payload: 4 })).toMatchObject({
      accepted: false,
      record: { payload: 3 },
    });
  });
});

describe("reading", () => {
  test("a step reads nothing that its store has read before", async () => {
    const { log, store } = await runWithSteps(50);
    await blank(log);
    for (let stepIndex = 50; stepIndex < 60; stepIndex++) await recordStep(store, { runId, stepIndex });
    expect(await store.loadRun(runId)).toMatchObject({ stepCount: 60 });
    expect(await completedIndexes(store, claimOf(runId))).toHaveLength(60);
  });

  test("an event reads nothing that its store has read before", async () => {
    const root = await temporaryRoot();
    const store = storeAt(root);
    for (let i = 0; i < 10; i++) await store.emitEvent({ runId, key: `key ${i}`, payload: i });
    await blank(join(root, runId, "events.jsonl"));
    expect(await store.emitEvent({ runId, key: "key 3", payload: "again" })).toMatchObject({
      accepted: false,
      record: { payload: 3 },
    });
    expect(await store.emitEvent({ runId, key: "key 10", payload: 10 })).toMatchObject({ accepted: true });
  });

  test("a store takes in only the lines that others have added", async () => {
    const { root, log, store } = await runWithSteps(5);
    const other = storeAt(root);
    await recordStep(other, { runId, stepIndex: 5 });
    await store.loadRun(runId);
    await blank(log);
    await recordStep(other, { runId, stepIndex: 6 });
    expect(await store.loadStep(runId, 6)).toMatchObject({ status: "completed" });
    expect(await store.loadStep(runId, 0)).toMatchObject({ status: "completed" });
  });

  test("lines that end anywhere in a chunk are read whole", async () => {
    const root = await temporaryRoot();
    const store = storeAt(root);
    await store.startOrResume(claimOf(runId));
    const results = Array.from({ length: 40 }, (_, i) => "🏃é".repeat(i * 300));
    for (const [stepIndex, result] of results.entries())
      await recordStep(store, { runId, stepIndex, result });
    const { completedSteps } = await storeAt(root).startOrResume(claimOf(runId));
    expect(completedSteps.map((step) => step.result)).toEqual(results);
  });

  test("large results, inputs and payloads are read back from their lines", async () => {
    const root = await temporaryRoot();
    const large = { text: "x\n\u2028🏃".repeat(100_000) };
    const store = storeAt(root);
    const claim = claimOf(runId);
    await store.startOrResume({ ...claim, manifest: { ...claim.manifest, input: large } });
    await recordStep(store, { runId, stepIndex: 0, result: large });
    await store.emitEvent({ runId, key: "go", payload: large });
    await store.endRun({ runId, workerId: "worker-a", status: "completed", result: large });

    for (const reader of [store, storeAt(root)]) {
      expect(await reader.loadStep(runId, 0)).toMatchObject({ result: large });
      expect(await reader.loadEvent(runId, "go")).toMatchObject({ payload: large });
      expect(await reader.loadRun(runId)).toMatchObject({ result: large });
    }
    const view = JSON.parse(await readFile(join(root, runId, "run.json"), "utf8")) as unknown;
    expect(view).toMatchObject({ result: large, manifest: { input: large } });
  });
});

describe("what a store holds", () => {
  test("is bounded: a run that was not asked for in a long time is read again", async () => {
    const { log, store } = await runWithSteps(2);
    for (let i = 0; i < 1_000; i++) await store.loadRun(`other ${i}`);
    await recordStep(store, { runId, stepIndex: 2 });
    expect(await store.loadRun(runId)).toMatchObject({ stepCount: 3 });
    for (let i = 0; i < 1_000; i++) await store.loadRun(`other ${i}`);
    await blank(log);
    expect(await store.loadRun(runId)).toBeUndefined();
  });

  test("is dropped when its run ends, and when it is closed", async () => {
    const { log, store } = await runWithSteps(2);
    await store.endRun({ runId, workerId: "worker-a", status: "failed" });
    const whole = await readFile(log);
    await blank(log);
    expect(await store.loadRun(runId)).toBeUndefined();

    await writeFile(log, whole);
    await store.startOrResume(claimOf(runId));
    await store.close();
    await blank(log);
    expect(await store.loadRun(runId)).toBeUndefined();
  });

  test.skipIf(!existsSync("/proc/self/fd"))("is no open file", async () => {
    const { root, store } = await runWithSteps(2);
    await store.emitEvent({ runId, key: "go", payload: 1 });
    await store._listRunIds();
    const open = await Promise.all(
      (await readdir("/proc/self/fd")).map((fd) =>
        readlink(`/proc/self/fd/${fd}`).catch(() => "closed since"),
      ),
    );
    expect(open.filter((path) => path.startsWith(root))).toEqual([]);
  });
});

describe("a log that changes under its readers", () => {
  test("that was deleted is a run that no longer exists, and may begin anew", async () => {
    const { root, store } = await runWithSteps(2);
    await rm(join(root, runId), { recursive: true });
    expect(await store.loadRun(runId)).toBeUndefined();
    await expect(recordStep(store, { runId, stepIndex: 2 })).rejects.toMatchObject({ code: "run_not_found" });
    expect(await store.startOrResume(claimOf(runId))).toMatchObject({ fence: 1, completedSteps: [] });
  });

  test("that was deleted and begun anew by another process is read anew", async () => {
    const { root, store } = await runWithSteps(2);
    await rm(join(root, runId), { recursive: true });
    const other = storeAt(root);
    await other.startOrResume(claimOf(runId, "worker-b"));
    for (let stepIndex = 0; stepIndex < 9; stepIndex++) {
      await recordStep(other, { runId, stepIndex, result: "of the new run" });
    }
    expect(await store.loadStep(runId, 0)).toMatchObject({ result: "of the new run" });
    expect(await store.loadRun(runId)).toMatchObject({ leaseHolderId: "worker-b", stepCount: 9 });
  });

  test("that was replaced by another file is read anew", async () => {
    const { log, store } = await runWithSteps(2);
    const lines = (await readFile(log, "utf8")).split("\n");
    await writeFile(
      `${log}.restored`,
      lines
        .slice(0, 3)
        .map((line) => `${line}\n`)
        .join("") + `${" ".repeat(4_096)}\n`,
    );
    await rename(`${log}.restored`, log);
    expect(await completedIndexes(store, claimOf(runId))).toEqual([0]);
  });
});

describe("a file system that fails", () => {
  test.skipIf(!existsSync("/dev/full"))(
    "for want of space makes the store unavailable, with the cause",
    async () => {
      const root = await temporaryRoot();
      await mkdir(join(root, runId));
      for (const name of ["steps.jsonl", "events.jsonl"]) await symlink("/dev/full", join(root, runId, name));
      const refusal = { code: "store_unavailable", retryable: true, cause: { code: "ENOSPC" } };
      const store = storeAt(root);
      await expect(store.startOrResume(claimOf(runId))).rejects.toMatchObject(refusal);
      await expect(store.emitEvent({ runId, key: "go", payload: 1 })).rejects.toMatchObject(refusal);
      expect(await store.loadRun(runId)).toBeUndefined();
    },
  );

  test("on its root makes the store unavailable, with the cause", async () => {
    const root = join(await temporaryRoot(), "a-file");
    await writeFile(root, "");
    const refusal = { code: "store_unavailable", cause: { code: "ENOTDIR" } };
    const store = storeAt(root);
    await expect(store.startOrResume(claimOf(runId))).rejects.toMatchObject(refusal);
    await expect(store.loadRun(runId)).rejects.toMatchObject(refusal);
    await expect(store._listRunIds()).rejects.toMatchObject(refusal);
  });

  test.skipIf(!existsSync("/dev/full"))("does not hold up what comes after it", async () => {
    const root = await temporaryRoot();
    const store = storeAt(root);
    await mkdir(join(root, runId));
    await symlink("/dev/full", join(root, runId, "steps.jsonl"));
    const failing = store.startOrResume(claimOf(runId));
    const waiting = failing
      .catch(() => rm(join(root, runId, "steps.jsonl")))
      .then(() => store.startOrResume(claimOf(runId)));
    await expect(failing).rejects.toMatchObject({ code: "store_unavailable" });
    expect(await waiting).toMatchObject({ fence: 1 });
  });
});
