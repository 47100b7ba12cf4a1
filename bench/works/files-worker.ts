/** The worker that bench/lib/files-worker.ts starts and kills: folder, run id and lease come as arguments. */
import { FileSystemDurableRunStore } from "../../src/stores/file-system/store.ts";
import { completeThree } from "./over-a-store.ts";

const [folder = "", runId = "", leaseMs = ""] = process.argv.slice(2);
await completeThree(new FileSystemDurableRunStore(folder), runId, Number(leaseMs));
process.send?.("acknowledged");
// Holds its store open: the end is left to whoever kills it.
setInterval(() => {}, 60_000);
