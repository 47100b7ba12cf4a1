/** Events, and runs that do not exist. */
import { describe, expect } from "vitest";
import { newRequestId, newRunId } from "../../identity.ts";
import { aRun, aStep } from "../harness.ts";
import type { Suite } from "./suite.ts";

export function describeEvents(suite: Suite): void {
  const { it, claimed } = suite;

  describe("events", () => {
    it("lets the first emit win, for good", async () => {
      const { runId } = await claimed();
      const first = await suite.store.emitEvent({ runId, key: "approve", payload: { by: "ann" } });
      expect(first).toMatchObject({
        accepted: true,
        record: { runId, key: "approve", payload: { by: "ann" } },
      });
      const second = await suite.store.emitEvent({ runId, key: "approve", payload: { by: "bob" } });
      expect(second).toEqual({ accepted: false, record: first.record });
      expect(await suite.store.loadEvent(runId, "approve")).toEqual(first.record);
    });

    it("answers an emit that is repeated with its request id the same", async () => {
      const { runId } = await claimed();
      const emit = { runId, key: "approve", payload: 1, requestId: newRequestId() };
      expect(await suite.store.emitEvent(emit)).toEqual(await suite.store.emitEvent(emit));
    });

    it("accepts and keeps an event for a run that has not begun", async () => {
      const input = aRun();
      expect(await suite.store.loadEvent(input.runId, "early")).toBeUndefined();
      const { accepted } = await suite.store.emitEvent({ runId: input.runId, key: "early", payload: null });
      expect(accepted).toBe(true);
      expect(await suite.store.loadRun?.(input.runId)).toBeUndefined();
      expect((await suite.store.startOrResume(input)).fence).toBe(1);
      expect(await suite.store.loadEvent(input.runId, "early")).toMatchObject({ payload: null });
    });

    it("accepts one of twenty emits that race", async () => {
      const { runId } = await claimed();
      const emits = Array.from({ length: 20 }, (_, i) =>
        suite.store.emitEvent({ runId, key: "race", payload: i }),
      );
      const answers = await Promise.all(emits);
      const accepted = answers.filter((answer) => answer.accepted);
      expect(accepted).toHaveLength(1);
      for (const { record } of answers) expect(record).toEqual(accepted[0]?.record);
    });
  });

  describe("an unknown run", () => {
    it("is refused by name to each mutation", async () => {
      const runId = newRunId();
      const calls = [
        () => suite.store.renewLease({ runId, workerId: "w" }),
        () => suite.store.beginStep(aStep(runId, 0)),
        () => suite.store.completeStep({ runId, stepIndex: 0, result: 1 }),
        () => suite.store.failStep({ runId, stepIndex: 0, error: { message: "x" } }),
        () => suite.store.endRun({ runId, workerId: "w", status: "completed" }),
      ];
      for (const call of calls) {
        const error = await call().catch((thrown: unknown) => thrown);
        expect(error).toMatchObject({ code: "run_not_found", name: "DurableRunNotFoundError" });
        expect((error as Error).message).toContain(runId);
      }
    });

    it("reads as undefined", async () => {
      const runId = newRunId();
      expect(await suite.store.loadRun?.(runId)).toBeUndefined();
      expect(await suite.store.loadStep(runId, 0)).toBeUndefined();
      expect(await suite.store.loadEvent(runId, "any")).toBeUndefined();
    });
  });
}
