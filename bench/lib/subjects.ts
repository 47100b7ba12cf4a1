/** The subjects of a sitting: those in the Worker, over the line, and files, in Node. */
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { FileSystemDurableRunStore } from "../../src/stores/file-system/store.ts";
import { startFilesWorker } from "./files-worker.ts";
import { WorksOverAStore } from "../works/over-a-store.ts";
import type { OperationName, Operations, Subject } from "../works/protocol.ts";
import type { CallWorker } from "./works.ts";

export const IN_THE_WORKER = [
  "coordinated, ack coordinator",
  "coordinated, ack record",
  "recorder objects, ack coordinator",
  "recorder objects, ack record",
  "RPC binding, ack coordinator",
  "RPC binding, ack record",
  "D1 store",
  "memory",
  "Workflows, local engine",
] as const;

/** The local engine cannot be killed without all of workerd; memory dies with its worker. */
const LACKS: Readonly<Record<string, readonly OperationName[]>> = {
  memory: ["die", "takeover"],
  "Workflows, local engine": ["die", "takeover"],
};

export function subjectInTheWorker(name: string, callWorker: CallWorker): Subject {
  return {
    name,
    lacks: LACKS[name] ?? [],
    async call(operation, params) {
      await callWorker(name, operation, params);
    },
  };
}

export interface ClosableSubject extends Subject {
  close(): Promise<void>;
}

/** What bench/peers/index.ts exports. It is loaded when it is asked for, as its packages may not be installed. */
export interface PeersModule {
  /** `folder`: for what they store. `notes`: versions, and what was left out and why. */
  startPeers: (folder: string) => Promise<{ subjects: ClosableSubject[]; notes: string[] }>;
}

/** In a folder of its own under `parent`. */
export function filesSubject(parent: string): ClosableSubject {
  const folder = mkdtempSync(join(parent, "files-"));
  const store = new FileSystemDurableRunStore(folder);
  const works = new WorksOverAStore(store, {
    startWorker: (runId, leaseMs) => startFilesWorker(folder, runId, leaseMs),
  });
  return {
    name: "files",
    canBeKilled: true,
    call: <O extends OperationName>(operation: O, params: Operations[O]) => works[operation](params as never),
    async close() {
      await store.close?.();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
