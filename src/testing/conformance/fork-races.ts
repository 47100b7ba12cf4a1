/** Forks that race: one another, and a claim (R34). */
import { describe, expect } from "vitest";
import { codeOf } from "../../contract/errors.ts";
import type { StartOrResumeResult } from "../../contract/types.ts";
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
        const origins = [one, two, one, one].map(({ runId }, i) => ({ runId, throughStep: i === 2 ? 1 : 2 }));
        const forks = origins.map(async ({ runId, throughStep }) => {
          const forked = await store.forkRun(runId, newId, through(throughStep));
          return [forked.forkedFrom, forked.stepCount];
        });
        const settled = await Promise.allSettled(forks);
        const { forkedFrom, stepCount = 0 } = (await store.loadRun(newId)) ?? {};
        expect(stepCount).toBe((forkedFrom?.throughStep ?? 0) + 1);
        const outcomes = settled.map((fork, i) => {
          const isSame = JSON.stringify(origins[i]) === JSON.stringify(forkedFrom);
          if (fork.status === "rejected") return [isSame, (fork.reason as { code?: string }).code];
          expect(fork.value).toEqual([forkedFrom, stepCount]);
          return [isSame, "accepted"];
        });
        expect(outcomes).toContainEqual([true, "accepted"]);
        for (const [isSame, code] of outcomes) {
          expect(isSame === true ? ["accepted", "run_exists", "lease_lost"] : ["run_exists"]).toContain(code);
        }
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
      "against claims of the new run: none succeeds before it is whole",
      async (store) => {
        const { runId } = await withSteps(8);
        for (let round = 0; round < 5; round += 1) {
          const newId = newRunId();
          const claims = async (): Promise<StartOrResumeResult> => {
            for (let turn = 1; ; turn += 1) {
              // A store that answers without I/O would let nobody else have a turn.
              if (turn % 10 === 0) await suite.clock.sleep(0);
              const exists = (await store.loadRun(newId)) !== undefined;
              const { answers, refusals } = await race(exists ? [resumed(newId)] : []);
              for (const code of refusals) expect(code).toBe("lease_held");
              for (const answer of answers) return answer;
            }
          };
          const [forked, claimedRun] = await Promise.all([store.forkRun(runId, newId, through(7)), claims()]);
          expect(forked).toMatchObject({ stepCount: 8, forkedFrom: { runId, throughStep: 7 } });
          expect(claimedRun.completedSteps).toHaveLength(8);
        }
      },
    );

    itWith(
      ["forkRun", "loadRun"],
      "into a run that somebody else has claimed just before is refused",
      async (store) => {
        const { runId } = await withSteps(2);
        const newId = newRunId();
        const [claimedRun, forked] = await Promise.all([
          resumed(newId),
          store.forkRun(runId, newId, through(1)).catch((error: unknown) => codeOf(error)),
        ]);
        expect(forked).toBe("run_exists");
        expect(claimedRun.run).toMatchObject({ status: "running", stepCount: 0 });
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
          if (throughStep === undefined) await suite.clock.sleep(0);
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
