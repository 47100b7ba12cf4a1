/** Runs that are restarted from a step (R34). */
import { describe, expect } from "vitest";
import { newRequestId, newRunId } from "../../identity.ts";
import { aRun, aStep, refusalOf } from "../harness.ts";
import type { Suite } from "./suite.ts";

export function describeRestarts(suite: Suite): void {
  const { itWith, claimed, withSteps, everything } = suite;
  const from = (fromStep: number, requestId = newRequestId()) =>
    ({ fromStep, dropLater: true, requestId }) as const;

  describe("restarting", () => {
    itWith(
      ["restartRun", "loadRun"],
      "forgets the steps from one on, for good, and keeps those before",
      async (store) => {
        const { runId, fence } = await withSteps(4);
        await store.beginStep(aStep(runId, 4, { fence }));
        const kept = await store.loadStep(runId, 0);
        const restarted = await store.restartRun(runId, from(1));
        expect(restarted).toMatchObject({ runId, status: "pending", stepCount: 1 });
        expect(restarted.fence).toBeGreaterThan(fence);
        for (const field of ["leaseHolderId", "leaseExpiresAt", "completedAt", "result", "error"]) {
          expect(restarted).not.toHaveProperty(field);
        }
        expect(await store.loadRun(runId)).toEqual(restarted);
        for (const stepIndex of [1, 2, 3, 4]) expect(await store.loadStep(runId, stepIndex)).toBeUndefined();
        const next = await store.startOrResume({ ...aRun("worker-2"), runId });
        expect(next.completedSteps).toEqual([kept]);
        expect(next.openSteps ?? []).toEqual([]);
        expect(next.run).toMatchObject({ status: "running", stepCount: 1 });
      },
    );

    itWith(["restartRun"], "begins a new history from there: other steps, counted anew", async (store) => {
      const { runId, fence } = await claimed();
      await store.beginStep(aStep(runId, 0, { fence, inputHash: "aaaa", timeoutMs: 60_000 }));
      await store.failStep({ runId, stepIndex: 0, fence, error: { message: "old" } });
      await store.beginStep(aStep(runId, 0, { fence, inputHash: "aaaa" }));
      await store.completeStep({ runId, stepIndex: 0, fence, result: "old" });
      await store.restartRun(runId, from(0));
      const next = await store.startOrResume({ ...aRun("worker-2"), runId });
      const step = aStep(runId, 0, { fence: next.fence ?? 0, intent: "new", kind: "llm", inputHash: "bbbb" });
      const begun = await store.beginStep(step);
      expect(begun).toMatchObject({ status: "running", attempts: 1, intent: "new", workerId: "worker-2" });
      for (const field of ["deadlineAt", "lastError", "error"]) expect(begun).not.toHaveProperty(field);
      await store.completeStep({ runId, stepIndex: 0, fence: next.fence ?? 0, result: "new" });
      expect(await store.loadStep(runId, 0)).toMatchObject({
        status: "completed",
        attempts: 1,
        result: "new",
      });
    });

    itWith(["restartRun"], "fences a live worker, whose late calls change nothing", async (store) => {
      const { runId, fence } = await withSteps(2);
      await store.beginStep(aStep(runId, 2, { fence }));
      await store.restartRun(runId, from(1));
      const before = await everything(runId);
      const late = { runId, stepIndex: 2, fence, attempt: 1 };
      const calls = [
        () => store.beginStep(aStep(runId, 1, { fence })),
        () => store.beginStep(aStep(runId, 3, { fence })),
        () => store.completeStep({ ...late, result: "late" }),
        () => store.failStep({ ...late, error: { message: "late" } }),
        () => store.endRun({ runId, workerId: "worker-1", fence, status: "completed", result: "late" }),
      ];
      for (const [i, call] of calls.entries()) expect(await refusalOf(call), `call ${i}`).toBe("lease_lost");
      expect(await store.renewLease({ runId, workerId: "worker-1", fence })).toMatchObject({ ok: false });
      expect(await everything(runId)).toEqual(before);
    });

    itWith(
      ["restartRun", "cancelRun", "loadRun"],
      "revives a run that completed, failed or was cancelled",
      async (store) => {
        for (const status of ["completed", "failed", "cancelled"] as const) {
          const { runId, fence } = await withSteps(2);
          const end = { runId, workerId: "worker-1", fence, result: "old", outcome: { pass: true } };
          if (status === "cancelled") await store.cancelRun(runId);
          else await store.endRun({ ...end, status, error: { message: "old" } });
          const restarted = await store.restartRun(runId, from(1));
          expect(restarted, `${status}`).toMatchObject({ status: "pending", stepCount: 1 });
          for (const field of ["completedAt", "result", "outcome", "error"]) {
            expect(restarted, `${status}`).not.toHaveProperty(field);
          }
          const next = await store.startOrResume({ ...aRun("worker-2"), runId });
          expect(next.completedSteps).toHaveLength(1);
          const again = { runId, workerId: "worker-2", fence: next.fence ?? 0, status: "completed" } as const;
          await store.endRun({ ...again, result: "new" });
          expect(await store.loadRun(runId)).toMatchObject({
            status: "completed",
            result: "new",
            stepCount: 1,
          });
        }
      },
    );

    itWith(["restartRun"], "keeps events", async (store) => {
      const { runId } = await withSteps(1);
      const { record } = await store.emitEvent({ runId, key: "k", payload: 1 });
      await store.restartRun(runId, from(0));
      expect(await store.loadEvent(runId, "k")).toEqual(record);
      expect((await store.emitEvent({ runId, key: "k", payload: 2 })).accepted).toBe(false);
    });

    itWith(
      ["restartRun", "tries", "loadRun"],
      "ends the waits of forgotten steps, and those alone",
      async (store) => {
        const { runId, fence } = await claimed();
        const waitFor = { kind: "event", key: "k" } as const;
        for (const stepIndex of [0, 1, 2]) await store.beginStep(aStep(runId, stepIndex, { fence, waitFor }));
        const { waitingFor = [] } = await store.restartRun(runId, from(1));
        expect(waitingFor.map((wait) => wait.stepIndex)).toEqual([0]);
      },
    );

    itWith(["restartRun", "tries"], "opens a failure whose catcher is forgotten", async (store) => {
      const { runId, fence } = await claimed();
      await store.beginStep(aStep(runId, 0, { fence }));
      await store.failStep({ runId, stepIndex: 0, fence, error: { message: "no" } });
      await store.beginStep(aStep(runId, 1, { fence, caught: [0] }));
      await store.restartRun(runId, from(1));
      const next = await store.startOrResume({ ...aRun("worker-2"), runId });
      expect(next.caughtSteps).toEqual([]);
      expect(next.openSteps).toMatchObject([{ stepIndex: 0, status: "failed" }]);
    });

    itWith(["restartRun"], "is answered the same when repeated, and mints one fence", async (store) => {
      const { runId, fence } = await withSteps(3);
      const options = from(1);
      const restarted = await store.restartRun(runId, options);
      expect(await store.restartRun(runId, options)).toEqual(restarted);
      expect(restarted.fence).toBe(fence + 1);
      const next = await store.startOrResume({ ...aRun("worker-2"), runId });
      expect(next.fence).toBe(fence + 2);
      // Also when it is repeated so late that the steps are there again.
      await suite.complete(runId, 1, fence + 2, "new");
      const before = await everything(runId);
      expect(await store.restartRun(runId, options)).toMatchObject({ status: "running", fence: fence + 2 });
      expect(await everything(runId)).toEqual(before);
    });

    itWith(
      ["restartRun"],
      "from a step that is not on record is refused, and changes nothing",
      async (store) => {
        const { runId } = await withSteps(2);
        await store.restartRun(runId, from(1));
        const before = await everything(runId);
        for (const fromStep of [1, 2, 99_999]) {
          const error = await store.restartRun(runId, from(fromStep)).catch((thrown: unknown) => thrown);
          expect(error).toMatchObject({ code: "invalid_input", field: "fromStep" });
        }
        expect(await everything(runId)).toEqual(before);
        expect(await refusalOf(() => store.restartRun(newRunId(), from(0)))).toBe("run_not_found");
      },
    );

    itWith(["restartRun"], "twice in a row, with steps between, leaves the last history", async (store) => {
      const { runId } = await withSteps(3);
      for (const life of ["second", "third"]) {
        await store.restartRun(runId, from(1));
        const { fence = 0 } = await store.startOrResume({ ...aRun(`worker of the ${life}`), runId });
        for (const stepIndex of life === "second" ? [1, 2, 3, 4] : [1, 2]) {
          await suite.complete(runId, stepIndex, fence, life);
        }
      }
      const { completedSteps } = await store.startOrResume({ ...aRun("worker of the third"), runId });
      expect(completedSteps.map((step) => step.result)).toEqual(["result 0", "third", "third"]);
    });

    itWith(["restartRun"], "forgets 200 steps, some of 300 KB", async (store) => {
      const { runId, fence } = await withSteps(1);
      const result = "x".repeat(300_000);
      const positions = Array.from({ length: 200 }, (_, i) => i + 1);
      await Promise.all(positions.map((stepIndex) => store.beginStep(aStep(runId, stepIndex, { fence }))));
      const ends = positions.map((stepIndex) =>
        store.completeStep({ runId, stepIndex, fence, result: stepIndex % 50 === 0 ? result : stepIndex }),
      );
      await Promise.all(ends);
      expect(await store.restartRun(runId, from(1))).toMatchObject({ stepCount: 1 });
      const next = await store.startOrResume({ ...aRun("worker-2"), runId });
      expect(next.completedSteps).toHaveLength(1);
      expect(next.openSteps ?? []).toEqual([]);
      const again = await suite.complete(runId, 1, next.fence ?? 0, result);
      expect(again.result === result).toBe(true);
      expect((await store.loadStep(runId, 1))?.result === result).toBe(true);
    });
  });
}
