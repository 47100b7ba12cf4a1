/** Steps: begin, complete, fail (R16, R22 to R25). */
import { describe, expect } from "vitest";
import { newRequestId } from "../../identity.ts";
import { aRun, aStep, refusalOf } from "../harness.ts";
import type { Suite } from "./suite.ts";

export function describeSteps(suite: Suite): void {
  const { it, claimed } = suite;

  describe("steps", () => {
    it("records a begin, a completion, and what they say", async () => {
      const { runId, fence } = await claimed();
      expect(await suite.store.loadStep(runId, 0)).toBeUndefined();
      const begun = await suite.store.beginStep(aStep(runId, 0, { fence, kind: "tool", inputHash: "abc" }));
      expect(begun).toMatchObject({ runId, stepIndex: 0, intent: "step-0", kind: "tool", inputHash: "abc" });
      expect(begun).toMatchObject({ status: "running", attempts: 1, workerId: "worker-1" });
      expect(await suite.store.loadStep(runId, 0)).toEqual(begun);
      const done = await suite.store.completeStep({
        runId,
        stepIndex: 0,
        fence,
        attempt: 1,
        result: [1, { two: "2" }],
      });
      expect(done).toMatchObject({ status: "completed", attempts: 1, result: [1, { two: "2" }] });
      expect(done.completedAt).toBeDefined();
      expect(await suite.store.loadStep(runId, 0)).toEqual(done);
    });

    it("counts an attempt for each begin, and once for a begin repeated with its request id", async () => {
      const { runId, fence } = await claimed();
      const begin = aStep(runId, 0, { fence, requestId: newRequestId() });
      const first = await suite.store.beginStep(begin);
      expect(await suite.store.beginStep(begin)).toEqual(first);
      expect((await suite.store.beginStep(aStep(runId, 0, { fence }))).attempts).toBe(2);
    });

    it("lets the first completion stand, however often it is repeated", async () => {
      const { runId, fence } = await claimed();
      await suite.store.beginStep(aStep(runId, 0, { fence }));
      const complete = { runId, stepIndex: 0, fence, requestId: newRequestId(), result: "first" };
      const done = await suite.store.completeStep(complete);
      expect(await suite.store.completeStep(complete)).toEqual(done);
      expect(
        await suite.store.completeStep({ ...complete, requestId: newRequestId(), result: "second" }),
      ).toEqual(done);
      expect(await suite.store.loadStep(runId, 0)).toEqual(done);
    });

    it("records a failure, keeps it when repeated, and lets the step begin again", async () => {
      const { runId, fence } = await claimed();
      await suite.store.beginStep(aStep(runId, 0, { fence }));
      const error = {
        name: "HttpError",
        message: "503",
        code: "unavailable",
        stack: "HttpError: 503\n at x",
      };
      const fail = { runId, stepIndex: 0, fence, attempt: 1, requestId: newRequestId(), error };
      const failed = await suite.store.failStep(fail);
      expect(failed).toMatchObject({ status: "failed", error });
      expect(await suite.store.failStep(fail)).toEqual(failed);
      const again = await suite.store.beginStep(aStep(runId, 0, { fence }));
      expect(again).toMatchObject({ status: "running", attempts: 2 });
      expect(again.error).toBeUndefined();
    });

    it("does not let a late failure of an earlier attempt end a later one", async () => {
      const { runId, fence } = await claimed();
      await suite.store.beginStep(aStep(runId, 0, { fence }));
      const late = { runId, stepIndex: 0, fence, attempt: 1, error: { message: "late" } };
      await suite.store.failStep(late);
      await suite.store.beginStep(aStep(runId, 0, { fence }));
      expect(await refusalOf(() => suite.store.failStep(late))).toBe("step_not_running");
      expect(await suite.store.loadStep(runId, 0)).toMatchObject({ status: "running", attempts: 2 });
    });

    it("refuses to complete a step that failed or never began, and to fail one that completed", async () => {
      const { runId, fence } = await claimed();
      const complete = { runId, stepIndex: 0, fence, result: 1 };
      expect(await refusalOf(() => suite.store.completeStep(complete))).toBe("step_not_running");
      expect(
        await refusalOf(() => suite.store.failStep({ runId, stepIndex: 0, fence, error: { message: "x" } })),
      ).toBe("step_not_running");
      expect(await suite.store.loadStep(runId, 0)).toBeUndefined();
      await suite.store.beginStep(aStep(runId, 0, { fence }));
      await suite.store.failStep({ runId, stepIndex: 0, fence, error: { message: "x" } });
      expect(await refusalOf(() => suite.store.completeStep(complete))).toBe("step_not_running");
      await suite.store.beginStep(aStep(runId, 0, { fence }));
      await suite.store.completeStep(complete);
      expect(
        await refusalOf(() => suite.store.failStep({ runId, stepIndex: 0, fence, error: { message: "x" } })),
      ).toBe("step_not_running");
      expect(await suite.store.loadStep(runId, 0)).toMatchObject({ status: "completed", result: 1 });
    });

    it("answers the record to a begin of a completed step, and does not reopen it", async () => {
      const { runId, fence } = await claimed();
      await suite.store.beginStep(aStep(runId, 0, { fence }));
      const done = await suite.store.completeStep({ runId, stepIndex: 0, fence, result: "paid for" });
      expect(await suite.store.beginStep(aStep(runId, 0, { fence }))).toEqual(done);
    });

    it("refuses another intent, kind or input at a recorded position (R23)", async () => {
      const { runId, fence } = await claimed();
      await suite.store.beginStep(aStep(runId, 0, { fence, inputHash: "aaaa" }));
      const again = (more: object) =>
        refusalOf(() => suite.store.beginStep({ ...aStep(runId, 0, { fence }), ...more }));
      expect(await again({ intent: "other" })).toBe("step_divergence");
      expect(await again({ kind: "llm" })).toBe("step_divergence");
      expect(await again({ inputHash: "bbbb" })).toBe("step_input_mismatch");
      expect(await again({ inputHash: "" })).toBe("accepted");
    });

    it("answers completed steps in order of position, whatever order they came in", async () => {
      const { runId, fence } = await claimed();
      for (const stepIndex of [3, 0, 2, 1]) await suite.store.beginStep(aStep(runId, stepIndex, { fence }));
      for (const stepIndex of [2, 0, 3])
        await suite.store.completeStep({ runId, stepIndex, fence, result: stepIndex });
      const { completedSteps, run } = await suite.store.startOrResume({ ...aRun("worker-1"), runId });
      expect(completedSteps.map((step) => step.result)).toEqual([0, 2, 3]);
      expect(run.stepCount).toBe(4);
    });

    it("answers the failures that the task had moved past, and only those (R24)", async () => {
      const { runId, fence } = await claimed();
      for (const stepIndex of [0, 1]) {
        await suite.store.beginStep(aStep(runId, stepIndex, { fence }));
        await suite.store.failStep({
          runId,
          stepIndex,
          fence,
          error: { name: "TypeError", message: `no ${stepIndex}` },
        });
      }
      await suite.store.beginStep(aStep(runId, 2, { fence, caught: [0] }));
      await suite.store.completeStep({ runId, stepIndex: 2, fence, result: "on" });
      const { caughtSteps } = await suite.store.startOrResume({ ...aRun("worker-1"), runId });
      expect(caughtSteps).toMatchObject([{ stepIndex: 0, error: { name: "TypeError", message: "no 0" } }]);
    });

    it("fixes the deadline of a waiting step at its first begin", async () => {
      const { runId, fence } = await claimed();
      const wait = aStep(runId, 0, { fence, kind: "event", timeoutMs: 60_000 });
      const { deadlineAt } = await suite.store.beginStep(wait);
      expect(deadlineAt).toBeDefined();
      suite.clock.advance(10_000);
      expect((await suite.store.beginStep(wait)).deadlineAt).toBe(deadlineAt);
    });

    it("gives back what JSON gives back, and shares nothing by reference", async () => {
      const { runId, fence } = await claimed();
      const given = { when: new Date(0), list: [1], gone: undefined, text: "ü 🙂 \u0000 \ud800" };
      await suite.store.beginStep(aStep(runId, 0, { fence }));
      await suite.store.completeStep({ runId, stepIndex: 0, fence, result: given });
      given.list.push(2);
      const first = await suite.store.loadStep(runId, 0);
      expect(first?.result).toStrictEqual({
        when: "1970-01-01T00:00:00.000Z",
        list: [1],
        text: "ü 🙂 \u0000 \ud800",
      });
      (first?.result as { list: number[] } | undefined)?.list.push(3);
      expect((await suite.store.loadStep(runId, 0))?.result).toMatchObject({ list: [1] });
    });

    it("tells a result of null from none at all", async () => {
      const { runId, fence } = await claimed();
      for (const [stepIndex, result] of [null, undefined].entries()) {
        await suite.store.beginStep(aStep(runId, stepIndex, { fence }));
        await suite.store.completeStep({ runId, stepIndex, fence, result });
      }
      expect(await suite.store.loadStep(runId, 0)).toHaveProperty("result", null);
      expect(await suite.store.loadStep(runId, 1)).not.toHaveProperty("result");
    });

    it("lets one of ten completions and ten failures that race stand, and answers that one from then on", async () => {
      const { runId, fence } = await claimed();
      await suite.store.beginStep(aStep(runId, 0, { fence }));
      const calls = Array.from({ length: 10 }, (_, i) => [
        suite.store.completeStep({ runId, stepIndex: 0, fence, attempt: 1, result: i }),
        suite.store.failStep({ runId, stepIndex: 0, fence, attempt: 1, error: { message: `failure ${i}` } }),
      ]).flat();
      const settled = await Promise.allSettled(calls);
      const standing = await suite.store.loadStep(runId, 0);
      const accepted = settled.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
      const refused = settled.flatMap((one) =>
        one.status === "rejected" ? [(one.reason as { code: string }).code] : [],
      );
      expect(standing?.status).toMatch(/completed|failed/);
      for (const record of accepted) expect(record).toEqual(standing);
      expect(new Set(refused)).toEqual(new Set(["step_not_running"]));
      expect(accepted).toHaveLength(10);
    });

    it("serves a caller that knows no fences, as the plain declaration has it (R5)", async () => {
      const { runId } = await claimed();
      await suite.store.beginStep(aStep(runId, 0));
      expect(await suite.store.completeStep({ runId, stepIndex: 0, result: "ok" })).toMatchObject({
        status: "completed",
      });
      const ended = await suite.store.endRun({ runId, workerId: "worker-1", status: "completed" });
      expect(ended).toMatchObject({ status: "completed", stepCount: 1 });
      expect("result" in ended).toBe(false);
    });

    it("keeps 5,000 steps, and answers them all to the next claim", async () => {
      const { runId, fence } = await claimed();
      for (let from = 0; from < 5_000; from += 250) {
        const positions = Array.from({ length: 250 }, (_, i) => from + i);
        await Promise.all(
          positions.map((stepIndex) => suite.store.beginStep(aStep(runId, stepIndex, { fence }))),
        );
        await Promise.all(
          positions.map((stepIndex) =>
            suite.store.completeStep({ runId, stepIndex, fence, result: { stepIndex } }),
          ),
        );
      }
      const { completedSteps, run } = await suite.store.startOrResume({ ...aRun("worker-1"), runId });
      expect(run.stepCount).toBe(5_000);
      expect(completedSteps).toHaveLength(5_000);
      expect(completedSteps.every((step, i) => (step.result as { stepIndex: number }).stepIndex === i)).toBe(
        true,
      );
    });
  });
}
