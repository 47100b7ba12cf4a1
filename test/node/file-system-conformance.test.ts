import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { FileSystemDurableRunStore } from "../../src/node.ts";
import { TestClock } from "../../src/testing/clock.ts";
import { describeRecovery } from "../../src/testing/describe-recovery.ts";
import { describeRunStore } from "../../src/testing/describe-run-store.ts";
import type { SuiteOptions } from "../../src/testing/harness.ts";

const NO_OBJECT = "there is no object";

const roots: string[] = [];

afterAll(async () => {
  for (const root of roots) await rm(root, { recursive: true, force: true });
});

const newStore: SuiteOptions["newStore"] = async () => {
  const root = await mkdtemp(join(tmpdir(), "durable-runs-"));
  roots.push(root);
  const clock = new TestClock();
  const reopen = (): FileSystemDurableRunStore => {
    const store = new FileSystemDurableRunStore(root);
    store.now = () => clock.now();
    return store;
  };
  return { store: reopen(), clock, reopen };
};

describeRunStore("FileSystemDurableRunStore", { newStore });
describeRecovery("FileSystemDurableRunStore", {
  newStore,
  skip: { aborted: NO_OBJECT, evicted: NO_OBJECT, wiped: NO_OBJECT },
});
