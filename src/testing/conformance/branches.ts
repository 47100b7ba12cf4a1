/** Steps in branches: paths, and the steps that a claim finds unfinished (R23, R32). */
import { describe, expect } from "vitest";
import { aRun, aStep, refusalOf } from "../harness.ts";
import type { Suite } from "./suite.ts";
import { refusal } from "./suite.ts";

export function describeBranches(suite: Suite): void {
  const { itWith, claimed, everything } = suite;

  describe("branches", () => {
    itWith(["tries"], "keep the path of a step, and none where it is the position", async (store) => {
      const { runId, fence } = await claimed();
      const path = "1/reviewer ü/0";
      expect(await store.beginStep(aStep(runId, 0, { fence, path }))).toMatchObject({ stepIndex: 0, path });
      const done = await store.completeStep({ runId, stepIndex: 0, fence, result: 1 });
      expect(done).toMatchObject({ path });
      expect(await store.loadStep(runId, 0)).toEqual(done);
      await store.beginStep(aStep(runId, 1, { fence, path: "1" }));
      await store.beginStep(aStep(runId, 2, { fence, path: "2/a/0" }));
      await store.failStep({ runId, stepIndex: 2, fence, error: { message: "no" } });
      expect(await store.loadStep(runId, 1)).not.toHaveProperty("path");
      expect(await store.loadStep(runId, 2)).toMatchObject({ path: "2/a/0" });
    });

    itWith(["tries"], "refuse another path at a recorded position, and name both (R23)", async (store) => {
      const { runId, fence } = await claimed();
      await store.beginStep(aStep(runId, 0, { fence, path: "0/a/0" }));
      await store.beginStep(aStep(runId, 1, { fence }));
      const before = await everything(runId);
      const error = await refusal(() => store.beginStep(aStep(runId, 0, { fence, path: "0/b/0" })));
      expect(error).toMatchObject({ code: "step_divergence", name: "DurableRunDivergenceError" });
      expect(error.message).toMatch(/0\/a\/0.*0\/b\/0/);
      expect(await refusalOf(() => store.beginStep(aStep(runId, 0, { fence })))).toBe("step_divergence");
      const inBranch = aStep(runId, 1, { fence, path: "1/a/0" });
      expect(await refusalOf(() => store.beginStep(inBranch))).toBe("step_divergence");
      expect(await everything(runId)).toEqual(before);
      expect(await refusalOf(() => store.beginStep(aStep(runId, 1, { fence, path: "1" })))).toBe("accepted");
    });

    itWith(["tries"], "are answered to the next claim: every step on record, each once", async (store) => {
      const { runId, fence } = await claimed();
      for (const [stepIndex, path] of ["0", "1/a/0", "1/b/0", "1/c/0", "1/a/1", "1/d/0"].entries()) {
        await store.beginStep(aStep(runId, stepIndex, { fence, path }));
      }
      await store.completeStep({ runId, stepIndex: 1, fence, result: "done" });
      for (const stepIndex of [2, 5]) {
        await store.failStep({ runId, stepIndex, fence, error: { message: `no ${stepIndex}` } });
      }
      const again = { runId, stepIndex: 3, fence, error: { message: "again" }, retryAfterMs: 0 };
      await store.failStep(again);
      // Branch b went on over its failure; branch d did not.
      await store.beginStep(aStep(runId, 6, { fence, path: "1/b/1", caught: [2] }));
      const next = await store.startOrResume({ ...aRun("worker-1"), runId });
      expect(next.completedSteps).toMatchObject([{ stepIndex: 1, path: "1/a/0", result: "done" }]);
      expect(next.caughtSteps).toMatchObject([{ stepIndex: 2, path: "1/b/0", error: { message: "no 2" } }]);
      expect(next.openSteps).toMatchObject([
        { stepIndex: 0, status: "running" },
        { stepIndex: 3, status: "pending", path: "1/c/0" },
        { stepIndex: 4, status: "running", path: "1/a/1" },
        { stepIndex: 5, status: "failed", path: "1/d/0", error: { message: "no 5" } },
        { stepIndex: 6, status: "running", path: "1/b/1" },
      ]);
      for (const step of next.openSteps ?? [])
        expect(await store.loadStep(runId, step.stepIndex)).toEqual(step);
    });

    itWith(["tries"], "are no open steps once the run has none", async (store) => {
      const { runId } = await suite.withSteps(2);
      expect((await store.startOrResume({ ...aRun("worker-1"), runId })).openSteps).toEqual([]);
    });

    itWith(["tries"], "keep 260 open steps in order, between as many completed ones", async (store) => {
      const { runId, fence } = await claimed();
      const positions = Array.from({ length: 520 }, (_, i) => i);
      await Promise.all(
        positions.map((stepIndex) =>
          store.beginStep(aStep(runId, stepIndex, { fence, path: `0/b${stepIndex}/0` })),
        ),
      );
      const even = positions.filter((stepIndex) => stepIndex % 2 === 0);
      await Promise.all(
        even.map((stepIndex) => store.completeStep({ runId, stepIndex, fence, result: stepIndex })),
      );
      const { completedSteps, openSteps = [] } = await store.startOrResume({ ...aRun("worker-1"), runId });
      expect(completedSteps.map((step) => step.stepIndex)).toEqual(even);
      expect(openSteps.map((step) => step.stepIndex)).toEqual(positions.filter((i) => i % 2 === 1));
      expect(openSteps.every((step) => step.path === `0/b${step.stepIndex}/0`)).toBe(true);
    });
  });
}
