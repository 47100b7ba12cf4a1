/**
 * Defects that engines of this shape are known to have had, and that this one must not have: those of file stores. A
 * test each, named for the defect's absence.
 */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { claimOf, recordStep, storeAt, temporaryRoot } from "./helpers/file-system.ts";

const script = fileURLToPath(new URL("./helpers/one-step-run.ts", import.meta.url));

describe("the file store", () => {
  it("is not bricked by a torn last line", async () => {
    const root = await temporaryRoot();
    const { fence = 0 } = await storeAt(root).startOrResume(claimOf("torn"));
    await recordStep(storeAt(root), { runId: "torn", stepIndex: 0, fence });
    const log = join(root, "torn", "steps.jsonl");
    const whole = statSync(log).size;
    await recordStep(storeAt(root), { runId: "torn", stepIndex: 1, fence });
    truncateSync(log, whole + 20);
    const resumed = await storeAt(root).startOrResume(claimOf("torn"));
    expect(resumed.completedSteps).toMatchObject([{ stepIndex: 0 }]);
    await recordStep(storeAt(root), { runId: "torn", stepIndex: 1, fence: resumed.fence ?? 0 });
    expect(await storeAt(root).loadStep("torn", 1)).toMatchObject({ status: "completed" });
  });

  it("shares no temporary names: writers at once leave whole files, and nothing else", async () => {
    const root = await temporaryRoot();
    const claims = Array.from({ length: 10 }, () =>
      storeAt(root).startOrResume(claimOf("shared", "one-worker")),
    );
    await Promise.all(claims);
    expect(readdirSync(join(root, "shared")).toSorted()).toEqual(["lease.json", "run.json", "steps.jsonl"]);
    expect(JSON.parse(readFileSync(join(root, "shared", "run.json"), "utf8"))).toMatchObject({ fence: 10 });
    expect(JSON.parse(readFileSync(join(root, "shared", "lease.json"), "utf8"))).toMatchObject({ fence: 10 });
  });

  it("syncs what it acknowledges: claim, completion and end each wait for the disk", async () => {
    const root = await temporaryRoot();
    const traceFile = join(await temporaryRoot(), "trace.json");
    const flags = ["--trace-event-categories", "node.fs.async", "--trace-event-file-pattern", traceFile];
    const { status, stderr } = spawnSync(process.execPath, [...flags, script, root], { encoding: "utf8" });
    expect({ status, stderr }).toMatchObject({ status: 0 });
    const { traceEvents } = JSON.parse(readFileSync(traceFile, "utf8")) as {
      traceEvents: { name: string; ph: string }[];
    };
    const begun = (name: string) =>
      traceEvents.filter((event) => event.name === name && event.ph === "b").length;
    // The log at each of the three; and at the claim, the directories that it made.
    expect(begun("fdatasync")).toBeGreaterThanOrEqual(3);
    expect(begun("fsync")).toBeGreaterThanOrEqual(1);
  });

  it("does not use run ids as paths", async () => {
    const root = await temporaryRoot();
    for (const runId of ["../escape", "/etc/passwd", "..", "a/b", "🙂", "nul\\con"]) {
      await storeAt(root).startOrResume(claimOf(runId));
      expect((await storeAt(root).loadRun?.(runId))?.runId).toBe(runId);
    }
    expect(readdirSync(root)).toHaveLength(6);
    expect(readdirSync(root).every((name) => /^[~A-Za-z0-9_-]+$/.test(name))).toBe(true);
    expect(readdirSync(dirname(root)).includes("escape")).toBe(false);
  });

  it("does not read the whole log again at each step", async () => {
    const root = await temporaryRoot();
    const store = storeAt(root);
    const { fence = 0 } = await store.startOrResume(claimOf("long"));
    for (let stepIndex = 0; stepIndex < 50; stepIndex += 1)
      await recordStep(store, { runId: "long", stepIndex, fence });
    // Whoever read these bytes again would find the run gone.
    const log = join(root, "long", "steps.jsonl");
    writeFileSync(log, " ".repeat(statSync(log).size), { flag: "r+" });
    await recordStep(store, { runId: "long", stepIndex: 50, fence });
    expect(await store.loadStep("long", 50)).toMatchObject({ status: "completed" });
  });
});
