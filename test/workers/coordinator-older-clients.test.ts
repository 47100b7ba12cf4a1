/** Workers and objects are updated at different times: a client of the version before leaves out what it does not know. */
import { expect, it } from "vitest";
import { newRequestId } from "../../src/identity.ts";
import type { WireMessage } from "../../src/stores/coordinated/wire.ts";
import { aRun, aStep } from "../../src/testing/harness.ts";
import { claim, recordedStep, store, stubOf } from "./coordinator-world.ts";
import { drained } from "./disasters.ts";

const facts = {
  requestId: "begin-1",
  intent: "step-0",
  kind: "logic",
  inputHash: "",
  timeoutMs: null,
  caught: [],
};

async function submit(runId: string, request: Record<string, unknown>): Promise<unknown> {
  const whole = { runId, requestId: newRequestId(), stepIndex: 0, ...request };
  return stubOf(runId).submit({ v: 1, ack: "record", request: whole } as unknown as WireMessage);
}

it("a begin of a client of version 1 begins a step, which a completion of one ends", async () => {
  const { runId, fence } = await claim();
  const begun = await submit(runId, { op: "begin", fence, ...facts });
  expect(begun).toMatchObject({ ok: true, value: { step: { status: "running", attempts: 1, path: "0" } } });
  const done = { op: "complete", fence, attempt: 1, begun: null, result: { text: '"done"' } };
  expect(await submit(runId, done)).toMatchObject({ ok: true, value: { accepted: true } });
  expect(await store().loadStep(runId, 0)).toMatchObject({ status: "completed", result: "done", tries: 1 });
});

it("a failure of a client of version 1 is one for good, also where it makes up for a lost begin", async () => {
  for (const begun of [null, { ...facts, startedAt: Date.now(), deadlineAt: null }]) {
    const { runId, fence } = await claim();
    if (begun === null) await submit(runId, { op: "begin", fence, ...facts });
    const failed = await submit(runId, { op: "fail", fence, attempt: 1, begun, error: '{"message":"no"}' });
    expect(failed).toMatchObject({ ok: true, value: { step: { status: "failed", attempts: 1 } } });
    const step = await store().loadStep(runId, 0);
    expect(step).toMatchObject({ status: "failed", error: { message: "no" }, tries: 1 });
    for (const field of ["nextAttemptAt", "inDoubt", "path"]) expect(step).not.toHaveProperty(field);
    await drained(runId);
    expect(await recordedStep(runId)).toMatchObject({ status: "failed", next_attempt_at: null, in_doubt: 0 });
    // A client of this version goes on.
    const next = await store().startOrResume({ ...aRun(), runId });
    expect(await store().beginStep(aStep(runId, 0, { fence: next.fence ?? 0 }))).toMatchObject({
      attempts: 2,
    });
  }
});

it("a begin of a client of version 1 finds a step that was interrupted, and runs it again", async () => {
  const { runId } = await claim();
  await store().beginStep(aStep(runId, 0, { onInterrupted: "park" }));
  const { fence } = await store().startOrResume({ ...aRun(), runId });
  const begun = await submit(runId, { op: "begin", fence, ...facts, requestId: "begin-2" });
  expect(begun).toMatchObject({
    ok: true,
    value: { step: { status: "running", attempts: 2, inDoubt: false } },
  });
});
