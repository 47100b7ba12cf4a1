/** What a run waits for, and calls that are held until an event comes (R33). */
import { describe, expect } from "vitest";
import { newRequestId, newRunId } from "../../identity.ts";
import { aRun, aStep } from "../harness.ts";
import type { Suite } from "./suite.ts";

export function describeWaits(suite: Suite): void {
  const { itWith, claimed, whileTimeFlies } = suite;

  describe("what a run waits for", () => {
    itWith(["tries", "loadRun"], "is shown from the begin of a wait to its end", async (store) => {
      const { runId, fence } = await claimed();
      const waits = async () => (await store.loadRun(runId))?.waitingFor;
      const event = { fence, kind: "event", waitFor: { kind: "event", key: "approve" } } as const;
      const wait = aStep(runId, 0, { ...event, timeoutMs: 60_000, requestId: newRequestId() });
      const { deadlineAt: until } = await store.beginStep(wait);
      expect(until).toBeDefined();
      const forApproval = { stepIndex: 0, for: "event", key: "approve", until };
      expect(await waits()).toEqual([forApproval]);
      await store.beginStep(wait);
      await store.beginStep({ ...wait, requestId: newRequestId() });
      expect(await waits()).toEqual([forApproval]);
      const sleep = aStep(runId, 1, { fence, waitFor: { kind: "time" }, timeoutMs: 90_000 });
      const slept = await store.beginStep(sleep);
      await store.beginStep(aStep(runId, 2, { ...event, waitFor: { kind: "event", key: "for ever" } }));
      await store.beginStep(aStep(runId, 3, { fence }));
      const forTime = { stepIndex: 1, for: "time", until: slept.deadlineAt };
      const forEver = { stepIndex: 2, for: "event", key: "for ever" };
      expect(await waits()).toEqual([forApproval, forTime, forEver]);
      await store.completeStep({ runId, stepIndex: 0, fence, result: "approved" });
      expect(await waits()).toEqual([forTime, forEver]);
      await store.failStep({ runId, stepIndex: 1, fence, error: { message: "woken" } });
      expect(await waits()).toEqual([forEver]);
      await store.endRun({ runId, workerId: "worker-1", fence, status: "failed" });
      expect(await waits()).toBeUndefined();
    });

    itWith(["tries"], "is answered to the next claim", async (store) => {
      const { runId, fence } = await claimed();
      const waitFor = { kind: "event", key: "approve" } as const;
      await store.beginStep(aStep(runId, 0, { fence, waitFor, timeoutMs: 3_600_000 }));
      suite.clock.advance(30_001);
      const next = await store.startOrResume({ ...aRun("worker-2"), runId });
      const waits = [{ stepIndex: 0, for: "event", key: "approve", until: next.openSteps?.[0]?.deadlineAt }];
      expect(next.run.waitingFor).toEqual(waits);
    });

    itWith(
      ["tries", "loadRun"],
      "ends in the branches of a group when the group is decided",
      async (store) => {
        const { runId, fence } = await claimed();
        const waitFor = { kind: "event", key: "k" } as const;
        for (const [stepIndex, path] of ["0/a/0", "0/b/0/c/0", "1", "00/a/0"].entries()) {
          await store.beginStep(aStep(runId, stepIndex, { fence, path, waitFor }));
        }
        await store.beginStep(aStep(runId, 4, { fence, path: "0" }));
        await store.completeStep({ runId, stepIndex: 4, fence, result: "decided" });
        const { waitingFor = [] } = (await store.loadRun(runId)) ?? {};
        expect(waitingFor.map((wait) => wait.stepIndex)).toEqual([2, 3]);
      },
    );
  });

  describe("waiting for an event", () => {
    itWith(
      ["waitForEvent"],
      "answers at once with one that is there, to a run that has not begun too",
      async (store) => {
        const runId = newRunId();
        expect(await store.waitForEvent({ runId, key: "k", timeoutMs: 0 })).toBeUndefined();
        const { record } = await store.emitEvent({ runId, key: "k", payload: { by: "ann" } });
        expect(await store.waitForEvent({ runId, key: "k", timeoutMs: 0 })).toEqual(record);
        expect(await store.waitForEvent({ runId, key: "k", timeoutMs: 60_000 })).toEqual(record);
        expect(await store.loadRun?.(runId)).toBeUndefined();
      },
    );

    itWith(["waitForEvent"], "answers with one that comes after, before its time is over", async (store) => {
      const { runId } = await claimed();
      const waiting = store.waitForEvent({ runId, key: "k", timeoutMs: 60_000 });
      expect(await store.loadEvent(runId, "k")).toBeUndefined();
      const { record } = await store.emitEvent({ runId, key: "k", payload: "late" });
      expect(await waiting).toEqual(record);
      await store.emitEvent({ runId, key: "k", payload: "too late" });
      expect(await store.waitForEvent({ runId, key: "k", timeoutMs: 60_000 })).toEqual(record);
    });

    itWith(["waitForEvent"], "misses none that comes at the same instant", async (store) => {
      const { runId } = await claimed();
      for (let i = 0; i < 20; i += 1) {
        const input = { runId, key: `k${i}`, timeoutMs: 60_000 };
        const emit = () => store.emitEvent({ runId, key: `k${i}`, payload: i });
        const first = i % 2 === 0 ? store.waitForEvent(input) : undefined;
        const [emitted, waited] = await Promise.all([emit(), first ?? store.waitForEvent(input)]);
        expect(waited).toEqual(emitted.record);
      }
    });

    itWith(["waitForEvent"], "answers undefined when its time is over", async (store) => {
      const { runId } = await claimed();
      const waiting = store.waitForEvent({ runId, key: "k", timeoutMs: 60_000 });
      expect(await whileTimeFlies(waiting)).toBeUndefined();
    });

    itWith(
      ["waitForEvent"],
      "answers all of twenty who wait for one key, whoever's emit was first",
      async (store) => {
        const { runId } = await claimed();
        const all = Array.from({ length: 20 }, () =>
          store.waitForEvent({ runId, key: "k", timeoutMs: 60_000 }),
        );
        const emits = [1, 2, 3].map((payload) => store.emitEvent({ runId, key: "k", payload }));
        const accepted = (await Promise.all(emits)).filter((answer) => answer.accepted);
        expect(accepted).toHaveLength(1);
        expect(await Promise.all(all)).toEqual(Array.from({ length: 20 }, () => accepted[0]?.record));
      },
    );

    itWith(["waitForEvent"], "is for one key of one run: no other event ends it", async (store) => {
      const [{ runId }, other] = [await claimed(), await claimed()];
      let early = "still waiting";
      const one = store.waitForEvent({ runId, key: "one", timeoutMs: 60_000 });
      one.then(
        (event) => (early = JSON.stringify(event)),
        () => {},
      );
      const two = store.waitForEvent({ runId, key: "two", timeoutMs: 60_000 });
      await store.emitEvent({ runId: other.runId, key: "one", payload: "of another run" });
      const second = await store.emitEvent({ runId, key: "two", payload: 2 });
      expect(await two).toEqual(second.record);
      await store.beginStep(aStep(runId, 0));
      expect(early).toBe("still waiting");
      const first = await store.emitEvent({ runId, key: "one", payload: 1 });
      expect(await one).toEqual(first.record);
    });

    itWith(["waitForEvent"], "goes on whatever becomes of the run", async (store) => {
      const { runId, fence } = await claimed();
      const waiting = store.waitForEvent({ runId, key: "k", timeoutMs: 60_000 });
      await suite.complete(runId, 0, fence, 1);
      const next = await store.startOrResume({ ...aRun("worker-1"), runId });
      const end = { runId, workerId: "worker-1", fence: next.fence ?? 0, status: "completed" } as const;
      await store.endRun({ ...end, result: 1 });
      const { record } = await store.emitEvent({ runId, key: "k", payload: "after the end" });
      expect(await waiting).toEqual(record);
    });

    itWith(["waitForEvent"], "brings a payload of 1 MiB whole", async (store) => {
      const { runId } = await claimed();
      const payload = "é🙂".repeat(174_763);
      const waiting = store.waitForEvent({ runId, key: "k", timeoutMs: 60_000 });
      await store.emitEvent({ runId, key: "k", payload });
      expect((await waiting)?.payload === payload).toBe(true);
    });

    itWith(["waitForEvent"], "whose caller waits no longer still ends, and harms no other", async (store) => {
      const { runId } = await claimed();
      const gone = AbortSignal.abort(new Error("nobody waits"));
      const input = { runId, key: "k", timeoutMs: 60_000 };
      const left = store.waitForEvent({ ...input, signal: gone });
      const stays = store.waitForEvent(input);
      const { record } = await store.emitEvent({ runId, key: "k", payload: 1 });
      expect(await stays).toEqual(record);
      expect([undefined, record]).toContainEqual(await left);
    });
  });
}
