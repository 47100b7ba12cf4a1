/** The next attempt of a failed step: not before its time, counted, and with the last failure in sight (R30). */
import { describe, expect, test } from "vitest";
import {
  beginOf,
  claimOf,
  completeOf,
  endOf,
  failOf,
  LEASE_MS,
  stepOf,
  type TinyJournal,
} from "./helpers/ledger.ts";
import { begun, completed, failed, pendingRetry, takenOver, twice } from "./helpers/ledger-worlds.ts";

const NO_ROUTE = '{"message":"no route"}';

describe("a failure that is to be attempted again", () => {
  test("leaves the step pending until then, and the run waiting for it", () => {
    const ledger = begun();
    const run = ledger.theRun;
    ledger.now += 7;
    const { step } = twice(ledger, failOf({ attempt: 1, retryAfterMs: 500 }));
    const nextAttemptAt = ledger.now + 500;
    const ended = { status: "pending", error: NO_ROUTE, completedAt: ledger.now, nextAttemptAt } as const;
    expect(step).toEqual(stepOf(ended));
    expect(ledger.step()).toEqual(step);
    const wait = { stepIndex: 0, path: "0", for: "retry", key: null, until: nextAttemptAt };
    expect(ledger.run).toEqual({ ...run, waits: [wait] });
  });

  test("stands: another failure of the same attempt answers it, and moves nothing", () => {
    const ledger = pendingRetry(500);
    const { run } = ledger;
    const step = ledger.step();
    ledger.now += 10;
    for (const retryAfterMs of [900, null]) {
      const other = failOf({ requestId: "fail-2", attempt: 1, error: '{"message":"another"}', retryAfterMs });
      expect(ledger.answers(other)).toEqual({ step });
    }
    expect(ledger.run).toBe(run);
  });

  test("refuses a completion until the step has begun again", () => {
    const ledger = pendingRetry(500);
    for (const attempt of [1, null]) {
      expect(ledger.refuses(completeOf({ attempt }))).toEqual({
        code: "step_not_running",
        message: 'cannot complete step 0 of run "run-1": attempt 1 has failed; begin it again first.',
      });
    }
  });

  test("does not reopen a step that has failed for good, nor one that has completed", () => {
    const given = failed();
    expect(given.answers(failOf({ requestId: "fail-2", retryAfterMs: 0 }))).toEqual({ step: given.step() });
    const late = completed().refuses(failOf({ requestId: "fail-2", retryAfterMs: 0 }));
    expect(late).toMatchObject({ code: "step_not_running" });
  });

  test("that comes late, for an earlier attempt, is refused", () => {
    const ledger = pendingRetry(0);
    ledger.accepts(beginOf({ requestId: "begin-2" }));
    expect(ledger.refuses(failOf({ attempt: 1, retryAfterMs: 500 }))).toMatchObject({
      code: "step_not_running",
      message: 'cannot fail step 0 of run "run-1": attempt 1 is over; attempt 2 is running.',
    });
  });

  test("is refused once the run has ended", () => {
    const ledger = begun();
    ledger.accepts(endOf({ status: "failed" }));
    expect(ledger.refuses(failOf({ retryAfterMs: 500 }))).toMatchObject({ code: "lease_lost" });
  });
});

describe("no attempt begins before its time", () => {
  test("one that comes a millisecond early is told for how long", () => {
    const ledger = pendingRetry(500);
    ledger.now += 499;
    expect(ledger.refuses(beginOf({ requestId: "begin-2" }))).toEqual({
      code: "step_not_due",
      message: 'the next attempt of step 0 ("fetch") of run "run-1" is due in 1 ms.',
      retryAfterMs: 1,
    });
  });

  test("one that comes exactly then begins, and the run no longer waits", () => {
    const ledger = pendingRetry(500);
    ledger.now += 500;
    const { step } = twice(ledger, beginOf({ requestId: "begin-2" }));
    expect(step).toEqual(
      stepOf({ attempts: 2, tries: 2, error: NO_ROUTE, startedAt: ledger.now, beginRequestId: "begin-2" }),
    );
    expect(ledger.theRun.waits).toEqual([]);
  });

  test("a delay of 0 ms is over at once", () => {
    const ledger = pendingRetry(0);
    expect(ledger.theRun.waits).toMatchObject([{ for: "retry", until: ledger.now }]);
    expect(ledger.accepts(beginOf({ requestId: "begin-2" })).step).toMatchObject({ attempts: 2 });
  });

  test("the delay outlives the worker: whoever takes over waits for the rest of it", () => {
    const ledger = takenOver(pendingRetry(LEASE_MS + 200));
    const begin = beginOf({ requestId: "begin-2", fence: 2 });
    expect(ledger.refuses(begin)).toMatchObject({ code: "step_not_due", retryAfterMs: 200 });
    ledger.now += 200;
    expect(ledger.accepts(begin).step).toMatchObject({ attempts: 2, workerId: "bob", fence: 2 });
  });

  test("the delay outlives the run's end as failed", () => {
    const ledger = pendingRetry(500);
    ledger.accepts(endOf({ status: "failed" }));
    ledger.accepts(claimOf({ requestId: "claim-2" }));
    const begin = beginOf({ requestId: "begin-2", fence: 2 });
    expect(ledger.refuses(begin)).toMatchObject({ code: "step_not_due", retryAfterMs: 500 });
  });

  test("whatever the policy: a step that has failed, and not in doubt, was not interrupted", () => {
    for (const onInterrupted of ["rerun", "fail", "park", "reconcile"] as const) {
      const ledger = pendingRetry(500);
      const begin = beginOf({ requestId: "begin-2", onInterrupted });
      expect(ledger.refuses(begin)).toMatchObject({ code: "step_not_due", retryAfterMs: 500 });
      ledger.now += 500;
      expect(ledger.accepts(begin).step).toMatchObject({ status: "running", inDoubt: false, attempts: 2 });
    }
  });

  test("the request that began the attempt before answers, though the next is not due", () => {
    const ledger = pendingRetry(500);
    expect(ledger.answers(beginOf())).toEqual({ step: ledger.step() });
  });

  test("what the code says of the step is compared first (R23)", () => {
    const ledger = pendingRetry(500);
    const asked = beginOf({ requestId: "begin-2", intent: "parse" });
    expect(ledger.refuses(asked)).toMatchObject({ code: "step_divergence" });
  });
});

describe("tries", () => {
  test("are the attempts since the step last failed for good; attempts are all there have been", () => {
    const ledger = begun();
    const counts: [number, number][] = [];
    for (const [n, retryAfterMs] of [0, 0, null, 0, null].entries()) {
      const { attempts, tries } = ledger.accepts(failOf({ requestId: `fail-${n}`, retryAfterMs })).step;
      counts.push([attempts, tries]);
      ledger.accepts(beginOf({ requestId: `again-${n}` }));
    }
    expect(counts).toEqual([
      [1, 1],
      [2, 2],
      [3, 3],
      [4, 1],
      [5, 2],
    ]);
    expect(ledger.step()).toMatchObject({ attempts: 6, tries: 1 });
  });

  test("go on after a crash: an attempt that was cut off counts", () => {
    const ledger = takenOver(pendingRetryBegun());
    expect(ledger.step()).toMatchObject({ status: "running", tries: 2 });
    const { step } = twice(ledger, beginOf({ requestId: "begin-3", fence: 2 }));
    expect(step).toMatchObject({ attempts: 3, tries: 3 });
  });

  test("begin anew in a run that failed with its step, and go on in one that failed around it", () => {
    for (const [retryAfterMs, tries] of [
      [null, 1],
      [0, 2],
    ] as const) {
      const ledger = begun();
      ledger.accepts(failOf({ retryAfterMs }));
      ledger.accepts(endOf({ status: "failed" }));
      ledger.accepts(claimOf({ requestId: "claim-2" }));
      const { step } = ledger.accepts(beginOf({ requestId: "begin-2", fence: 2 }));
      expect(step).toMatchObject({ attempts: 2, tries });
    }
  });

  test("are none once a step that had failed for good is parked: the next attempt is its first", () => {
    const ledger = begun();
    ledger.accepts(failOf({ retryAfterMs: 0 }));
    ledger.accepts(beginOf({ requestId: "begin-2" }));
    ledger.accepts(failOf({ requestId: "fail-2", inDoubt: true }));
    expect(ledger.step()).toMatchObject({ status: "failed", attempts: 2, tries: 2 });
    takenOver(ledger);
    const parked = twice(ledger, beginOf({ requestId: "begin-3", fence: 2, onInterrupted: "park" })).step;
    expect(parked).toMatchObject({ status: "pending", inDoubt: true, attempts: 2, tries: 0 });
    takenOver(ledger);
    const again = twice(ledger, beginOf({ requestId: "begin-4", fence: 3, onInterrupted: "park" })).step;
    expect(again).toMatchObject({ status: "pending", inDoubt: true, attempts: 2, tries: 0 });
    const { step } = twice(ledger, beginOf({ requestId: "begin-5", fence: 3 }));
    expect(step).toMatchObject({ status: "running", attempts: 3, tries: 1 });
  });

  test("go on when a step that had not failed for good is parked, unless somebody decides", () => {
    const ledger = takenOver(pendingRetryBegun());
    const { step } = ledger.accepts(beginOf({ requestId: "begin-3", fence: 2, onInterrupted: "park" }));
    expect(step).toMatchObject({ status: "pending", inDoubt: true, attempts: 2, tries: 2 });
    expect(ledger.accepts(beginOf({ requestId: "begin-4", fence: 2 })).step).toMatchObject({
      attempts: 3,
      tries: 3,
    });
  });

  test("stay as they are at the end of an attempt, and when its begin or its end is repeated", () => {
    const ledger = pendingRetryBegun();
    twice(ledger, beginOf({ requestId: "begin-2" }));
    twice(ledger, completeOf({ attempt: 2 }));
    expect(ledger.step()).toMatchObject({ status: "completed", attempts: 2, tries: 2 });
  });
});

describe("the last failure", () => {
  test("stays with the step while it runs again, and once it has completed", () => {
    const ledger = pendingRetryBegun();
    expect(ledger.step()).toMatchObject({ status: "running", error: NO_ROUTE });
    ledger.accepts(completeOf());
    expect(ledger.step()).toMatchObject({
      status: "completed",
      error: NO_ROUTE,
      result: { text: '"page"' },
      nextAttemptAt: null,
    });
  });

  test("gives way to the next one", () => {
    const ledger = pendingRetryBegun();
    ledger.accepts(failOf({ requestId: "fail-2", error: '{"message":"broken"}', retryAfterMs: 10 }));
    expect(ledger.step()).toMatchObject({ status: "pending", error: '{"message":"broken"}' });
  });

  test("outlives an attempt that was cut off", () => {
    const ledger = takenOver(pendingRetryBegun());
    ledger.accepts(beginOf({ requestId: "begin-3", fence: 2 }));
    expect(ledger.step()).toMatchObject({ status: "running", attempts: 3, error: NO_ROUTE });
  });
});

/** Attempt 1 of step 0 has failed, and attempt 2 runs. */
function pendingRetryBegun(): TinyJournal {
  const ledger = pendingRetry(0);
  ledger.accepts(beginOf({ requestId: "begin-2" }));
  return ledger;
}
