/** A step that a worker died in, and what the policy of the next begin makes of it (R31). */
import { describe, expect, test } from "vitest";
import type { BeginRequest } from "../src/ledger/requests.ts";
import { beginOf, completeOf, failOf, LEASE_MS, resolveOf, type TinyJournal } from "./helpers/ledger.ts";
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

type Policy = BeginRequest["onInterrupted"];
const POLICIES: readonly Policy[] = ["rerun", "fail", "park", "reconcile"];

/** Begins step 0 for whoever holds the run. */
function asking(ledger: TinyJournal, onInterrupted: Policy, over: Partial<BeginRequest> = {}): BeginRequest {
  return beginOf({ requestId: "asked", fence: ledger.theRun.fence, onInterrupted, ...over });
}

/** The ways for a step to be in doubt: bob holds the run under fence 2. */
const IN_DOUBT: [string, () => TinyJournal][] = [
  ["runs, but its worker is dead", () => takenOver(begun())],
  ["is parked", () => interrupted("park")],
  ["failed in doubt, for good", () => interrupted("fail")],
  ["failed in doubt, and is due again", () => takenOver(pendingRetry(LEASE_MS, true))],
  ["failed in doubt, and is not due yet", () => takenOver(pendingRetry(LEASE_MS + 500, true))],
  ["was being reconciled by a worker that died, too", () => takenOver(interrupted("reconcile"))],
];
const DUE = IN_DOUBT.filter(([name]) => !name.includes("not due yet"));

describe.each(DUE)("of a step that %s", (_which, world) => {
  test('a begin with "rerun" makes another attempt, no longer in doubt', () => {
    const ledger = world();
    const { attempts, tries, status } = ledger.step();
    const { step } = twice(ledger, asking(ledger, "rerun"));
    expect(step).toMatchObject({
      status: "running",
      inDoubt: false,
      attempts: attempts + 1,
      tries: status === "failed" ? 1 : tries + 1,
      workerId: "bob",
      nextAttemptAt: null,
      beginRequestId: "asked",
    });
    expect(ledger.theRun.waits).toEqual([]);
  });

  test('a begin with "reconcile" makes another attempt, in doubt', () => {
    const ledger = world();
    const { attempts } = ledger.step();
    const { step } = twice(ledger, asking(ledger, "reconcile"));
    expect(step).toMatchObject({
      status: "running",
      inDoubt: true,
      attempts: attempts + 1,
      completedAt: null,
      nextAttemptAt: null,
    });
    expect(ledger.theRun.waits).toEqual([]);
  });
});

describe.each(IN_DOUBT)("of a step that %s", (_which, world) => {
  test('a begin with "park" leaves it to somebody, without an attempt', () => {
    const ledger = world();
    const before = ledger.step();
    const { step } = twice(ledger, asking(ledger, "park"));
    expect(step).toEqual({
      ...before,
      status: "pending",
      tries: before.status === "failed" ? 0 : before.tries,
      inDoubt: true,
      nextAttemptAt: null,
      completedAt: null,
      fence: ledger.theRun.fence,
      beginRequestId: "asked",
    });
    expect(ledger.theRun).toMatchObject({
      status: "running",
      waits: [{ stepIndex: 0, path: "0", for: "decision", key: null, until: null }],
    });
  });

  test('a begin with "fail" fails it for good and in doubt, without an attempt', () => {
    const ledger = world();
    const { attempts, tries, workerId, startedAt } = ledger.step();
    const { step } = twice(ledger, asking(ledger, "fail"));
    expect(step).toMatchObject({
      status: "failed",
      inDoubt: true,
      attempts,
      tries,
      workerId,
      startedAt,
      nextAttemptAt: null,
      result: null,
      fence: ledger.theRun.fence,
    });
    expect(JSON.parse(step.error ?? "")).toMatchObject({ code: "step_interrupted" });
    expect(ledger.theRun.waits).toEqual([]);
  });
});

describe("a step that failed in doubt, and is not due yet", () => {
  test.each(["rerun", "reconcile"] as const)('begins with "%s" at its time, and not before', (policy) => {
    const ledger = pendingRetry(500, true);
    expect(ledger.refuses(asking(ledger, policy))).toMatchObject({ code: "step_not_due", retryAfterMs: 500 });
    ledger.now += 500;
    expect(ledger.accepts(asking(ledger, policy)).step).toMatchObject({ status: "running", attempts: 2 });
  });
});

describe("a step that nobody died in", () => {
  test.each<[string, () => TinyJournal]>([
    ["failed", failed],
    ["waits for its next attempt, which is due", () => pendingRetry(0)],
    ["was resolved for another attempt", resolvedForRerun],
  ])("runs again under each policy when it %s, and is not in doubt", (_which, world) => {
    for (const policy of POLICIES) {
      const ledger = world();
      const { attempts } = ledger.step();
      const { step } = twice(ledger, asking(ledger, policy));
      expect(step).toMatchObject({ status: "running", inDoubt: false, attempts: attempts + 1 });
      expect(ledger.theRun.waits).toEqual([]);
    }
  });

  test("begins for the first time under each policy", () => {
    for (const policy of POLICIES) {
      const ledger = claimed();
      expect(twice(ledger, asking(ledger, policy)).step).toMatchObject({ status: "running", inDoubt: false });
    }
  });

  test("is answered as it stands once it has completed, under each policy", () => {
    for (const policy of POLICIES) {
      const ledger = completed();
      expect(ledger.answers(asking(ledger, policy))).toEqual({ step: ledger.step() });
    }
  });
});

describe("a step that failed because it was interrupted", () => {
  test("says in which attempt, and who died in it", () => {
    const ledger = takenOver(begun());
    const { step } = ledger.accepts(asking(ledger, "fail"));
    expect(JSON.parse(step.error ?? "")).toEqual({
      name: "DurableStepInterruptedError",
      code: "step_interrupted",
      message:
        'step 0 ("fetch") was interrupted in attempt 1, when worker "ann" died or lost the run. ' +
        "What it has done is not known.",
    });
    expect(step.completedAt).toBe(ledger.now);
  });

  test('stays failed at each begin with "fail", with the same error and since the same time', () => {
    let ledger = interrupted("fail");
    const { error, completedAt } = ledger.step();
    for (const requestId of ["begin-3", "begin-4"]) {
      ledger = takenOver(ledger);
      const { step } = twice(ledger, asking(ledger, "fail", { requestId }));
      expect(step).toMatchObject({ status: "failed", inDoubt: true, error, completedAt, attempts: 1 });
      expect(step).toMatchObject({ beginRequestId: requestId, fence: ledger.theRun.fence });
    }
  });

  test("keeps the error that it failed with in doubt by its own account", () => {
    const ledger = begun();
    ledger.accepts(failOf({ inDoubt: true, error: '{"message":"cannot tell"}' }));
    expect(ledger.step()).toMatchObject({ status: "failed", inDoubt: true });
    expect(ledger.accepts(asking(ledger, "fail")).step.error).toBe('{"message":"cannot tell"}');
  });

  test("refuses a completion of the attempt that was cut off", () => {
    const ledger = interrupted("fail");
    expect(ledger.refuses(completeOf({ fence: 2, attempt: 1 }))).toMatchObject({ code: "step_not_running" });
    expect(ledger.refuses(completeOf({ fence: 1, attempt: 1 }))).toMatchObject({ code: "lease_lost" });
  });
});

describe("a parked step", () => {
  test("takes neither a completion nor a failure", () => {
    const ledger = interrupted("park");
    const step = ledger.step();
    expect(ledger.refuses(completeOf({ fence: 2 }))).toMatchObject({ code: "step_not_running" });
    expect(ledger.answers(failOf({ fence: 2 }))).toEqual({ step });
  });

  test("stays parked at the next claim, and the run waits for one decision", () => {
    const ledger = takenOver(interrupted("park"));
    twice(ledger, asking(ledger, "park"));
    expect(ledger.theRun.waits).toMatchObject([{ stepIndex: 0, for: "decision" }]);
    expect(ledger.step()).toMatchObject({ status: "pending", inDoubt: true, attempts: 1, tries: 1 });
  });
});

describe("an attempt that reconciles", () => {
  test("takes the step out of doubt when it completes", () => {
    const ledger = interrupted("reconcile");
    const { step } = twice(ledger, completeOf({ fence: 2, attempt: 2 }));
    expect(step).toMatchObject({ status: "completed", inDoubt: false });
  });

  test("takes the step out of doubt when it fails, unless it says that nothing is known yet", () => {
    for (const inDoubt of [false, true]) {
      for (const [retryAfterMs, status] of [
        [null, "failed"],
        [10, "pending"],
      ] as const) {
        const ledger = interrupted("reconcile");
        const { step } = twice(ledger, failOf({ fence: 2, attempt: 2, inDoubt, retryAfterMs }));
        expect(step).toMatchObject({ status, inDoubt });
      }
    }
  });
});

describe("a begin that is held back", () => {
  test.each(["fail", "park"] as const)('with "%s" is held to the fence, the run and the record', (policy) => {
    const ledger = takenOver(begun());
    expect(ledger.refuses(asking(ledger, policy, { fence: 1 }))).toMatchObject({ code: "lease_lost" });
    expect(ledger.refuses(asking(ledger, policy, { kind: "llm" }))).toMatchObject({
      code: "step_divergence",
    });
    expect(ledger.refuses(asking(ledger, policy, { path: "1/a/0" }))).toMatchObject({
      code: "step_divergence",
    });
  });

  test.each(["fail", "park"] as const)('with "%s" leaves deadline and input as they are', (policy) => {
    const ledger = takenOver(begun({ inputHash: "in-1", timeoutMs: 500 }));
    const { deadlineAt } = ledger.step();
    const { step } = ledger.accepts(asking(ledger, policy, { timeoutMs: 90_000 }));
    expect(step).toMatchObject({ inputHash: "in-1", deadlineAt });
  });
});

function resolvedForRerun(): TinyJournal {
  const ledger = interrupted("park");
  ledger.accepts(resolveOf({ result: null }));
  return ledger;
}
