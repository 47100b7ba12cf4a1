/** Restarts that race: one another, the worker's steps, the end of the run, a claim (R34). */
import { describe, expect } from "vitest";
import { newRequestId } from "../../identity.ts";
import { aRun, aStep } from "../harness.ts";
import type { Suite } from "./suite.ts";
import { race } from "./suite.ts";

export function describeRestartRaces(suite: Suite): void {
  const { itWith, withSteps } = suite;
  const from = (fromStep: number, requestId = newRequestId()) =>
    ({ fromStep, dropLater: true, requestId }) as const;

  describe("restarting", () => {
    itWith(["restartRun", "loadRun"], "ten times at once from one step happens once", async (store) => {
      const { runId, fence } = await withSteps(3);
      const { answers, refusals } = await race(
        Array.from({ length: 10 }, () => store.restartRun(runId, from(1))),
      );
      expect(answers).toEqual([await store.loadRun(runId)]);
      expect(refusals).toEqual(Array.from({ length: 9 }, () => "invalid_input"));
      expect(answers[0]).toMatchObject({ fence: fence + 1, stepCount: 1 });
      const repeated = from(0);
      const same = await race(Array.from({ length: 10 }, () => store.restartRun(runId, repeated)));
      expect(same.answers).toEqual(Array.from({ length: 10 }, () => same.answers[0]));
      expect(same.answers[0]).toMatchObject({ fence: fence + 2, stepCount: 0 });
    });

    itWith(
      ["restartRun", "loadRun"],
      "races the worker's steps: none of them is left of what was forgotten",
      async (store) => {
        for (let round = 0; round < 5; round += 1) {
          const { runId, fence } = await withSteps(2);
          await store.beginStep(aStep(runId, 2, { fence }));
          const { refusals } = await race<unknown>([
            store.beginStep(aStep(runId, 3, { fence })),
            ...(round % 2 === 0 ? [store.restartRun(runId, from(1))] : []),
            store.completeStep({ runId, stepIndex: 2, fence, attempt: 1, result: "late?" }),
            store.beginStep(aStep(runId, 1, { fence })),
            ...(round % 2 === 1 ? [store.restartRun(runId, from(1))] : []),
            store.beginStep(aStep(runId, 4, { fence, caught: [0], timeoutMs: 60_000 })),
          ]);
          for (const code of refusals) expect(code).toBe("lease_lost");
          expect(await store.loadRun(runId)).toMatchObject({
            status: "pending",
            fence: fence + 1,
            stepCount: 1,
          });
          for (const stepIndex of [1, 2, 3, 4])
            expect(await store.loadStep(runId, stepIndex)).toBeUndefined();
        }
      },
    );

    itWith(
      ["restartRun", "loadRun"],
      "races the end of the run, and a claim: it is restarted all the same",
      async (store) => {
        const { runId, fence } = await withSteps(2);
        const end = { runId, workerId: "worker-1", fence, status: "completed", result: 1 } as const;
        const ended = await race<unknown>([
          store.endRun(end),
          store.restartRun(runId, from(1)),
          store.endRun(end),
        ]);
        for (const code of ended.refusals) expect(code).toBe("lease_lost");
        expect(await store.loadRun(runId)).toMatchObject({ status: "pending", fence: fence + 1 });
        const claims = [1, 2].map((i) => store.startOrResume({ ...aRun(`worker ${i}`), runId }));
        const { refusals } = await race<unknown>([...claims, store.restartRun(runId, from(0))]);
        for (const code of refusals) expect(code).toBe("lease_held");
        const after = await store.loadRun(runId);
        expect(after?.stepCount).toBe(0);
        expect(after?.fence).toBeGreaterThanOrEqual(fence + 2);
      },
    );
  });
}
