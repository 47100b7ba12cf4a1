/** Begins that were lost on the way, and are made up for by what the step's end says of them (R16). */
import { describe, expect, test } from "vitest";
import { beginOf, begunOf, cancelOf, completeOf, endOf, failOf, suspendOf } from "./helpers/ledger.ts";
import {
  begun,
  claimed,
  completed,
  failed,
  interrupted,
  pendingRetry,
  takenOver,
  twice,
} from "./helpers/ledger-worlds.ts";

describe.each([
  ["completion", completeOf, "completed"],
  ["failure", failOf, "failed"],
] as const)("a %s whose begin was lost (R16)", (_what, ending, status) => {
  const facts = begunOf({
    requestId: "begin-9",
    inputHash: "in-1",
    timeoutMs: 500,
    caught: [2],
    startedAt: 41,
    deadlineAt: 541,
  });

  test("begins the step here, under the caller's fence, as of when its begin was answered", () => {
    const ledger = takenOver(claimed());
    const { step } = ledger.accepts(ending({ fence: 2, attempt: 1, begun: facts }));
    expect(step).toMatchObject({
      status,
      intent: "fetch",
      kind: "tool",
      inputHash: "in-1",
      attempts: 1,
      caught: [2],
      startedAt: 41,
      completedAt: ledger.now,
      deadlineAt: 541,
      workerId: "bob",
      fence: 2,
      beginRequestId: "begin-9",
    });
  });

  test("counts the attempts that the caller was told of, and a first one where it was told of none", () => {
    for (const [attempt, attempts] of [
      [null, 1],
      [1, 1],
      [3, 3],
    ] as const) {
      expect(claimed().accepts(ending({ attempt, begun: facts })).step.attempts).toBe(attempts);
    }
  });

  test("begins the next attempt of a step whose last one is on record", () => {
    for (const ledger of [begun(), failed()]) {
      const { step } = ledger.accepts(ending({ attempt: 2, begun: facts }));
      expect(step).toMatchObject({
        status,
        attempts: 2,
        beginRequestId: "begin-9",
        inputHash: "in-1",
        caught: [2],
      });
    }
  });

  test("repeated counts its attempt once", () => {
    for (const attempt of [null, 1, 3]) {
      const ledger = claimed();
      const { step } = ledger.accepts(ending({ attempt, begun: facts }));
      expect(ledger.answers(ending({ attempt, begun: facts })).step).toEqual(step);
    }
  });

  test("is held to the intent, the kind and the input on record (R23)", () => {
    const ledger = claimed();
    ledger.accepts(beginOf({ inputHash: "in-0" }));
    const asked = ending({ attempt: 2, begun: { ...facts, intent: "parse" } });
    expect(ledger.refuses(asked).code).toBe("step_divergence");
    expect(ledger.refuses(ending({ attempt: 2, begun: facts })).code).toBe("step_input_mismatch");
  });

  test("is refused once the run has ended, was suspended, or was cancelled", () => {
    for (const [request, code] of [
      [endOf(), "lease_lost"],
      [suspendOf(), "lease_lost"],
      [cancelOf(), "run_cancelled"],
    ] as const) {
      const ledger = claimed();
      ledger.accepts(request);
      expect(ledger.refuses(ending({ attempt: 1, begun: facts })).code).toBe(code);
      expect(ledger.refuses(ending({ attempt: 1, begun: facts, fence: null })).code).toBe(code);
    }
  });

  test("is held to the path on record, and else stands at the path that it tells of (R23)", () => {
    const inBranch = { ...facts, path: "1/a/0" };
    const fresh = claimed();
    expect(fresh.accepts(ending({ attempt: 1, begun: inBranch })).step.path).toBe("1/a/0");
    const ledger = begun();
    expect(ledger.refuses(ending({ attempt: 2, begun: inBranch })).code).toBe("step_divergence");
    const there = begun({ path: "1/a/0" });
    expect(there.refuses(ending({ attempt: 2, begun: facts })).code).toBe("step_divergence");
    expect(there.accepts(ending({ attempt: 2, begun: inBranch })).step.path).toBe("1/a/0");
  });

  test("counts as a try: one more than on record, or the first since the step failed for good", () => {
    for (const [ledger, tries] of [
      [claimed(), 1],
      [begun(), 2],
      [pendingRetry(0), 2],
      [failed(), 1],
    ] as const) {
      const attempt = ledger.snapshot().steps.size + 1;
      const { step } = twice(ledger, ending({ attempt, begun: facts }));
      expect(step).toMatchObject({ attempts: attempt, tries, status });
    }
  });

  test("ends the delay and the doubt in which the attempt before had left the step", () => {
    for (const onInterrupted of ["rerun", "reconcile"] as const) {
      const ledger = pendingRetry(500, true);
      ledger.now += 500;
      const told = { ...facts, onInterrupted, startedAt: ledger.now };
      const { step } = twice(ledger, ending({ attempt: 2, begun: told }));
      expect(step).toMatchObject({ status, attempts: 2, inDoubt: false, nextAttemptAt: null });
      expect(ledger.theRun.waits).toEqual([]);
    }
  });

  test("keeps the deadline of the first begin, and what earlier begins had caught", () => {
    const ledger = begun({ timeoutMs: 90, caught: [5] });
    const { deadlineAt } = ledger.step();
    const { step } = ledger.accepts(ending({ attempt: 2, begun: facts }));
    expect(step).toMatchObject({ deadlineAt, caught: [5, 2] });
  });
});

test("a completion whose begin was lost keeps the failure before it as the last one", () => {
  const ledger = pendingRetry(0);
  const { step } = twice(ledger, completeOf({ attempt: 2, begun: begunOf({ requestId: "begin-9" }) }));
  expect(step).toMatchObject({ status: "completed", error: '{"message":"no route"}' });
});

test("a failure whose begin was lost is attempted again after its delay, and may be in doubt", () => {
  const ledger = claimed();
  const lost = begunOf({ requestId: "begin-9", onInterrupted: "park" });
  const { step } = twice(ledger, failOf({ attempt: 1, begun: lost, retryAfterMs: 70, inDoubt: true }));
  const nextAttemptAt = ledger.now + 70;
  expect(step).toMatchObject({ status: "pending", attempts: 1, tries: 1, inDoubt: true, nextAttemptAt });
  expect(ledger.theRun.waits).toMatchObject([{ for: "retry", until: nextAttemptAt }]);
});

describe("what a begin said of a step that was held back", () => {
  test.each(["fail", "park"] as const)('with "%s" is not taken for a begin that was lost', (policy) => {
    const ledger = interrupted(policy);
    const late = { fence: 2, attempt: 1, begun: begunOf({ requestId: "begin-9" }) };
    expect(ledger.refuses(completeOf(late))).toMatchObject({ code: "step_not_running" });
    expect(ledger.answers(failOf(late))).toEqual({ step: ledger.step() });
  });
});

describe("what a begin said of a step that is on record", () => {
  test("is not counted again", () => {
    const ledger = begun();
    const again = { attempt: 1, begun: begunOf({ requestId: "begin-9", intent: "parse", caught: [7] }) };
    expect(ledger.accepts(completeOf(again)).step).toMatchObject({
      intent: "fetch",
      attempts: 1,
      caught: [],
      beginRequestId: "begin-1",
    });
  });

  test("does not touch a completed step", () => {
    const ledger = completed();
    const again = completeOf({ attempt: 2, begun: begunOf({ requestId: "begin-9" }) });
    expect(ledger.answers(again)).toEqual({ step: ledger.step(), accepted: false });
  });
});
