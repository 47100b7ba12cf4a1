/** What the parts of the conformance suite share: the store under test, and runs in the states that tests begin from. */
import type { TestContext } from "vitest";
import { codeOf } from "../../contract/errors.ts";
import type { DurableRunStore, RunRecord, StartOrResumeResult, StepRecord } from "../../contract/types.ts";
import type { StoreHarness } from "../harness.ts";
import { aRun, aStep } from "../harness.ts";

type TestBody = (context: TestContext) => Promise<void>;

/** The methods that a store may lack, and `beginAfterMs`, which may also be 0. */
type OptionalMethod = {
  [M in keyof DurableRunStore]-?: Partial<Record<M, never>> extends Pick<DurableRunStore, M> ? M : never;
}[keyof DurableRunStore];

/**
 * What a test needs of the store: optional methods; or "tries", that its records have them, and so that it keeps all
 * that retries, steps in doubt, waits and branches need; or "endsWaits", that it completes a step with the event that the
 * step waits for. A store without is not a wrong one: the test is skipped, and says why.
 */
export type Need = OptionalMethod | "tries" | "endsWaits";

/** A store that has the methods. */
export type StoreWith<N extends Need> = DurableRunStore &
  Required<Pick<DurableRunStore, Extract<N, OptionalMethod>>>;

export class Suite {
  readonly #harness: () => StoreHarness;
  readonly it: (title: string, body: TestBody) => void;

  constructor(harness: () => StoreHarness, it: (title: string, body: TestBody) => void) {
    this.#harness = harness;
    this.it = it;
  }

  get store(): DurableRunStore {
    return this.#harness().store;
  }

  get clock(): StoreHarness["clock"] {
    return this.#harness().clock;
  }

  /** A test that is skipped, with the reason, over a store that lacks what it needs. */
  readonly itWith = <N extends Need>(
    needs: readonly N[],
    title: string,
    body: (store: StoreWith<N>) => Promise<void>,
  ): void => {
    this.it(title, async (context) => {
      const lacking = needs.find(
        (need) => need !== "tries" && need !== "endsWaits" && !this.store[need as OptionalMethod],
      );
      if (lacking !== undefined) context.skip(`the store has no ${lacking}`);
      const plain = (needs as readonly Need[]).includes("tries") && !(await this.#keepsTries());
      if (plain) context.skip("the store answers no tries: it is a plain one, and keeps nothing of the kind");
      const leaves = (needs as readonly Need[]).includes("endsWaits") && !(await this.#endsWaits());
      if (leaves) context.skip("the store leaves it to its caller to complete a step that waits");
      await body(this.store as StoreWith<N>);
    });
  };

  /** A run that worker-1 has claimed. */
  readonly claimed = async (): Promise<StartOrResumeResult & { runId: string; fence: number }> => {
    const input = aRun();
    const result = await this.store.startOrResume(input);
    return { ...result, runId: input.runId, fence: result.fence ?? 0 };
  };

  /** A run that worker-2 took over from worker-1, with the fences of both. Worker-1 died in step 0. */
  readonly takenOver = async (): Promise<{ runId: string; old: number; fence: number }> => {
    const first = aRun();
    const { fence: old = 0 } = await this.store.startOrResume(first);
    await this.store.beginStep(aStep(first.runId, 0, { fence: old }));
    this.clock.advance(first.leaseMs + 1);
    const { fence = 0 } = await this.store.startOrResume({ ...first, workerId: "worker-2" });
    return { runId: first.runId, old, fence };
  };

  /** A run of worker-2, who found that worker-1 had died in step 0, and parked it. */
  readonly parked = async (): Promise<{ runId: string; fence: number }> => {
    const { runId, fence } = await this.takenOver();
    await this.store.beginStep(aStep(runId, 0, { fence, onInterrupted: "park" }));
    return { runId, fence };
  };

  /** A run that worker-1 has claimed, with so many completed steps, whose results are "result 0", "result 1", … */
  readonly withSteps = async (count: number): Promise<{ runId: string; fence: number }> => {
    const { runId, fence } = await this.claimed();
    for (let stepIndex = 0; stepIndex < count; stepIndex += 1) {
      await this.complete(runId, stepIndex, fence, `result ${stepIndex}`);
    }
    return { runId, fence };
  };

  readonly complete = async (
    runId: string,
    stepIndex: number,
    fence: number,
    result: unknown,
  ): Promise<StepRecord> => {
    await this.store.beginStep(aStep(runId, stepIndex, { fence }));
    return this.store.completeStep({ runId, stepIndex, fence, result });
  };

  /** All that there is to see of a run and of its first ten positions. */
  readonly everything = async (runId: string): Promise<(RunRecord | StepRecord | undefined)[]> => {
    const steps = Array.from({ length: 10 }, (_, stepIndex) => this.store.loadStep(runId, stepIndex));
    return Promise.all([this.store.loadRun?.(runId), ...steps]);
  };

  /** Settles like `work`, while the clock runs fast: for calls that are held until their time is over. */
  readonly whileTimeFlies = async <T>(work: Promise<T>): Promise<T> => {
    const timer = setInterval(() => this.clock.advance(1_000), 4);
    try {
      return await work;
    } finally {
      clearInterval(timer);
    }
  };

  async #endsWaits(): Promise<boolean> {
    const { runId, fence } = await this.claimed();
    await this.store.beginStep(aStep(runId, 0, { fence }));
    await this.store.emitEvent({ runId, key: "k", payload: 1 });
    const input = { runId, key: "k", timeoutMs: 0, step: { stepIndex: 0, fence } };
    return (await this.store.waitForEvent?.(input))?.step !== undefined;
  }

  async #keepsTries(): Promise<boolean> {
    const { runId, fence } = await this.claimed();
    return (await this.store.beginStep(aStep(runId, 0, { fence }))).tries !== undefined;
  }
}

/** What became of calls that were made at once: the answers, and the codes of the refusals. */
export async function race<T>(
  calls: readonly Promise<T>[],
): Promise<{ readonly answers: T[]; readonly refusals: string[] }> {
  const settled = await Promise.allSettled(calls);
  return {
    answers: settled.flatMap((one) => (one.status === "fulfilled" ? [one.value] : [])),
    refusals: settled.flatMap((one) =>
      one.status === "rejected" ? [codeOf(one.reason) ?? `untyped: ${String(one.reason)}`] : [],
    ),
  };
}

/** What a call rejects with. Fails the test if it does not. */
export async function refusal(call: () => Promise<unknown>): Promise<Error> {
  const error = await call().then(
    (answer) => new Error(`was accepted, and answered ${JSON.stringify(answer)}`),
    (thrown: unknown) => thrown,
  );
  return error as Error;
}
