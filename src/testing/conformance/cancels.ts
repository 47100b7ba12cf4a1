/** Runs that are cancelled (R34). */
import { describe, expect } from "vitest";
import { newRequestId, newRunId } from "../../identity.ts";
import { aRun, aStep, MANIFEST, refusalOf } from "../harness.ts";
import type { Suite } from "./suite.ts";
import { race } from "./suite.ts";

export function describeCancels(suite: Suite): void {
  const { itWith, claimed, withSteps, everything } = suite;

  describe("cancelling", () => {
    itWith(["cancelRun", "loadRun"], "ends a run, frees its lease, and says why", async (store) => {
      const { runId, fence } = await withSteps(1);
      const cancelled = await store.cancelRun(runId, "not needed any more ü 🙂");
      const error = {
        name: "DurableRunCancelledError",
        code: "run_cancelled",
        message: "not needed any more ü 🙂",
      };
      expect(cancelled).toMatchObject({ runId, status: "cancelled", error, stepCount: 1 });
      expect(cancelled.fence).toBeGreaterThan(fence);
      expect(cancelled.completedAt).toBeDefined();
      for (const field of ["leaseHolderId", "leaseExpiresAt", "result", "outcome", "waitingFor"]) {
        expect(cancelled).not.toHaveProperty(field);
      }
      expect(await store.loadRun(runId)).toEqual(cancelled);
      expect(await store.loadStep(runId, 0)).toMatchObject({ status: "completed", result: "result 0" });
    });

    itWith(["cancelRun"], "is told to the worker at its next call, and no claim succeeds", async (store) => {
      const { runId, fence } = await withSteps(1);
      await store.beginStep(aStep(runId, 1, { fence }));
      await store.cancelRun(runId);
      const before = await everything(runId);
      const late = { runId, stepIndex: 1, fence, attempt: 1 };
      const calls = [
        () => store.beginStep(aStep(runId, 0, { fence })),
        () => store.beginStep(aStep(runId, 2, { fence })),
        () => store.beginStep(aStep(runId, 2)),
        () => store.completeStep({ ...late, result: "late" }),
        () => store.completeStep({ runId, stepIndex: 1, result: "late, under no fence" }),
        () => store.failStep({ ...late, error: { message: "late" }, retryAfterMs: 0 }),
        () => store.endRun({ runId, workerId: "worker-1", fence, status: "completed", result: "late" }),
        () => store.endRun({ runId, workerId: "worker-1", status: "failed" }),
        () => store.startOrResume({ ...aRun("worker-1"), runId }),
        () => store.startOrResume({ ...aRun("worker-2"), runId }),
      ];
      for (const [i, call] of calls.entries())
        expect(await refusalOf(call), `call ${i}`).toBe("run_cancelled");
      const renewal = await store.renewLease({ runId, workerId: "worker-1", fence });
      expect(renewal.ok).toBe(false);
      expect(["cancelled", undefined]).toContain(renewal.status);
      const other = { ...aRun(), runId, manifest: { ...MANIFEST, input: { question: "another" } } };
      expect(await refusalOf(() => store.startOrResume(other))).toBe("manifest_mismatch");
      expect(await everything(runId)).toEqual(before);
    });

    itWith(
      ["cancelRun"],
      "a second time changes nothing, under whatever id and for whatever reason",
      async (store) => {
        const { runId } = await claimed();
        const options = { requestId: newRequestId() };
        const cancelled = await store.cancelRun(runId, "first", options);
        suite.clock.advance(5);
        expect(await store.cancelRun(runId, "first", options)).toEqual(cancelled);
        expect(await store.cancelRun(runId, "second")).toEqual(cancelled);
        expect(await store.cancelRun(runId)).toEqual(cancelled);
      },
    );

    itWith(["cancelRun", "restartRun"], "takes effect once, however late it is repeated", async (store) => {
      const { runId } = await withSteps(1);
      const options = { requestId: newRequestId() };
      await store.cancelRun(runId, "once", options);
      await store.restartRun(runId, { fromStep: 0, dropLater: true });
      const pending = await everything(runId);
      expect(await store.cancelRun(runId, "once", options)).toMatchObject({ status: "pending" });
      expect(await everything(runId)).toEqual(pending);
      await store.startOrResume({ ...aRun("worker-2"), runId });
      const running = await everything(runId);
      expect(await store.cancelRun(runId, "once", options)).toMatchObject({ status: "running" });
      expect(await everything(runId)).toEqual(running);
    });

    itWith(["cancelRun"], "gives a reason even when it is given none", async (store) => {
      const { runId } = await claimed();
      expect((await store.cancelRun(runId)).error?.message).not.toBe("");
    });

    itWith(["cancelRun"], "leaves a completed run as it is, with its result", async (store) => {
      const { runId, fence } = await withSteps(1);
      const end = { runId, workerId: "worker-1", fence, status: "completed", result: { a: 1 } } as const;
      const ended = await store.endRun({ ...end, outcome: { pass: true } });
      expect(await store.cancelRun(runId, "too late")).toEqual(ended);
      expect((await store.startOrResume({ ...aRun("worker-2"), runId })).run).toMatchObject({
        result: { a: 1 },
      });
    });

    itWith(
      ["cancelRun", "suspendRun", "restartRun", "tries"],
      "ends a run that failed, waits, or is pending",
      async (store) => {
        const failed = await claimed();
        await store.endRun({
          runId: failed.runId,
          workerId: "worker-1",
          fence: failed.fence,
          status: "failed",
        });
        const suspended = await suite.takenOver();
        const park = aStep(suspended.runId, 0, { fence: suspended.fence, onInterrupted: "park" });
        await store.beginStep(park);
        await store.suspendRun({ runId: suspended.runId, workerId: "worker-2", fence: suspended.fence });
        const pending = await withSteps(1);
        await store.restartRun(pending.runId, { fromStep: 0, dropLater: true });
        for (const { runId } of [failed, suspended, pending]) {
          const cancelled = await store.cancelRun(runId, "enough");
          expect(cancelled).toMatchObject({ status: "cancelled", error: { message: "enough" } });
          expect(cancelled).not.toHaveProperty("waitingFor");
          expect(await refusalOf(() => store.startOrResume({ ...aRun("worker-3"), runId }))).toBe(
            "run_cancelled",
          );
        }
      },
    );

    itWith(["cancelRun"], "leaves events to be emitted and read", async (store) => {
      const { runId } = await claimed();
      await store.emitEvent({ runId, key: "before", payload: 1 });
      await store.cancelRun(runId);
      expect((await store.emitEvent({ runId, key: "after", payload: 2 })).accepted).toBe(true);
      expect(await store.loadEvent(runId, "before")).toMatchObject({ payload: 1 });
      expect(await store.loadEvent(runId, "after")).toMatchObject({ payload: 2 });
    });

    itWith(["cancelRun"], "an unknown run is refused, and makes none", async (store) => {
      const runId = newRunId();
      expect(await refusalOf(() => store.cancelRun(runId))).toBe("run_not_found");
      expect(await store.loadRun?.(runId)).toBeUndefined();
    });

    itWith(
      ["cancelRun", "loadRun"],
      "ten times at once mints one fence, and answers one record",
      async (store) => {
        const { runId, fence } = await claimed();
        const calls = Array.from({ length: 10 }, (_, i) => store.cancelRun(runId, `reason ${i}`));
        const { answers, refusals } = await race(calls);
        expect(refusals).toEqual([]);
        const standing = await store.loadRun(runId);
        expect(answers).toEqual(Array.from({ length: 10 }, () => standing));
        expect(standing?.fence).toBe(fence + 1);
      },
    );

    itWith(["cancelRun", "loadRun"], "races the end of the run: one of the two stands", async (store) => {
      for (let round = 0; round < 10; round += 1) {
        const { runId, fence } = await withSteps(1);
        const end = { runId, workerId: "worker-1", fence, status: "completed", result: "done" } as const;
        const both = [() => store.cancelRun(runId), () => store.endRun(end)];
        const { refusals } = await race<unknown>(
          (round % 2 === 0 ? both : both.toReversed()).map((call) => call()),
        );
        const after = await store.loadRun(runId);
        if (after?.status === "completed") expect(after).toMatchObject({ result: "done", fence });
        else expect(after).toMatchObject({ status: "cancelled", fence: fence + 1 });
        expect(refusals).toEqual(after?.status === "completed" ? [] : ["run_cancelled"]);
      }
    });

    itWith(["cancelRun", "loadRun"], "races steps and claims: whoever comes later is told", async (store) => {
      const { runId, fence } = await withSteps(1);
      await store.beginStep(aStep(runId, 1, { fence }));
      const calls = Array.from({ length: 5 }, (_, i) => [
        store.beginStep(aStep(runId, 2 + i, { fence })),
        store.completeStep({ runId, stepIndex: 1, fence, attempt: 1, result: "in time?" }),
        ...(i === 2 ? [store.cancelRun(runId)] : []),
        store.startOrResume({ ...aRun("worker-2"), runId }),
      ]).flat();
      const { refusals } = await race<unknown>(calls);
      for (const code of refusals) expect(["run_cancelled", "lease_held"]).toContain(code);
      expect(await store.loadRun(runId)).toMatchObject({ status: "cancelled", fence: fence + 1 });
      expect(await refusalOf(() => store.beginStep(aStep(runId, 2, { fence })))).toBe("run_cancelled");
      expect(await store.loadStep(runId, 0)).toMatchObject({ result: "result 0" });
    });
  });
}
