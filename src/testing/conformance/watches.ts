/** Calls that are held until a lease is lost (R33). */
import { describe, expect } from "vitest";
import type { DurableRunStore } from "../../contract/types.ts";
import { newRunId } from "../../identity.ts";
import { aRun, aStep, refusalOf } from "../harness.ts";
import type { Suite } from "./suite.ts";

export function describeWatches(suite: Suite): void {
  const { itWith, claimed, whileTimeFlies } = suite;
  const again = (runId: string) => suite.store.startOrResume({ ...aRun("worker-1"), runId });

  describe("watching a lease", () => {
    itWith(
      ["watchLease"],
      "answers at once that it is lost under an older fence, or to nobody's run",
      async (store) => {
        const { runId, fence } = await claimed();
        await again(runId);
        const lost = { held: false, status: "running" };
        for (const timeoutMs of [0, 60_000]) {
          expect(await store.watchLease({ runId, fence, timeoutMs })).toEqual(lost);
          expect(await store.watchLease({ runId, fence: fence + 2, timeoutMs })).toEqual(lost);
          const unknown = await store.watchLease({ runId: newRunId(), fence: 1, timeoutMs });
          expect(unknown.held).toBe(false);
          expect(unknown.status).toBeUndefined();
        }
        expect(await store.watchLease({ runId, fence: fence + 1, timeoutMs: 0 })).toMatchObject({
          held: true,
        });
      },
    );

    itWith(
      ["watchLease"],
      "answers that it is held when its time is over, also when the lease has lapsed",
      async (store) => {
        const { runId, fence } = await claimed();
        const watching = store.watchLease({ runId, fence, timeoutMs: 60_000 });
        expect(await whileTimeFlies(watching)).toMatchObject({ held: true });
        expect((await store.renewLease({ runId, workerId: "worker-1", fence })).ok).toBe(false);
      },
    );

    const ends: Record<string, (store: DurableRunStore, runId: string, fence: number) => Promise<unknown>> = {
      running: (_store, runId) => again(runId),
      completed: (store, runId, fence) =>
        store.endRun({ runId, workerId: "worker-1", fence, status: "completed", result: 1 }),
      failed: (store, runId, fence) => store.endRun({ runId, workerId: "worker-1", fence, status: "failed" }),
    };
    for (const [status, end] of Object.entries(ends)) {
      itWith(["watchLease"], `tells when it is lost, and that the run is then ${status}`, async (store) => {
        const { runId, fence } = await claimed();
        const watching = store.watchLease({ runId, fence, timeoutMs: 60_000 });
        await end(store, runId, fence);
        expect(await watching).toEqual({ held: false, status });
      });
    }

    itWith(
      ["watchLease", "cancelRun"],
      "tells when the run is cancelled, at whatever instant",
      async (store) => {
        for (let round = 0; round < 10; round += 1) {
          const { runId, fence } = await claimed();
          const watch = () => store.watchLease({ runId, fence, timeoutMs: 60_000 });
          const before = watch();
          const [, during] = await Promise.all([store.cancelRun(runId), watch()]);
          const all = [await before, during, await watch()];
          expect(all).toEqual(all.map(() => ({ held: false, status: "cancelled" })));
        }
      },
    );

    itWith(["watchLease", "restartRun"], "tells when the run is restarted", async (store) => {
      const { runId, fence } = await suite.withSteps(1);
      const watching = store.watchLease({ runId, fence, timeoutMs: 60_000 });
      await store.restartRun(runId, { fromStep: 0, dropLater: true });
      expect(await watching).toEqual({ held: false, status: "pending" });
    });

    itWith(["watchLease", "suspendRun", "tries"], "tells when the run is suspended", async (store) => {
      const { runId, fence } = await suite.takenOver();
      await store.beginStep(aStep(runId, 0, { fence, onInterrupted: "park" }));
      const watching = store.watchLease({ runId, fence, timeoutMs: 60_000 });
      await store.suspendRun({ runId, workerId: "worker-2", fence });
      expect(await watching).toEqual({ held: false, status: "suspended" });
    });

    itWith(["watchLease"], "tells all of twenty who watch", async (store) => {
      const { runId, fence } = await claimed();
      const all = Array.from({ length: 20 }, () => store.watchLease({ runId, fence, timeoutMs: 60_000 }));
      await again(runId);
      const lost = { held: false, status: "running" };
      expect(await Promise.all(all)).toEqual(Array.from({ length: 20 }, () => lost));
    });

    itWith(["watchLease"], "is not ended by what its holder does, nor by who is refused", async (store) => {
      const { runId, fence } = await claimed();
      let early = "still watching";
      const watching = store.watchLease({ runId, fence, timeoutMs: 60_000 });
      watching.then(
        (answer) => (early = JSON.stringify(answer)),
        () => {},
      );
      await store.renewLease({ runId, workerId: "worker-1", fence });
      await suite.complete(runId, 0, fence, 1);
      await store.beginStep(aStep(runId, 1, { fence, waitFor: { kind: "event", key: "k" } }));
      await store.emitEvent({ runId, key: "k", payload: 1 });
      expect(await refusalOf(() => store.startOrResume({ ...aRun("worker-2"), runId }))).toBe("lease_held");
      expect(early).toBe("still watching");
      await again(runId);
      expect(await watching).toEqual({ held: false, status: "running" });
    });

    itWith(["watchLease"], "whose caller watches no longer still ends, and harms no other", async (store) => {
      const { runId, fence } = await claimed();
      const input = { runId, fence, timeoutMs: 60_000 };
      const left = store.watchLease({ ...input, signal: AbortSignal.abort(new Error("nobody watches")) });
      const stays = store.watchLease(input);
      await again(runId);
      expect(await stays).toEqual({ held: false, status: "running" });
      expect(typeof (await left).held).toBe("boolean");
    });
  });
}
