/** What the parts of the conformance suite share: the store under test, and runs in the states that tests begin from. */
import type { DurableRunStore, StartOrResumeResult } from "../../contract/types.ts";
import type { StoreHarness } from "../harness.ts";
import { aRun, aStep } from "../harness.ts";

export class Suite {
  readonly #harness: () => StoreHarness;
  readonly it: (title: string, body: () => Promise<void>) => void;

  constructor(harness: () => StoreHarness, it: (title: string, body: () => Promise<void>) => void) {
    this.#harness = harness;
    this.it = it;
  }

  get store(): DurableRunStore {
    return this.#harness().store;
  }

  get clock(): StoreHarness["clock"] {
    return this.#harness().clock;
  }

  /** A run that worker-1 has claimed. */
  readonly claimed = async (): Promise<StartOrResumeResult & { runId: string; fence: number }> => {
    const input = aRun();
    const result = await this.store.startOrResume(input);
    return { ...result, runId: input.runId, fence: result.fence ?? 0 };
  };

  /** A run that worker-2 took over from worker-1, with the fences of both. */
  readonly takenOver = async (): Promise<{ runId: string; old: number; fence: number }> => {
    const first = aRun();
    const { fence: old = 0 } = await this.store.startOrResume(first);
    await this.store.beginStep(aStep(first.runId, 0, { fence: old }));
    this.clock.advance(first.leaseMs + 1);
    const { fence = 0 } = await this.store.startOrResume({ ...first, workerId: "worker-2" });
    return { runId: first.runId, old, fence };
  };
}
