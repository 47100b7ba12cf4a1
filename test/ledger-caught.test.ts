/** Which failures the task has caught and moved past: they replay as failures (R24). */
import { describe, expect, test } from "vitest";
import type { StepState } from "../src/ledger/state.ts";
import { caughtFailures, settledSteps } from "../src/ledger/steps.ts";
import { beginOf, claimOf, completeOf, endOf, stepOf } from "./helpers/ledger.ts";
import { decisionOn, failed, interrupted } from "./helpers/ledger-worlds.ts";

const at = (stepIndex: number, over: Partial<StepState> = {}): StepState => stepOf({ stepIndex, ...over });

describe("the failures that the task caught (R24)", () => {
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
    expect(ledger.refuses(decisionOn(ledger, { isCaught: true }))).toMatchObject({
      code: "step_not_in_doubt",
    });
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

/** R34: what a fork begins with. */
describe("the steps that are settled", () => {
  const settled = (...steps: StepState[]): number[] => settledSteps(steps).map((step) => step.stepIndex);

  test("are the completed ones, and the failures that a completed one names, in their order", () => {
    const [first, second] = [at(0, { status: "failed" }), at(1, { status: "completed", caught: [0, 7] })];
    expect(settledSteps([first, second])).toEqual([first, second]);
    expect(settled(at(0, { status: "failed" }), at(1, { status: "completed" }))).toEqual([1]);
    expect(settled()).toEqual([]);
  });

  test("take in what a settled failure names, however far back, and whatever its position", () => {
    const steps = [
      at(0, { status: "failed" }),
      at(1, { status: "failed", caught: [0, 3] }),
      at(2, { status: "completed", caught: [1] }),
      at(3, { status: "failed" }),
      at(4, { status: "failed", caught: [0] }),
    ];
    expect(settled(...steps)).toEqual([0, 1, 2, 3]);
  });

  test.each<[string, Partial<StepState>]>([
    ["runs", { status: "running" }],
    ["waits for its next attempt", { status: "pending", nextAttemptAt: 5 }],
    ["is parked", { status: "pending", inDoubt: true }],
    ["has failed, and that is all", { status: "failed" }],
  ])("take in no failure that only a step names which %s", (_which, over) => {
    const steps = [
      at(0, { status: "failed" }),
      at(1, { status: "completed" }),
      at(2, { ...over, caught: [0] }),
    ];
    expect(settled(...steps)).toEqual([1]);
    expect(settled(...steps, at(3, { status: "completed", caught: [0] }))).toEqual([0, 1, 3]);
  });

  test("take in no failures that only name one another", () => {
    expect(
      settled(at(0, { status: "failed", caught: [1] }), at(1, { status: "failed", caught: [0, 1] })),
    ).toEqual([]);
  });

  test("take in nothing that has not ended, though it is named", () => {
    const catcher = at(2, { status: "completed", caught: [0, 1] });
    expect(settled(at(0), at(1, { status: "pending" }), catcher)).toEqual([2]);
  });
});
