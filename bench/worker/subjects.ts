/** The subjects that live in the Worker, by name: the stores, and Workflows. */
import { connectRuns } from "../../src/service/connect-runs.ts";
import type { CoordinatedDurableRunStore } from "../../src/stores/coordinated/store.ts";
import { CoordinatedDurableRunStore as Coordinated } from "../../src/stores/coordinated/store.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { InMemoryDurableRunStore } from "../../src/stores/memory.ts";
import { MANIFEST, WorksOverAStore } from "../works/over-a-store.ts";
import type { OperationName, Operations } from "../works/protocol.ts";
import { copiedPrefix } from "./copies.ts";
import type { BenchEnv } from "./env.ts";
import { WorksOnWorkflows } from "./workflow.ts";

export type Works = { [O in OperationName]: (params: Operations[O]) => Promise<void> };

export function subjectsOf(env: BenchEnv): ReadonlyMap<string, Works> {
  return new Map<string, Works>([
    ["coordinated, ack coordinator", coordinated(env, new Coordinated(env.RUNS, { ack: "coordinator" }))],
    ["coordinated, ack record", coordinated(env, new Coordinated(env.RUNS, { ack: "record" }))],
    [
      "recorder objects, ack coordinator",
      coordinated(env, new Coordinated(env.GROUPED_RUNS, { ack: "coordinator" })),
    ],
    ["recorder objects, ack record", coordinated(env, new Coordinated(env.GROUPED_RUNS, { ack: "record" }))],
    ["RPC binding, ack coordinator", coordinated(env, connectRuns(env.RUNS_SERVICE, { ack: "coordinator" }))],
    ["RPC binding, ack record", coordinated(env, connectRuns(env.RUNS_SERVICE, { ack: "record" }))],
    ["D1 store", new WorksOverAStore(new D1DurableRunStore(env.DB), { copiedPrefix: copiedIn(env) })],
    ["memory", new WorksOverAStore(new InMemoryDurableRunStore())],
    ["Workflows, local engine", new WorksOnWorkflows(env)],
  ]);
}

function coordinated(env: BenchEnv, store: CoordinatedDurableRunStore): Works {
  return new WorksOverAStore(store, {
    copiedPrefix: copiedIn(env),
    settled: async (runId) => {
      while ((await store.lag(runId)) > 0) await new Promise((resolve) => setTimeout(resolve, 10));
    },
  });
}

function copiedIn({ DB }: BenchEnv): (steps: number) => Promise<string> {
  return (steps) => copiedPrefix(DB, steps, MANIFEST);
}
