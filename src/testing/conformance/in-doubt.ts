/** Steps that a worker died in: what each policy makes of them (R31). */
import { describe, expect } from "vitest";
import type { InterruptionPolicy } from "../../contract/types.ts";
import { newRequestId } from "../../identity.ts";
import { aRun, aStep, refusalOf } from "../harness.ts";
import type { Suite } from "./suite.ts";
import { race } from "./suite.ts";

export function describeStepsInDoubt(suite: Suite): void {
  const { itWith, claimed, takenOver, everything } = suite;
  const POLICIES: readonly InterruptionPolicy[] = ["rerun", "fail", "park", "reconcile"];

  describe("a step that a worker died in", () => {
    const begin = (runId: string, fence: number, onInterrupted?: InterruptionPolicy) =>
      suite.store.beginStep(aStep(runId, 0, { fence, ...(onInterrupted && { onInterrupted }) }));

    itWith(["tries"], "is open to the next worker, and runs again by default", async (store) => {
      const { runId, fence } = await takenOver();
      const { openSteps } = await store.startOrResume({ ...aRun("worker-2"), runId });
      expect(openSteps).toMatchObject([{ stepIndex: 0, status: "running", workerId: "worker-1" }]);
      const again = await begin(runId, fence + 1);
      expect(again).toMatchObject({ status: "running", attempts: 2, tries: 2, workerId: "worker-2" });
      expect(again).not.toHaveProperty("inDoubt");
    });

    itWith(
      ["tries"],
      "fails for good under the policy fail, in doubt, and says who died in it",
      async (store) => {
        const { runId, fence } = await takenOver();
        const failed = await begin(runId, fence, "fail");
        const error = { code: "step_interrupted", name: "DurableStepInterruptedError" };
        expect(failed).toMatchObject({ status: "failed", attempts: 1, tries: 1, inDoubt: true, error });
        expect(failed.error?.message).toMatch(/step-0.*worker-1/);
        expect(await store.loadStep(runId, 0)).toEqual(failed);
        const complete = { runId, stepIndex: 0, fence, result: "late" };
        expect(await refusalOf(() => store.completeStep(complete))).toBe("step_not_running");
        expect(await begin(runId, fence, "fail")).toMatchObject({ status: "failed", attempts: 1, error });
        // Somebody who takes the risk lets it run.
        expect(await begin(runId, fence, "rerun")).toMatchObject({
          status: "running",
          attempts: 2,
          tries: 1,
        });
        expect(await store.loadStep(runId, 0)).not.toHaveProperty("inDoubt");
      },
    );

    itWith(["tries"], "is parked under the policy park: it neither runs nor ends", async (store) => {
      const { runId, fence } = await takenOver();
      const parked = await begin(runId, fence, "park");
      expect(parked).toMatchObject({ status: "pending", attempts: 1, tries: 1, inDoubt: true });
      expect(parked).not.toHaveProperty("nextAttemptAt");
      expect(parked).not.toHaveProperty("completedAt");
      expect(await store.loadStep(runId, 0)).toEqual(parked);
      const complete = { runId, stepIndex: 0, fence, attempt: 1, result: "late" };
      expect(await refusalOf(() => store.completeStep(complete))).toBe("step_not_running");
      expect(await store.failStep({ runId, stepIndex: 0, fence, error: { message: "late" } })).toEqual(
        parked,
      );
      expect(await begin(runId, fence, "park")).toEqual(parked);
    });

    itWith(["tries", "loadRun"], "shows in what the run waits for while it is parked", async (store) => {
      const { runId, fence } = await takenOver();
      await begin(runId, fence, "park");
      expect((await store.loadRun(runId))?.waitingFor).toEqual([{ stepIndex: 0, for: "decision" }]);
      await begin(runId, fence, "reconcile");
      expect(await store.loadRun(runId)).not.toHaveProperty("waitingFor");
    });

    itWith(
      ["tries"],
      "is reconciled by an attempt that knows of the doubt, until it has ended",
      async (store) => {
        const { runId, fence } = await takenOver();
        const attempt = await begin(runId, fence, "reconcile");
        expect(attempt).toMatchObject({ status: "running", attempts: 2, tries: 2, inDoubt: true });
        const unknown = { runId, stepIndex: 0, fence, attempt: 2, error: { message: "who knows?" } };
        const failed = await store.failStep({ ...unknown, inDoubt: true, retryAfterMs: 0 });
        expect(failed).toMatchObject({
          status: "pending",
          inDoubt: true,
          lastError: { message: "who knows?" },
        });
        expect(await begin(runId, fence, "reconcile")).toMatchObject({
          attempts: 3,
          tries: 3,
          inDoubt: true,
        });
        const done = await store.completeStep({
          runId,
          stepIndex: 0,
          fence,
          attempt: 3,
          result: "it was paid",
        });
        expect(done).toMatchObject({ status: "completed", result: "it was paid" });
        expect(done).not.toHaveProperty("inDoubt");
      },
    );

    itWith(
      ["tries"],
      "stays in doubt when its reconciliation fails so, or is interrupted too",
      async (store) => {
        const { runId, fence } = await takenOver();
        await begin(runId, fence, "reconcile");
        const failed = {
          runId,
          stepIndex: 0,
          fence,
          attempt: 2,
          error: { message: "no answer" },
          inDoubt: true,
        };
        expect(await store.failStep(failed)).toMatchObject({ status: "failed", inDoubt: true });
        await begin(runId, fence, "reconcile");
        const next = await store.startOrResume({ ...aRun("worker-2"), runId });
        expect(await begin(runId, next.fence ?? 0, "park")).toMatchObject({
          status: "pending",
          inDoubt: true,
        });
      },
    );

    itWith(["tries"], "is in doubt no longer when its reconciliation fails without", async (store) => {
      const { runId, fence } = await takenOver();
      await begin(runId, fence, "reconcile");
      const failed = await store.failStep({
        runId,
        stepIndex: 0,
        fence,
        attempt: 2,
        error: { message: "no" },
      });
      expect(failed).not.toHaveProperty("inDoubt");
      expect(await begin(runId, fence, "park")).toMatchObject({ status: "running", attempts: 3 });
    });

    itWith(["tries"], "is one, whatever the policy was of the begin that the worker died after", async () => {
      for (const onInterrupted of POLICIES) {
        const first = await claimed();
        const begun = await begin(first.runId, first.fence, onInterrupted);
        expect(begun, `${onInterrupted}`).toMatchObject({ status: "running", attempts: 1 });
        expect(begun).not.toHaveProperty("inDoubt");
        const next = await suite.store.startOrResume({ ...aRun("worker-1"), runId: first.runId });
        const parked = await begin(first.runId, next.fence ?? 0, "park");
        expect(parked, `${onInterrupted}`).toMatchObject({ status: "pending", inDoubt: true, attempts: 1 });
      }
    });

    itWith(["tries"], "is none that failed, is to be attempted again, or has completed", async (store) => {
      for (const onInterrupted of POLICIES) {
        const { runId, fence } = await claimed();
        const again = (stepIndex: number) =>
          store.beginStep(aStep(runId, stepIndex, { fence, onInterrupted }));
        for (const stepIndex of [0, 1, 2]) await again(stepIndex);
        const error = { message: "no" };
        await store.failStep({ runId, stepIndex: 0, fence, error });
        await store.failStep({ runId, stepIndex: 1, fence, error, retryAfterMs: 0 });
        const done = await store.completeStep({ runId, stepIndex: 2, fence, result: "done" });
        for (const stepIndex of [0, 1]) {
          const next = await again(stepIndex);
          expect(next, `${onInterrupted}`).toMatchObject({ status: "running", attempts: 2 });
          expect(next).not.toHaveProperty("inDoubt");
        }
        expect(await again(2)).toEqual(done);
      }
    });

    itWith(
      ["tries"],
      "is answered the same to a begin that is repeated with its request id",
      async (store) => {
        for (const onInterrupted of POLICIES) {
          const { runId, fence } = await takenOver();
          const input = aStep(runId, 0, { fence, onInterrupted, requestId: newRequestId() });
          const first = await store.beginStep(input);
          expect(await store.beginStep(input), `${onInterrupted}`).toEqual(first);
          expect(await store.loadStep(runId, 0)).toEqual(first);
        }
      },
    );

    itWith(["tries"], "is parked, or fails, once, however many begins race", async (store) => {
      for (const onInterrupted of ["park", "fail"] as const) {
        const { runId, fence } = await takenOver();
        const calls = Array.from({ length: 10 }, () => begin(runId, fence, onInterrupted));
        const { answers } = await race(calls);
        expect(answers).toHaveLength(10);
        const status = onInterrupted === "park" ? "pending" : "failed";
        for (const answer of [...answers, await store.loadStep(runId, 0)]) {
          expect(answer).toMatchObject({ status, inDoubt: true, attempts: 1 });
        }
      }
    });

    itWith(["tries"], "is not touched by the worker that was replaced", async (store) => {
      const { runId, old, fence } = await takenOver();
      await begin(runId, fence, "park");
      const before = await everything(runId);
      for (const policy of POLICIES)
        expect(await refusalOf(() => begin(runId, old, policy))).toBe("lease_lost");
      const late = { runId, stepIndex: 0, fence: old, attempt: 1 };
      expect(await refusalOf(() => store.completeStep({ ...late, result: "late" }))).toBe("lease_lost");
      const failure = { ...late, error: { message: "late" }, retryAfterMs: 0, inDoubt: true };
      expect(await refusalOf(() => store.failStep(failure))).toBe("lease_lost");
      expect(await everything(runId)).toEqual(before);
    });
  });
}
