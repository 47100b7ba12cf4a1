/**
 * What runs cost that does not depend on the machine: each store over counted bindings, in runs of their own.
 *
 * The object counts in the isolate of this Worker, which hosts it; so the counts are one module's.
 */
import type { DurableRunStore } from "../../src/contract/types.ts";
import { RunCoordinator } from "../../src/coordinator/run-coordinator.ts";
import { RunRecorder } from "../../src/coordinator/run-recorder.ts";
import { newRunId } from "../../src/identity.ts";
import { connectRuns } from "../../src/service/connect-runs.ts";
import { RunService } from "../../src/service/run-service.ts";
import type { RunServiceEnv } from "../../src/service/run-session.ts";
import { CoordinatedDurableRunStore } from "../../src/stores/coordinated/store.ts";
import type { AckPolicy, CoordinatorNamespaceLike } from "../../src/stores/coordinated/wire.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import type { CountedCost, Counts } from "../counts/counters.ts";
import {
  costOf,
  countedDatabase,
  countedNamespace,
  countedService,
  countStorage,
  noCounts,
} from "../counts/counters.ts";
import { WorksOverAStore } from "../works/over-a-store.ts";
import type { BenchEnv } from "./env.ts";

const counts = noCounts();

export class CountedCoordinator extends RunCoordinator<BenchEnv> {
  constructor(ctx: DurableObjectState, env: BenchEnv) {
    super(ctx, env, { database: countedDatabase(env.DB, counts) });
    countStorage(ctx.storage, counts);
  }
}

/** The same with recorder objects, whose calls are counted as well. */
export class CountedGroupedCoordinator extends RunCoordinator<BenchEnv> {
  constructor(ctx: DurableObjectState, env: BenchEnv) {
    super(ctx, env, {
      database: countedDatabase(env.DB, counts),
      recorders: countedNamespace(env.COUNTED_RECORDERS, counts),
    });
    countStorage(ctx.storage, counts);
  }
}

export class CountedRecorder extends RunRecorder<BenchEnv> {
  constructor(ctx: DurableObjectState, env: BenchEnv) {
    super(ctx, env, { database: countedDatabase(env.DB, counts) });
  }
}

/** RunService over the counted objects: each call of a consumer is one of an object, too. */
export class CountedService extends RunService {
  constructor(ctx: ExecutionContext, env: BenchEnv) {
    const runs = countedNamespace(env.COUNTED_RUNS, counts);
    super(ctx, { RUNS: runs, DB: env.DB } as unknown as RunServiceEnv);
  }
}

const HEARTBEATS = 20;

/** Longer than a change is deferred: from then on, a run's object has storage. */
const SAVED_MS = 1_500;

/** Steps of the longer run. The steps of the shorter one are 2, so that both have a second step. */
const STEPS = 202;

/** Runs at once, and how many steps the longer ones have more than the shorter ones. */
const MANY = { runs: 50, steps: 20 };

export async function countCosts(env: BenchEnv): Promise<CountedCost[]> {
  const costs: CountedCost[] = [];
  const kinds = [
    ["coordinated", env.COUNTED_RUNS, (ack) => stubs(countedNamespace(env.COUNTED_RUNS, counts), ack)],
    [
      "recorder objects",
      env.COUNTED_GROUPED_RUNS,
      (ack) => stubs(countedNamespace(env.COUNTED_GROUPED_RUNS, counts), ack),
    ],
    [
      "RPC binding",
      env.COUNTED_RUNS,
      (ack) => connectRuns(countedService(env.COUNTED_SERVICE, counts), { ack }),
    ],
  ] as const satisfies readonly (readonly [
    string,
    CoordinatorNamespaceLike,
    (ack: AckPolicy) => DurableRunStore,
  ])[];
  for (const [kind, namespace, storeOf] of kinds) {
    // Looks at the lag outside of what is counted.
    const looks = new CoordinatedDurableRunStore(namespace);
    const settled = async (runId: string): Promise<void> => {
      while ((await looks.lag(runId)) > 0) await sleep(10);
    };
    for (const ack of ["coordinator", "record"] as const)
      costs.push(await costOfStore(`${kind}, ack ${ack}`, storeOf(ack), settled));
  }
  const d1 = new D1DurableRunStore(countedDatabase(env.DB, counts));
  costs.push(await costOfStore("D1 store", d1, async () => {}));
  return costs;
}

function stubs(namespace: CoordinatorNamespaceLike, ack: AckPolicy): CoordinatedDurableRunStore {
  return new CoordinatedDurableRunStore(namespace, { ack });
}

async function costOfStore(
  name: string,
  store: DurableRunStore,
  settled: (runId: string) => Promise<void>,
): Promise<CountedCost> {
  const works = new WorksOverAStore(store, { settled });
  const ofRuns = async (runs: number, steps: number): Promise<Counts> => {
    const before = { ...counts };
    await works.runs({ runs, steps, bytes: 20, concurrent: runs > 1 });
    await works.settle();
    return costOf(before, counts);
  };
  const run = await ofRuns(1, 1);
  const short = await ofRuns(1, 2);
  const long = await ofRuns(1, STEPS);
  const manyShort = await ofRuns(MANY.runs, 2);
  const manyLong = await ofRuns(MANY.runs, 2 + MANY.steps);
  const heartbeat = await costOfHeartbeats(store, settled);
  return {
    store: name,
    run,
    step: costOf(short, long, STEPS - 2),
    stepOfMany: costOf(manyShort, manyLong, MANY.runs * MANY.steps),
    heartbeat,
  };
}

async function costOfHeartbeats(
  store: DurableRunStore,
  settled: (runId: string) => Promise<void>,
): Promise<Counts> {
  const runId = newRunId();
  const manifest = { projectId: "bench", task: { id: "bench", intent: "count" }, input: {} };
  const { fence } = await store.startOrResume({ runId, manifest, workerId: "idle" });
  await sleep(SAVED_MS);
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

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
