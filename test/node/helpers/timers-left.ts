/** Makes attempts that end in each way, by the real clock, and prints the timers that Node still has after each. */
import { setImmediate } from "node:timers/promises";
import { InMemoryDurableRunStore, runDurable } from "../../../src/index.ts";
import type { DurableContext } from "../../../src/index.ts";

const manifest = { projectId: "p", task: { id: "t", intent: "i" }, input: {} };

const tasks: Record<string, (ctx: DurableContext) => Promise<unknown>> = {
  completes: (ctx) => ctx.step("s", async () => 1, { timeoutMs: 60_000 }),
  fails: (ctx) => ctx.step("s", () => Promise.reject(new Error("no"))),
  leavesWait: async (ctx) => void ctx.awaitEvent("never"),
  losesLease: async (ctx) => {
    store._expireLease(ctx.runId);
    await store.startOrResume({ runId: ctx.runId, workerId: "thief", manifest });
    await ctx.step("s", async () => 1);
  },
};

const store = new InMemoryDurableRunStore();
const timers: Record<string, number> = {};
for (const [runId, taskFn] of Object.entries(tasks)) {
  await runDurable({ runId, manifest, store, taskFn }).catch(() => {});
  await setImmediate();
  timers[runId] = process.getActiveResourcesInfo().filter((what) => what === "Timeout").length;
}
const kept = setTimeout(() => {}, 1);
timers["ofItsOwn"] = process.getActiveResourcesInfo().filter((what) => what === "Timeout").length;
clearTimeout(kept);
process.stdout.write(JSON.stringify(timers));
