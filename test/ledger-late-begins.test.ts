/** A begin that says which attempt it begins: a late copy of it, from the same claim, begins no later one (R20). */
import { describe, expect, test } from "vitest";
import type { BeginRequest } from "../src/ledger/requests.ts";
import {
  beginOf,
  begunOf,
  cancelOf,
  claimOf,
  completeOf,
  endOf,
  failOf,
  resolveOf,
  restartOf,
  suspendOf,
  type TinyJournal,
} from "./helpers/ledger.ts";
import { begun, claimed, interrupted, pendingRetry, takenOver, twice } from "./helpers/ledger-worlds.ts";

const FIRST = beginOf({ attempt: 1 });
const SECOND = beginOf({ requestId: "begin-2", attempt: 2 });
const POLICIES: readonly BeginRequest["onInterrupted"][] = ["rerun", "fail", "park", "reconcile"];

/** Attempt 1 of step 0 has failed, and attempt 2 runs, under the one claim. */
function inAttemptTwo(): TinyJournal {
  const ledger = claimed();
  ledger.accepts(FIRST);
  ledger.accepts(failOf({ attempt: 1, retryAfterMs: 0 }));
  ledger.accepts(SECOND);
  return ledger;
}

describe("a begin that says which attempt it begins", () => {
  test("begins the first one, and the next one, and is answered the same when it comes again", () => {
    const ledger = claimed();
    expect(twice(ledger, FIRST).step).toMatchObject({ status: "running", attempts: 1 });
    ledger.accepts(failOf({ attempt: 1, retryAfterMs: 0 }));
    expect(twice(ledger, SECOND).step).toMatchObject({ status: "running", attempts: 2 });
  });

  test("begins the next attempt of a step that its worker died in", () => {
    const ledger = takenOver(begun());
    expect(twice(ledger, { ...SECOND, fence: 2 }).step).toMatchObject({ status: "running", attempts: 2 });
  });

  test("begins an attempt below the one that it says, where begins were lost: never one above", () => {
    const ledger = claimed();
    expect(ledger.accepts(beginOf({ attempt: 3 })).step.attempts).toBe(1);
    ledger.accepts(beginOf({ requestId: "begin-2", attempt: 3 }));
    ledger.accepts(beginOf({ requestId: "begin-3", attempt: 3 }));
    expect(ledger.step().attempts).toBe(3);
    expect(ledger.refuses(beginOf({ requestId: "begin-4", attempt: 3 }))).toMatchObject({
      code: "step_not_running",
    });
  });

  test("is refused exactly from the attempt on that the step is at", () => {
    const ledger = inAttemptTwo();
    for (const attempt of [1, 2]) {
      expect(ledger.refuses(beginOf({ requestId: "begin-9", attempt }))).toEqual({
        code: "step_not_running",
        message: `attempt ${attempt} of step 0 of run "run-1" has been begun: the step is at attempt 2.`,
      });
    }
    expect(ledger.accepts(beginOf({ requestId: "begin-9", attempt: 3 })).step.attempts).toBe(3);
  });

  test("is not held to it when it says none", () => {
    const ledger = inAttemptTwo();
    expect(ledger.accepts(beginOf({ requestId: "begin-9", attempt: null })).step.attempts).toBe(3);
  });
});

describe("a late copy of a begin", () => {
  test.each<[string, (ledger: TinyJournal) => unknown]>([
    ["runs", () => undefined],
    ["waits for the one after", (it) => it.accepts(failOf({ attempt: 2, retryAfterMs: 500 }))],
    ["may begin the one after", (it) => it.accepts(failOf({ attempt: 2, retryAfterMs: 0 }))],
    ["has failed for good", (it) => it.accepts(failOf({ attempt: 2 }))],
    ["has failed in doubt", (it) => it.accepts(failOf({ attempt: 2, inDoubt: true }))],
  ])("changes nothing when the next attempt of the same claim %s, under each policy", (_which, go) => {
    const ledger = inAttemptTwo();
    go(ledger);
    const before = ledger.snapshot();
    for (const onInterrupted of [...POLICIES, ...POLICIES]) {
      expect(ledger.submit({ ...FIRST, onInterrupted })).toMatchObject({
        ok: false,
        error: { code: "step_not_running" },
      });
    }
    expect(ledger.snapshot()).toEqual(before);
    // The latest one is known by its request id.
    expect(ledger.answers(SECOND)).toEqual({ step: ledger.step() });
  });

  test("takes no failure away that the task has gone on from (R24)", () => {
    const ledger = inAttemptTwo();
    ledger.accepts(failOf({ attempt: 2 }));
    ledger.accepts(beginOf({ stepIndex: 1, requestId: "begin-3", attempt: 1, caught: [0] }));
    ledger.refuses(FIRST);
    expect(ledger.step()).toMatchObject({ status: "failed", attempts: 2 });
  });

  test("is answered with the result once the step has completed", () => {
    const ledger = inAttemptTwo();
    ledger.accepts(completeOf({ attempt: 2 }));
    expect(ledger.answers(FIRST)).toEqual({ step: ledger.step() });
  });

  test("is refused, too, where the begin of the later attempt was made up for by its end (R16)", () => {
    const ledger = claimed();
    ledger.accepts(FIRST);
    const lost = begunOf({ requestId: "begin-2" });
    ledger.accepts(failOf({ attempt: 2, begun: lost, retryAfterMs: 0 }));
    expect(ledger.step()).toMatchObject({ status: "pending", attempts: 2 });
    for (const late of [FIRST, { ...SECOND, requestId: "begin-9" }]) {
      expect(ledger.refuses(late)).toMatchObject({ code: "step_not_running" });
    }
    expect(ledger.accepts(beginOf({ requestId: "begin-3", attempt: 3 })).step.attempts).toBe(3);
  });

  test("from an earlier claim is refused by its fence", () => {
    const ledger = takenOver(inAttemptTwo());
    expect(ledger.refuses(FIRST)).toMatchObject({ code: "lease_lost" });
    expect(ledger.refuses(SECOND)).toMatchObject({ code: "lease_lost" });
  });

  test("is told first that the run has ended, and that it is another step (R23)", () => {
    for (const [request, code] of [
      [endOf(), "lease_lost"],
      [suspendOf(), "lease_lost"],
      [cancelOf(), "run_cancelled"],
    ] as const) {
      const ledger = inAttemptTwo();
      ledger.accepts(request);
      for (const fence of [1, null]) expect(ledger.refuses({ ...FIRST, fence })).toMatchObject({ code });
    }
    expect(inAttemptTwo().refuses({ ...FIRST, intent: "parse" })).toMatchObject({ code: "step_divergence" });
  });

  test("is told that it is late, and not to wait", () => {
    const ledger = pendingRetry(500);
    const error = ledger.refuses(beginOf({ requestId: "begin-9", attempt: 1 }));
    expect(error).not.toHaveProperty("retryAfterMs");
    expect(error).toMatchObject({ code: "step_not_running" });
    expect(ledger.refuses(SECOND)).toMatchObject({ code: "step_not_due", retryAfterMs: 500 });
  });
});

describe("a begin that was held back", () => {
  test.each(["fail", "park"] as const)(
    'with "%s" was no attempt: the next one is still to come',
    (policy) => {
      const ledger = takenOver(begun());
      const held = { ...SECOND, fence: 2, onInterrupted: policy };
      expect(twice(ledger, held).step.attempts).toBe(1);
      expect(ledger.refuses(beginOf({ requestId: "begin-9", fence: 2, attempt: 1 }))).toMatchObject({
        code: "step_not_running",
      });
      takenOver(ledger);
      const next = beginOf({ requestId: "begin-3", fence: 3, attempt: 2 });
      expect(twice(ledger, next).step).toMatchObject({ status: "running", attempts: 2 });
    },
  );

  test("is followed by the attempt of its number once somebody has decided so", () => {
    const ledger = interrupted("park");
    twice(ledger, resolveOf({ result: null }));
    ledger.accepts(suspendOf({ workerId: "bob", fence: 2 }));
    ledger.accepts(claimOf({ requestId: "claim-3", workerId: "cat" }));
    const next = beginOf({ requestId: "begin-3", fence: 3, attempt: 2, onInterrupted: "park" });
    expect(twice(ledger, next).step).toMatchObject({ status: "running", attempts: 2, tries: 1 });
  });
});

test("attempts begin at 1 again in a step that a restart has dropped", () => {
  const ledger = inAttemptTwo();
  ledger.accepts(restartOf());
  ledger.accepts(claimOf({ requestId: "claim-2" }));
  expect(twice(ledger, { ...FIRST, requestId: "begin-3", fence: 3 }).step.attempts).toBe(1);
});
