/** Fences, and how a run ends (R5). */
import { describe, expect } from "vitest";
import { aStep, refusalOf } from "../harness.ts";
import type { Suite } from "./suite.ts";

export function describeFencesAndEnds(suite: Suite): void {
  const { it, itWith, claimed, takenOver } = suite;

  describe("fences", () => {
    it("refuses every mutation under a lower fence, and changes nothing (R5)", async () => {
      const { runId, old, fence } = await takenOver();
      await suite.store.beginStep(aStep(runId, 0, { fence }));
      const before = [
        await suite.store.loadRun?.(runId),
        await suite.store.loadStep(runId, 0),
        await suite.store.loadStep(runId, 1),
      ];
      const late = { runId, fence: old };
      const calls = [
        () => suite.store.beginStep(aStep(runId, 0, { fence: old })),
        () => suite.store.beginStep(aStep(runId, 1, { fence: old })),
        () => suite.store.completeStep({ ...late, stepIndex: 0, attempt: 1, result: "late" }),
        () => suite.store.failStep({ ...late, stepIndex: 0, attempt: 1, error: { message: "late" } }),
        () => suite.store.endRun({ ...late, workerId: "worker-1", status: "completed", result: "late" }),
        () => suite.store.endRun({ ...late, workerId: "worker-1", status: "failed" }),
      ];
      for (const call of calls) expect(await refusalOf(call)).toBe("lease_lost");
      const renewal = await suite.store.renewLease({ runId, workerId: "worker-1", fence: old });
      expect(renewal).toMatchObject({ ok: false });
      const after = [
        await suite.store.loadRun?.(runId),
        await suite.store.loadStep(runId, 0),
        await suite.store.loadStep(runId, 1),
      ];
      expect(after).toEqual(before);
    });

    itWith(
      ["loadRun"],
      "refuses an end by a worker that another has replaced, fence or no fence",
      async () => {
        const { runId } = await takenOver();
        const end = { runId, workerId: "worker-1", status: "completed" } as const;
        expect(await refusalOf(() => suite.store.endRun(end))).toBe("lease_lost");
        expect(await suite.store.loadRun?.(runId)).toMatchObject({
          status: "running",
          leaseHolderId: "worker-2",
        });
      },
    );

    it("refuses to begin, complete or fail a step of a run that has ended", async () => {
      const { runId, fence } = await claimed();
      await suite.store.beginStep(aStep(runId, 0, { fence }));
      await suite.store.endRun({ runId, workerId: "worker-1", fence, status: "completed", result: null });
      expect(await refusalOf(() => suite.store.beginStep(aStep(runId, 1, { fence })))).toBe("lease_lost");
      expect(await refusalOf(() => suite.store.completeStep({ runId, stepIndex: 0, fence, result: 1 }))).toBe(
        "lease_lost",
      );
      expect(
        await refusalOf(() => suite.store.failStep({ runId, stepIndex: 0, fence, error: { message: "x" } })),
      ).toBe("lease_lost");
    });
  });

  describe("ends", () => {
    itWith(
      ["loadRun"],
      "records how the run ended, frees its lease, and answers the same when repeated",
      async () => {
        const { runId, fence } = await claimed();
        const outcome = { pass: true, score: 0.9, notes: "fine", metadata: { tokens: 12 } };
        const end = {
          runId,
          workerId: "worker-1",
          fence,
          status: "completed",
          outcome,
          result: { a: [1] },
        } as const;
        const ended = await suite.store.endRun(end);
        expect(ended).toMatchObject({ status: "completed", outcome, result: { a: [1] }, fence });
        expect(ended.completedAt).toBeDefined();
        expect(ended.leaseHolderId).toBeUndefined();
        expect(await suite.store.endRun(end)).toEqual(ended);
        expect(await suite.store.loadRun?.(runId)).toEqual(ended);
      },
    );

    itWith(["loadRun"], "refuses to end a run in another way than it has ended", async () => {
      const { runId, fence } = await claimed();
      const ended = await suite.store.endRun({
        runId,
        workerId: "worker-1",
        fence,
        status: "completed",
        result: 1,
      });
      const other = { runId, workerId: "worker-1", fence, status: "failed" } as const;
      expect(await refusalOf(() => suite.store.endRun(other))).toBe("lease_lost");
      expect(await suite.store.loadRun?.(runId)).toEqual(ended);
    });

    itWith(
      ["loadRun"],
      "keeps the error of a failed run, and a result of undefined apart from none",
      async () => {
        const failed = await claimed();
        const error = { name: "RangeError", message: "out of it", code: "E_RANGE" };
        const end = {
          runId: failed.runId,
          workerId: "worker-1",
          fence: failed.fence,
          status: "failed",
          error,
        } as const;
        expect(await suite.store.endRun(end)).toMatchObject({ status: "failed", error });
        const empty = await claimed();
        await suite.store.endRun({
          runId: empty.runId,
          workerId: "worker-1",
          status: "completed",
          result: undefined,
        });
        const run = await suite.store.loadRun?.(empty.runId);
        expect(run !== undefined && "result" in run).toBe(true);
        expect(run?.result).toBeUndefined();
      },
    );
  });
}
