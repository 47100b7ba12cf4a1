/** Somebody decides what became of a step in doubt: with a result, or for another attempt (R31). */
import { describe, expect, test } from "vitest";
import type { ResolveRequest } from "../src/ledger/requests.ts";
import {
  beginOf,
  cancelOf,
  claimOf,
  completeOf,
  endOf,
  failOf,
  LEASE_MS,
  resolveOf,
  restartOf,
  suspendOf,
  TinyJournal,
} from "./helpers/ledger.ts";
import {
  begun,
  claimed,
  completed,
  decisionOn,
  failed,
  failedInDoubt,
  interrupted,
  pendingRetry,
  suspended,
  takenOver,
  twice,
} from "./helpers/ledger-worlds.ts";

const RERUN = resolveOf({ result: null });
const NOT_ENDED = "has failed in a run that has not ended yet";

describe("a decision with a result", () => {
  test("completes the step, and the suspended run waits for a worker again", () => {
    const ledger = suspended();
    const { step: parked, run } = { step: ledger.step(), run: ledger.theRun };
    ledger.now += 40;
    const { step } = twice(ledger, resolveOf({ result: { ref: "body-1" } }));
    expect(step).toEqual({
      ...parked,
      status: "completed",
      inDoubt: false,
      result: { ref: "body-1" },
      completedAt: ledger.now,
      beginRequestId: "resolve-1",
    });
    expect(ledger.step()).toEqual(step);
    const freed = { status: "pending", waits: [], updatedAt: ledger.now, interventions: ["resolve-1"] };
    expect(ledger.run).toEqual({ ...run, ...freed });
  });

  test("is what the step's next begin is answered, under each policy", () => {
    for (const onInterrupted of ["rerun", "fail", "park", "reconcile"] as const) {
      const ledger = suspended();
      const { step } = ledger.accepts(resolveOf());
      ledger.accepts(claimOf({ requestId: "claim-3", workerId: "cat" }));
      expect(ledger.answers(beginOf({ requestId: "begin-3", fence: 3, onInterrupted }))).toEqual({ step });
    }
  });

  test("ends the delay of a step that waits for its next attempt", () => {
    const ledger = pendingRetry(500, true);
    const { step } = twice(ledger, resolveOf());
    expect(step).toMatchObject({ status: "completed", inDoubt: false, nextAttemptAt: null });
    expect(ledger.theRun.waits).toEqual([]);
  });

  test("stands: another decision is refused, and so is a completion's or a failure's say", () => {
    const ledger = interrupted("park");
    const { step } = ledger.accepts(resolveOf());
    for (const result of [null, { text: '"another"' }]) {
      const other = resolveOf({ requestId: "resolve-2", result });
      expect(ledger.refuses(other)).toMatchObject({ code: "step_not_in_doubt" });
    }
    expect(ledger.answers(completeOf({ fence: 2 }))).toEqual({ step, accepted: false });
    expect(ledger.refuses(failOf({ fence: 2 }))).toMatchObject({ code: "step_not_running" });
  });

  test("answers its own repetition for good, however the run went on, and ended", () => {
    const ledger = suspended();
    const { step } = ledger.accepts(resolveOf());
    ledger.accepts(claimOf({ requestId: "claim-3", workerId: "cat" }));
    ledger.accepts(beginOf({ requestId: "begin-3", fence: 3 }));
    expect(ledger.answers(resolveOf())).toEqual({ step });
    ledger.accepts(endOf({ workerId: "cat", fence: 3 }));
    expect(ledger.answers(resolveOf())).toEqual({ step });
  });
});

describe("a decision for another attempt", () => {
  test("leaves the step pending and out of doubt, and the suspended run waits for a worker again", () => {
    const ledger = suspended();
    const parked = ledger.step();
    const { step } = twice(ledger, RERUN);
    const decided = { inDoubt: false, tries: 0, beginRequestId: "resolve-1" };
    expect(step).toEqual({ ...parked, status: "pending", ...decided });
    expect(ledger.run).toMatchObject({ status: "pending", waits: [], fence: 2, leaseExpiresAt: null });
  });

  test("holds for one attempt: should its worker die in that one, the step is in doubt again", () => {
    const ledger = suspended();
    ledger.accepts(RERUN);
    ledger.accepts(claimOf({ requestId: "claim-3", workerId: "cat" }));
    const park = { fence: 3, onInterrupted: "park" } as const;
    expect(ledger.accepts(beginOf({ ...park, requestId: "begin-3" })).step).toMatchObject({
      status: "running",
      inDoubt: false,
      attempts: 2,
    });
    takenOver(ledger);
    expect(ledger.accepts(beginOf({ ...park, requestId: "begin-4", fence: 4 })).step).toMatchObject({
      status: "pending",
      inDoubt: true,
      attempts: 2,
    });
  });

  test("may be followed by no other decision", () => {
    const ledger = suspended();
    ledger.accepts(RERUN);
    expect(ledger.refuses(resolveOf({ requestId: "resolve-2" }))).toMatchObject({
      code: "step_not_in_doubt",
    });
  });

  test("of a step that failed in doubt makes it pending: it runs again though its policy is to fail", () => {
    const ledger = failedInDoubt();
    const { error } = ledger.step();
    const { step } = twice(ledger, decisionOn(ledger, { result: null }));
    expect(step).toMatchObject({ status: "pending", inDoubt: false, completedAt: null, error });
    ledger.accepts(claimOf({ requestId: "claim-3", workerId: "cat" }));
    const again = beginOf({ requestId: "begin-3", fence: 3, onInterrupted: "fail" });
    expect(ledger.accepts(again).step).toMatchObject({ status: "running", attempts: 2, error });
  });

  test.each<[string, () => TinyJournal]>([
    ["is parked", suspended],
    ["failed in doubt", failedInDoubt],
    ["waits for its next attempt", () => pendingRetry(500, true)],
  ])("of a step that %s begins its tries anew: the next attempt is try 1", (_which, world) => {
    const ledger = world();
    const { step: decided } = twice(ledger, decisionOn(ledger, { result: null }));
    expect(decided).toMatchObject({ attempts: 1, tries: 0 });
    const { fence } = ledger.accepts(claimOf({ requestId: "claim-9" })).run;
    const { step } = twice(ledger, beginOf({ requestId: "begin-9", fence }));
    expect(step).toMatchObject({ attempts: 2, tries: 1 });
    expect(ledger.accepts(failOf({ fence, retryAfterMs: 0 })).step.tries).toBe(1);
    expect(ledger.accepts(beginOf({ requestId: "begin-10", fence })).step).toMatchObject({
      attempts: 3,
      tries: 2,
    });
  });

  test("of a step that waits for its next attempt ends that delay", () => {
    const ledger = pendingRetry(500, true);
    const { step } = twice(ledger, RERUN);
    expect(step).toMatchObject({ status: "pending", inDoubt: false, nextAttemptAt: null });
    expect(ledger.theRun.waits).toEqual([]);
    expect(ledger.accepts(beginOf({ requestId: "begin-2" })).step).toMatchObject({ attempts: 2 });
  });
});

describe("a decision", () => {
  test("stands under the fence at which it was made", () => {
    for (const result of [null, { text: "1" }]) {
      const ledger = takenOver(interrupted("park"));
      expect(ledger.accepts(resolveOf({ result })).step.fence).toBe(3);
    }
  });

  test("keeps the error as the last failure", () => {
    for (const result of [null, { text: "1" }]) {
      const ledger = begun();
      ledger.accepts(failOf({ inDoubt: true }));
      ledger.accepts(endOf({ status: "failed" }));
      expect(ledger.accepts(decisionOn(ledger, { result })).step.error).toBe('{"message":"no route"}');
    }
  });

  test("takes nothing from whoever holds the run: fence and lease stay", () => {
    const ledger = interrupted("park");
    const run = ledger.theRun;
    ledger.now += 5;
    ledger.accepts(resolveOf());
    expect(ledger.run).toEqual({
      ...run,
      waits: [],
      updatedAt: ledger.now,
      interventions: ["resolve-1"],
    });
  });

  test("does not change how a failed run stands", () => {
    const ledger = interrupted("fail");
    ledger.accepts(endOf({ status: "failed", workerId: "bob", fence: 2, error: '{"message":"broke"}' }));
    const run = ledger.theRun;
    ledger.now += 5;
    twice(ledger, decisionOn(ledger));
    expect(ledger.run).toEqual({ ...run, updatedAt: ledger.now, interventions: ["resolve-1"] });
  });

  test("of a pending run is taken too: the run was restarted behind the step", () => {
    const ledger = interrupted("park");
    ledger.accepts(beginOf({ stepIndex: 1, requestId: "begin-3", fence: 2 }));
    ledger.accepts(restartOf({ stepIndex: 1 }));
    expect(twice(ledger, resolveOf()).step.status).toBe("completed");
    expect(ledger.theRun.status).toBe("pending");
  });

  test("frees the run only when no other step waits for one", () => {
    const ledger = claimed();
    for (const stepIndex of [0, 1, 2]) {
      ledger.accepts(beginOf({ stepIndex, requestId: `begin-${stepIndex}` }));
    }
    takenOver(ledger);
    for (const stepIndex of [0, 1, 2]) {
      const onInterrupted = stepIndex === 2 ? "fail" : "park";
      ledger.accepts(beginOf({ stepIndex, requestId: `again-${stepIndex}`, fence: 2, onInterrupted }));
    }
    ledger.accepts(suspendOf({ workerId: "bob", fence: 2 }));
    expect(ledger.step(2)).toMatchObject({ status: "failed", inDoubt: true });
    const statuses = [2, 1, 0].map((stepIndex) => {
      twice(ledger, decisionOn(ledger, { stepIndex, requestId: `resolve-${stepIndex}` }));
      return ledger.theRun.status;
    });
    expect(statuses).toEqual(["suspended", "suspended", "pending"]);
  });
});

describe("a decision is refused", () => {
  test("of an unknown run", () => {
    expect(new TinyJournal().refuses(resolveOf())).toMatchObject({ code: "run_not_found" });
  });

  test.each<[string, () => TinyJournal, string]>([
    ["that is not on record", claimed, "is not on record"],
    ["that runs", begun, "is not in doubt"],
    ["whose worker is dead, before anybody has come by", () => takenOver(begun()), "is not in doubt"],
    ["that is being reconciled", () => interrupted("reconcile"), "is being reconciled"],
    [
      "whose worker died while it reconciled, before anybody has come by",
      () => takenOver(interrupted("reconcile")),
      "is being reconciled",
    ],
    ["that has completed", completed, "is not in doubt"],
    ["that has failed, and that is all", failed, "is not in doubt"],
    ["that waits for its next attempt", () => pendingRetry(500), "is not in doubt"],
    ["of a run that has completed", () => endedWith(endOf), "is of a run that is completed"],
    ["of a run that was cancelled", () => endedWith(cancelOf), "is of a run that is cancelled"],
    ["that failed, while its worker holds the run", () => interrupted("fail"), NOT_ENDED],
    ["that failed, once another worker has claimed", () => reclaimed(failedInDoubt()), NOT_ENDED],
  ])("of a step %s", (_which, world, why) => {
    for (const result of [null, { text: "1" }]) {
      const ledger = world();
      expect(ledger.refuses(decisionOn(ledger, { result }))).toEqual({
        code: "step_not_in_doubt",
        message: `step 0 of run "run-1" ${why}: there is nothing to resolve.`,
      });
    }
  });
});

/** R24: what a step in doubt has failed with is what its task goes on from. */
describe("a decision on a step that failed in doubt", () => {
  test("is refused while the run is running, also when its lease has lapsed, and taken once it has ended", () => {
    for (const result of [null, { text: "1" }]) {
      const ledger = interrupted("fail");
      for (const waitMs of [LEASE_MS - 1, 1, LEASE_MS * 100]) {
        ledger.now += waitMs;
        expect(ledger.refuses(decisionOn(ledger, { result }))).toEqual({
          code: "step_not_in_doubt",
          message: `step 0 of run "run-1" ${NOT_ENDED}: there is nothing to resolve.`,
        });
      }
      // Its worker may yet go on from the failure, and does.
      ledger.accepts(beginOf({ stepIndex: 1, requestId: "begin-3", fence: 2 }));
      ledger.accepts(endOf({ status: "failed", workerId: "bob", fence: 2 }));
      expect(twice(ledger, decisionOn(ledger, { result })).step).toMatchObject({ inDoubt: false });
      expect(ledger.theRun).toMatchObject({ status: "failed", fence: 2 });
    }
  });

  test("that was refused is refused when it comes late, too, the run having failed meanwhile", () => {
    for (const result of [null, { text: "1" }]) {
      const ledger = interrupted("fail");
      const early = decisionOn(ledger, { result });
      expect(ledger.refuses(early)).toMatchObject({ code: "step_not_in_doubt" });
      ledger.now += 5;
      // The early decision does not know of this.
      ledger.accepts(beginOf({ stepIndex: 1, requestId: "begin-3", fence: 2, caught: [0] }));
      ledger.accepts(endOf({ status: "failed", workerId: "bob", fence: 2 }));
      expectChangedMeanwhile(ledger, early);
      expect(ledger.theRun.interventions).toEqual([]);
    }
  });

  test("is refused when the run was read before it was claimed and failed again, or was not on record", () => {
    for (const result of [null, { text: "1" }]) {
      const ledger = failedInDoubt();
      const early = decisionOn(ledger, { result });
      ledger.now += 5;
      const { fence } = reclaimed(ledger).theRun;
      ledger.accepts(endOf({ status: "failed", workerId: "cat", fence }));
      expectChangedMeanwhile(ledger, early);
      expectChangedMeanwhile(ledger, { ...early, readAt: null });
      expect(twice(ledger, decisionOn(ledger, { result })).step).toMatchObject({ inDoubt: false });
    }
  });

  test("is refused when another one was taken since the run was read, and is to be made anew", () => {
    const ledger = claimed();
    for (const stepIndex of [0, 1]) {
      ledger.accepts(beginOf({ stepIndex, requestId: `begin-${stepIndex}` }));
      ledger.accepts(failOf({ stepIndex, inDoubt: true }));
    }
    ledger.accepts(endOf({ status: "failed" }));
    const other = decisionOn(ledger, { stepIndex: 1, requestId: "resolve-2" });
    ledger.now += 5;
    ledger.accepts(decisionOn(ledger));
    expect(ledger.refuses(other)).toMatchObject({ code: "step_not_in_doubt" });
    const anew = decisionOn(ledger, { stepIndex: 1, requestId: "resolve-2" });
    expect(twice(ledger, anew).step).toMatchObject({ status: "completed", inDoubt: false });
  });

  test.each<[string, (ledger: TinyJournal) => unknown]>([
    ["is left to whoever comes next", (ledger) => ledger.accepts(suspendOf({ workerId: "bob", fence: 2 }))],
    ["has failed", (ledger) => ledger.accepts(endOf({ status: "failed", workerId: "bob", fence: 2 }))],
    ["is in the hands of a dead worker", (ledger) => (ledger.now += LEASE_MS)],
  ])("is refused for good once the task has gone on from that, also when the run %s", (_which, leave) => {
    const ledger = interrupted("fail");
    ledger.accepts(beginOf({ stepIndex: 1, requestId: "begin-3", fence: 2, caught: [0] }));
    leave(ledger);
    for (const [requestId, result] of [
      ["resolve-1", null],
      ["resolve-1", null],
      ["resolve-2", { text: "1" }],
    ] as const) {
      expect(ledger.refuses(decisionOn(ledger, { requestId, result, isCaught: true }))).toEqual({
        code: "step_not_in_doubt",
        message:
          'step 0 of run "run-1" has failed, and the task has gone on from that: there is nothing to resolve.',
      });
    }
    expect(ledger.theRun.interventions).toEqual([]);
  });

  test("is held to neither while the step waits: nobody has seen it fail for good", () => {
    for (const world of [suspended, () => interrupted("park"), () => pendingRetry(500, true)]) {
      for (const result of [null, { text: "1" }]) {
        for (const readAt of [null, 0, world().theRun.updatedAt]) {
          const { step } = twice(world(), resolveOf({ result, isCaught: true, readAt }));
          expect(step).toMatchObject({ inDoubt: false });
        }
      }
    }
  });
});

function expectChangedMeanwhile(ledger: TinyJournal, request: ResolveRequest): void {
  for (const waitMs of [0, LEASE_MS]) {
    ledger.now += waitMs;
    expect(ledger.refuses(request)).toEqual({
      code: "step_not_in_doubt",
      message: 'step 0 of run "run-1" is of a run that has changed meanwhile: there is nothing to resolve.',
    });
  }
}

/** In the hands of cat. */
function reclaimed(ledger: TinyJournal): TinyJournal {
  ledger.accepts(claimOf({ requestId: "claim-9", workerId: "cat" }));
  return ledger;
}

/** A run that has ended, with step 0 parked. */
function endedWith(ending: typeof endOf | typeof cancelOf): TinyJournal {
  const ledger = interrupted("park");
  ledger.accepts(ending === endOf ? endOf({ workerId: "bob", fence: 2 }) : cancelOf());
  return ledger;
}
