/** What people ask of a run takes effect once, however late it is repeated: cancel, restart, resolve (R20, R34). */
import { describe, expect, test } from "vitest";
import type { CancelRequest, ResolveRequest, RestartRequest } from "../src/ledger/requests.ts";
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
import { interrupted, suspended, takenOver, twice } from "./helpers/ledger-worlds.ts";

type Intervention = CancelRequest | RestartRequest | ResolveRequest;

/** How many are known again. */
const KNOWN = 16;

/** Step 0 is parked, and step 1 has failed; the run is suspended under fence 2. */
function world(): TinyJournal {
  const ledger = interrupted("park");
  ledger.accepts(beginOf({ stepIndex: 1, requestId: "begin-1-1", fence: 2 }));
  ledger.accepts(failOf({ stepIndex: 1, requestId: "fail-1-1", fence: 2 }));
  ledger.accepts(suspendOf({ workerId: "bob", fence: 2 }));
  return ledger;
}

const INTERVENTIONS: [string, Intervention][] = [
  ["a cancellation", cancelOf({ requestId: "asked" })],
  ["a restart", restartOf({ requestId: "asked", stepIndex: 1 })],
  ["a decision with a result", resolveOf({ requestId: "asked" })],
  ["a decision for another attempt", resolveOf({ requestId: "asked", result: null })],
];

/** Answers what stands, twice, at whatever time, and changes nothing. */
function repeatsWithoutEffect(ledger: TinyJournal, request: Intervention): void {
  const before = ledger.snapshot();
  for (const waitMs of [0, 7, LEASE_MS]) {
    ledger.now += waitMs;
    const reply = ledger.answers<Intervention>(request);
    expect(reply).toEqual(request.op === "resolve" ? { step: ledger.step() } : { run: ledger.run });
    ledger.accepts(request);
    ledger.now -= waitMs;
  }
  expect(ledger.snapshot()).toEqual(before);
}

/** Sets the run going again, whatever it is, with step 0 running. */
function goOn(ledger: TinyJournal): number {
  if (ledger.theRun.status === "cancelled") ledger.accepts(restartOf({ requestId: "revived", stepIndex: 0 }));
  const { fence } = ledger.accepts(claimOf({ requestId: "claim-on", workerId: "cat" })).run;
  ledger.accepts(beginOf({ requestId: "begin-on", fence }));
  return fence;
}

describe.each(INTERVENTIONS)("%s that is repeated", (_what, request) => {
  test("at once changes nothing again", () => {
    const ledger = world();
    twice(ledger, request);
    repeatsWithoutEffect(ledger, request);
  });

  test("after a claim and a begin changes nothing: whoever is at work stays", () => {
    const ledger = world();
    ledger.accepts(request);
    const fence = goOn(ledger);
    repeatsWithoutEffect(ledger, request);
    expect(ledger.theRun).toMatchObject({ status: "running", fence, workerId: "cat" });
    const renewal = renewOf({ workerId: "cat", fence });
    expect(ledger.accepts(renewal)).toMatchObject({ leaseExpiresAt: ledger.now + LEASE_MS });
  });

  test("after the attempt that followed has failed, or completed, changes nothing", () => {
    for (const end of [failOf(), failOf({ retryAfterMs: 50 }), completeOf()]) {
      const ledger = world();
      ledger.accepts(request);
      const fence = goOn(ledger);
      // A decision with a result has ended the step already.
      ledger.submit({ ...end, fence });
      repeatsWithoutEffect(ledger, request);
    }
  });

  test("after the step was parked anew changes nothing: that one is to be decided anew", () => {
    const ledger = world();
    ledger.accepts(request);
    goOn(ledger);
    takenOver(ledger);
    const { fence } = ledger.theRun;
    ledger.accepts(beginOf({ requestId: "begin-anew", fence, onInterrupted: "park" }));
    repeatsWithoutEffect(ledger, request);
    // A decision for a result has ended the step, so that it never ran again.
    const isDecided = request.op === "resolve" && request.result !== null;
    expect(ledger.step().status).toBe(isDecided ? "completed" : "pending");
    if (!isDecided) {
      expect(ledger.accepts(resolveOf({ requestId: "resolve-anew" })).step.status).toBe("completed");
      repeatsWithoutEffect(ledger, request);
    }
  });

  test("after the run has ended changes nothing", () => {
    for (const status of ["completed", "failed"] as const) {
      const ledger = world();
      ledger.accepts(request);
      ledger.accepts(endOf({ workerId: "cat", fence: goOn(ledger), status }));
      repeatsWithoutEffect(ledger, request);
      expect(ledger.theRun.status).toBe(status);
    }
  });

  test("after a cancellation changes nothing, and after the restart that ended that one", () => {
    const ledger = world();
    ledger.accepts(request);
    ledger.accepts(cancelOf({ requestId: "cancel-later" }));
    repeatsWithoutEffect(ledger, request);
    ledger.accepts(restartOf({ requestId: "restart-later", stepIndex: 0 }));
    ledger.accepts(claimOf({ requestId: "claim-later" }));
    ledger.accepts(beginOf({ requestId: "begin-later", fence: ledger.theRun.fence }));
    repeatsWithoutEffect(ledger, request);
  });

  test("after another of its kind changes nothing", () => {
    const ledger = world();
    ledger.accepts(request);
    goOn(ledger);
    if (request.op === "resolve") {
      takenOver(ledger);
      const { fence } = ledger.theRun;
      const at = { stepIndex: 1, onInterrupted: "park", fence } as const;
      ledger.accepts(beginOf({ ...at, requestId: "again-1", onInterrupted: "rerun" }));
      ledger.accepts(beginOf({ ...at, requestId: "parked-1" }));
      ledger.accepts(resolveOf({ requestId: "other", stepIndex: 1 }));
    } else
      ledger.accepts({ ...request, requestId: "other", ...(request.op === "restart" && { stepIndex: 0 }) });
    if (ledger.snapshot().steps.has(0)) repeatsWithoutEffect(ledger, request);
    else expect(ledger.answers(request)).toEqual({ run: ledger.run });
  });
});

describe("a decision that is repeated", () => {
  test("after its step was dropped finds no step, and none that was begun there since is touched", () => {
    const ledger = suspended();
    ledger.accepts(resolveOf());
    ledger.accepts(restartOf());
    expect(ledger.refuses(resolveOf())).toEqual({
      code: "step_not_in_doubt",
      message: 'step 0 of run "run-1" is not on record: there is nothing to resolve.',
    });
    ledger.accepts(claimOf({ requestId: "claim-3" }));
    ledger.accepts(beginOf({ requestId: "begin-3", fence: 4 }));
    takenOver(ledger);
    ledger.accepts(beginOf({ requestId: "begin-4", fence: 5, onInterrupted: "park" }));
    repeatsWithoutEffect(ledger, resolveOf());
    expect(ledger.step()).toMatchObject({ status: "pending", inDoubt: true });
  });
});

describe("the interventions that a run knows again", () => {
  test("are in the order in which they came, each once", () => {
    const ledger = world();
    expect(ledger.theRun.interventions).toEqual([]);
    const asked = [
      resolveOf(),
      restartOf({ stepIndex: 1 }),
      cancelOf(),
      restartOf({ requestId: "restart-2" }),
    ];
    for (const request of [...asked, ...asked.slice(0, -1)]) ledger.submit(request);
    const known = ["resolve-1", "restart-1", "cancel-1", "restart-2"];
    expect(ledger.theRun.interventions).toEqual(known);
  });

  test("are those that changed something", () => {
    const ledger = new TinyJournal();
    ledger.accepts(claimOf());
    ledger.accepts(beginOf());
    ledger.refuses(resolveOf());
    ledger.refuses(restartOf({ stepIndex: 7 }));
    ledger.accepts(endOf());
    ledger.answers(cancelOf());
    expect(ledger.theRun.interventions).toEqual([]);
    ledger.accepts(restartOf());
    ledger.accepts(cancelOf({ requestId: "cancel-2" }));
    ledger.answers(cancelOf({ requestId: "cancel-3" }));
    expect(ledger.theRun.interventions).toEqual(["restart-1", "cancel-2"]);
  });

  test("stay with the run, whatever its workers do", () => {
    const ledger = suspended();
    ledger.accepts(resolveOf({ result: null }));
    const claim = claimOf({ requestId: "claim-3" });
    const work = [claim, beginOf({ fence: 3 }), renewOf({ fence: 3 }), failOf({ fence: 3 }), emitOf()];
    const leaving = [suspendOf({ fence: 3 }), claimOf({ requestId: "claim-4" }), endOf({ fence: 4 })];
    for (const request of [...work, ...leaving]) {
      ledger.accepts(request);
      expect(ledger.theRun.interventions).toEqual(["resolve-1"]);
    }
  });

  test("are none in a run that was forked, also anew", () => {
    const ledger = new TinyJournal();
    for (const requestId of ["fork-1", "fork-2"]) {
      expect(ledger.accepts(forkOf({ requestId })).run.interventions).toEqual([]);
    }
    ledger.accepts(copyOf({ fence: 2 }));
    ledger.accepts(sealOf({ fence: 2 }));
    twice(ledger, restartOf());
    expect(ledger.theRun.interventions).toEqual(["restart-1"]);
  });
});

/** So many restarts, of a step 2 of which nothing else is said. */
function meddle(ledger: TinyJournal, times: number): string[] {
  const ids = Array.from({ length: times }, (_, i) => `meddling-${i}`);
  for (const requestId of ids) {
    const { fence } = ledger.accepts(claimOf({ requestId: `claim of ${requestId}`, workerId: "cat" })).run;
    ledger.accepts(beginOf({ stepIndex: 2, requestId: `begin of ${requestId}`, fence }));
    ledger.accepts(restartOf({ requestId, stepIndex: 2 }));
  }
  return ids;
}

/** The run is begun anew: step 0 is parked, and step 1 runs. */
function anew(ledger: TinyJournal): void {
  ledger.accepts(restartOf({ requestId: "anew", stepIndex: 0 }));
  const { fence } = ledger.accepts(claimOf({ requestId: "claim-anew", workerId: "cat" })).run;
  for (const stepIndex of [0, 1]) {
    ledger.accepts(beginOf({ stepIndex, requestId: `begin-anew-${stepIndex}`, fence }));
  }
  const park = beginOf({ requestId: "park-anew", fence: fence + 1, onInterrupted: "park" });
  takenOver(ledger).accepts(park);
}

describe.each(INTERVENTIONS)("among interventions, %s", (_what, request) => {
  /** It has taken effect, and so many restarts since, the last of them of the whole run. */
  function followedBy(others: number): TinyJournal {
    const ledger = world();
    ledger.accepts(request);
    if (request.op === "cancel") {
      ledger.accepts(restartOf({ requestId: "revived", stepIndex: 1 }));
      others -= 1;
    }
    meddle(ledger, others - 1);
    anew(ledger);
    return ledger;
  }

  test("is known again while it is among the last 16: repeated, it changes nothing", () => {
    const ledger = followedBy(KNOWN - 1);
    expect(ledger.theRun.interventions).toHaveLength(KNOWN);
    expect(ledger.theRun.interventions[0]).toBe("asked");
    repeatsWithoutEffect(ledger, request);
    expect(ledger.step()).toMatchObject({ status: "pending", inDoubt: true });
  });

  test("is forgotten with the 16th after it: repeated, it is what a new one would be", () => {
    const ledger = followedBy(KNOWN);
    const { interventions } = ledger.theRun;
    expect(interventions).toHaveLength(KNOWN);
    expect(interventions).not.toContain("asked");
    // The one that came right after it is still known.
    const [second = ""] = interventions;
    expect(ledger.answers(restartOf({ requestId: second, stepIndex: 0 }))).toEqual({ run: ledger.run });
    twice<Intervention>(ledger, request);
    expect(ledger.theRun.interventions).toEqual([...interventions.slice(1), "asked"]);
  });
});
