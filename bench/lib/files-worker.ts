/** A worker of the file store in a process of its own, which is killed as the kernel kills: no handler of it runs. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import type { KillableWorker } from "../works/over-a-store.ts";

const PROGRAM = join(import.meta.dirname, "../works/files-worker.ts");

/** Resolves at its last acknowledgement. It stays until it is killed. */
export async function startFilesWorker(
  folder: string,
  runId: string,
  leaseMs: number,
): Promise<KillableWorker> {
  const child = fork(PROGRAM, [folder, runId, String(leaseMs)]);
  const exited = once(child, "exit");
  await Promise.race([
    once(child, "message"),
    exited.then(([code]) => Promise.reject(new Error(`the worker ended by itself: ${String(code)}`))),
  ]);
  return {
    async kill() {
      child.kill("SIGKILL");
      await exited;
    },
  };
}
