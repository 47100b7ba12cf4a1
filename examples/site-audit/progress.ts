/**
 * Tells how a run goes while it runs, by watching the store: what is reported has been acknowledged by it.
 *
 * The types are plain data, one a line in the Worker's answer; the demo reads them.
 */
import type { DurableRunStore, StepKind } from "../../src/contract/types.ts";

export type Progress =
  | {
      type: "claimed";
      runId: string;
      workerId: string;
      status: string;
      fence?: number;
      takeovers?: number;
      /** How many recorded steps answer without running again. */
      replayed: number;
    }
  | {
      type: "step";
      status: "running" | "completed" | "failed";
      stepIndex: number;
      kind: StepKind;
      intent: string;
      error?: string;
    }
  | { type: "waiting"; stepIndex: number; intent: string }
  | { type: "finished"; runId: string; result: unknown }
  | { type: "failed"; runId: string; error: { code: string; message: string } };

/** The same store, with each claim and each change of a step reported once the store has answered. */
export function watched(store: DurableRunStore, report: (progress: Progress) => void): DurableRunStore {
  return {
    async startOrResume(input) {
      const claimed = await store.startOrResume(input);
      const { fence, takeovers, status, runId } = claimed.run;
      const replayed = claimed.completedSteps.length;
      report({
        type: "claimed",
        runId,
        workerId: input.workerId,
        status,
        ...(fence !== undefined && { fence }),
        ...(takeovers !== undefined && { takeovers }),
        replayed,
      });
      return claimed;
    },
    async beginStep(input) {
      const { stepIndex, intent, kind } = input;
      const step = await store.beginStep(input);
      if (step.status === "running" && kind === "event") report({ type: "waiting", stepIndex, intent });
      else if (step.status === "running")
        report({ type: "step", status: "running", stepIndex, kind, intent });
      return step;
    },
    async completeStep(input) {
      const step = await store.completeStep(input);
      const { stepIndex, kind, intent } = step;
      report({ type: "step", status: "completed", stepIndex, kind, intent });
      return step;
    },
    async failStep(input) {
      const step = await store.failStep(input);
      const { stepIndex, kind, intent } = step;
      report({ type: "step", status: "failed", stepIndex, kind, intent, error: input.error.message });
      return step;
    },
    renewLease: (input) => store.renewLease(input),
    loadStep: (runId, stepIndex) => store.loadStep(runId, stepIndex),
    endRun: (input) => store.endRun(input),
    emitEvent: (input) => store.emitEvent(input),
    loadEvent: (runId, key) => store.loadEvent(runId, key),
    ...(store.loadRun && {
      loadRun: (runId: string) => store.loadRun?.(runId) ?? Promise.resolve(undefined),
    }),
    close: () => store.close(),
  };
}
