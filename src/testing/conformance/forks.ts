/** Runs that begin with the steps of another (R34). */
import { describe, expect } from "vitest";
import { newRequestId, newRunId } from "../../identity.ts";
import { aRun, aStep, MANIFEST, refusalOf } from "../harness.ts";
import type { Suite } from "./suite.ts";

export function describeForks(suite: Suite): void {
  const { itWith, claimed, withSteps, everything } = suite;
  const through = (throughStep: number, edits?: Record<number, unknown>) => ({
    throughStep,
    requestId: newRequestId(),
    ...(edits && { edits }),
  });
  const resumed = (runId: string) => suite.store.startOrResume({ ...aRun("worker-2"), runId });

  describe("forking", () => {
    itWith(
      ["forkRun", "loadRun"],
      "makes a pending run with the steps of another up to one",
      async (store) => {
        const { runId } = await withSteps(4);
        const before = await everything(runId);
        const newId = newRunId();
        const forked = await store.forkRun(runId, newId, through(1));
        const forkedFrom = { runId, throughStep: 1 };
        expect(forked).toMatchObject({ runId: newId, status: "pending", stepCount: 2, forkedFrom });
        for (const field of ["leaseHolderId", "leaseExpiresAt", "completedAt"])
          expect(forked).not.toHaveProperty(field);
        expect(await store.loadRun(newId)).toEqual(forked);
        const source = await store.loadRun(runId);
        const { manifestHash, projectId, scenarioId } = source ?? {};
        expect(forked).toMatchObject({ manifestHash, projectId, scenarioId });
        for (const stepIndex of [0, 1]) {
          const copy = { ...(await store.loadStep(runId, stepIndex)), runId: newId };
          expect(await store.loadStep(newId, stepIndex)).toEqual(copy);
        }
        expect(await store.loadStep(newId, 2)).toBeUndefined();
        const next = await resumed(newId);
        expect(next.run).toMatchObject({ status: "running", takeovers: 0, forkedFrom });
        expect(next.completedSteps.map((step) => step.result)).toEqual(["result 0", "result 1"]);
        expect(next.openSteps ?? []).toEqual([]);
        await suite.complete(newId, 2, next.fence ?? 0, "its own");
        const end = {
          runId: newId,
          workerId: "worker-2",
          fence: next.fence ?? 0,
          status: "completed",
        } as const;
        expect(await store.endRun({ ...end, result: 1 })).toMatchObject({ stepCount: 3, forkedFrom });
        expect(await everything(runId)).toEqual(before);
      },
    );

    itWith(["forkRun"], "copies no events", async (store) => {
      const { runId } = await withSteps(1);
      await store.emitEvent({ runId, key: "k", payload: "of the source" });
      const newId = newRunId();
      await store.forkRun(runId, newId, through(0));
      expect(await store.loadEvent(newId, "k")).toBeUndefined();
      expect((await store.emitEvent({ runId: newId, key: "k", payload: "own" })).accepted).toBe(true);
    });

    itWith(
      ["forkRun", "tries"],
      "copies what the task saw, caught failures too, and nothing unfinished",
      async (store) => {
        const { runId, fence } = await claimed();
        const error = { name: "TypeError", message: "no", code: "E_NO" };
        for (const stepIndex of [0, 1, 2, 3, 4]) {
          const caught = stepIndex === 4 ? { caught: [0] } : {};
          await store.beginStep(aStep(runId, stepIndex, { fence, path: `${stepIndex}/a/0`, ...caught }));
          const end = { runId, stepIndex, fence };
          if (stepIndex === 3) await store.failStep({ ...end, error, retryAfterMs: 60_000 });
          else if (stepIndex < 2) await store.failStep({ ...end, error });
        }
        await store.completeStep({ runId, stepIndex: 4, fence, result: "on" });
        const newId = newRunId();
        expect(await store.forkRun(runId, newId, through(4))).not.toHaveProperty("waitingFor");
        const next = await resumed(newId);
        expect(next.caughtSteps).toMatchObject([{ stepIndex: 0, path: "0/a/0", status: "failed", error }]);
        expect(next.completedSteps).toMatchObject([{ stepIndex: 4, path: "4/a/0", result: "on" }]);
        expect(next.openSteps).toEqual([]);
        expect(await store.beginStep(aStep(newId, 1, { fence: next.fence ?? 0 }))).toMatchObject({
          attempts: 1,
        });
      },
    );

    itWith(["forkRun"], "puts edits in place of recorded results, in the new run alone", async (store) => {
      const { runId, fence } = await withSteps(3);
      await store.beginStep(aStep(runId, 3, { fence }));
      await store.failStep({ runId, stepIndex: 3, fence, error: { message: "no" } });
      await store.beginStep(aStep(runId, 4, { fence, caught: [3] }));
      await store.completeStep({ runId, stepIndex: 4, fence, result: "on" });
      const before = await everything(runId);
      const newId = newRunId();
      await store.forkRun(runId, newId, through(4, { 0: { edited: [1] }, 2: undefined, 3: null }));
      const { completedSteps, caughtSteps = [] } = await resumed(newId);
      expect(completedSteps.map((step) => step.result)).toEqual([
        { edited: [1] },
        "result 1",
        undefined,
        null,
        "on",
      ]);
      expect(completedSteps[2]).not.toHaveProperty("result");
      expect(completedSteps[3]).not.toHaveProperty("error");
      expect(caughtSteps).toEqual([]);
      expect(await everything(runId)).toEqual(before);
    });

    itWith(
      ["forkRun", "cancelRun"],
      "takes a source in whatever state, and leaves it there",
      async (store) => {
        for (const status of ["running", "completed", "failed", "cancelled"] as const) {
          const { runId, fence } = await withSteps(2);
          const end = {
            runId,
            workerId: "worker-1",
            fence,
            result: "of the source",
            outcome: { pass: true },
          };
          if (status === "cancelled") await store.cancelRun(runId);
          else if (status !== "running") await store.endRun({ ...end, status });
          const before = await everything(runId);
          const newId = newRunId();
          const forked = await store.forkRun(runId, newId, through(1));
          expect(forked, `${status}`).toMatchObject({ status: "pending", stepCount: 2 });
          for (const field of ["result", "outcome", "error"])
            expect(forked, `${status}`).not.toHaveProperty(field);
          expect((await resumed(newId)).run.status).toBe("running");
          expect(await everything(runId)).toEqual(before);
        }
      },
    );

    itWith(
      ["forkRun", "restartRun", "cancelRun"],
      "makes a run of its own: neither follows the other",
      async (store) => {
        const { runId } = await withSteps(2);
        const [one, two] = [newRunId(), newRunId()];
        await store.forkRun(runId, one, through(1));
        const forkOfFork = await store.forkRun(one, two, through(0));
        expect(forkOfFork.forkedFrom).toEqual({ runId: one, throughStep: 0 });
        await store.restartRun(runId, { fromStep: 0, dropLater: true });
        await store.cancelRun(two);
        expect((await resumed(one)).completedSteps).toHaveLength(2);
        await store.restartRun(one, { fromStep: 1, dropLater: true });
        expect((await resumed(one)).run).toMatchObject({
          stepCount: 1,
          forkedFrom: { runId, throughStep: 1 },
        });
        expect(await store.loadStep(two, 0)).toMatchObject({ result: "result 0" });
      },
    );

    itWith(["forkRun"], "into a run that exists is refused, and changes neither", async (store) => {
      const [{ runId }, other] = [await withSteps(1), await withSteps(2)];
      const before = [await everything(runId), await everything(other.runId)];
      expect(await refusalOf(() => store.forkRun(runId, other.runId, through(0)))).toBe("run_exists");
      expect([await everything(runId), await everything(other.runId)]).toEqual(before);
    });

    itWith(["forkRun"], "of an unknown run is refused, and makes none", async (store) => {
      const newId = newRunId();
      expect(await refusalOf(() => store.forkRun(newRunId(), newId, through(0)))).toBe("run_not_found");
      expect(await everything(newId)).toEqual(Array.from({ length: 11 }, () => undefined));
    });

    itWith(
      ["forkRun"],
      "is answered the same when repeated; a second fork into one run is refused",
      async (store) => {
        const { runId } = await withSteps(2);
        const newId = newRunId();
        const options = through(1, { 0: "edited" });
        const forked = await store.forkRun(runId, newId, options);
        const before = await everything(newId);
        expect(await store.forkRun(runId, newId, options)).toEqual(forked);
        expect(await refusalOf(() => store.forkRun(runId, newId, through(1)))).toBe("run_exists");
        expect(await refusalOf(() => store.forkRun(runId, newId, through(0)))).toBe("run_exists");
        expect(await everything(newId)).toEqual(before);
        await resumed(newId);
        expect(await refusalOf(() => store.forkRun(runId, newId, through(1)))).toBe("run_exists");
      },
    );

    itWith(["forkRun"], "copies a result, an input and an edit of 1 MiB whole", async (store) => {
      const text = "é🙂".repeat(174_763);
      const input = { ...aRun(), manifest: { ...MANIFEST, input: { text } } };
      const { fence = 0 } = await store.startOrResume(input);
      await suite.complete(input.runId, 0, fence, text);
      await suite.complete(input.runId, 1, fence, "small");
      const newId = newRunId();
      await store.forkRun(input.runId, newId, through(1, { 1: `edited ${text}` }));
      // The same manifest, or the claim would be refused.
      const next = await store.startOrResume({ ...input, runId: newId, workerId: "worker-2" });
      expect(next.completedSteps.map((step) => step.result === text)).toEqual([true, false]);
      expect((await store.loadStep(newId, 1))?.result === `edited ${text}`).toBe(true);
    });

    itWith(["forkRun"], "copies 5 MB of steps in their order", async (store) => {
      const { runId, fence } = await claimed();
      const text = "x".repeat(200_000);
      const positions = Array.from({ length: 26 }, (_, i) => i);
      await Promise.all(
        positions.map((stepIndex) => suite.complete(runId, stepIndex, fence, text + stepIndex)),
      );
      const newId = newRunId();
      expect(await store.forkRun(runId, newId, through(24))).toMatchObject({ stepCount: 25 });
      const { completedSteps } = await resumed(newId);
      expect(completedSteps.map((step) => step.result === text + step.stepIndex)).toEqual(
        Array.from({ length: 25 }, () => true),
      );
    });
  });
}
