/** Begins that nobody was told of when they were: they come with the end of their attempt (R16). */
import { describe, expect, test } from "vitest";
import type { BegunFacts, CompleteRequest } from "../src/ledger/requests.ts";
import {
  beginOf,
  begunOf,
  cancelOf,
  claimOf,
  completeOf,
  endOf,
  failOf,
  restartOf,
  suspendOf,
} from "./helpers/ledger.ts";
import { begun, claimed, completed, failed, takenOver, twice } from "./helpers/ledger-worlds.ts";

function untold(over: Partial<BegunFacts> = {}): BegunFacts {
  return begunOf({ requestId: "end-1", startedAt: null, elapsedMs: 40, ...over });
}

describe.each([
  ["completion", completeOf, "completed"],
  ["failure", failOf, "failed"],
] as const)("a %s that brings its begin", (_what, ending, status) => {
  const end = (over: Partial<Pick<CompleteRequest, "fence" | "attempt" | "begun">> = {}) =>
    ending({ attempt: 1, begun: untold(), ...over });

  test("begins the step as of so long before, by the clock of the store", () => {
    const ledger = claimed();
    ledger.now += 1_000;
    const { step } = twice(ledger, end());
    expect(step).toMatchObject({
      status,
      attempts: 1,
      tries: 1,
      startedAt: ledger.now - 40,
      completedAt: ledger.now,
      workerId: "ann",
      fence: 1,
      deadlineAt: null,
      inDoubt: false,
      caught: [],
    });
  });

  test("begins no step before its run", () => {
    const ledger = claimed();
    const { createdAt } = ledger.theRun;
    for (const [passed, elapsedMs, startedAt] of [
      [0, 40, createdAt],
      [40, 40, createdAt],
      [41, 40, createdAt + 1],
      [1_000, 10 ** 12, createdAt],
    ] as const) {
      const fresh = claimed();
      fresh.now += passed;
      expect(fresh.accepts(end({ begun: untold({ elapsedMs }) })).step.startedAt).toBe(startedAt);
    }
  });

  test("begins it under the fence of whoever has the run now, and is refused under an older one", () => {
    const ledger = takenOver(claimed());
    expect(ledger.refuses(end({ fence: 1 })).code).toBe("lease_lost");
    expect(twice(ledger, end({ fence: 2 })).step).toMatchObject({ status, workerId: "bob", fence: 2 });
  });

  test("leaves a step that is on record as it began", () => {
    const ledger = begun();
    const { startedAt } = ledger.step();
    ledger.now += 1_000;
    const { step } = twice(ledger, end({ begun: untold({ intent: "parse" }) }));
    expect(step).toMatchObject({
      status,
      intent: "fetch",
      attempts: 1,
      startedAt,
      beginRequestId: "begin-1",
    });
  });

  test("begins the next attempt of a failed step", () => {
    const ledger = failed();
    ledger.now += 1_000;
    expect(twice(ledger, end({ attempt: 2 })).step).toMatchObject({
      status,
      attempts: 2,
      tries: 1,
      startedAt: ledger.now - 40,
    });
  });

  test("is held to the path, the intent and the kind on record (R23)", () => {
    for (const differs of [{ intent: "parse" }, { kind: "llm" }, { path: "0/a/0" }] as const) {
      const ledger = failed();
      expect(ledger.refuses(end({ attempt: 2, begun: untold(differs) })).code).toBe("step_divergence");
    }
  });

  test("is refused once the run has ended, was suspended, cancelled, or restarted", () => {
    for (const [request, code] of [
      [endOf(), "lease_lost"],
      [suspendOf(), "lease_lost"],
      [cancelOf(), "run_cancelled"],
    ] as const) {
      const ledger = claimed();
      ledger.accepts(request);
      for (const fence of [1, null]) expect(ledger.refuses(end({ fence })).code).toBe(code);
    }
    const ledger = completed();
    ledger.accepts(restartOf());
    expect(ledger.refuses(end()).code).toBe("lease_lost");
  });

  test("is what stands when the begin is told after all: nothing is begun again", () => {
    const ledger = claimed();
    ledger.accepts(end());
    const before = ledger.snapshot();
    const told = beginOf({ requestId: "begin-1", attempt: 1 });
    for (const _copy of [1, 2]) {
      if (status === "completed") expect(ledger.answers(told)).toEqual({ step: ledger.step() });
      else expect(ledger.refuses(told).code).toBe("step_not_running");
      expect(ledger.snapshot()).toEqual(before);
    }
    // The next attempt is another matter.
    if (status === "completed") return;
    expect(ledger.accepts(beginOf({ requestId: "begin-2", attempt: 2 })).step).toMatchObject({ attempts: 2 });
  });

  test("ends a step whose begin was told meanwhile, and counts it once", () => {
    const ledger = claimed();
    ledger.accepts(beginOf({ requestId: "begin-1", attempt: 1 }));
    expect(twice(ledger, end()).step).toMatchObject({ status, attempts: 1, beginRequestId: "begin-1" });
  });

  test("changes nothing of its run", () => {
    const ledger = claimed();
    const before = ledger.theRun;
    ledger.accepts(end());
    expect(ledger.theRun).toEqual(before);
  });
});

test("a step that nobody was told of, and whose worker died, is as if it had never been", () => {
  const ledger = takenOver(claimed());
  ledger.accepts(claimOf({ requestId: "claim-2", workerId: "bob" }));
  expect(ledger.snapshot().steps.size).toBe(0);
  expect(ledger.accepts(beginOf({ fence: 2, attempt: 1, onInterrupted: "fail" })).step).toMatchObject({
    status: "running",
    attempts: 1,
    inDoubt: false,
  });
});
