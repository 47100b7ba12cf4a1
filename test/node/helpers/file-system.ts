/** For tests of the file-system store: roots that vanish afterwards, runs to claim, and workers in other processes. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { appendFile, mkdtemp, readFile, rm, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";
import type { StartOrResumeInput } from "../../../src/contract/types.ts";
import { FileSystemDurableRunStore } from "../../../src/node.ts";
import type { WorkerAnswer, WorkerCommand } from "./file-system-worker.ts";

export const HOUR_MS = 3_600_000;

export async function temporaryRoot(): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), "durable-runs-"));
  onTestFinished(() => rm(root, { recursive: true, force: true }));
  return root;
}

/** A store whose clock runs `aheadMs` ahead of the others: leases that they hold have lapsed for it. */
export function storeAt(root: string, aheadMs = 0): FileSystemDurableRunStore {
  const store = new FileSystemDurableRunStore(root);
  store.now = () => Date.now() + aheadMs;
  onTestFinished(() => store.close());
  return store;
}

export function claimOf(runId: string, workerId = "worker-a"): StartOrResumeInput {
  const task = { id: "task-1", intent: "Summarise a page", domain: "web" };
  return {
    runId,
    workerId,
    manifest: { projectId: "tests", task, input: { url: "https://example.com" }, tags: { team: "a" } },
  };
}

/** Begins and completes a step. */
export async function recordStep(
  store: FileSystemDurableRunStore,
  {
    runId,
    stepIndex,
    fence,
    result = `result ${stepIndex}`,
  }: { runId: string; stepIndex: number; fence?: number; result?: unknown },
): Promise<void> {
  const held = fence === undefined ? {} : { fence };
  await store.beginStep({
    runId,
    stepIndex,
    intent: `step ${stepIndex}`,
    kind: "logic",
    inputHash: "",
    ...held,
  });
  await store.completeStep({ runId, stepIndex, result, ...held });
}

export async function completedIndexes(
  store: FileSystemDurableRunStore,
  claim: StartOrResumeInput,
): Promise<number[]> {
  const { completedSteps } = await store.startOrResume(claim);
  return completedSteps.map((step) => step.stepIndex);
}

export async function readLog(path: string): Promise<Record<string, unknown>[]> {
  const lines = (await readFile(path, "utf8")).split("\n").filter((line) => line !== "");
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** Cuts the last line of a file in half, as a crash in the middle of a write does. */
export async function tearLastLine(path: string): Promise<void> {
  const text = await readFile(path, "utf8");
  const lastLine = text.slice(text.lastIndexOf("\n", text.length - 2) + 1);
  await truncate(path, Buffer.byteLength(text) - Math.ceil(Buffer.byteLength(lastLine) / 2));
}

export function appendGarbage(path: string): Promise<void> {
  return appendFile(path, '{"seq":4,"stepIndex":"\u0000\u0000 half a li');
}

/** Another process with a store of its own over the same root. */
export class Worker {
  readonly #process;
  readonly #answers: AsyncIterator<string>;

  private constructor(root: string, shellPrefix: string) {
    const script = fileURLToPath(new URL("file-system-worker.ts", import.meta.url));
    this.#process = spawn("/bin/sh", ["-c", `${shellPrefix} exec "$0" "$@"`, nodePath(), script, root], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    this.#answers = createInterface(this.#process.stdout)[Symbol.asyncIterator]();
  }

  /** `shellPrefix`: run by the shell that becomes the worker, such as a limit on it. */
  static async start(root: string, shellPrefix = ""): Promise<Worker> {
    const worker = new Worker(root, shellPrefix);
    onTestFinished(() => worker.kill());
    const hello = await worker.#answers.next();
    if (hello.done) throw new Error("the worker ended before it was ready; what it said of that is above");
    return worker;
  }

  async call(command: WorkerCommand): Promise<WorkerAnswer> {
    this.send(command);
    const answer = await this.next();
    if (answer === null) throw new Error("the worker ended before it answered");
    return answer;
  }

  send(command: WorkerCommand): void {
    this.#process.stdin.write(`${JSON.stringify(command)}\n`);
  }

  /** The next answer, or `null` after the last. */
  async next(): Promise<WorkerAnswer | null> {
    const answer = await this.#answers.next();
    return answer.done ? null : (JSON.parse(answer.value) as WorkerAnswer);
  }

  signal(signal: "SIGSTOP" | "SIGCONT"): void {
    this.#process.kill(signal);
  }

  async kill(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const exit = once(this.#process, "exit");
    this.#process.kill("SIGKILL");
    await exit;
  }
}

/** The project's own Node, which runs TypeScript, whichever one runs the tests. */
function nodePath(): string {
  const own = fileURLToPath(new URL("../../../node_modules/.bin/node", import.meta.url));
  return existsSync(own) ? own : process.execPath;
}
