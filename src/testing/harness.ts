/** What the suites need of a store under test, and the small data that they share. */
import type { Clock } from "../contract/clock.ts";
import { codeOf } from "../contract/errors.ts";
import type { BeginStepInput, DurableRunManifest, DurableRunStore } from "../contract/types.ts";
import { newRunId } from "../identity.ts";

export interface StoreHarness {
  store: DurableRunStore;
  /** The clock that decides leases in this store, moved by the tests. */
  clock: Clock & { advance(ms: number): void };
  /**
   * Another store over the same runs, as another worker's. Give it for a store that can outlive its process; it must
   * share nothing with `store` but what is durable.
   */
  reopen?: () => DurableRunStore;
  /** What else can befall the store between two calls, by name: the suites let each happen at each point. */
  disasters?: Record<string, (runId: string) => Promise<void>>;
}

export interface SuiteOptions {
  newStore: () => StoreHarness | Promise<StoreHarness>;
  /** Names of tests to leave out, with the reason. */
  skip?: Record<string, string>;
}

export const MANIFEST: DurableRunManifest = {
  projectId: "conformance",
  scenarioId: "scenario-1",
  task: { id: "task-1", intent: "prove the store", domain: "testing" },
  input: { question: "does it hold?", nested: { numbers: [1, 2.5, -3] } },
  tags: { suite: "conformance" },
};

/** A claim's input for a fresh run. */
export function aRun(workerId = "worker-1"): {
  runId: string;
  workerId: string;
  manifest: DurableRunManifest;
  leaseMs: number;
} {
  return { runId: newRunId(), workerId, manifest: MANIFEST, leaseMs: 30_000 };
}

/** A begin's input. */
export function aStep(runId: string, stepIndex: number, more: Partial<BeginStepInput> = {}): BeginStepInput {
  return { runId, stepIndex, intent: `step-${stepIndex}`, kind: "logic", inputHash: "", ...more };
}

/** The code that a call rejects with; "accepted" when it does not reject. */
export async function refusalOf(call: () => Promise<unknown>): Promise<string> {
  try {
    await call();
    return "accepted";
  } catch (error) {
    return codeOf(error) ?? `untyped: ${String(error)}`;
  }
}
