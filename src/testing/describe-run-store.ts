/**
 * The conformance suite: what a store of durable runs is, as tests (R2).
 *
 * Every store of this package passes it, and so should one of yours: call `describeRunStore` in a vitest file. Each test
 * takes a run of its own; the store may be shared between tests.
 */
import { beforeAll, describe, expect, it as vitestIt } from "vitest";
import type { DurableRunStore, StartOrResumeResult } from "../contract/types.ts";
import { newRequestId, newRunId } from "../identity.ts";
import type { StoreHarness, SuiteOptions } from "./harness.ts";
import { aRun, aStep, MANIFEST, refusalOf } from "./harness.ts";

const PATIENCE_MS = 120_000;

export function describeRunStore(name: string, { newStore, skip = {} }: SuiteOptions): void {
  const it = (title: string, body: () => Promise<void>): void => {
    const reason = skip[title];
    if (reason === undefined) vitestIt(title, body, PATIENCE_MS);
    else vitestIt.skip(`${title} (${reason})`, body);
  };

  describe(`${name} is a run store`, () => {
    let harness: StoreHarness;
    let store: DurableRunStore;

    beforeAll(async () => {
      harness = await newStore();
      store = harness.store;
    });

    /** A run that worker-1 has claimed. */
    const claimed = async (): Promise<StartOrResumeResult & { runId: string; fence: number }> => {
      const input = aRun();
      const result = await store.startOrResume(input);
      return { ...result, runId: input.runId, fence: result.fence ?? 0 };
    };

    /** The same run after worker-2 took it over, with the fences of both. */
    const takenOver = async (): Promise<{ runId: string; old: number; fence: number }> => {
      const first = aRun();
      const { fence: old = 0 } = await store.startOrResume(first);
      await store.beginStep(aStep(first.runId, 0, { fence: old }));
      harness.clock.advance(first.leaseMs + 1);
      const { fence = 0 } = await store.startOrResume({ ...first, workerId: "worker-2" });
      return { runId: first.runId, old, fence };
    };

    describe("claims", () => {
      it("begins an unknown run as running, under a first fence and a lease", async () => {
        const input = aRun();
        const before = harness.clock.now();
        const { run, completedSteps, leaseExpiresAt, fence } = await store.startOrResume(input);
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

      it("refuses the same run id with another manifest, and leaves the run as it was", async () => {
        const { runId } = await claimed();
        const other = { ...MANIFEST, input: { question: "another" } };
        const claim = { runId, workerId: "worker-1", manifest: other };
        expect(await refusalOf(() => store.startOrResume(claim))).toBe("manifest_mismatch");
        expect(await store.loadRun?.(runId)).toMatchObject({ status: "running", fence: 1 });
      });

      it("takes tags for no part of a run's identity", async () => {
        const input = aRun();
        await store.startOrResume(input);
        const retagged = { ...input, manifest: { ...MANIFEST, tags: { other: "tag" } } };
        expect((await store.startOrResume(retagged)).fence).toBe(2);
      });

      it("refuses a run whose lease is live and another's, and says for how long", async () => {
        const { runId } = await claimed();
        const claim = { ...aRun("worker-2"), runId };
        const error = await store.startOrResume(claim).catch((thrown: unknown) => thrown);
        expect(error).toMatchObject({ code: "lease_held", name: "DurableRunLeaseHeldError" });
        expect((error as { retryAfterMs: number }).retryAfterMs).toBeGreaterThan(0);
        expect((error as { retryAfterMs: number }).retryAfterMs).toBeLessThanOrEqual(30_000);
      });

      it("gives a run whose lease lapsed to the next worker, with its steps, under a higher fence", async () => {
        const { runId, fence } = await claimed();
        await store.beginStep(aStep(runId, 0, { fence }));
        await store.completeStep({ runId, stepIndex: 0, fence, result: { kept: true } });
        harness.clock.advance(30_001);
        const next = await store.startOrResume({ ...aRun("worker-2"), runId });
        expect(next.run).toMatchObject({ leaseHolderId: "worker-2", fence: 2, takeovers: 1, stepCount: 1 });
        expect(next.completedSteps).toMatchObject([{ stepIndex: 0, status: "completed", result: { kept: true } }]);
      });

      it("takes a second claim by the same worker id for a new claim, and fences the first out (R6)", async () => {
        const { runId, fence } = await claimed();
        const again = await store.startOrResume({ ...aRun("worker-1"), runId });
        expect(again.fence).toBe(fence + 1);
        expect(await refusalOf(() => store.beginStep(aStep(runId, 0, { fence })))).toBe("lease_lost");
      });

      it("makes a failed run that is claimed again running, and keeps its steps", async () => {
        const { runId, fence } = await claimed();
        await store.beginStep(aStep(runId, 0, { fence }));
        await store.completeStep({ runId, stepIndex: 0, fence, result: 1 });
        await store.endRun({ runId, workerId: "worker-1", fence, status: "failed", error: { message: "no" } });
        const next = await store.startOrResume({ ...aRun("worker-2"), runId });
        expect(next.run).toMatchObject({ status: "running", takeovers: 0, fence: fence + 1 });
        expect(next.run.completedAt).toBeUndefined();
        expect(next.run.error).toBeUndefined();
        expect(next.completedSteps).toHaveLength(1);
      });

      it("answers a completed run as it is, with its result, and mints no fence", async () => {
        const { runId, fence } = await claimed();
        const result = { answer: 42 };
        await store.endRun({ runId, workerId: "worker-1", fence, status: "completed", result });
        const again = await store.startOrResume({ ...aRun("worker-2"), runId });
        expect(again.run).toMatchObject({ status: "completed", fence, result });
        expect(again.run.leaseHolderId).toBeUndefined();
      });

      it("answers a claim that is repeated with its request id the same, once", async () => {
        const input = { ...aRun(), requestId: newRequestId() };
        const first = await store.startOrResume(input);
        const second = await store.startOrResume(input);
        expect(second).toEqual(first);
        expect((await store.loadRun?.(input.runId))?.fence).toBe(1);
      });

      it("lets one of twenty workers win a run that all claim at once", async () => {
        const { runId } = aRun();
        const claims = Array.from({ length: 20 }, (_, i) => store.startOrResume({ ...aRun(`racer-${i}`), runId }));
        const settled = await Promise.allSettled(claims);
        const won = settled.filter((one) => one.status === "fulfilled");
        const codes = settled.flatMap((one) => (one.status === "rejected" ? [(one.reason as { code: string }).code] : []));
        expect(won).toHaveLength(1);
        expect(codes).toEqual(Array.from({ length: 19 }, () => "lease_held"));
        expect(await store.loadRun?.(runId)).toMatchObject({ fence: 1, takeovers: 0 });
      });
    });

    describe("leases", () => {
      it("extends a live lease of its holder", async () => {
        const { runId, fence, leaseExpiresAt } = await claimed();
        harness.clock.advance(10_000);
        const renewed = await store.renewLease({ runId, workerId: "worker-1", leaseMs: 30_000, fence });
        expect(renewed.ok).toBe(true);
        expect(Date.parse(renewed.leaseExpiresAt ?? "")).toBeGreaterThanOrEqual(Date.parse(leaseExpiresAt) + 10_000);
        harness.clock.advance(25_000);
        const claim = { ...aRun("worker-2"), runId };
        expect(await refusalOf(() => store.startOrResume(claim))).toBe("lease_held");
      });

      it("does not extend another worker's lease", async () => {
        const { runId } = await claimed();
        expect(await store.renewLease({ runId, workerId: "worker-2" })).toEqual({ ok: false });
        expect((await store.loadRun?.(runId))?.leaseHolderId).toBe("worker-1");
      });

      it("does not revive a lease that lapsed (R8)", async () => {
        const { runId, fence } = await claimed();
        harness.clock.advance(30_001);
        expect(await store.renewLease({ runId, workerId: "worker-1", fence })).toEqual({ ok: false });
        expect((await store.startOrResume({ ...aRun("worker-2"), runId })).fence).toBe(fence + 1);
      });

      it("does not extend the lease of a run that has ended", async () => {
        const { runId, fence } = await claimed();
        await store.endRun({ runId, workerId: "worker-1", fence, status: "failed" });
        expect(await store.renewLease({ runId, workerId: "worker-1", fence })).toEqual({ ok: false });
        expect((await store.loadRun?.(runId))?.leaseExpiresAt).toBeUndefined();
      });

      it("does not extend a lease under an older fence of the same worker id (R6)", async () => {
        const { runId, fence } = await claimed();
        await store.startOrResume({ ...aRun("worker-1"), runId });
        expect(await store.renewLease({ runId, workerId: "worker-1", fence })).toEqual({ ok: false });
      });
    });

    describe("steps", () => {
      it("records a begin, a completion, and what they say", async () => {
        const { runId, fence } = await claimed();
        expect(await store.loadStep(runId, 0)).toBeUndefined();
        const begun = await store.beginStep(aStep(runId, 0, { fence, kind: "tool", inputHash: "abc" }));
        expect(begun).toMatchObject({ runId, stepIndex: 0, intent: "step-0", kind: "tool", inputHash: "abc" });
        expect(begun).toMatchObject({ status: "running", attempts: 1, workerId: "worker-1" });
        expect(await store.loadStep(runId, 0)).toEqual(begun);
        const done = await store.completeStep({ runId, stepIndex: 0, fence, attempt: 1, result: [1, { two: "2" }] });
        expect(done).toMatchObject({ status: "completed", attempts: 1, result: [1, { two: "2" }] });
        expect(done.completedAt).toBeDefined();
        expect(await store.loadStep(runId, 0)).toEqual(done);
      });

      it("counts an attempt for each begin, and once for a begin repeated with its request id", async () => {
        const { runId, fence } = await claimed();
        const begin = aStep(runId, 0, { fence, requestId: newRequestId() });
        const first = await store.beginStep(begin);
        expect(await store.beginStep(begin)).toEqual(first);
        expect((await store.beginStep(aStep(runId, 0, { fence }))).attempts).toBe(2);
      });

      it("lets the first completion stand, however often it is repeated", async () => {
        const { runId, fence } = await claimed();
        await store.beginStep(aStep(runId, 0, { fence }));
        const complete = { runId, stepIndex: 0, fence, requestId: newRequestId(), result: "first" };
        const done = await store.completeStep(complete);
        expect(await store.completeStep(complete)).toEqual(done);
        expect(await store.completeStep({ ...complete, requestId: newRequestId(), result: "second" })).toEqual(done);
        expect(await store.loadStep(runId, 0)).toEqual(done);
      });

      it("records a failure, keeps it when repeated, and lets the step begin again", async () => {
        const { runId, fence } = await claimed();
        await store.beginStep(aStep(runId, 0, { fence }));
        const error = { name: "HttpError", message: "503", code: "unavailable", stack: "HttpError: 503\n at x" };
        const fail = { runId, stepIndex: 0, fence, attempt: 1, requestId: newRequestId(), error };
        const failed = await store.failStep(fail);
        expect(failed).toMatchObject({ status: "failed", error });
        expect(await store.failStep(fail)).toEqual(failed);
        const again = await store.beginStep(aStep(runId, 0, { fence }));
        expect(again).toMatchObject({ status: "running", attempts: 2 });
        expect(again.error).toBeUndefined();
      });

      it("does not let a late failure of an earlier attempt end a later one", async () => {
        const { runId, fence } = await claimed();
        await store.beginStep(aStep(runId, 0, { fence }));
        const late = { runId, stepIndex: 0, fence, attempt: 1, error: { message: "late" } };
        await store.failStep(late);
        await store.beginStep(aStep(runId, 0, { fence }));
        expect(await refusalOf(() => store.failStep(late))).toBe("step_not_running");
        expect(await store.loadStep(runId, 0)).toMatchObject({ status: "running", attempts: 2 });
      });

      it("refuses to complete a step that failed or never began, and to fail one that completed", async () => {
        const { runId, fence } = await claimed();
        const complete = { runId, stepIndex: 0, fence, result: 1 };
        expect(await refusalOf(() => store.completeStep(complete))).toBe("step_not_running");
        expect(await refusalOf(() => store.failStep({ runId, stepIndex: 0, fence, error: { message: "x" } }))).toBe(
          "step_not_running",
        );
        expect(await store.loadStep(runId, 0)).toBeUndefined();
        await store.beginStep(aStep(runId, 0, { fence }));
        await store.failStep({ runId, stepIndex: 0, fence, error: { message: "x" } });
        expect(await refusalOf(() => store.completeStep(complete))).toBe("step_not_running");
        await store.beginStep(aStep(runId, 0, { fence }));
        await store.completeStep(complete);
        expect(await refusalOf(() => store.failStep({ runId, stepIndex: 0, fence, error: { message: "x" } }))).toBe(
          "step_not_running",
        );
        expect(await store.loadStep(runId, 0)).toMatchObject({ status: "completed", result: 1 });
      });

      it("answers the record to a begin of a completed step, and does not reopen it", async () => {
        const { runId, fence } = await claimed();
        await store.beginStep(aStep(runId, 0, { fence }));
        const done = await store.completeStep({ runId, stepIndex: 0, fence, result: "paid for" });
        expect(await store.beginStep(aStep(runId, 0, { fence }))).toEqual(done);
      });

      it("refuses another intent, kind or input at a recorded position (R23)", async () => {
        const { runId, fence } = await claimed();
        await store.beginStep(aStep(runId, 0, { fence, inputHash: "aaaa" }));
        const again = (more: object) => refusalOf(() => store.beginStep({ ...aStep(runId, 0, { fence }), ...more }));
        expect(await again({ intent: "other" })).toBe("step_divergence");
        expect(await again({ kind: "llm" })).toBe("step_divergence");
        expect(await again({ inputHash: "bbbb" })).toBe("step_input_mismatch");
        expect(await again({ inputHash: "" })).toBe("accepted");
      });

      it("answers completed steps in order of position, whatever order they came in", async () => {
        const { runId, fence } = await claimed();
        for (const stepIndex of [3, 0, 2, 1]) await store.beginStep(aStep(runId, stepIndex, { fence }));
        for (const stepIndex of [2, 0, 3]) await store.completeStep({ runId, stepIndex, fence, result: stepIndex });
        const { completedSteps, run } = await store.startOrResume({ ...aRun("worker-1"), runId });
        expect(completedSteps.map((step) => step.result)).toEqual([0, 2, 3]);
        expect(run.stepCount).toBe(4);
      });

      it("answers the failures that the task had moved past, and only those (R24)", async () => {
        const { runId, fence } = await claimed();
        for (const stepIndex of [0, 1]) {
          await store.beginStep(aStep(runId, stepIndex, { fence }));
          await store.failStep({ runId, stepIndex, fence, error: { name: "TypeError", message: `no ${stepIndex}` } });
        }
        await store.beginStep(aStep(runId, 2, { fence, caught: [0] }));
        await store.completeStep({ runId, stepIndex: 2, fence, result: "on" });
        const { caughtSteps } = await store.startOrResume({ ...aRun("worker-1"), runId });
        expect(caughtSteps).toMatchObject([{ stepIndex: 0, error: { name: "TypeError", message: "no 0" } }]);
      });

      it("fixes the deadline of a waiting step at its first begin", async () => {
        const { runId, fence } = await claimed();
        const wait = aStep(runId, 0, { fence, kind: "event", timeoutMs: 60_000 });
        const { deadlineAt } = await store.beginStep(wait);
        expect(deadlineAt).toBeDefined();
        harness.clock.advance(10_000);
        expect((await store.beginStep(wait)).deadlineAt).toBe(deadlineAt);
      });

      it("gives back what JSON gives back, and shares nothing by reference", async () => {
        const { runId, fence } = await claimed();
        const given = { when: new Date(0), list: [1], gone: undefined, text: "ü 🙂 \u0000 \ud800" };
        await store.beginStep(aStep(runId, 0, { fence }));
        await store.completeStep({ runId, stepIndex: 0, fence, result: given });
        given.list.push(2);
        const first = await store.loadStep(runId, 0);
        expect(first?.result).toStrictEqual({ when: "1970-01-01T00:00:00.000Z", list: [1], text: "ü 🙂 \u0000 \ud800" });
        (first?.result as { list: number[] }).list.push(3);
        expect(((await store.loadStep(runId, 0))?.result as { list: number[] }).list).toEqual([1]);
      });

      it("tells a result of null from none at all", async () => {
        const { runId, fence } = await claimed();
        for (const [stepIndex, result] of [null, undefined].entries()) {
          await store.beginStep(aStep(runId, stepIndex, { fence }));
          await store.completeStep({ runId, stepIndex, fence, result });
        }
        expect(await store.loadStep(runId, 0)).toHaveProperty("result", null);
        expect(await store.loadStep(runId, 1)).not.toHaveProperty("result");
      });

      it("lets one of ten completions and ten failures that race stand, and answers that one from then on", async () => {
        const { runId, fence } = await claimed();
        await store.beginStep(aStep(runId, 0, { fence }));
        const calls = Array.from({ length: 10 }, (_, i) => [
          store.completeStep({ runId, stepIndex: 0, fence, attempt: 1, result: i }),
          store.failStep({ runId, stepIndex: 0, fence, attempt: 1, error: { message: `failure ${i}` } }),
        ]).flat();
        const settled = await Promise.allSettled(calls);
        const standing = await store.loadStep(runId, 0);
        const accepted = settled.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
        const refused = settled.flatMap((one) => (one.status === "rejected" ? [(one.reason as { code: string }).code] : []));
        expect(standing?.status).toMatch(/completed|failed/);
        for (const record of accepted) expect(record).toEqual(standing);
        expect(new Set(refused)).toEqual(new Set(["step_not_running"]));
        expect(accepted).toHaveLength(10);
      });

      it("serves a caller that knows no fences, as the plain declaration has it (R5)", async () => {
        const { runId } = await claimed();
        await store.beginStep(aStep(runId, 0));
        expect(await store.completeStep({ runId, stepIndex: 0, result: "ok" })).toMatchObject({ status: "completed" });
        const ended = await store.endRun({ runId, workerId: "worker-1", status: "completed" });
        expect(ended).toMatchObject({ status: "completed", stepCount: 1 });
        expect("result" in ended).toBe(false);
      });

      it("keeps 5,000 steps, and answers them all to the next claim", async () => {
        const { runId, fence } = await claimed();
        for (let from = 0; from < 5_000; from += 250) {
          const positions = Array.from({ length: 250 }, (_, i) => from + i);
          await Promise.all(positions.map((stepIndex) => store.beginStep(aStep(runId, stepIndex, { fence }))));
          await Promise.all(positions.map((stepIndex) => store.completeStep({ runId, stepIndex, fence, result: { stepIndex } })));
        }
        const { completedSteps, run } = await store.startOrResume({ ...aRun("worker-1"), runId });
        expect(run.stepCount).toBe(5_000);
        expect(completedSteps).toHaveLength(5_000);
        expect(completedSteps.every((step, i) => (step.result as { stepIndex: number }).stepIndex === i)).toBe(true);
      });
    });

    describe("fences", () => {
      it("refuses every mutation under a lower fence, and changes nothing (R5)", async () => {
        const { runId, old, fence } = await takenOver();
        await store.beginStep(aStep(runId, 0, { fence }));
        const before = [await store.loadRun?.(runId), await store.loadStep(runId, 0), await store.loadStep(runId, 1)];
        const late = { runId, fence: old };
        const calls = [
          () => store.beginStep(aStep(runId, 0, { fence: old })),
          () => store.beginStep(aStep(runId, 1, { fence: old })),
          () => store.completeStep({ ...late, stepIndex: 0, attempt: 1, result: "late" }),
          () => store.failStep({ ...late, stepIndex: 0, attempt: 1, error: { message: "late" } }),
          () => store.endRun({ ...late, workerId: "worker-1", status: "completed", result: "late" }),
          () => store.endRun({ ...late, workerId: "worker-1", status: "failed" }),
        ];
        for (const call of calls) expect(await refusalOf(call)).toBe("lease_lost");
        expect(await store.renewLease({ runId, workerId: "worker-1", fence: old })).toEqual({ ok: false });
        const after = [await store.loadRun?.(runId), await store.loadStep(runId, 0), await store.loadStep(runId, 1)];
        expect(after).toEqual(before);
      });

      it("refuses an end by a worker that another has replaced, fence or no fence", async () => {
        const { runId } = await takenOver();
        const end = { runId, workerId: "worker-1", status: "completed" } as const;
        expect(await refusalOf(() => store.endRun(end))).toBe("lease_lost");
        expect(await store.loadRun?.(runId)).toMatchObject({ status: "running", leaseHolderId: "worker-2" });
      });

      it("refuses to begin, complete or fail a step of a run that has ended", async () => {
        const { runId, fence } = await claimed();
        await store.beginStep(aStep(runId, 0, { fence }));
        await store.endRun({ runId, workerId: "worker-1", fence, status: "completed", result: null });
        expect(await refusalOf(() => store.beginStep(aStep(runId, 1, { fence })))).toBe("lease_lost");
        expect(await refusalOf(() => store.completeStep({ runId, stepIndex: 0, fence, result: 1 }))).toBe("lease_lost");
        expect(await refusalOf(() => store.failStep({ runId, stepIndex: 0, fence, error: { message: "x" } }))).toBe(
          "lease_lost",
        );
      });
    });

    describe("ends", () => {
      it("records how the run ended, frees its lease, and answers the same when repeated", async () => {
        const { runId, fence } = await claimed();
        const outcome = { pass: true, score: 0.9, notes: "fine", metadata: { tokens: 12 } };
        const end = { runId, workerId: "worker-1", fence, status: "completed", outcome, result: { a: [1] } } as const;
        const ended = await store.endRun(end);
        expect(ended).toMatchObject({ status: "completed", outcome, result: { a: [1] }, fence });
        expect(ended.completedAt).toBeDefined();
        expect(ended.leaseHolderId).toBeUndefined();
        expect(await store.endRun(end)).toEqual(ended);
        expect(await store.loadRun?.(runId)).toEqual(ended);
      });

      it("refuses to end a run in another way than it has ended", async () => {
        const { runId, fence } = await claimed();
        const ended = await store.endRun({ runId, workerId: "worker-1", fence, status: "completed", result: 1 });
        const other = { runId, workerId: "worker-1", fence, status: "failed" } as const;
        expect(await refusalOf(() => store.endRun(other))).toBe("lease_lost");
        expect(await store.loadRun?.(runId)).toEqual(ended);
      });

      it("keeps the error of a failed run, and a result of undefined apart from none", async () => {
        const failed = await claimed();
        const error = { name: "RangeError", message: "out of it", code: "E_RANGE" };
        const end = { runId: failed.runId, workerId: "worker-1", fence: failed.fence, status: "failed", error } as const;
        expect(await store.endRun(end)).toMatchObject({ status: "failed", error });
        const empty = await claimed();
        await store.endRun({ runId: empty.runId, workerId: "worker-1", status: "completed", result: undefined });
        const run = await store.loadRun?.(empty.runId);
        expect(run !== undefined && "result" in run).toBe(true);
        expect(run?.result).toBeUndefined();
      });
    });

    describe("events", () => {
      it("lets the first emit win, for good", async () => {
        const { runId } = await claimed();
        const first = await store.emitEvent({ runId, key: "approve", payload: { by: "ann" } });
        expect(first).toMatchObject({ accepted: true, record: { runId, key: "approve", payload: { by: "ann" } } });
        const second = await store.emitEvent({ runId, key: "approve", payload: { by: "bob" } });
        expect(second).toEqual({ accepted: false, record: first.record });
        expect(await store.loadEvent(runId, "approve")).toEqual(first.record);
      });

      it("answers an emit that is repeated with its request id the same", async () => {
        const { runId } = await claimed();
        const emit = { runId, key: "approve", payload: 1, requestId: newRequestId() };
        expect(await store.emitEvent(emit)).toEqual(await store.emitEvent(emit));
      });

      it("accepts and keeps an event for a run that has not begun", async () => {
        const input = aRun();
        expect(await store.loadEvent(input.runId, "early")).toBeUndefined();
        const { accepted } = await store.emitEvent({ runId: input.runId, key: "early", payload: null });
        expect(accepted).toBe(true);
        expect(await store.loadRun?.(input.runId)).toBeUndefined();
        expect((await store.startOrResume(input)).fence).toBe(1);
        expect(await store.loadEvent(input.runId, "early")).toMatchObject({ payload: null });
      });

      it("accepts one of twenty emits that race", async () => {
        const { runId } = await claimed();
        const emits = Array.from({ length: 20 }, (_, i) => store.emitEvent({ runId, key: "race", payload: i }));
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
          () => store.renewLease({ runId, workerId: "w" }),
          () => store.beginStep(aStep(runId, 0)),
          () => store.completeStep({ runId, stepIndex: 0, result: 1 }),
          () => store.failStep({ runId, stepIndex: 0, error: { message: "x" } }),
          () => store.endRun({ runId, workerId: "w", status: "completed" }),
        ];
        for (const call of calls) {
          const error = await call().catch((thrown: unknown) => thrown);
          expect(error).toMatchObject({ code: "run_not_found", name: "DurableRunNotFoundError" });
          expect((error as Error).message).toContain(runId);
        }
      });

      it("reads as undefined", async () => {
        const runId = newRunId();
        expect(await store.loadRun?.(runId)).toBeUndefined();
        expect(await store.loadStep(runId, 0)).toBeUndefined();
        expect(await store.loadEvent(runId, "any")).toBeUndefined();
      });
    });

    describe("payloads", () => {
      it("refuses what JSON cannot carry with its path, and loses nothing (R25)", async () => {
        const { runId, fence } = await claimed();
        await store.beginStep(aStep(runId, 0, { fence }));
        const cycle: Record<string, unknown> = {};
        cycle["self"] = cycle;
        const values = { cycle, big: 1n, nan: [Number.NaN], fn: () => 1, map: new Map() };
        for (const [name, value] of Object.entries(values)) {
          const call = () => store.completeStep({ runId, stepIndex: 0, fence, result: { [name]: value } });
          const error = await call().catch((thrown: unknown) => thrown);
          expect(error).toMatchObject({ code: "payload_not_json", name: "DurablePayloadError" });
          expect((error as Error).message).toContain(`result.${name}`);
          expect(await refusalOf(() => store.emitEvent({ runId, key: name, payload: { [name]: value } }))).toBe(
            "payload_not_json",
          );
          expect(await store.loadEvent(runId, name)).toBeUndefined();
        }
        const bad = { ...aRun(), manifest: { ...MANIFEST, input: { f: () => 1 } } };
        expect(await refusalOf(() => store.startOrResume(bad))).toBe("payload_not_json");
        expect(await store.loadRun?.(bad.runId)).toBeUndefined();
        expect(await store.loadStep(runId, 0)).toMatchObject({ status: "running", attempts: 1 });
        expect(await refusalOf(() => store.completeStep({ runId, stepIndex: 0, fence, result: "fine" }))).toBe("accepted");
      });

      it("keeps large texts of many-byte characters whole, as result, event, input and outcome (R22)", async () => {
        const text = `${"é🙂x".repeat(400_000)}end`;
        const input = { ...aRun(), manifest: { ...MANIFEST, input: { text } } };
        const { fence = 0 } = await store.startOrResume(input);
        const { runId } = input;
        await store.beginStep(aStep(runId, 0, { fence }));
        const done = await store.completeStep({ runId, stepIndex: 0, fence, result: { text } });
        expect((done.result as { text: string }).text === text).toBe(true);
        await store.emitEvent({ runId, key: "big", payload: text });
        const event = await store.loadEvent(runId, "big");
        expect(event?.payload === text).toBe(true);
        const { completedSteps } = await store.startOrResume(input);
        expect((completedSteps[0]?.result as { text: string }).text === text).toBe(true);
        await store.endRun({ runId, workerId: "worker-1", status: "completed", result: text });
        expect((await store.loadRun?.(runId))?.result === text).toBe(true);
      });

      it("keeps a result of 16 MiB, and refuses one of 17 MiB with both sizes", async () => {
        const { runId, fence } = await claimed();
        await store.beginStep(aStep(runId, 0, { fence }));
        const tooLarge = { runId, stepIndex: 0, fence, result: "x".repeat(17 * 1_024 * 1_024) };
        const error = await store.completeStep(tooLarge).catch((thrown: unknown) => thrown);
        expect(error).toMatchObject({ code: "payload_too_large" });
        expect((error as Error).message).toMatch(/17825794.*16777216/);
        const result = "y".repeat(16 * 1_024 * 1_024 - 2);
        await store.completeStep({ runId, stepIndex: 0, fence, result });
        expect((await store.loadStep(runId, 0))?.result === result).toBe(true);
      });
    });

    describe("bad input", () => {
      const refused = async (call: () => Promise<unknown>): Promise<string> => {
        const error = await call().catch((thrown: unknown) => thrown);
        expect(error).toMatchObject({ code: "invalid_input", name: "DurableInvalidInputError" });
        return `${(error as { field: string }).field}: ${(error as Error).message}`;
      };

      it("refuses run ids that are empty, over 1,024 bytes, or have control characters, by one rule", async () => {
        for (const runId of ["", "x".repeat(1_100), "a\u0000b", "a\nb", "\ud800"]) {
          expect(await refused(() => store.startOrResume({ ...aRun(), runId }))).toMatch(/^runId: /);
          expect(await refused(() => store.loadStep(runId, 0))).toMatch(/^runId: /);
          expect(await refused(() => store.emitEvent({ runId, key: "k", payload: 1 }))).toMatch(/^runId: /);
        }
      });

      it("takes any other run id as it is, paths and emoji included", async () => {
        const unique = newRunId();
        for (const runId of [`../../${unique}`, `🙂 ${unique}`, `${unique}${"é".repeat(499)}`, `CON.${unique}`]) {
          const { fence = 0 } = await store.startOrResume({ ...aRun(), runId });
          await store.beginStep(aStep(runId, 0, { fence }));
          await store.completeStep({ runId, stepIndex: 0, fence, result: runId });
          expect((await store.loadStep(runId, 0))?.result).toBe(runId);
          expect((await store.loadRun?.(runId))?.runId).toBe(runId);
        }
      });

      it("names the field and the limit for leases, positions, intents, keys and manifests", async () => {
        const { runId, fence } = await claimed();
        for (const leaseMs of [0, -1, Number.NaN, Number.POSITIVE_INFINITY, 0.5]) {
          expect(await refused(() => store.startOrResume({ ...aRun(), leaseMs }))).toMatch(/^leaseMs: .*1 to 86400000/);
          expect(await refused(() => store.renewLease({ runId, workerId: "worker-1", leaseMs }))).toMatch(/^leaseMs/);
        }
        for (const stepIndex of [-1, 0.5, Number.NaN, 100_000]) {
          expect(await refused(() => store.beginStep(aStep(runId, stepIndex)))).toMatch(/^stepIndex: .*0 to 99999/);
        }
        expect(await refused(() => store.beginStep(aStep(runId, 0, { fence, intent: "" })))).toMatch(/^intent: .*1024/);
        expect(await refused(() => store.emitEvent({ runId, key: "k".repeat(2_048), payload: 1 }))).toMatch(
          /^key: .*2048 bytes.*1024/,
        );
        expect(await refused(() => store.startOrResume({ ...aRun(), workerId: "" }))).toMatch(/^workerId/);
        const noTask = { ...MANIFEST, task: undefined } as unknown as typeof MANIFEST;
        expect(await refused(() => store.startOrResume({ ...aRun(), manifest: noTask }))).toMatch(/^manifest\.task/);
        expect(await store.loadStep(runId, 0)).toBeUndefined();
      });
    });

    it("closes twice, and what is recorded stays", async () => {
      const other = await newStore();
      const input = aRun();
      await other.store.startOrResume(input);
      await other.store.close();
      await other.store.close();
      const reopened = other.reopen?.() ?? other.store;
      expect(await reopened.loadRun?.(input.runId)).toMatchObject({ status: "running" });
    });
  });
}
