/** Runs that are suspended until a step in doubt is resolved (R31). */
import { describe, expect } from "vitest";
import { newRequestId, newRunId } from "../../identity.ts";
import { aRun, aStep, refusalOf } from "../harness.ts";
import type { Suite } from "./suite.ts";
import { race } from "./suite.ts";

export function describeSuspensions(suite: Suite): void {
  const { itWith, takenOver, parked, everything } = suite;

  const suspension = ({ runId, fence }: { runId: string; fence: number }) => ({
    runId,
    fence,
    workerId: "worker-2",
    requestId: newRequestId(),
  });

  describe("suspending", () => {
    itWith(
      ["tries", "suspendRun", "loadRun"],
      "frees the lease of a run that waits for a decision",
      async (store) => {
        const run = await parked();
        const { runId, fence } = run;
        const input = suspension(run);
        const suspended = await store.suspendRun(input);
        const waitingFor = [{ stepIndex: 0, for: "decision" }];
        expect(suspended).toMatchObject({ status: "suspended", fence, waitingFor });
        for (const field of ["leaseHolderId", "leaseExpiresAt", "completedAt"]) {
          expect(suspended).not.toHaveProperty(field);
        }
        expect(await store.suspendRun(input)).toEqual(suspended);
        expect(await store.suspendRun({ ...input, requestId: newRequestId() })).toEqual(suspended);
        expect(await store.loadRun(runId)).toEqual(suspended);
        expect(await store.renewLease({ runId, workerId: "worker-2", fence })).toMatchObject({ ok: false });
        expect(await refusalOf(() => store.beginStep(aStep(runId, 1, { fence })))).toBe("lease_lost");
        expect(await refusalOf(() => store.endRun({ ...input, status: "failed" }))).toBe("lease_lost");
        const next = await store.startOrResume({ ...aRun("worker-3"), runId });
        expect(next.run).toMatchObject({ status: "running", takeovers: 1, waitingFor });
        expect(next.openSteps).toMatchObject([{ stepIndex: 0, status: "pending", inDoubt: true }]);
      },
    );

    itWith(
      ["tries", "suspendRun", "resolveStep", "loadRun"],
      "lasts until the last decision",
      async (store) => {
        const { runId, fence } = await takenOver();
        await store.beginStep(aStep(runId, 1, { fence }));
        await store.startOrResume({ ...aRun("worker-2"), runId });
        const run = { runId, fence: fence + 1 };
        for (const stepIndex of [0, 1]) {
          await store.beginStep(aStep(runId, stepIndex, { fence: run.fence, onInterrupted: "park" }));
        }
        await store.suspendRun(suspension(run));
        await store.resolveStep(runId, 1, { result: 1 });
        const waitingFor = [{ stepIndex: 0, for: "decision" }];
        expect(await store.loadRun(runId)).toMatchObject({ status: "suspended", waitingFor });
        await store.resolveStep(runId, 0, { rerun: true });
        const pending = await store.loadRun(runId);
        expect(pending).toMatchObject({ status: "pending", fence: run.fence });
        expect(pending).not.toHaveProperty("waitingFor");
        expect((await store.startOrResume({ ...aRun("worker-3"), runId })).run.status).toBe("running");
      },
    );

    itWith(
      ["tries", "suspendRun", "resolveStep"],
      "leaves the run to anybody when it is decided",
      async (store) => {
        const decided = await parked();
        await store.resolveStep(decided.runId, 0, { rerun: true });
        expect(await store.suspendRun(suspension(decided))).toMatchObject({ status: "pending" });
        const next = await store.startOrResume({ ...aRun("worker-3"), runId: decided.runId });
        expect(next).toMatchObject({ fence: decided.fence + 1 });
      },
    );

    itWith(
      ["tries", "suspendRun", "resolveStep", "loadRun"],
      "races a decision to one end",
      async (store) => {
        for (let round = 0; round < 5; round += 1) {
          const run = await parked();
          const calls = [
            ...Array.from({ length: 5 }, () => store.suspendRun(suspension(run))),
            store.resolveStep(run.runId, 0, { result: "decided" }),
          ];
          const { refusals } = await race<unknown>(calls);
          expect(refusals).toEqual([]);
          const after = await store.loadRun(run.runId);
          expect(after).toMatchObject({ status: "pending" });
          for (const field of ["leaseHolderId", "waitingFor"]) expect(after).not.toHaveProperty(field);
        }
      },
    );

    itWith(["tries", "suspendRun"], "is for the worker that holds the run", async (store) => {
      const run = await parked();
      const { runId, fence } = run;
      const before = await everything(runId);
      const input = suspension(run);
      expect(await refusalOf(() => store.suspendRun({ ...input, fence: fence - 1 }))).toBe("lease_lost");
      expect(await refusalOf(() => store.suspendRun({ ...input, workerId: "worker-1" }))).toBe("lease_lost");
      const unknown = { ...input, runId: newRunId() };
      expect(await refusalOf(() => store.suspendRun(unknown))).toBe("run_not_found");
      expect(await everything(runId)).toEqual(before);
      await store.endRun({ ...input, status: "completed", result: 1 });
      expect(await refusalOf(() => store.suspendRun(input))).toBe("lease_lost");
    });
  });
}
