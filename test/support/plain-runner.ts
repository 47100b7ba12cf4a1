/**
 * A runner that somebody wrote to the plain declaration alone: it passes no fence and no request id, hands no result
 * to `endRun`, and looks at no field but the declared ones. Steps only, one after the other.
 */
import type {
  DurableContext,
  DurableRunManifest,
  DurableRunStore,
  RunRecord,
  StepKind,
  StepRecord,
} from "./plain-declarations.ts";

export interface PlainRunInput<T> {
  runId: string;
  manifest: DurableRunManifest;
  store: DurableRunStore;
  workerId: string;
  leaseMs: number;
  taskFn: (ctx: DurableContext) => Promise<T>;
}

export async function runPlain<T>(input: PlainRunInput<T>): Promise<{ result: T; record: RunRecord }> {
  const { runId, manifest, store, workerId, leaseMs, taskFn } = input;
  const { completedSteps } = await store.startOrResume({ runId, manifest, workerId, leaseMs });
  const context = contextOf(input, completedSteps);
  try {
    const result = await taskFn(context);
    return { result, record: await store.endRun({ runId, workerId, status: "completed" }) };
  } catch (error) {
    await store.endRun({ runId, workerId, status: "failed" });
    throw error;
  }
}

function contextOf<T>(
  { runId, manifest, store }: PlainRunInput<T>,
  completedSteps: readonly StepRecord[],
): DurableContext {
  let next = 0;
  async function step<R>(intent: string, fn: () => Promise<R>, opts: { kind?: StepKind } = {}): Promise<R> {
    const stepIndex = next++;
    const replayed = completedSteps.find((one) => one.stepIndex === stepIndex);
    if (replayed) return replayed.result as R;
    const begun = await store.beginStep({
      runId,
      stepIndex,
      intent,
      kind: opts.kind ?? "logic",
      inputHash: "",
    });
    if (begun.status === "completed") return begun.result as R;
    try {
      const completed = await store.completeStep({ runId, stepIndex, result: await fn() });
      return completed.result as R;
    } catch (error) {
      const { message } = error as Error;
      await store.failStep({ runId, stepIndex, error: { message } });
      throw error;
    }
  }
  return {
    runId,
    projectId: manifest.projectId,
    step,
    awaitEvent: async <R>(key: string) => (await store.loadEvent(runId, key))?.payload as R,
    emitEvent: async (key, payload) => {
      const { accepted } = await store.emitEvent({ runId, key, payload });
      return { accepted };
    },
    now: async () =>
      new Date(await step("now", async () => new Date(0).toISOString(), { kind: "deterministic" })),
    uuid: () => step("uuid", async () => crypto.randomUUID(), { kind: "deterministic" }),
  };
}
