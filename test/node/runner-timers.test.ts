/** What an attempt leaves behind in a Node process. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const script = fileURLToPath(new URL("./helpers/timers-left.ts", import.meta.url));

test("an attempt leaves no timer behind that would keep the process alive, however it ends", () => {
  const { stdout, stderr } = spawnSync(process.execPath, [script], { encoding: "utf8" });
  expect(stderr).toBe("");
  expect(JSON.parse(stdout)).toEqual({ completes: 0, fails: 0, leavesWait: 0, losesLease: 0, ofItsOwn: 1 });
});
