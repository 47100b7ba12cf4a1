import { mkdir, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { FileSystemDurableRunStore } from "../../src/node.ts";
import { claimOf, HOUR_MS, readLog, recordStep, storeAt, temporaryRoot } from "./helpers/file-system.ts";

async function readJson(path: string): Promise<unknown> {
  return JSON.parse(await readFile(path, "utf8"));
}

describe("the layout", () => {
  test("a run has a directory with its log, its events, its record and its lease", async () => {
    const root = await temporaryRoot();
    const store = storeAt(root);
    const { fence, run, leaseExpiresAt } = await store.startOrResume(claimOf("run-1"));
    await recordStep(store, { runId: "run-1", stepIndex: 0, result: { answer: 42 } });
    await store.emitEvent({ runId: "run-1", key: "approved", payload: { by: "ann" } });

    expect((await readdir(join(root, "run-1"))).sort()).toEqual([
      "events.jsonl",
      "lease.json",
      "run.json",
      "steps.jsonl",
    ]);
    const { manifest } = claimOf("run-1");
    expect(await readJson(join(root, "run-1", "run.json"))).toEqual({ ...run, manifest });
    expect(await readJson(join(root, "run-1", "lease.json"))).toMatchObject({
      leaseHolderId: "worker-a",
      leaseExpiresAt,
      fence,
    });
    const lines = await readLog(join(root, "run-1", "steps.jsonl"));
    expect(lines).toMatchObject([
      {
        seq: 1,
        run: { runId: "run-1", status: "running", fence: 1 },
        manifest: { task: manifest.task, input: manifest.input },
      },
      { seq: 2, runId: "run-1", stepIndex: 0, status: "running" },
      { seq: 3, runId: "run-1", stepIndex: 0, status: "completed", result: { answer: 42 } },
    ]);
    expect(await readLog(join(root, "run-1", "events.jsonl"))).toMatchObject([
      { key: "approved", payload: { by: "ann" } },
    ]);
  });

  test("the manifest is written to the log once, however often the run is claimed and its lease renewed", async () => {
    const root = await temporaryRoot();
    const store = storeAt(root);
    await store.startOrResume(claimOf("run-1"));
    const { fence } = await store.startOrResume(claimOf("run-1"));
    await store.renewLease({ runId: "run-1", workerId: "worker-a", fence: fence! });
    const lines = await readLog(join(root, "run-1", "steps.jsonl"));
    expect(lines.map((line) => "manifest" in line)).toEqual([true, false, false]);
  });

  test("what changes nothing writes nothing", async () => {
    const root = await temporaryRoot();
    const store = storeAt(root);
    await store.startOrResume(claimOf("run-1"));
    await recordStep(store, { runId: "run-1", stepIndex: 0 });
    const before = await readFile(join(root, "run-1", "steps.jsonl"), "utf8");
    await store.completeStep({ runId: "run-1", stepIndex: 0, result: "another" });
    await store.beginStep({ runId: "run-1", stepIndex: 0, intent: "step 0", kind: "logic", inputHash: "" });
    await expect(store.completeStep({ runId: "run-1", stepIndex: 7, result: 0 })).rejects.toMatchObject({
      code: "step_not_running",
    });
    expect(await readFile(join(root, "run-1", "steps.jsonl"), "utf8")).toBe(before);
  });
});

describe("the views", () => {
  test("a renewal shows in lease.json", async () => {
    const root = await temporaryRoot();
    const store = storeAt(root);
    await store.startOrResume(claimOf("run-1"));
    const { leaseExpiresAt } = await store.renewLease({
      runId: "run-1",
      workerId: "worker-a",
      leaseMs: HOUR_MS,
    });
    expect(await readJson(join(root, "run-1", "lease.json"))).toMatchObject({ leaseExpiresAt });
  });

  test("an ended run has its result in run.json, and no lease.json", async () => {
    const root = await temporaryRoot();
    const store = storeAt(root);
    await store.startOrResume(claimOf("run-1"));
    await store.endRun({
      runId: "run-1",
      workerId: "worker-a",
      status: "completed",
      result: [1, 2],
      outcome: { pass: true },
    });
    expect(await readJson(join(root, "run-1", "run.json"))).toMatchObject({
      status: "completed",
      result: [1, 2],
      outcome: { pass: true },
    });
    expect(await readdir(join(root, "run-1"))).toEqual(["run.json", "steps.jsonl"]);
  });

  test.each(["missing", "corrupt"])(
    "a run whose run.json and lease.json are %s goes on, and its next claim writes them again",
    async (how) => {
      const root = await temporaryRoot();
      const store = storeAt(root);
      await store.startOrResume(claimOf("run-1"));
      await recordStep(store, { runId: "run-1", stepIndex: 0 });
      for (const name of ["run.json", "lease.json"]) {
        if (how === "missing") await rm(join(root, "run-1", name));
        else await writeFile(join(root, "run-1", name), '{"status":"comp');
      }

      const other = storeAt(root);
      await expect(other.startOrResume(claimOf("run-1", "worker-b"))).rejects.toMatchObject({
        code: "lease_held",
      });
      expect(await other.loadRun("run-1")).toMatchObject({
        status: "running",
        fence: 1,
        leaseHolderId: "worker-a",
      });
      const { completedSteps, run } = await storeAt(root, HOUR_MS).startOrResume(
        claimOf("run-1", "worker-b"),
      );
      expect(completedSteps).toHaveLength(1);
      expect(await readJson(join(root, "run-1", "run.json"))).toMatchObject({ ...run });
      expect(await readJson(join(root, "run-1", "lease.json"))).toMatchObject({
        leaseHolderId: "worker-b",
        fence: 2,
      });
    },
  );

  test("views that a crash left behind are corrected when a completed run is claimed", async () => {
    const root = await temporaryRoot();
    const store = storeAt(root);
    await store.startOrResume(claimOf("run-1"));
    const [runView, leaseView] = [join(root, "run-1", "run.json"), join(root, "run-1", "lease.json")];
    const stale = { run: await readFile(runView), lease: await readFile(leaseView) };
    await store.endRun({ runId: "run-1", workerId: "worker-a", status: "completed" });
    await writeFile(runView, stale.run);
    await writeFile(leaseView, stale.lease);
    await writeFile(`${runView}.half-written.tmp`, "{");

    await storeAt(root).startOrResume(claimOf("run-1"));
    expect(await readJson(runView)).toMatchObject({ status: "completed" });
    expect(await readdir(join(root, "run-1"))).toEqual(["run.json", "steps.jsonl"]);
  });

  test("the views show the last claim, whichever of several stores was the last to write them", async () => {
    const root = await temporaryRoot();
    const stores = [storeAt(root), storeAt(root), storeAt(root)];
    for (let round = 0; round < 20; round++) {
      const runId = `run-${round}`;
      await Promise.all(stores.map((store) => store.startOrResume(claimOf(runId))));
      expect(await readJson(join(root, runId, "run.json"))).toMatchObject({ fence: 3 });
      expect(await readJson(join(root, runId, "lease.json"))).toMatchObject({ fence: 3 });
    }
  });

  test("a view that cannot be written fails nothing", async () => {
    const root = await temporaryRoot();
    await mkdir(join(root, "run-1", "run.json", "in-the-way"), { recursive: true });
    const store = storeAt(root);
    await store.startOrResume(claimOf("run-1"));
    await recordStep(store, { runId: "run-1", stepIndex: 0 });
    expect(await storeAt(root).loadRun("run-1")).toMatchObject({ stepCount: 1 });
  });
});

describe("run ids", () => {
  const longest = "a".repeat(1_024);
  test.each([
    "../x",
    "..",
    ".",
    "a/b",
    "🏃‍♀️",
    longest,
    "CON",
    "nul.txt",
    "trailing.",
    "~x",
    "C:\\x",
    "é",
    "é",
  ])("%j is a run of its own, inside the root", async (runId) => {
    const parent = await temporaryRoot();
    const root = join(parent, "root");
    await storeAt(root).startOrResume(claimOf(runId));
    await recordStep(storeAt(root), { runId, stepIndex: 0 });
    expect(await storeAt(root).loadStep(runId, 0)).toMatchObject({ runId, result: "result 0" });
    expect(await storeAt(root)._listRunIds()).toEqual([runId]);
    expect(await readdir(parent)).toEqual(["root"]);
    const [name] = await readdir(root);
    expect(name).toMatch(/^~[0-9a-f]{64}$/);
  });

  test.each(["01JD9Z2X5M7QK3N8T4V6W0Y1RB", "nightly-2025.01.31_a", "7"])(
    "%j is the name of its directory",
    async (runId) => {
      const root = await temporaryRoot();
      await storeAt(root).startOrResume(claimOf(runId));
      expect(await readdir(root)).toEqual([runId]);
    },
  );

  // A link makes two names one directory, as a file system that ignores case does.
  test("an id whose directory is another run's is refused, and neither run sees the other", async () => {
    const root = await temporaryRoot();
    const store = storeAt(root);
    await store.startOrResume(claimOf("run-a"));
    await recordStep(store, { runId: "run-a", stepIndex: 0 });
    await store.emitEvent({ runId: "run-a", key: "go", payload: 1 });
    await symlink(join(root, "run-a"), join(root, "RUN-A"));

    for (const other of [store, storeAt(root)]) {
      const refusal = { code: "invalid_input", field: "runId" };
      await expect(other.startOrResume(claimOf("RUN-A"))).rejects.toMatchObject(refusal);
      await expect(other.emitEvent({ runId: "RUN-A", key: "go", payload: 2 })).rejects.toMatchObject(refusal);
      expect(await other.loadRun("RUN-A")).toBeUndefined();
      expect(await other.loadStep("RUN-A", 0)).toBeUndefined();
      expect(await other.loadEvent("RUN-A", "go")).toBeUndefined();
    }
    await recordStep(store, { runId: "run-a", stepIndex: 1 });
    expect(await store.loadRun("run-a")).toMatchObject({ stepCount: 2 });
    expect(await store._listRunIds()).toEqual(["run-a"]);
  });
});

describe("unknown runs", () => {
  test("reading one answers undefined and makes no directory", async () => {
    const root = join(await temporaryRoot(), "root");
    const store = storeAt(root);
    expect(await store.loadRun("run-1")).toBeUndefined();
    expect(await store.loadStep("run-1", 0)).toBeUndefined();
    expect(await store.loadEvent("run-1", "go")).toBeUndefined();
    expect(await store._listRunIds()).toEqual([]);
    await expect(readdir(root)).rejects.toMatchObject({ code: "ENOENT" });
  });

  test("changing one is refused and makes no directory", async () => {
    const root = join(await temporaryRoot(), "root");
    const store = storeAt(root);
    const refusal = { code: "run_not_found" };
    await expect(store.completeStep({ runId: "run-1", stepIndex: 0, result: 1 })).rejects.toMatchObject(
      refusal,
    );
    await expect(store.renewLease({ runId: "run-1", workerId: "worker-a" })).rejects.toMatchObject(refusal);
    await expect(
      store.endRun({ runId: "run-1", workerId: "worker-a", status: "failed" }),
    ).rejects.toMatchObject(refusal);
    await expect(readdir(root)).rejects.toMatchObject({ code: "ENOENT" });
  });

  test("an event may come before its run, which does not exist for that", async () => {
    const root = await temporaryRoot();
    const store = storeAt(root);
    expect(await store.emitEvent({ runId: "run-1", key: "go", payload: null })).toMatchObject({
      accepted: true,
    });
    expect(await store.loadRun("run-1")).toBeUndefined();
    expect(await store._listRunIds()).toEqual([]);
    await expect(recordStep(store, { runId: "run-1", stepIndex: 0 })).rejects.toMatchObject({
      code: "run_not_found",
    });

    await store.startOrResume(claimOf("run-1"));
    expect(await store.loadEvent("run-1", "go")).toMatchObject({ payload: null });
    expect(await store._listRunIds()).toEqual(["run-1"]);
  });

  test("listing passes over what is not a run", async () => {
    const root = await temporaryRoot();
    const store = storeAt(root);
    for (const runId of ["b", "a", "../c"]) await store.startOrResume(claimOf(runId));
    await writeFile(join(root, "notes.txt"), "");
    await mkdir(join(root, "empty"));
    await mkdir(join(root, "torn"));
    await writeFile(join(root, "torn", "steps.jsonl"), '{"seq":1,"run":{"ru');
    await mkdir(join(root, "copy-of-a"));
    await writeFile(join(root, "copy-of-a", "steps.jsonl"), await readFile(join(root, "a", "steps.jsonl")));
    expect(await store._listRunIds()).toEqual(["../c", "a", "b"]);
  });
});

describe("closing", () => {
  test("a closed store may be closed again, and used again", async () => {
    const store = new FileSystemDurableRunStore(await temporaryRoot());
    await store.startOrResume(claimOf("run-1"));
    await store.close();
    await store.close();
    await recordStep(store, { runId: "run-1", stepIndex: 0 });
    expect(await store.loadRun("run-1")).toMatchObject({ stepCount: 1 });
  });
});
