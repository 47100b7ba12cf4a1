/** Failures that are to be followed by another attempt (R30). */
import { describe, expect } from "vitest";
import { newRequestId } from "../../identity.ts";
import { aRun, aStep, refusalOf } from "../harness.ts";
import type { Suite } from "./suite.ts";
import { race, refusal } from "./suite.ts";

const ERROR = { name: "HttpError", message: "503", code: "unavailable", stack: "HttpError: 503\n at x" };

export function describeRetries(suite: Suite): void {
  const { itWith, claimed, everything } = suite;

  describe("retries", () => {
    /** A step whose first attempt failed, and is to be followed by another one. */
    const failedOnce = async (retryAfterMs = 60_000) => {
      const { runId, fence } = await claimed();
      await suite.store.beginStep(aStep(runId, 0, { fence }));
      const fail = { runId, stepIndex: 0, fence, attempt: 1, error: ERROR, retryAfterMs };
      return { runId, fence, fail, pending: await suite.store.failStep(fail) };
    };

    itWith(
      ["tries"],
      "keep a step that is to be attempted again pending, with its failure",
      async (store) => {
        const before = suite.clock.now();
        const { runId, pending } = await failedOnce();
        expect(pending).toMatchObject({ status: "pending", attempts: 1, tries: 1, lastError: ERROR });
        expect(pending).not.toHaveProperty("error");
        expect(pending).not.toHaveProperty("inDoubt");
        expect(Date.parse(pending.nextAttemptAt ?? "")).toBeGreaterThanOrEqual(before + 60_000);
        expect(Date.parse(pending.nextAttemptAt ?? "")).toBeLessThanOrEqual(suite.clock.now() + 60_000);
        expect(await store.loadStep(runId, 0)).toEqual(pending);
      },
    );

    itWith(["tries"], "refuse the next attempt before its time, and say how long that is", async (store) => {
      const { runId, fence } = await failedOnce();
      const before = await everything(runId);
      const error = await refusal(() => store.beginStep(aStep(runId, 0, { fence })));
      expect(error).toMatchObject({ code: "step_not_due", name: "DurableStepNotDueError" });
      expect((error as { retryAfterMs?: number }).retryAfterMs).toBeGreaterThan(0);
      expect((error as { retryAfterMs?: number }).retryAfterMs).toBeLessThanOrEqual(60_000);
      expect(await everything(runId)).toEqual(before);
    });

    itWith(
      ["tries"],
      "let the next attempt begin at its time, and keep the failure on record",
      async (store) => {
        const { runId, fence } = await failedOnce();
        suite.clock.advance(60_001);
        const again = await store.beginStep(aStep(runId, 0, { fence }));
        expect(again).toMatchObject({ status: "running", attempts: 2, tries: 2, lastError: ERROR });
        expect(again).not.toHaveProperty("nextAttemptAt");
        const done = await store.completeStep({ runId, stepIndex: 0, fence, attempt: 2, result: "at last" });
        expect(done).toMatchObject({ status: "completed", attempts: 2, tries: 2, lastError: ERROR });
        expect(done).not.toHaveProperty("error");
        expect(await store.loadStep(runId, 0)).toEqual(done);
      },
    );

    itWith(["tries"], "let the next attempt begin at once after a delay of 0", async (store) => {
      const { runId, fence } = await failedOnce(0);
      expect(await store.beginStep(aStep(runId, 0, { fence }))).toMatchObject({
        status: "running",
        tries: 2,
      });
    });

    itWith(["tries"], "count anew after a failure for good", async (store) => {
      const { runId, fence } = await failedOnce(0);
      await store.beginStep(aStep(runId, 0, { fence }));
      const last = { runId, stepIndex: 0, fence, attempt: 2, error: { message: "for good" } };
      const failed = await store.failStep(last);
      expect(failed).toMatchObject({
        status: "failed",
        attempts: 2,
        tries: 2,
        error: { message: "for good" },
      });
      expect(failed).not.toHaveProperty("lastError");
      const anew = await store.beginStep(aStep(runId, 0, { fence }));
      expect(anew).toMatchObject({ attempts: 3, tries: 1, lastError: { message: "for good" } });
    });

    itWith(["tries"], "answer a failure that is repeated with the one that stands", async (store) => {
      const { runId, fence } = await claimed();
      await store.beginStep(aStep(runId, 0, { fence }));
      const first = { runId, stepIndex: 0, fence, attempt: 1, error: ERROR, retryAfterMs: 60_000 };
      const fail = { ...first, requestId: newRequestId() };
      const pending = await store.failStep(fail);
      expect(await store.failStep(fail)).toEqual(pending);
      expect(await store.failStep({ ...first, retryAfterMs: 0, error: { message: "other" } })).toEqual(
        pending,
      );
      expect(await store.loadStep(runId, 0)).toEqual(pending);
    });

    itWith(["tries"], "do not let a late failure or completion end the next attempt", async (store) => {
      const { runId, fence, fail } = await failedOnce(0);
      const complete = { runId, stepIndex: 0, fence, attempt: 1, result: "late" };
      expect(await refusalOf(() => store.completeStep(complete))).toBe("step_not_running");
      await store.beginStep(aStep(runId, 0, { fence }));
      const before = await everything(runId);
      expect(await refusalOf(() => store.failStep(fail))).toBe("step_not_running");
      expect(await refusalOf(() => store.completeStep(complete))).toBe("step_not_running");
      expect(await everything(runId)).toEqual(before);
    });

    itWith(
      ["tries"],
      "do not let a late copy of a begin begin the next attempt, if it names its own",
      async (store) => {
        const { runId, fence } = await claimed();
        const first = aStep(runId, 0, { fence, attempt: 1, requestId: newRequestId() });
        const begun = await store.beginStep(first);
        expect(await store.beginStep(first)).toEqual(begun);
        await store.failStep({ runId, stepIndex: 0, fence, attempt: 1, error: ERROR, retryAfterMs: 0 });
        const second = aStep(runId, 0, { fence, attempt: 2, requestId: newRequestId() });
        await store.beginStep(second);
        const before = await everything(runId);
        for (const late of [first, { ...second, requestId: newRequestId() }]) {
          expect(await refusalOf(() => store.beginStep(late))).toBe("step_not_running");
        }
        expect(await everything(runId)).toEqual(before);
        const done = await store.completeStep({ runId, stepIndex: 0, fence, attempt: 2, result: "done" });
        for (const late of [first, second]) expect(await store.beginStep(late)).toEqual(done);
      },
    );

    itWith(["tries"], "hold the next worker to the time that the one before was given", async (store) => {
      const { runId, fence } = await failedOnce(600_000);
      suite.clock.advance(30_001);
      const next = await store.startOrResume({ ...aRun("worker-2"), runId });
      expect(next.openSteps).toMatchObject([{ stepIndex: 0, status: "pending", tries: 1, lastError: ERROR }]);
      expect(next.caughtSteps ?? []).toEqual([]);
      const step = aStep(runId, 0, { fence: next.fence ?? 0 });
      expect(await refusalOf(() => store.beginStep(step))).toBe("step_not_due");
      expect(await refusalOf(() => store.beginStep({ ...step, fence }))).toBe("lease_lost");
      suite.clock.advance(600_000);
      expect(await store.beginStep(step)).toMatchObject({ attempts: 2, tries: 2, workerId: "worker-2" });
    });

    itWith(
      ["tries"],
      "count a begin once that is repeated at its time, or made ten times at once",
      async (store) => {
        const { runId, fence } = await failedOnce(0);
        const begin = aStep(runId, 0, { fence, requestId: newRequestId() });
        const { answers } = await race(Array.from({ length: 10 }, () => store.beginStep(begin)));
        expect(answers).toHaveLength(10);
        expect(await store.beginStep(begin)).toEqual(answers[0]);
        for (const answer of answers) expect(answer).toMatchObject({ attempts: 2, tries: 2 });
      },
    );

    itWith(
      ["tries"],
      "let one of many failures, with a delay and without, and completions stand",
      async (store) => {
        const { runId, fence } = await claimed();
        await store.beginStep(aStep(runId, 0, { fence }));
        const end = { runId, stepIndex: 0, fence, attempt: 1 };
        const calls = Array.from({ length: 7 }, (_, i) => [
          store.failStep({ ...end, error: { message: `again ${i}` }, retryAfterMs: 60_000 + i }),
          store.failStep({ ...end, error: { message: `for good ${i}` } }),
          store.completeStep({ ...end, result: i }),
        ]).flat();
        const { answers, refusals } = await race(calls);
        const standing = await store.loadStep(runId, 0);
        for (const answer of answers) expect(answer).toEqual(standing);
        expect(new Set(refusals)).toEqual(new Set(["step_not_running"]));
        expect(answers).toHaveLength(standing?.status === "completed" ? 7 : 14);
      },
    );

    itWith(
      ["tries", "loadRun"],
      "show in what the run waits for, until the attempt begins",
      async (store) => {
        const { runId, fence, pending } = await failedOnce();
        const until = pending.nextAttemptAt;
        expect((await store.loadRun(runId))?.waitingFor).toEqual([{ stepIndex: 0, for: "retry", until }]);
        suite.clock.advance(60_001);
        await store.beginStep(aStep(runId, 0, { fence }));
        expect(await store.loadRun(runId)).not.toHaveProperty("waitingFor");
      },
    );

    itWith(["tries"], "outlive the end of a run that is claimed again", async (store) => {
      const { runId, fence, pending } = await failedOnce();
      await store.endRun({ runId, workerId: "worker-1", fence, status: "failed" });
      const next = await store.startOrResume({ ...aRun("worker-2"), runId });
      expect(next.openSteps).toEqual([pending]);
      expect(next.run).not.toHaveProperty("waitingFor");
    });
  });
}
