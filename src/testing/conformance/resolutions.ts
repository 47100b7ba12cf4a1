/** Steps in doubt that somebody decides about (R31). */
import { describe, expect } from "vitest";
import { newRequestId, newRunId } from "../../identity.ts";
import { aRun, aStep, refusalOf } from "../harness.ts";
import type { Suite } from "./suite.ts";
import { race, refusal } from "./suite.ts";

export function describeResolutions(suite: Suite): void {
  const { itWith, claimed, takenOver, parked, everything } = suite;

  describe("resolving", () => {
    itWith(["tries", "resolveStep"], "with a result completes the step, for good", async (store) => {
      const { runId, fence } = await parked();
      const options = { requestId: newRequestId() };
      const resolved = await store.resolveStep(runId, 0, { result: { paid: "by hand" } }, options);
      expect(resolved).toMatchObject({ status: "completed", result: { paid: "by hand" }, attempts: 1 });
      expect(resolved).not.toHaveProperty("inDoubt");
      expect(await store.loadStep(runId, 0)).toEqual(resolved);
      expect(await store.resolveStep(runId, 0, { result: { paid: "by hand" } }, options)).toEqual(resolved);
      expect(await refusalOf(() => store.resolveStep(runId, 0, { result: "other" }))).toBe(
        "step_not_in_doubt",
      );
      expect(await store.beginStep(aStep(runId, 0, { fence, onInterrupted: "park" }))).toEqual(resolved);
      const { completedSteps } = await store.startOrResume({ ...aRun("worker-2"), runId });
      expect(completedSteps).toEqual([resolved]);
    });

    itWith(
      ["tries", "resolveStep"],
      "for another attempt lets the step run, whatever its policy",
      async (store) => {
        const { runId, fence } = await parked();
        const options = { requestId: newRequestId() };
        const freed = await store.resolveStep(runId, 0, { rerun: true }, options);
        expect(freed).toMatchObject({ status: "pending", attempts: 1 });
        for (const field of ["inDoubt", "nextAttemptAt", "result"]) expect(freed).not.toHaveProperty(field);
        expect(await store.resolveStep(runId, 0, { rerun: true }, options)).toEqual(freed);
        expect(await refusalOf(() => store.resolveStep(runId, 0, { rerun: true }))).toBe("step_not_in_doubt");
        expect(await store.loadStep(runId, 0)).toEqual(freed);
        const begun = await store.beginStep(aStep(runId, 0, { fence, onInterrupted: "park" }));
        expect(begun).toMatchObject({ status: "running", attempts: 2, tries: 1 });
        // Repeated so late that the step is in doubt again, it decides nothing.
        const next = await store.startOrResume({ ...aRun("worker-2"), runId });
        await store.beginStep(aStep(runId, 0, { fence: next.fence ?? 0, onInterrupted: "park" }));
        const before = await everything(runId);
        expect(await store.resolveStep(runId, 0, { rerun: true }, options)).toMatchObject({ inDoubt: true });
        expect(await everything(runId)).toEqual(before);
      },
    );

    itWith(
      ["tries", "resolveStep"],
      "frees a step that failed in doubt, also of a run that failed",
      async (store) => {
        const { runId, fence } = await takenOver();
        await store.beginStep(aStep(runId, 0, { fence, onInterrupted: "fail" }));
        await store.endRun({ runId, workerId: "worker-2", fence, status: "failed" });
        const freed = await store.resolveStep(runId, 0, { rerun: true });
        expect(freed).toMatchObject({ status: "pending", lastError: { code: "step_interrupted" } });
        const next = await store.startOrResume({ ...aRun("worker-3"), runId });
        const begun = await store.beginStep(
          aStep(runId, 0, { fence: next.fence ?? 0, onInterrupted: "fail" }),
        );
        expect(begun).toMatchObject({ status: "running", attempts: 2 });
      },
    );

    itWith(["tries", "resolveStep"], "leaves a failure that the task goes on from", async (store) => {
      const { runId, fence } = await takenOver();
      await store.beginStep(aStep(runId, 0, { fence, onInterrupted: "fail" }));
      // A store may note at any time that a lease has lapsed, so the run's own record is not compared.
      const steps = async () => (await everything(runId)).slice(1);
      const refused = async () => {
        const before = await steps();
        for (const resolution of [{ result: "made up" }, { rerun: true }] as const) {
          const call = () => store.resolveStep(runId, 0, resolution);
          expect(await refusalOf(call)).toBe("step_not_in_doubt");
        }
        expect(await steps()).toEqual(before);
      };
      // The task is at work, and about to see the failure; its worker may go on though its lease has lapsed.
      await refused();
      suite.clock.advance(30_001);
      await refused();
      // Now it has seen it.
      await store.beginStep(aStep(runId, 1, { fence, caught: [0] }));
      await store.endRun({ runId, workerId: "worker-2", fence, status: "failed" });
      await refused();
    });

    itWith(["tries", "resolveStep"], "tells a result of null from none at all", async (store) => {
      const first = await parked();
      expect(await store.resolveStep(first.runId, 0, { result: null })).toHaveProperty("result", null);
      const second = await parked();
      const none = await store.resolveStep(second.runId, 0, { result: undefined });
      expect(none.status).toBe("completed");
      expect(await store.loadStep(second.runId, 0)).not.toHaveProperty("result");
    });

    itWith(
      ["tries", "resolveStep"],
      "keeps a result of 1 MiB whole, and refuses what is no JSON",
      async (store) => {
        const { runId } = await parked();
        const before = await everything(runId);
        const notJson = await refusal(() => store.resolveStep(runId, 0, { result: { n: [Number.NaN] } }));
        expect(notJson).toMatchObject({ code: "payload_not_json" });
        expect(notJson.message).toContain("result.n[0]");
        const tooLarge = { result: "x".repeat(17 * 1_024 * 1_024) };
        expect(await refusalOf(() => store.resolveStep(runId, 0, tooLarge))).toBe("payload_too_large");
        expect(await everything(runId)).toEqual(before);
        const result = "é🙂".repeat(174_763);
        expect((await store.resolveStep(runId, 0, { result })).result === result).toBe(true);
        expect((await store.loadStep(runId, 0))?.result === result).toBe(true);
      },
    );

    itWith(["tries", "resolveStep"], "is for steps in doubt alone, and changes no other", async (store) => {
      const { runId, fence } = await claimed();
      for (const stepIndex of [0, 1, 2, 3]) await store.beginStep(aStep(runId, stepIndex, { fence }));
      await store.completeStep({ runId, stepIndex: 1, fence, result: "done" });
      const error = { message: "no" };
      await store.failStep({ runId, stepIndex: 2, fence, error });
      await store.failStep({ runId, stepIndex: 3, fence, error, retryAfterMs: 60_000 });
      const before = await everything(runId);
      for (const stepIndex of [0, 1, 2, 3, 4]) {
        for (const resolution of [{ result: "made up" }, { rerun: true }] as const) {
          const call = () => store.resolveStep(runId, stepIndex, resolution);
          expect(await refusalOf(call), `step ${stepIndex}`).toBe("step_not_in_doubt");
        }
      }
      expect(await everything(runId)).toEqual(before);
      expect(await refusalOf(() => store.resolveStep(newRunId(), 0, { rerun: true }))).toBe("run_not_found");
    });

    itWith(
      ["tries", "resolveStep"],
      "of an attempt that reconciles is refused: it will know better",
      async (store) => {
        const { runId, fence } = await takenOver();
        await store.beginStep(aStep(runId, 0, { fence, onInterrupted: "reconcile" }));
        const before = await everything(runId);
        expect(await refusalOf(() => store.resolveStep(runId, 0, { result: 1 }))).toBe("step_not_in_doubt");
        expect(await everything(runId)).toEqual(before);
      },
    );

    itWith(["tries", "resolveStep"], "of a run that has completed is refused", async (store) => {
      const { runId, fence } = await parked();
      await store.endRun({ runId, workerId: "worker-2", fence, status: "completed", result: 1 });
      const before = await everything(runId);
      expect(await refusalOf(() => store.resolveStep(runId, 0, { rerun: true }))).toBe("step_not_in_doubt");
      expect(await everything(runId)).toEqual(before);
    });

    itWith(["tries", "resolveStep"], "lets one of twenty decisions that race stand", async (store) => {
      const { runId } = await parked();
      const calls = Array.from({ length: 10 }, (_, i) => [
        store.resolveStep(runId, 0, { result: i }),
        store.resolveStep(runId, 0, { rerun: true }),
      ]).flat();
      const { answers, refusals } = await race(calls);
      expect(answers).toEqual([await store.loadStep(runId, 0)]);
      expect(refusals).toEqual(Array.from({ length: 19 }, () => "step_not_in_doubt"));
    });

    itWith(["tries", "resolveStep"], "answers ten repetitions at once the same", async (store) => {
      const { runId } = await parked();
      const options = { requestId: newRequestId() };
      const calls = Array.from({ length: 10 }, () =>
        store.resolveStep(runId, 0, { result: "once" }, options),
      );
      const { answers } = await race(calls);
      expect(answers).toEqual(Array.from({ length: 10 }, () => answers[0]));
    });
  });
}
