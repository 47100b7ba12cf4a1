/** Runs one step over the file store at argv[2], and ends the run: what a test traces the system calls of. */
import { FileSystemDurableRunStore } from "../../../src/node.ts";

const [, , root = ""] = process.argv;
const store = new FileSystemDurableRunStore(root);
const manifest = { projectId: "p", task: { id: "t", intent: "i" }, input: {} };
const { fence = 0 } = await store.startOrResume({ runId: "traced", workerId: "w", manifest });
await store.beginStep({ runId: "traced", stepIndex: 0, intent: "i", kind: "logic", inputHash: "", fence });
await store.completeStep({ runId: "traced", stepIndex: 0, result: 1, fence });
await store.endRun({ runId: "traced", workerId: "w", fence, status: "completed" });
