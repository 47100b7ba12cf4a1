/** Steps that are completed with the event that they wait for, in one (0028). */
import type { FailStepInput } from "../../contract/types.ts";
import { describe, expect } from "vitest";
import { newRequestId } from "../../identity.ts";
import { aRun, aStep, refusalOf } from "../harness.ts";
import type { StoreWith, Suite } from "./suite.ts";
import { race } from "./suite.ts";

type Store = StoreWith<"waitForEvent">;

export function describeEndedWaits(suite: Suite): void {
  const { itWith, claimed, whileTimeFlies } = suite;
  const needs = ["waitForEvent", "endsWaits"] as const;

  /** A step of a run that waits for "k", or for another key. */
  const begin = (store: Store, run: { runId: string; fence: number }, stepIndex = 0, key = "k") =>
    store.beginStep(
      aStep(run.runId, stepIndex, {
        fence: run.fence,
        kind: "event",
        waitFor: { kind: "event", key },
        timeoutMs: 3_600_000,
      }),
    );
  const ending = (run: { runId: string; fence: number }, stepIndex = 0, key = "k") => ({
    runId: run.runId,
    key,
    timeoutMs: 60_000,
    step: { stepIndex, fence: run.fence, attempt: 1, requestId: newRequestId() },
  });

  describe("a step that ends with the event that it waits for", () => {
    itWith(needs, "is completed when the event comes, and is answered with it", async (store) => {
      const run = await claimed();
      await begin(store, run);
      const waiting = store.waitForEvent(ending(run));
      const { accepted, record } = await store.emitEvent({
        runId: run.runId,
        key: "k",
        payload: { by: "ann" },
      });
      expect(accepted).toBe(true);
      const stands = { status: "completed", attempts: 1, result: { by: "ann" } };
      const answer = await waiting;
      expect(answer).toMatchObject({ ...record, step: stands });
      expect(await store.loadStep(run.runId, 0)).toEqual(answer?.step);
      expect((await store.loadRun?.(run.runId))?.waitingFor).toBeUndefined();
    });

    itWith(needs, "is completed at once with an event that is there", async (store) => {
      const run = await claimed();
      const { record } = await store.emitEvent({ runId: run.runId, key: "k", payload: ["there"] });
      await begin(store, run);
      const answer = await store.waitForEvent({ ...ending(run), timeoutMs: 0 });
      expect(answer).toMatchObject({ ...record, step: { status: "completed", result: ["there"] } });
    });

    itWith(needs, "goes on when its time is over, and nothing is recorded", async (store) => {
      const run = await claimed();
      await begin(store, run);
      expect(await whileTimeFlies(store.waitForEvent(ending(run)))).toBeUndefined();
      await store.emitEvent({ runId: run.runId, key: "k", payload: 1 });
      expect(await store.loadStep(run.runId, 0)).toMatchObject({ status: "running" });
    });

    itWith(needs, "is answered again to whoever asks again", async (store) => {
      const run = await claimed();
      await begin(store, run);
      const input = ending(run);
      const twice = [store.waitForEvent(input), store.waitForEvent(input)];
      await store.emitEvent({ runId: run.runId, key: "k", payload: 7 });
      const [first, second] = await Promise.all(twice);
      expect(first?.step).toMatchObject({ status: "completed", result: 7 });
      expect(second).toEqual(first);
      expect(await store.waitForEvent(input)).toEqual(first);
      expect(await store.completeStep({ runId: run.runId, ...input.step, result: "else" })).toEqual(
        first?.step,
      );
    });

    itWith(needs, "ends beside others that wait for the same event, and no other", async (store) => {
      const run = await claimed();
      for (const at of [0, 1]) await begin(store, run, at);
      await begin(store, run, 2, "other");
      const waits = [0, 1].map((at) => store.waitForEvent(ending(run, at)));
      const other = store.waitForEvent(ending(run, 2, "other"));
      await store.emitEvent({ runId: run.runId, key: "k", payload: "both" });
      for (const [stepIndex, answer] of (await Promise.all(waits)).entries())
        expect(answer?.step).toMatchObject({ stepIndex, status: "completed", result: "both" });
      expect(await store.loadStep(run.runId, 2)).toMatchObject({ status: "running" });
      const { waitingFor } = (await store.loadRun?.(run.runId)) ?? {};
      if (waitingFor) expect(waitingFor).toMatchObject([{ stepIndex: 2, key: "other" }]);
      await store.emitEvent({ runId: run.runId, key: "other", payload: null });
      expect((await other)?.step).toMatchObject({ stepIndex: 2, status: "completed", result: null });
    });

    itWith(needs, "brings what undefined and a payload of 1 MiB are", async (store) => {
      const run = await claimed();
      const large = "é🙂".repeat(174_763);
      for (const [stepIndex, payload] of [undefined, large].entries()) {
        const key = `k${stepIndex}`;
        await begin(store, run, stepIndex, key);
        const waiting = store.waitForEvent(ending(run, stepIndex, key));
        await store.emitEvent({ runId: run.runId, key, payload });
        const answer = await waiting;
        expect(answer?.step?.status).toBe("completed");
        expect(answer?.payload === payload && answer?.step?.result === payload).toBe(true);
        const step = await store.loadStep(run.runId, stepIndex);
        expect(step?.status === "completed" && step.result === payload).toBe(true);
      }
      const next = await store.startOrResume({ ...aRun("worker-1"), runId: run.runId });
      expect(next.completedSteps.map(({ result }) => result === large)).toEqual([false, true]);
    });
  });

  describe("a step that cannot end with its event", () => {
    /** What becomes of the wait and of the event, which stands whatever the wait comes to. */
    const emitted = async (
      store: Store,
      run: { runId: string; fence: number },
      before: () => Promise<unknown>,
    ) => {
      const waiting = refusalOf(() => store.waitForEvent(ending(run)));
      // In the order of calls.
      await store.loadRun?.(run.runId);
      await before();
      const { accepted } = await store.emitEvent({ runId: run.runId, key: "k", payload: "late" });
      expect(accepted).toBe(true);
      const refused = await waiting;
      expect(await refusalOf(() => store.waitForEvent(ending(run)))).toBe(refused);
      expect(await store.loadEvent(run.runId, "k")).toMatchObject({ payload: "late" });
      return refused;
    };

    itWith(needs, "is that of a worker who has lost the run", async (store) => {
      const run = await claimed();
      await begin(store, run);
      const claim = { ...aRun("worker-1"), runId: run.runId };
      expect(await emitted(store, run, () => store.startOrResume(claim))).toBe("lease_lost");
      expect(await store.loadStep(run.runId, 0)).toMatchObject({ status: "running" });
    });

    itWith([...needs, "cancelRun"], "is that of a run that was cancelled before", async (store) => {
      const run = await claimed();
      await begin(store, run);
      expect(await emitted(store, run, () => store.cancelRun(run.runId))).toBe("run_cancelled");
      expect(await store.loadStep(run.runId, 0)).toMatchObject({ status: "running" });
    });

    itWith(needs, "has failed before", async (store) => {
      const run = await claimed();
      await begin(store, run);
      expect(await emitted(store, run, () => store.failStep(lateFailure(run)))).toBe("step_not_running");
      expect(await store.loadStep(run.runId, 0)).toMatchObject({ status: "failed" });
    });

    itWith(needs, "is refused its failure, once it has ended with the event", async (store) => {
      const run = await claimed();
      await begin(store, run);
      const waiting = store.waitForEvent(ending(run));
      await store.emitEvent({ runId: run.runId, key: "k", payload: 1 });
      expect(await refusalOf(() => store.failStep(lateFailure(run)))).toBe("step_not_running");
      expect((await waiting)?.step).toMatchObject({ status: "completed", result: 1 });
    });

    itWith(
      needs,
      "or ends with it, whichever comes first: one of the two is what all are told",
      async (store) => {
        for (let i = 0; i < 10; i += 1) {
          const run = await claimed();
          await begin(store, run);
          const waiting = store.waitForEvent(ending(run));
          const emit = () => store.emitEvent({ runId: run.runId, key: "k", payload: i });
          const fail = () => store.failStep(lateFailure(run));
          const first = i % 2 === 0 ? emit() : undefined;
          const { answers, refusals } = await race<unknown>([fail(), first ?? emit(), waiting]);
          expect(answers).toHaveLength(2);
          expect(refusals).toEqual(["step_not_running"]);
          const step = await store.loadStep(run.runId, 0);
          expect(["completed", "failed"]).toContain(step?.status);
          const told = answers.map((answer) => JSON.stringify(answer)).join(" ");
          expect(told).toContain(`"status":"${step?.status}"`);
        }
      },
    );

    itWith(needs, "of a run that is not known is refused, though the event is kept", async (store) => {
      const { runId } = aRun();
      await store.emitEvent({ runId, key: "k", payload: 1 });
      expect(await refusalOf(() => store.waitForEvent(ending({ runId, fence: 1 })))).toBe("run_not_found");
      expect(await store.loadEvent(runId, "k")).toMatchObject({ payload: 1 });
    });
  });
}

/** Of the step that waits, by whoever holds the run. */
function lateFailure({ runId, fence }: { runId: string; fence: number }): FailStepInput {
  return { runId, stepIndex: 0, fence, attempt: 1, error: { message: "late" } };
}
