/** examples/rpc-consumer on the local runtime: its documented command, and a service that goes away and comes back. */
import { execFile } from "node:child_process";
import { readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import type { Shown } from "../../examples/rpc-consumer/demo/client.ts";
import { beginUntilPacked, get, runAgain, untilFinished } from "../../examples/rpc-consumer/demo/client.ts";
import { CONSUMER, RUNS } from "../../examples/rpc-consumer/demo/configs.ts";
import { LocalWorkers, newFolder, removeFolder } from "../../examples/local/local-workers.ts";

const PATIENCE_MS = 300_000;

test(
  "the documented command: a run that both Workers were killed in is finished",
  async () => {
    const left = () => readdirSync(tmpdir()).filter((name) => name.startsWith("durable-runs-rpc-"));
    const before = left();
    // Rejects for any exit code but 0.
    const { stdout } = await promisify(execFile)(process.execPath, ["examples/rpc-consumer/demo.ts"]);
    expect(stdout).toContain("as it should be: none of the");
    expect(stdout).not.toContain("NOT AS IT SHOULD BE");
    expect(left()).toEqual(before);
  },
  PATIENCE_MS,
);

test(
  "a service that dies under a consumer is store_unavailable, and the run goes on once it is back",
  async () => {
    const folder = newFolder("durable-runs-rpc-");
    const runs = await LocalWorkers.prepare({ configs: [RUNS], folder });
    const consumer = await LocalWorkers.prepare({ configs: [CONSUMER], folder });
    try {
      await runs.migrate();
      await runs.start();
      await consumer.start();
      const url = `${consumer.origin}/runs/under-fire`;
      const items = ["one", "two", "three", "four", "five", "six"];
      const { shown: before, answer } = await beginUntilPacked(url, items, 2);
      await runs.kill();
      expect(["store_unavailable", "lease_lost"]).toContain((await answer)?.code);
      const response = await fetch(`${consumer.origin}/runs`);
      expect(response.status).toBe(503);
      expect(await response.json()).toMatchObject({ code: "store_unavailable" });

      await runs.start();
      expect(await untilFinished(url, items)).toMatchObject({ status: "completed" });
      const after = await get<Shown>(url);
      expect(runAgain(before, after)).toEqual([]);
      expect(after.steps).toHaveLength(items.length + 1);
      expect(after.run.status).toBe("completed");
      // More than once, where a worker was too slow to renew its lease.
      expect(after.run.takeovers).toBeGreaterThan(before.run.takeovers ?? 0);
    } finally {
      consumer.cleanUp();
      runs.cleanUp();
      removeFolder(folder);
    }
  },
  PATIENCE_MS,
);
