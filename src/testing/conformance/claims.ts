/** Claims and leases (R5 to R8). */
import { describe, expect } from "vitest";
import { newRequestId } from "../../identity.ts";
import { aRun, aStep, MANIFEST, refusalOf } from "../harness.ts";
import type { Suite } from "./suite.ts";

export function describeClaims(suite: Suite): void {
  const { it, itWith, claimed } = suite;

  describe("claims", () => {
    it("begins an unknown run as running, under a first fence and a lease", async () => {
      const input = aRun();
      const before = suite.clock.now();
      const { run, completedSteps, leaseExpiresAt, fence } = await suite.store.startOrResume(input);
      expect(run).toMatchObject({
        runId: input.runId,
        projectId: "conformance",
        scenarioId: "scenario-1",
        status: "running",
        leaseHolderId: "worker-1",
        leaseExpiresAt,
        stepCount: 0,
        fence: 1,
        takeovers: 0,
      });
      expect(run.manifestHash).toMatch(/^[0-9a-f]{64}$/);
      expect(fence).toBe(1);
      expect(completedSteps).toEqual([]);
      expect(Date.parse(leaseExpiresAt)).toBeGreaterThanOrEqual(before + input.leaseMs);
      expect(Date.parse(run.createdAt)).toBeGreaterThanOrEqual(before);
    });

    itWith(
      ["loadRun"],
      "refuses the same run id with another manifest, and leaves the run as it was",
      async () => {
        const { runId } = await claimed();
        const other = { ...MANIFEST, input: { question: "another" } };
        const claim = { runId, workerId: "worker-1", manifest: other };
        expect(await refusalOf(() => suite.store.startOrResume(claim))).toBe("manifest_mismatch");
        expect(await suite.store.loadRun?.(runId)).toMatchObject({ status: "running", fence: 1 });
      },
    );

    it("takes tags for no part of a run's identity", async () => {
      const input = aRun();
      await suite.store.startOrResume(input);
      const retagged = { ...input, manifest: { ...MANIFEST, tags: { other: "tag" } } };
      expect((await suite.store.startOrResume(retagged)).fence).toBe(2);
    });

    it("refuses a run whose lease is live and another's, and says for how long", async () => {
      const { runId } = await claimed();
      const claim = { ...aRun("worker-2"), runId };
      const error = await suite.store.startOrResume(claim).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: "lease_held", name: "DurableRunLeaseHeldError" });
      expect((error as { retryAfterMs: number }).retryAfterMs).toBeGreaterThan(0);
      expect((error as { retryAfterMs: number }).retryAfterMs).toBeLessThanOrEqual(30_000);
    });

    it("gives a run whose lease lapsed to the next worker, with its steps, under a higher fence", async () => {
      const { runId, fence } = await claimed();
      await suite.store.beginStep(aStep(runId, 0, { fence }));
      await suite.store.completeStep({ runId, stepIndex: 0, fence, result: { kept: true } });
      suite.clock.advance(30_001);
      const next = await suite.store.startOrResume({ ...aRun("worker-2"), runId });
      expect(next.run).toMatchObject({ leaseHolderId: "worker-2", fence: 2, takeovers: 1, stepCount: 1 });
      expect(next.completedSteps).toMatchObject([
        { stepIndex: 0, status: "completed", result: { kept: true } },
      ]);
    });

    it("takes a second claim by the same worker id for a new claim, and fences the first out (R6)", async () => {
      const { runId, fence } = await claimed();
      const again = await suite.store.startOrResume({ ...aRun("worker-1"), runId });
      expect(again.fence).toBe(fence + 1);
      expect(await refusalOf(() => suite.store.beginStep(aStep(runId, 0, { fence })))).toBe("lease_lost");
    });

    it("makes a failed run that is claimed again running, and keeps its steps", async () => {
      const { runId, fence } = await claimed();
      await suite.store.beginStep(aStep(runId, 0, { fence }));
      await suite.store.completeStep({ runId, stepIndex: 0, fence, result: 1 });
      await suite.store.endRun({
        runId,
        workerId: "worker-1",
        fence,
        status: "failed",
        error: { message: "no" },
      });
      const next = await suite.store.startOrResume({ ...aRun("worker-2"), runId });
      expect(next.run).toMatchObject({ status: "running", takeovers: 0, fence: fence + 1 });
      expect(next.run.completedAt).toBeUndefined();
      expect(next.run.error).toBeUndefined();
      expect(next.completedSteps).toHaveLength(1);
    });

    it("answers a completed run as it is, with its result, and mints no fence", async () => {
      const { runId, fence } = await claimed();
      const result = { answer: 42 };
      await suite.store.endRun({ runId, workerId: "worker-1", fence, status: "completed", result });
      const again = await suite.store.startOrResume({ ...aRun("worker-2"), runId });
      expect(again.run).toMatchObject({ status: "completed", fence, result });
      expect(again.run.leaseHolderId).toBeUndefined();
    });

    itWith(["loadRun"], "answers a claim that is repeated with its request id the same, once", async () => {
      const input = { ...aRun(), requestId: newRequestId() };
      const first = await suite.store.startOrResume(input);
      const second = await suite.store.startOrResume(input);
      expect(second).toEqual(first);
      expect((await suite.store.loadRun?.(input.runId))?.fence).toBe(1);
    });

    itWith(["loadRun"], "lets one of twenty workers win a run that all claim at once", async () => {
      const { runId } = aRun();
      const claims = Array.from({ length: 20 }, (_, i) =>
        suite.store.startOrResume({ ...aRun(`racer-${i}`), runId }),
      );
      const settled = await Promise.allSettled(claims);
      const won = settled.filter((one) => one.status === "fulfilled");
      const codes = settled.flatMap((one) =>
        one.status === "rejected" ? [(one.reason as { code: string }).code] : [],
      );
      expect(won).toHaveLength(1);
      expect(codes).toEqual(Array.from({ length: 19 }, () => "lease_held"));
      expect(await suite.store.loadRun?.(runId)).toMatchObject({ fence: 1, takeovers: 0 });
    });
  });

  describe("leases", () => {
    it("extends a live lease of its holder", async () => {
      const { runId, fence, leaseExpiresAt } = await claimed();
      suite.clock.advance(10_000);
      const renewed = await suite.store.renewLease({ runId, workerId: "worker-1", leaseMs: 30_000, fence });
      expect(renewed.ok).toBe(true);
      expect(Date.parse(renewed.leaseExpiresAt ?? "")).toBeGreaterThanOrEqual(
        Date.parse(leaseExpiresAt) + 10_000,
      );
      suite.clock.advance(25_000);
      const claim = { ...aRun("worker-2"), runId };
      expect(await refusalOf(() => suite.store.startOrResume(claim))).toBe("lease_held");
    });

    itWith(["loadRun"], "does not extend another worker's lease", async () => {
      const { runId } = await claimed();
      expect(await suite.store.renewLease({ runId, workerId: "worker-2" })).toMatchObject({ ok: false });
      expect((await suite.store.loadRun?.(runId))?.leaseHolderId).toBe("worker-1");
    });

    it("does not revive a lease that lapsed (R8)", async () => {
      const { runId, fence } = await claimed();
      suite.clock.advance(30_001);
      expect(await suite.store.renewLease({ runId, workerId: "worker-1", fence })).toMatchObject({
        ok: false,
      });
      expect((await suite.store.startOrResume({ ...aRun("worker-2"), runId })).fence).toBe(fence + 1);
    });

    it("does not extend the lease of a run that has ended", async () => {
      const { runId, fence } = await claimed();
      await suite.store.endRun({ runId, workerId: "worker-1", fence, status: "failed" });
      expect(await suite.store.renewLease({ runId, workerId: "worker-1", fence })).toMatchObject({
        ok: false,
      });
      expect((await suite.store.loadRun?.(runId))?.leaseExpiresAt).toBeUndefined();
    });

    it("does not extend a lease under an older fence of the same worker id (R6)", async () => {
      const { runId, fence } = await claimed();
      await suite.store.startOrResume({ ...aRun("worker-1"), runId });
      expect(await suite.store.renewLease({ runId, workerId: "worker-1", fence })).toMatchObject({
        ok: false,
      });
    });
  });
}
