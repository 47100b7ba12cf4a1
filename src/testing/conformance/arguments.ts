/** Bad values of what retries, waits, doubts and interventions are told: each is refused by name, and changes nothing. */
import { describe, expect } from "vitest";
import { LIMITS } from "../../contract/limits.ts";
import type { BeginStepInput, FailStepInput } from "../../contract/types.ts";
import { newRunId } from "../../identity.ts";
import { aStep } from "../harness.ts";
import type { Suite } from "./suite.ts";
import { refusal } from "./suite.ts";

/** No whole number of this range, or no number at all. */
function notFrom(min: number, max: number): unknown[] {
  return [min - 1, max + 1, min + 0.5, Number.NaN, Number.POSITIVE_INFINITY, "1", null, {}];
}

const NO_OBJECTS = [null, 0, "0", true, []];

/** No text of 1 to so many bytes. */
function notText(maxBytes: number): unknown[] {
  return [
    "",
    "x".repeat(maxBytes + 1),
    "é".repeat(maxBytes / 2 + 1),
    "a\u0000b",
    "a\nb",
    "\ud800",
    7,
    null,
    {},
  ];
}

export function describeArguments(suite: Suite): void {
  const { itWith, withSteps, everything } = suite;

  /** Each call, with its bad values, is refused by the field's name, and leaves the run as it was. */
  const refusesEach = async (
    runId: string,
    values: Readonly<Record<string, readonly unknown[]>>,
    call: (field: string, value: never) => Promise<unknown>,
  ): Promise<void> => {
    const before = await everything(runId);
    for (const [field, bad] of Object.entries(values)) {
      for (const value of bad) {
        const error = await refusal(() => call(field, value as never));
        const what = `${field}: ${JSON.stringify(value)?.slice(0, 40)}`;
        expect(error, `${what}`).toMatchObject({ code: "invalid_input", name: "DurableInvalidInputError" });
        expect((error as { field?: string }).field, `${what}`).toBe(field);
      }
    }
    expect(await everything(runId)).toEqual(before);
  };

  describe("bad input to", () => {
    itWith(["tries"], "a begin: path, attempt, onInterrupted, waitFor", async (store) => {
      const { runId, fence } = await withSteps(1);
      const begin = (more: Partial<BeginStepInput>) => store.beginStep(aStep(runId, 1, { fence, ...more }));
      const policies = ["retry", "", "PARK", true, 0, null, {}];
      await refusesEach(runId, { path: notText(LIMITS.pathBytes), onInterrupted: policies }, (field, value) =>
        begin({ [field]: value }),
      );
      await refusesEach(runId, { waitFor: ["event", 0, null, [], true] }, (_field, waitFor) =>
        begin({ waitFor }),
      );
      await refusesEach(runId, { "waitFor.kind": ["retry", "", null, 1, undefined] }, (_field, kind) =>
        begin({ waitFor: { kind, key: "k" } }),
      );
      const keys = [...notText(LIMITS.eventKeyBytes), undefined];
      await refusesEach(runId, { "waitFor.key": keys }, (_field, key) =>
        begin({ waitFor: { kind: "event", key } }),
      );
      await refusesEach(runId, { attempt: notFrom(1, Number.MAX_SAFE_INTEGER) }, (_field, attempt) =>
        begin({ attempt }),
      );
      const longest = "p".repeat(LIMITS.pathBytes);
      expect(await begin({ path: longest })).toMatchObject({ path: longest });
    });

    itWith(["tries"], "a failure: retryAfterMs, inDoubt", async (store) => {
      const { runId, fence } = await withSteps(1);
      await store.beginStep(aStep(runId, 1, { fence }));
      const end = { runId, stepIndex: 1, fence, attempt: 1, error: { message: "no" } };
      const values = { retryAfterMs: notFrom(0, LIMITS.timeoutMs), inDoubt: ["yes", 0, 1, null, {}] };
      await refusesEach(runId, values, (field, value) =>
        store.failStep({ ...end, [field]: value } as FailStepInput),
      );
      const latest = await store.failStep({ ...end, retryAfterMs: LIMITS.timeoutMs });
      expect(Number.isFinite(Date.parse(latest.nextAttemptAt ?? ""))).toBe(true);
    });

    itWith(["waitForEvent"], "a wait for an event", async (store) => {
      const { runId } = await withSteps(1);
      const input = { runId, key: "k", timeoutMs: 0 };
      const values = { runId: notText(LIMITS.runIdBytes), key: notText(LIMITS.eventKeyBytes) };
      await refusesEach(runId, { ...values, timeoutMs: notFrom(0, LIMITS.holdMs) }, (field, value) =>
        store.waitForEvent({ ...input, [field]: value }),
      );
    });

    itWith(["waitForEvent", "endsWaits"], "a step that is to end with an event", async (store) => {
      const { runId, fence } = await withSteps(1);
      await store.emitEvent({ runId, key: "k", payload: 1 });
      await store.beginStep(aStep(runId, 1, { fence }));
      const step = { stepIndex: 1, fence, attempt: 1 };
      const numbers = [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, "1", null];
      const values = {
        stepIndex: [...numbers, undefined, LIMITS.steps],
        fence: numbers,
        attempt: numbers,
        requestId: notText(LIMITS.requestIdBytes).filter((value) => value !== undefined),
      };
      await refusesEach(runId, values, (field, value) =>
        store.waitForEvent({ runId, key: "k", timeoutMs: 0, step: { ...step, [field]: value } }),
      );
      await refusesEach(runId, { step: [null, 7, "1", []] }, (field, value) =>
        store.waitForEvent({ runId, key: "k", timeoutMs: 0, [field]: value }),
      );
      expect(await store.loadStep(runId, 1)).toMatchObject({ status: "running" });
    });

    itWith(["watchLease"], "a watch over a lease", async (store) => {
      const { runId, fence } = await withSteps(1);
      const input = { runId, fence, timeoutMs: 0 };
      const fences = [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, "1", null, undefined];
      const values = { runId: notText(LIMITS.runIdBytes), fence: fences };
      await refusesEach(runId, { ...values, timeoutMs: notFrom(0, LIMITS.holdMs) }, (field, value) =>
        store.watchLease({ ...input, [field]: value }),
      );
    });

    itWith(["suspendRun"], "a suspension", async (store) => {
      const { runId, fence } = await withSteps(1);
      const input = { runId, fence, workerId: "worker-1" };
      const values = {
        runId: notText(LIMITS.runIdBytes),
        workerId: notText(LIMITS.workerIdBytes),
        fence: [-1, 0.5, Number.NaN, "1", null],
        requestId: notText(LIMITS.requestIdBytes),
      };
      await refusesEach(runId, values, (field, value) => store.suspendRun({ ...input, [field]: value }));
    });

    itWith(["cancelRun"], "a cancel", async (store) => {
      const { runId } = await withSteps(1);
      await refusesEach(runId, { runId: notText(LIMITS.runIdBytes) }, (_field, id) => store.cancelRun(id));
      const reasons = { reason: notText(LIMITS.reasonBytes) };
      await refusesEach(runId, reasons, (_field, reason) => store.cancelRun(runId, reason));
      await refusesEach(runId, { requestId: notText(LIMITS.requestIdBytes) }, (_field, requestId) =>
        store.cancelRun(runId, "why", { requestId }),
      );
      await refusesEach(runId, { options: NO_OBJECTS }, (_field, options) =>
        store.cancelRun(runId, "why", options),
      );
    });

    itWith(["resolveStep", "tries"], "a resolution", async (store) => {
      const { runId, fence } = await suite.takenOver();
      await store.beginStep(aStep(runId, 0, { fence, onInterrupted: "park" }));
      const positions = { stepIndex: notFrom(0, LIMITS.steps - 1) };
      await refusesEach(runId, positions, (_field, stepIndex) =>
        store.resolveStep(runId, stepIndex, { rerun: true }),
      );
      const both = [{ result: 1, rerun: true }, { result: 1, rerun: false }, {}, { rerun: true, also: 1 }];
      const resolutions = { resolution: [...both, "rerun", null, undefined, true, ["rerun"]] };
      await refusesEach(runId, resolutions, (_field, resolution) => store.resolveStep(runId, 0, resolution));
      const reruns = { "resolution.rerun": [false, 1, "true", null, undefined] };
      await refusesEach(runId, reruns, (_field, rerun) => store.resolveStep(runId, 0, { rerun }));
      await refusesEach(runId, { requestId: notText(LIMITS.requestIdBytes) }, (_field, requestId) =>
        store.resolveStep(runId, 0, { result: 1 }, { requestId }),
      );
      await refusesEach(runId, { options: NO_OBJECTS }, (_field, options) =>
        store.resolveStep(runId, 0, { result: 1 }, options),
      );
    });

    itWith(["restartRun"], "a restart", async (store) => {
      const { runId } = await withSteps(2);
      const restart = (options: object) => store.restartRun(runId, options as never);
      const beyond = { fromStep: [...notFrom(0, LIMITS.steps - 1), undefined, 2, LIMITS.steps - 1] };
      await refusesEach(runId, beyond, (_field, fromStep) => restart({ fromStep, dropLater: true }));
      const unsaid = { dropLater: [undefined, false, "true", 1, null] };
      await refusesEach(runId, unsaid, (_field, dropLater) => restart({ fromStep: 0, dropLater }));
      await refusesEach(runId, { options: [...NO_OBJECTS, undefined] }, (_field, options) =>
        restart(options),
      );
      await refusesEach(runId, { requestId: notText(LIMITS.requestIdBytes) }, (_field, requestId) =>
        restart({ fromStep: 0, dropLater: true, requestId }),
      );
    });

    itWith(["forkRun"], "a fork, which makes no run", async (store) => {
      const { runId, fence } = await withSteps(2);
      await store.beginStep(aStep(runId, 2, { fence }));
      const newId = newRunId();
      const fork = (options: object) => store.forkRun(runId, newId, options as never);
      await refusesEach(runId, { newRunId: [runId, ...notText(LIMITS.runIdBytes)] }, (_field, id) =>
        store.forkRun(runId, id, { throughStep: 0 }),
      );
      const beyond = { throughStep: [...notFrom(0, LIMITS.steps - 1), undefined, 3, LIMITS.steps - 1] };
      await refusesEach(runId, beyond, (_field, throughStep) => fork({ throughStep }));
      // Beyond the copied steps, one that is not copied for it is under way, no positions, no edits.
      const stray = [
        { 2: 1 },
        { 3: 1 },
        { [-1]: 1 },
        { 0.5: 1 },
        { "": 1 },
        { "01": 1 },
        { " 1": 1 },
        { "1e0": 1 },
        { x: 1 },
      ];
      const edits = { edits: [...stray, "ab", 0, null, ["edited"]] };
      await refusesEach(runId, edits, (_field, value) => fork({ throughStep: 2, edits: value }));
      await refusesEach(runId, { edits: [{ 1: 1 }] }, (_field, value) =>
        fork({ throughStep: 0, edits: value }),
      );
      await refusesEach(runId, { options: [...NO_OBJECTS, undefined] }, (_field, options) => fork(options));
      await refusesEach(runId, { requestId: notText(LIMITS.requestIdBytes) }, (_field, requestId) =>
        fork({ throughStep: 0, requestId }),
      );
      const notJson = await refusal(() => fork({ throughStep: 1, edits: { 1: { n: [Number.NaN] } } }));
      expect(notJson).toMatchObject({ code: "payload_not_json" });
      expect(notJson.message).toContain("edits[1].n[0]");
      expect(await everything(newId)).toEqual(Array.from({ length: 11 }, () => undefined));
    });
  });
}
