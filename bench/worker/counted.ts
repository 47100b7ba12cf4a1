/**
 * What runs cost that does not depend on the machine: each store over counted bindings, in runs of their own.
 *
 * The object counts in the isolate of this Worker, which hosts it; so the counts are one module's.
 */
import type { DurableRunStore } from "../../src/contract/types.ts";
import { RunCoordinator } from "../../src/coordinator/run-coordinator.ts";
import { newRunId } from "../../src/identity.ts";
import { CoordinatedDurableRunStore } from "../../src/stores/coordinated/store.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import type { CountedCost, Counts } from "../counts/counters.ts";
import { costOf, countedDatabase, countedNamespace, countStorage, noCounts } from "../counts/counters.ts";
import { WorksOverAStore } from "../works/over-a-store.ts";
import type { BenchEnv } from "./env.ts";

const counts = noCounts();

export class CountedCoordinator extends RunCoordinator<BenchEnv> {
  constructor(ctx: DurableObjectState, env: BenchEnv) {
    super(ctx, env, { database: countedDatabase(env.DB, counts) });
    countStorage(ctx.storage, counts);
  }
}

const HEARTBEATS = 20;

/** Steps of the longer run. The steps of the shorter one are 2, so that both have a second step. */
const STEPS = 202;

export async function countCosts(env: BenchEnv): Promise<CountedCost[]> {
  const namespace = countedNamespace(env.COUNTED_RUNS, counts);
  const costs: CountedCost[] = [];
  for (const ack of ["coordinator", "record"] as const) {
    const store = new CoordinatedDurableRunStore(namespace, { ack });
    // Looks at the lag outside of what is counted.
    const looks = new CoordinatedDurableRunStore(env.COUNTED_RUNS);
    const settled = async (runId: string): Promise<void> => {
      while ((await looks.lag(runId)) > 0) await new Promise((resolve) => setTimeout(resolve, 10));
    };
    costs.push(await costOfStore(`coordinated, ack ${ack}`, store, settled));
  }
  const d1 = new D1DurableRunStore(countedDatabase(env.DB, counts));
  costs.push(await costOfStore("D1 store", d1, async () => {}));
  return costs;
}

async function costOfStore(
  name: string,
  store: DurableRunStore,
  settled: (runId: string) => Promise<void>,
): Promise<CountedCost> {
  const works = new WorksOverAStore(store, { settled });
  const ofRun = async (steps: number): Promise<Counts> => {
    const before = { ...counts };
    await works.runs({ runs: 1, steps, bytes: 20, concurrent: false });
    await works.settle();
    return costOf(before, counts);
  };
  const run = await ofRun(1);
  const short = await ofRun(2);
  const long = await ofRun(STEPS);
  const heartbeat = await costOfHeartbeats(store, settled);
  return { store: name, run, step: costOf(short, long, STEPS - 2), heartbeat };
}

async function costOfHeartbeats(
  store: DurableRunStore,
  settled: (runId: string) => Promise<void>,
): Promise<Counts> {
  const runId = newRunId();
  const manifest = { projectId: "bench", task: { id: "bench", intent: "count" }, input: {} };
  const { fence } = await store.startOrResume({ runId, manifest, workerId: "idle" });
  await settled(runId);
  const before = { ...counts };
  const lease = { runId, workerId: "idle", ...(fence !== undefined && { fence }) };
  for (let i = 0; i < HEARTBEATS; i += 1) {
    const { ok } = await store.renewLease(lease);
    if (!ok) throw new Error("a heartbeat was refused");
  }
  await settled(runId);
  return costOf(before, counts, HEARTBEATS);
}
