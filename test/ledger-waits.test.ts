/** What a run waits for: at which step, for what, and until when. */
import { describe, expect, test } from "vitest";
import type { BeginRequest } from "../src/ledger/requests.ts";
import type { Wait } from "../src/ledger/state.ts";
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
  type TinyJournal,
} from "./helpers/ledger.ts";
import { begun, claimed, takenOver, twice } from "./helpers/ledger-worlds.ts";

const EVENT = { for: "event", key: "approved" } as const;
const TIME = { for: "time", key: null } as const;

/** Step 0 waits for an event. */
function waiting(): TinyJournal {
  return begun({ waitFor: EVENT, timeoutMs: 500 });
}

/** Begins a step that waits, under the run's fence. */
function wait(ledger: TinyJournal, stepIndex: number, over: Partial<BeginRequest> = {}): void {
  const { fence } = ledger.theRun;
  ledger.accepts(beginOf({ stepIndex, requestId: `wait-${stepIndex}`, fence, waitFor: TIME, ...over }));
}

function positions(waits: readonly Wait[]): number[] {
  return waits.map(({ stepIndex }) => stepIndex);
}

describe("a step that waits", () => {
  test("for an event is shown with its key, until its deadline, and nothing else of the run changes", () => {
    const ledger = claimed();
    const run = ledger.theRun;
    twice(ledger, beginOf({ waitFor: EVENT, timeoutMs: 500 }));
    const shown = { stepIndex: 0, path: "0", for: "event", key: "approved", until: ledger.now + 500 };
    expect(ledger.run).toEqual({ ...run, waits: [shown] });
  });

  test("for a time is shown without a key, and with its path", () => {
    const ledger = claimed();
    wait(ledger, 4, { path: "1/a/0", timeoutMs: 0 });
    const shown = { stepIndex: 4, path: "1/a/0", for: "time", key: null, until: ledger.now };
    expect(ledger.theRun.waits).toEqual([shown]);
  });

  test("without a deadline is shown without one", () => {
    expect(begun({ waitFor: EVENT }).theRun.waits).toMatchObject([{ for: "event", until: null }]);
  });

  test("is shown once, however often it begins, and until its first deadline (R24)", () => {
    const ledger = waiting();
    const { waits } = ledger.theRun;
    takenOver(ledger);
    expect(ledger.theRun.waits).toEqual(waits);
    wait(ledger, 0, { waitFor: EVENT, timeoutMs: 90_000 });
    expect(ledger.theRun.waits).toEqual(waits);
  });

  test("is shown with what its latest begin waits for, or not at all when that waits for nothing", () => {
    const ledger = waiting();
    wait(ledger, 0, { waitFor: { for: "event", key: "rejected" } });
    expect(ledger.theRun.waits).toMatchObject([{ for: "event", key: "rejected" }]);
    ledger.accepts(beginOf({ requestId: "begin-3" }));
    expect(ledger.theRun.waits).toEqual([]);
  });

  test("stands beside others, in order of their begins", () => {
    const ledger = claimed();
    for (const stepIndex of [2, 0, 1]) wait(ledger, stepIndex);
    expect(positions(ledger.theRun.waits)).toEqual([2, 0, 1]);
    wait(ledger, 2, { requestId: "again" });
    expect(positions(ledger.theRun.waits)).toEqual([0, 1, 2]);
  });
});

describe("a wait is over", () => {
  test("when its step completes", () => {
    const ledger = waiting();
    wait(ledger, 1);
    twice(ledger, completeOf());
    expect(positions(ledger.theRun.waits)).toEqual([1]);
  });

  test("when its step fails, and is another one when the step is to be attempted again", () => {
    const ledger = waiting();
    wait(ledger, 1);
    twice(ledger, failOf());
    expect(positions(ledger.theRun.waits)).toEqual([1]);
    twice(ledger, failOf({ stepIndex: 1, retryAfterMs: 80 }));
    expect(ledger.theRun.waits).toMatchObject([{ stepIndex: 1, for: "retry", until: ledger.now + 80 }]);
  });

  test("when its step is held back, and a decision takes its place when it is parked", () => {
    const failing = takenOver(waiting());
    twice(failing, beginOf({ requestId: "begin-2", fence: 2, waitFor: EVENT, onInterrupted: "fail" }));
    expect(failing.theRun.waits).toEqual([]);
    const parking = takenOver(waiting());
    twice(parking, beginOf({ requestId: "begin-2", fence: 2, waitFor: EVENT, onInterrupted: "park" }));
    expect(parking.theRun.waits).toMatchObject([{ for: "decision", key: null, until: null }]);
  });

  test("when its step ends in an attempt whose begin was lost", () => {
    for (const ending of [completeOf, failOf]) {
      const ledger = waiting();
      wait(ledger, 1);
      const begunAgain = begunOf({ requestId: "begin-9", waitFor: EVENT });
      twice(ledger, ending({ attempt: 2, begun: begunAgain }));
      expect(positions(ledger.theRun.waits)).toEqual([1]);
    }
  });

  test("when the run ends, or is cancelled", () => {
    for (const request of [endOf(), endOf({ status: "failed" }), cancelOf()]) {
      const ledger = waiting();
      wait(ledger, 1);
      ledger.accepts(request);
      expect(ledger.theRun.waits).toEqual([]);
    }
  });

  test("when a restart drops its step, and not when its step is left", () => {
    const ledger = claimed();
    for (const stepIndex of [3, 1, 2, 0]) wait(ledger, stepIndex);
    twice(ledger, restartOf({ stepIndex: 2 }));
    expect(positions(ledger.theRun.waits)).toEqual([1, 0]);
  });

  test("not when the run changes hands, or is left to whoever comes next", () => {
    const ledger = waiting();
    const { waits } = ledger.theRun;
    ledger.accepts(suspendOf());
    expect(ledger.theRun).toMatchObject({ status: "pending", waits });
    ledger.accepts(claimOf({ requestId: "claim-2" }));
    expect(ledger.theRun).toMatchObject({ status: "running", waits });
  });

  test("not by a request that is refused, or answered with what stands", () => {
    const ledger = waiting();
    const { run } = ledger;
    ledger.refuses(completeOf({ fence: 7 }));
    ledger.refuses(beginOf({ requestId: "begin-2", intent: "parse" }));
    ledger.answers(beginOf({ waitFor: null }));
    expect(ledger.run).toBe(run);
  });
});

describe("the waits of a group's branches", () => {
  /** A group at path 1, and one at path 10, each with branches that wait. */
  function grouped(): TinyJournal {
    const ledger = claimed();
    wait(ledger, 0, { path: "0" });
    ledger.accepts(beginOf({ stepIndex: 1, requestId: "group" }));
    wait(ledger, 2, { path: "1/a/0" });
    wait(ledger, 3, { path: "1/b/2/c/0" });
    wait(ledger, 4, { path: "10" });
    wait(ledger, 5, { path: "10/a/0" });
    expect(positions(ledger.theRun.waits)).toEqual([0, 2, 3, 4, 5]);
    return ledger;
  }

  test.each([
    ["completes", completeOf({ stepIndex: 1 })],
    ["fails", failOf({ stepIndex: 1 })],
    ["begins anew", beginOf({ stepIndex: 1, requestId: "group-again" })],
  ])("are over when the group %s, at every depth, and no other wait is", (_when, request) => {
    const ledger = grouped();
    twice(ledger, request);
    expect(positions(ledger.theRun.waits)).toEqual([0, 4, 5]);
  });

  test("are over one by one when a branch goes on, and those below an inner group with it", () => {
    const ledger = grouped();
    twice(ledger, completeOf({ stepIndex: 2 }));
    expect(positions(ledger.theRun.waits)).toEqual([0, 3, 4, 5]);
    ledger.accepts(beginOf({ stepIndex: 6, path: "1/b/2", requestId: "inner" }));
    expect(positions(ledger.theRun.waits)).toEqual([0, 4, 5]);
  });

  test("leave the group's own wait alone", () => {
    const ledger = grouped();
    ledger.accepts(failOf({ stepIndex: 1, retryAfterMs: 90 }));
    wait(ledger, 7, { path: "1/c/0" });
    expect(ledger.theRun.waits.map((each) => each.path)).toEqual(["0", "10", "10/a/0", "1", "1/c/0"]);
    ledger.accepts(completeOf({ stepIndex: 7 }));
    expect(ledger.theRun.waits.map((each) => each.path)).toEqual(["0", "10", "10/a/0", "1"]);
  });
});

test("a run whose waits are the same is not written again", () => {
  const ledger = claimed();
  wait(ledger, 5);
  for (const request of [beginOf(), failOf(), beginOf({ requestId: "begin-2" }), completeOf()]) {
    const decision = ledger.submit(request);
    expect(decision).toMatchObject({ ok: true, change: { step: ledger.step() } });
    expect(decision).not.toHaveProperty("change.run");
  }
});
