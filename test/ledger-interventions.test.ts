/** What is done to a run from outside its steps: suspend, cancel, restart (R5, R31). */
import { describe, expect, test } from "vitest";
import type { Request } from "../src/ledger/requests.ts";
import {
  beginOf,
  cancelOf,
  claimOf,
  completeOf,
  copyOf,
  emitOf,
  endOf,
  failOf,
  forkOf,
  LEASE_MS,
  renewOf,
  resolveOf,
  restartOf,
  sealOf,
  suspendOf,
  TinyJournal,
} from "./helpers/ledger.ts";
import { begun, claimed, completed, failed, interrupted, suspended, twice } from "./helpers/ledger-worlds.ts";

/** Whatever ann may still try under fence 1, when she held the run, with step 0 begun. */
const LATE: readonly Request[] = [
  beginOf(),
  beginOf({ requestId: "begin-2" }),
  completeOf(),
  failOf(),
  failOf({ retryAfterMs: 5 }),
  endOf(),
  suspendOf(),
  copyOf(),
  sealOf(),
];

describe("a suspension", () => {
  test("frees the lease of a run that waits for a decision, and keeps its fence", () => {
    const ledger = interrupted("park");
    const run = ledger.theRun;
    ledger.now += 5;
    const reply = twice(ledger, suspendOf({ workerId: "bob", fence: 2 }));
    expect(reply.run).toEqual({
      ...run,
      status: "suspended",
      leaseExpiresAt: null,
      updatedAt: ledger.now,
    });
    expect(ledger.run).toEqual(reply.run);
  });

  test("of a run whose decision was made meanwhile leaves it to anybody: it is pending", () => {
    const ledger = interrupted("park");
    ledger.accepts(resolveOf());
    const { run } = twice(ledger, suspendOf({ workerId: "bob", fence: 2 }));
    expect(run).toMatchObject({ status: "pending", leaseExpiresAt: null, fence: 2 });
    expect(ledger.accepts(claimOf({ requestId: "claim-3", workerId: "cat" })).run.status).toBe("running");
  });

  test("of a run that waits for something else leaves it to anybody as well", () => {
    const ledger = begun({ waitFor: { for: "event", key: "approved" } });
    expect(twice(ledger, suspendOf()).run).toMatchObject({ status: "pending" });
  });

  test("without a fence is held to the worker id", () => {
    const ledger = interrupted("park");
    expect(ledger.refuses(suspendOf({ fence: null }))).toMatchObject({ code: "lease_lost" });
    expect(ledger.accepts(suspendOf({ fence: null, workerId: "bob" })).run.status).toBe("suspended");
  });

  test("after the lease lapsed still counts while nobody else has claimed", () => {
    const ledger = interrupted("park");
    ledger.now += LEASE_MS;
    expect(ledger.accepts(suspendOf({ workerId: "bob", fence: 2 })).run.status).toBe("suspended");
  });

  test("by whoever does not hold the run is refused", () => {
    const ledger = interrupted("park");
    for (const over of [{ fence: 1 }, { fence: 3 }, { fence: 2, workerId: "ann" }]) {
      const error = ledger.refuses(suspendOf({ workerId: "bob", ...over }));
      expect(error).toMatchObject({ code: "lease_lost" });
    }
  });

  test("of an unknown run, or one that has ended, is refused", () => {
    expect(new TinyJournal().refuses(suspendOf())).toMatchObject({ code: "run_not_found" });
    for (const status of ["completed", "failed"] as const) {
      const ledger = claimed();
      ledger.accepts(endOf({ status }));
      expect(ledger.refuses(suspendOf())).toMatchObject({
        code: "lease_lost",
        message: `run "run-1" is ${status}, and its lease was released.`,
      });
    }
  });

  test("stops its worker: what comes under the same fence is refused", () => {
    const ledger = begun();
    ledger.accepts(suspendOf());
    for (const request of [beginOf({ requestId: "begin-2" }), completeOf(), failOf(), endOf()]) {
      expect(ledger.refuses(request)).toMatchObject({ code: "lease_lost" });
    }
    expect(ledger.answers(renewOf())).toEqual({ leaseExpiresAt: null, status: "pending" });
  });
});

describe("a cancellation", () => {
  test("frees the lease, mints a fence, and says why", () => {
    const ledger = begun({ waitFor: { for: "event", key: "approved" } });
    const { run: before } = ledger;
    const step = ledger.step();
    ledger.now += 5;
    const { run } = twice(ledger, cancelOf({ reason: "too dear" }));
    expect(run).toEqual({
      ...before,
      status: "cancelled",
      fence: 2,
      claimRequestId: "cancel-1",
      leaseExpiresAt: null,
      updatedAt: ledger.now,
      completedAt: ledger.now,
      error: '{"name":"DurableRunCancelledError","message":"too dear","code":"run_cancelled"}',
      waits: [],
      interventions: ["cancel-1"],
    });
    expect(ledger.step()).toEqual(step);
  });

  test.each<[string, () => TinyJournal]>([
    ["running", begun],
    ["running, its lease lapsed", lapsed],
    ["failed", () => endedAs("failed")],
    ["suspended", suspended],
    ["pending", restarted],
    ["being forked", forked],
  ])("of a run that is %s stands: no claim succeeds", (_which, world) => {
    const ledger = world();
    const { fence } = ledger.theRun;
    const { run } = twice(ledger, cancelOf());
    expect(run).toMatchObject({ status: "cancelled", fence: fence + 1, leaseExpiresAt: null, outcome: null });
    expect(run).toMatchObject({ result: null, waits: [] });
    ledger.now += LEASE_MS;
    for (const requestId of ["claim-1", "claim-9"]) {
      expect(ledger.refuses(claimOf({ requestId }))).toMatchObject({ code: "run_cancelled" });
    }
  });

  test("of a completed run leaves it as it is", () => {
    const ledger = endedAs("completed");
    expect(ledger.answers(cancelOf())).toEqual({ run: ledger.run });
  });

  test("of a cancelled run leaves it as it is: the first reason stands", () => {
    const ledger = claimed();
    const { run } = ledger.accepts(cancelOf());
    ledger.now += 5;
    expect(ledger.answers(cancelOf({ requestId: "cancel-2", reason: "another" }))).toEqual({ run });
  });

  test("of an unknown run is refused", () => {
    expect(new TinyJournal().refuses(cancelOf())).toMatchObject({ code: "run_not_found" });
  });

  test("tells a live worker with its next call, whichever it makes", () => {
    const ledger = begun();
    ledger.accepts(cancelOf());
    for (const request of LATE) expect(ledger.refuses(request)).toMatchObject({ code: "run_cancelled" });
    expect(ledger.answers(renewOf())).toEqual({ leaseExpiresAt: null, status: "cancelled" });
  });

  test("tells one without a fence, too", () => {
    const ledger = begun();
    ledger.accepts(cancelOf());
    const late = [beginOf({ requestId: "begin-2" }), completeOf(), failOf(), endOf(), suspendOf()];
    for (const request of late) {
      expect(ledger.refuses({ ...request, fence: null })).toMatchObject({ code: "run_cancelled" });
    }
  });

  test("leaves events open", () => {
    const ledger = claimed();
    ledger.accepts(cancelOf());
    expect(twice(ledger, emitOf()).accepted).toBe(true);
  });
});

describe("a restart", () => {
  test("drops the steps from one on, mints a fence, and leaves the run to a worker", () => {
    const ledger = threeSteps();
    ledger.accepts(emitOf());
    ledger.accepts(endOf({ outcome: '{"pass":true}' }));
    const { run: before } = ledger;
    const kept = ledger.step(0);
    ledger.now += 5;
    const { run } = twice(ledger, restartOf({ stepIndex: 1 }));
    expect(run).toEqual({
      ...before,
      status: "pending",
      fence: 2,
      claimRequestId: "restart-1",
      leaseExpiresAt: null,
      updatedAt: ledger.now,
      completedAt: null,
      outcome: null,
      result: null,
      error: null,
      interventions: ["restart-1"],
    });
    const { steps, events } = ledger.snapshot();
    expect([...steps]).toEqual([[0, kept]]);
    expect([...events.keys()]).toEqual(["approved"]);
  });

  test.each<[string, () => TinyJournal]>([
    ["running", begun],
    ["running, its lease lapsed", lapsed],
    ["completed", () => endedAs("completed")],
    ["failed", () => endedAs("failed")],
    ["suspended", suspended],
    ["cancelled", () => cancelledAfter(completed())],
    ["pending", () => restartedFrom(1)],
  ])("of a run that is %s lets a claim go on from the steps that are left", (_which, world) => {
    const ledger = world();
    const { fence, takeovers, createdAt } = ledger.theRun;
    twice(ledger, restartOf({ requestId: "restart-9" }));
    expect(ledger.run).toMatchObject({ status: "pending", fence: fence + 1, error: null, waits: [] });
    expect(ledger.snapshot().steps.size).toBe(0);
    const { run } = ledger.accepts(claimOf({ requestId: "claim-9", workerId: "cat" }));
    expect(run).toMatchObject({ status: "running", fence: fence + 2, takeovers, createdAt });
    const again = beginOf({ requestId: "begin-9", fence: run.fence, intent: "anew", path: "x" });
    expect(ledger.accepts(again).step).toMatchObject({ attempts: 1, tries: 1, error: null, caught: [] });
  });

  test("fences a live worker out at once", () => {
    const ledger = begun();
    ledger.accepts(restartOf());
    for (const request of LATE) expect(ledger.refuses(request)).toMatchObject({ code: "lease_lost" });
    expect(ledger.answers(renewOf())).toEqual({ leaseExpiresAt: null, status: "pending" });
  });

  test("of a cancelled run ends the cancellation: a late worker is told that its lease is lost", () => {
    const ledger = cancelledAfter(begun());
    ledger.accepts(restartOf());
    for (const request of LATE) expect(ledger.refuses(request)).toMatchObject({ code: "lease_lost" });
  });

  test("repeated before the next claim does not drop again (R20)", () => {
    const ledger = threeSteps();
    const { run } = ledger.accepts(restartOf({ stepIndex: 1 }));
    ledger.now += LEASE_MS;
    expect(ledger.answers(restartOf({ stepIndex: 1 }))).toEqual({ run });
  });

  test("under a request id of its own is another restart, whoever is at work", () => {
    const ledger = threeSteps();
    twice(ledger, restartOf({ stepIndex: 2 }));
    ledger.accepts(claimOf({ requestId: "claim-9", workerId: "cat" }));
    expect(twice(ledger, restartOf({ requestId: "restart-2", stepIndex: 1 })).run).toMatchObject({
      fence: 4,
      status: "pending",
      leaseExpiresAt: null,
    });
    expect([...ledger.snapshot().steps.keys()]).toEqual([0]);
  });

  test("from a step that is not on record is refused, naming the field", () => {
    const ledger = threeSteps();
    expect(ledger.refuses(restartOf({ stepIndex: 3 }))).toEqual({
      code: "invalid_input",
      message: 'fromStep is 3, but run "run-1" has no such step on record',
      field: "fromStep",
    });
  });

  test("of an unknown run is refused, and so is that of one that is being forked", () => {
    expect(new TinyJournal().refuses(restartOf())).toMatchObject({ code: "run_not_found" });
    expect(forked().refuses(restartOf())).toEqual({
      code: "lease_held",
      message: 'run "run-1" is still being forked.',
    });
  });
});

function lapsed(): TinyJournal {
  const ledger = begun();
  ledger.now += LEASE_MS;
  return ledger;
}

function endedAs(status: "completed" | "failed"): TinyJournal {
  const ledger = status === "failed" ? failed() : completed();
  ledger.accepts(endOf({ status, error: status === "failed" ? '{"message":"broke"}' : null }));
  return ledger;
}

function cancelledAfter(ledger: TinyJournal): TinyJournal {
  ledger.accepts(cancelOf());
  return ledger;
}

/** A run with three completed steps. */
function threeSteps(): TinyJournal {
  const ledger = claimed();
  for (const stepIndex of [0, 1, 2]) {
    ledger.accepts(beginOf({ stepIndex, requestId: `begin-${stepIndex}` }));
    ledger.accepts(completeOf({ stepIndex }));
  }
  return ledger;
}

function restartedFrom(stepIndex: number): TinyJournal {
  const ledger = threeSteps();
  ledger.accepts(restartOf({ stepIndex }));
  return ledger;
}

function restarted(): TinyJournal {
  return restartedFrom(0);
}

/** A fork that is not sealed, with its step 0. */
function forked(): TinyJournal {
  const ledger = new TinyJournal();
  ledger.accepts(forkOf());
  ledger.accepts(copyOf());
  return ledger;
}
