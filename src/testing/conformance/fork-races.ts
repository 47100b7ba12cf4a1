/** Forks that race: one another, and a claim (R34). */
import { describe, expect } from "vitest";
import { newRequestId, newRunId } from "../../identity.ts";
import { aRun, aStep } from "../harness.ts";
import type { Suite } from "./suite.ts";
import { race } from "./suite.ts";

export function describeForkRaces(suite: Suite): void {
  const { itWith, claimed, withSteps } = suite;
  const through = (throughStep: number) => ({ throughStep, requestId: newRequestId() });
  const resumed = (runId: string) => suite.store.startOrResume({ ...aRun("worker-2"), runId });

  describe("forking", () => {
    itWith(["forkRun", "loadRun"], "into one run at once makes one of them, whole", async (store) => {
      const [one, two] = [await withSteps(3), await claimed()];
      for (const stepIndex of [0, 1, 2]) await suite.complete(two.runId, stepIndex, two.fence, "of two");
      for (let round = 0; round < 5; round += 1) {
        const newId = newRunId();
        const forks = [
          store.forkRun(one.runId, newId, through(2)),
          store.forkRun(two.runId, newId, through(2)),
          store.forkRun(one.runId, newId, through(1)),
          store.forkRun(one.runId, newId, through(2)),
        ];
        const { answers, refusals } = await race(forks);
        expect(answers.length, `${refusals.join()}`).toBeGreaterThan(0);
        for (const code of refusals) expect(["run_exists", "lease_lost"]).toContain(code);
        const { forkedFrom, stepCount } = (await store.loadRun(newId)) ?? {};
        for (const answer of answers) expect(answer).toMatchObject({ forkedFrom, stepCount });
        expect(stepCount).toBe((forkedFrom?.throughStep ?? 0) + 1);
        const { completedSteps } = await resumed(newId);
        const results =
          forkedFrom?.runId === two.runId
            ? ["of two", "of two", "of two"]
            : ["result 0", "result 1", "result 2"];
        expect(completedSteps.map((step) => step.result)).toEqual(results.slice(0, stepCount));
      }
    });

    itWith(
      ["forkRun", "loadRun"],
      "against a claim of the new run leaves it whole, or another's",
      async (store) => {
        const { runId } = await withSteps(3);
        for (let round = 0; round < 5; round += 1) {
          const newId = newRunId();
          const calls = [() => store.forkRun(runId, newId, through(2)), () => resumed(newId)];
          const { refusals } = await race<unknown>(
            (round % 2 === 0 ? calls : calls.toReversed()).map((call) => call()),
          );
          for (const code of refusals) expect(["run_exists", "lease_held"]).toContain(code);
          const { completedSteps, run } = await resumed(newId);
          expect(completedSteps).toHaveLength(run.forkedFrom === undefined ? 0 : 3);
        }
      },
    );

    itWith(["forkRun"], "of a run whose worker goes on is the run as it was at one moment", async (store) => {
      const { runId, fence } = await claimed();
      const [begun, ids]: [number[], string[]] = [[], []];
      let isAtWork = true;
      const work = async () => {
        for (let stepIndex = 0; stepIndex < 12; stepIndex += 1) {
          await store.beginStep(aStep(runId, stepIndex, { fence }));
          begun.push(stepIndex);
          await store.completeStep({ runId, stepIndex, fence, result: stepIndex });
        }
      };
      const forks = async () => {
        while (isAtWork) {
          const throughStep = begun.at(-1);
          if (throughStep === undefined) await store.loadStep(runId, 0);
          else await store.forkRun(runId, ids[ids.push(newRunId()) - 1] ?? "", { throughStep });
        }
      };
      await Promise.all([work().finally(() => (isAtWork = false)), forks()]);
      for (const id of ids) {
        const { completedSteps, run } = await resumed(id);
        // All steps before the last one had ended when it began; that one may be under way.
        const { throughStep = 0 } = run.forkedFrom ?? {};
        const results = completedSteps.map((step) => step.result);
        expect(results.slice(0, throughStep)).toEqual(Array.from({ length: throughStep }, (_, i) => i));
      }
    });
  });
}
