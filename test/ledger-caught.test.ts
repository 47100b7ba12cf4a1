/** Which failures the task has caught and moved past: they replay as failures (R24). */
import { describe, expect, test } from "vitest";
import type { StepState } from "../src/ledger/state.ts";
import { caughtFailures } from "../src/ledger/steps.ts";
import { beginOf, claimOf, completeOf, endOf, resolveOf, stepOf } from "./helpers/ledger.ts";
import { failed, interrupted } from "./helpers/ledger-worlds.ts";

describe("the failures that the task caught (R24)", () => {
  const at = (stepIndex: number, over: Partial<StepState> = {}): StepState => stepOf({ stepIndex, ...over });

  test("are the failed steps that the begin of another step names", () => {
    const steps = [
      at(0, { status: "failed" }),
      at(1, { status: "failed" }),
      at(2, { status: "completed" }),
      at(3, { status: "running", caught: [1, 2, 4] }),
      at(4, { status: "running" }),
      at(5, { status: "completed", caught: [1] }),
      at(6, { status: "failed" }),
    ];
    expect(caughtFailures(steps).map((step) => step.stepIndex)).toEqual([1]);
    expect(caughtFailures(new Set(steps))).toEqual([steps[1]]);
  });

  test("are none where no step names one", () => {
    expect(caughtFailures([])).toEqual([]);
    expect(caughtFailures([at(0, { status: "failed" })])).toEqual([]);
  });

  test("are no longer caught once they have run again and completed", () => {
    const ledger = failed();
    ledger.accepts(beginOf({ stepIndex: 1, requestId: "begin-2", caught: [0] }));
    expect(caughtFailures([ledger.step(0), ledger.step(1)])).toEqual([ledger.step(0)]);
    ledger.accepts(beginOf({ requestId: "begin-3" }));
    ledger.accepts(completeOf());
    expect(caughtFailures([ledger.step(0), ledger.step(1)])).toEqual([]);
  });

  test("stay caught when the run is claimed again", () => {
    const ledger = failed();
    ledger.accepts(beginOf({ stepIndex: 1, requestId: "begin-2", caught: [0] }));
    ledger.accepts(endOf({ status: "failed" }));
    ledger.accepts(claimOf({ requestId: "claim-2" }));
    expect(caughtFailures([ledger.step(0), ledger.step(1)])).toEqual([ledger.step(0)]);
  });

  test("are those that failed for good: one that waits for its next attempt is none", () => {
    const catcher = at(1, { caught: [0] });
    expect(caughtFailures([at(0, { status: "pending", nextAttemptAt: 5 }), catcher])).toEqual([]);
    expect(caughtFailures([at(0, { status: "pending", inDoubt: true }), catcher])).toEqual([]);
  });

  test("take in a step that failed in doubt, which then is not resolved any more", () => {
    const ledger = interrupted("fail");
    ledger.accepts(beginOf({ stepIndex: 1, requestId: "begin-3", fence: 2, caught: [0] }));
    ledger.accepts(endOf({ status: "failed", workerId: "bob", fence: 2 }));
    expect(caughtFailures([ledger.step(0), ledger.step(1)])).toEqual([ledger.step(0)]);
    expect(ledger.refuses(resolveOf({ isCaught: true }))).toMatchObject({ code: "step_not_in_doubt" });
  });

  test("are kept of a begin that was held back, beside those that earlier begins told of", () => {
    for (const policy of ["fail", "park"] as const) {
      const ledger = interrupted(policy);
      const begin = beginOf({ requestId: "begin-3", fence: 2, onInterrupted: policy });
      ledger.accepts({ ...begin, caught: [3, 1] });
      ledger.accepts({ ...begin, requestId: "begin-4", caught: [1, 4] });
      expect(ledger.step()).toMatchObject({ caught: [3, 1, 4], attempts: 1 });
    }
  });
});
