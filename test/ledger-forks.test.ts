/** A fork: a new run that is filled with copies of another's steps, and then sealed. */
import { describe, expect, test } from "vitest";
import type { ClaimRequest } from "../src/ledger/requests.ts";
import type { Change } from "../src/ledger/state.ts";
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
  stepOf,
  suspendOf,
  TinyJournal,
} from "./helpers/ledger.ts";
import { claimed, decisionOn, twice } from "./helpers/ledger-worlds.ts";

/** A fork under fence 1, without a step. */
function forked(): TinyJournal {
  const ledger = new TinyJournal();
  ledger.accepts(forkOf());
  return ledger;
}

/** With steps 0 and 1, and sealed. */
function sealed(): TinyJournal {
  const ledger = forked();
  for (const stepIndex of [0, 1]) ledger.accepts(copyOf({ stepIndex }));
  ledger.accepts(sealOf());
  return ledger;
}

const NO_ROUTE = '{"message":"no route"}';
const CLAIM: ClaimRequest = claimOf({ requestId: "claim-9", workerId: "bob" });

describe("a fork", () => {
  test("creates a run, pending, under a fence of its own, that nobody holds", () => {
    const ledger = new TinyJournal();
    const given = { scenarioId: "nda", tags: '{"env":"prod"}', input: { ref: "body-1" } };
    const { run } = ledger.accepts(forkOf(given));
    expect(run).toEqual({
      runId: "run-1",
      manifestHash: "hash-1",
      projectId: "project",
      task: '{"id":"task"}',
      ...given,
      status: "pending",
      fence: 1,
      takeovers: 0,
      workerId: "fork",
      claimRequestId: "fork-1",
      leaseMs: 0,
      leaseExpiresAt: null,
      createdAt: ledger.now,
      updatedAt: ledger.now,
      completedAt: null,
      outcome: null,
      result: null,
      error: null,
      waits: [],
      interventions: [],
      forkedFrom: { runId: "source", throughStep: 2, copying: true },
    });
    expect(ledger.run).toEqual(run);
  });

  test("may come after an event of the new run", () => {
    const ledger = new TinyJournal();
    ledger.accepts(emitOf());
    ledger.accepts(forkOf());
    expect([...ledger.snapshot().events.keys()]).toEqual(["approved"]);
  });

  test.each<[string, () => TinyJournal]>([
    ["was begun by a claim", claimed],
    ["is a fork that was sealed", sealed],
    ["is a fork that was claimed", claimedFork],
    ["has been restarted", restartedFork],
    ["was cancelled while it was being forked", cancelledFork],
  ])("into a run that %s is refused, and leaves it alone", (_which, world) => {
    expect(world().refuses(forkOf({ requestId: "fork-9" }))).toEqual({
      code: "run_exists",
      message: 'there is a run "run-1" already. Fork into a new run id.',
    });
  });

  test("into a run that is being forked from another run, or through another step, or of another manifest, is refused", () => {
    for (const over of [{ sourceRunId: "other" }, { throughStep: 1 }, { manifestHash: "hash-2" }]) {
      const error = forked().refuses(forkOf({ requestId: "fork-2", ...over }));
      expect(error).toMatchObject({ code: "run_exists" });
    }
  });

  test("begun anew keeps what never changes of a run, whatever its source now bears", () => {
    const ledger = forked();
    const { run } = ledger.accepts(
      forkOf({ requestId: "fork-2", scenarioId: "other", tags: '{"env":"dev"}' }),
    );
    expect(run).toMatchObject({ fence: 2, scenarioId: forkOf().scenarioId, tags: forkOf().tags });
  });

  test("repeated after the seal answers the run as it stands (R20)", () => {
    const ledger = sealed();
    expect(ledger.answers(forkOf())).toEqual({ run: ledger.run });
    expect(ledger.snapshot().steps.size).toBe(2);
  });
});

describe("before the seal", () => {
  test("nobody claims the run, however long it takes", () => {
    const ledger = forked();
    for (const claim of [CLAIM, claimOf({ workerId: "fork" })]) {
      expect(ledger.refuses(claim)).toEqual({
        code: "lease_held",
        message: 'run "run-1" is being forked from run "source". If that was cut short, fork it again.',
      });
    }
    ledger.now += LEASE_MS * 100;
    expect(ledger.refuses(CLAIM)).toMatchObject({ code: "lease_held" });
    expect(ledger.refuses({ ...CLAIM, manifestHash: "hash-2" })).toMatchObject({ code: "manifest_mismatch" });
  });

  test("nobody works on it, with its fence or without one", () => {
    const ledger = forked();
    for (const fence of [1, null]) {
      const work = [beginOf(), endOf({ workerId: "fork" }), endOf({ status: "failed", workerId: "fork" })];
      for (const request of work) {
        expect(ledger.refuses({ ...request, fence })).toMatchObject({ code: "lease_lost" });
      }
      for (const request of [completeOf(), failOf()]) {
        expect(ledger.refuses({ ...request, fence })).toMatchObject({ code: "step_not_running" });
      }
      const renewal = renewOf({ fence, workerId: "fork" });
      expect(ledger.answers(renewal)).toEqual({ leaseExpiresAt: null, status: "pending" });
      expect(ledger.answers(suspendOf({ fence, workerId: "fork" }))).toEqual({ run: ledger.run });
    }
  });
});

describe("a decision on a step of a fork", () => {
  const inDoubt = stepOf({ status: "failed", inDoubt: true, error: NO_ROUTE, completedAt: 650 });

  test("is refused before the seal, and taken after it", () => {
    const ledger = forked();
    ledger.accepts(copyOf({ step: inDoubt, result: null }));
    const before = ledger.snapshot();
    for (const requestId of ["resolve-1", "resolve-1", "resolve-2"]) {
      for (const over of [{}, { result: null }, { isCaught: true }, { stepIndex: 1 }]) {
        expect(ledger.refuses(resolveOf({ requestId, ...over }))).toEqual({
          code: "lease_held",
          message: 'run "run-1" is still being forked.',
        });
      }
    }
    expect(ledger.snapshot()).toEqual(before);
    ledger.accepts(sealOf());
    expect(twice(ledger, decisionOn(ledger)).step).toMatchObject({ status: "completed", inDoubt: false });
  });

  test("is refused after the seal where its task has gone on from the failure, as in the source", () => {
    const ledger = forked();
    ledger.accepts(copyOf({ step: inDoubt, result: null }));
    const next = stepOf({ stepIndex: 1, status: "completed", caught: [0], completedAt: 660 });
    ledger.accepts(copyOf({ stepIndex: 1, step: next }));
    ledger.accepts(sealOf());
    expect(ledger.refuses(decisionOn(ledger, { isCaught: true }))).toMatchObject({
      code: "step_not_in_doubt",
    });
  });
});

describe("a copy", () => {
  test("is the step as the source has it, with the result that it brings, under the fork's fence", () => {
    const ledger = forked();
    const step = stepOf({
      stepIndex: 3,
      path: "1/a/0",
      status: "completed",
      attempts: 4,
      tries: 2,
      error: '{"message":"once"}',
      caught: [1],
      deadlineAt: 700,
      completedAt: 650,
      fence: 9,
    });
    const reply = twice(ledger, copyOf({ stepIndex: 3, step, result: { text: '"edited"' } }));
    expect(reply).toEqual({ fence: 1 });
    expect(ledger.step(3)).toEqual({
      ...step,
      result: { text: '"edited"' },
      fence: 1,
      beginRequestId: "copy-3",
    });
  });

  test("of a failure that the task had caught is that failure", () => {
    const ledger = forked();
    const step = stepOf({ status: "failed", error: NO_ROUTE, completedAt: 650 });
    twice(ledger, copyOf({ step, result: null }));
    expect(ledger.step()).toMatchObject({ status: "failed", error: NO_ROUTE, result: null });
  });

  test("into a run that is not being forked is refused, also under its fence", () => {
    for (const [ledger, fence] of [
      [claimed(), 1],
      [sealed(), 1],
      [claimedFork(), 2],
    ] as const) {
      expect(ledger.refuses(copyOf({ fence }))).toEqual({
        code: "lease_lost",
        message: 'run "run-1" takes no copies: it is not being forked.',
      });
    }
  });

  test("into an unknown run is refused", () => {
    expect(new TinyJournal().refuses(copyOf())).toMatchObject({ code: "run_not_found" });
  });
});

describe("a seal", () => {
  test("opens the run to claims, and says where it comes from", () => {
    const ledger = forked();
    ledger.accepts(copyOf());
    const { run: before } = ledger;
    ledger.now += 5;
    const { run } = twice(ledger, sealOf());
    const forkedFrom = { runId: "source", throughStep: 2, copying: false };
    expect(run).toEqual({ ...before, forkedFrom, updatedAt: ledger.now });
    expect(ledger.accepts(CLAIM).run).toMatchObject({
      status: "running",
      fence: 2,
      takeovers: 0,
      forkedFrom,
    });
    const { step } = ledger.answers(beginOf({ requestId: "begin-9", fence: 2 }));
    expect(step).toMatchObject({ status: "completed", result: { text: '"page"' } });
  });

  test("of a run that is sealed already answers it, under another request id, too", () => {
    const ledger = sealed();
    expect(ledger.answers(sealOf({ requestId: "seal-2" }))).toEqual({ run: ledger.run });
  });

  test("of an unknown run is refused", () => {
    expect(new TinyJournal().refuses(sealOf())).toMatchObject({ code: "run_not_found" });
  });

  test("that comes late, when the run has been claimed, is refused", () => {
    expect(claimedFork().refuses(sealOf())).toMatchObject({ code: "lease_lost" });
  });
});

describe("of two forks at once", () => {
  test("the later one fills and seals the run, and the earlier one is fenced out", () => {
    const ledger = forked();
    ledger.accepts(copyOf({ result: { text: '"first"' } }));
    const { run } = ledger.accepts(forkOf({ requestId: "fork-2" }));
    expect(run).toMatchObject({ fence: 2, status: "pending", claimRequestId: "fork-2" });
    expect(ledger.snapshot().steps.size).toBe(0);
    for (const late of [copyOf(), copyOf({ stepIndex: 1 }), sealOf()]) {
      expect(ledger.refuses(late)).toMatchObject({ code: "lease_lost" });
    }
    const second = { fence: 2, result: { text: '"second"' } };
    twice(ledger, copyOf({ ...second, requestId: "copy-again" }));
    expect(ledger.step()).toMatchObject({ result: { text: '"second"' }, fence: 2 });
    expect(ledger.refuses(CLAIM)).toMatchObject({ code: "lease_held" });
    expect(twice(ledger, sealOf({ fence: 2 })).run.forkedFrom).toMatchObject({ copying: false });
  });

  test("the earlier one, asked once more, would be a third", () => {
    const ledger = forked();
    ledger.accepts(forkOf({ requestId: "fork-2" }));
    ledger.accepts(copyOf({ fence: 2 }));
    expect(ledger.accepts(forkOf()).run.fence).toBe(3);
    expect(ledger.snapshot().steps.size).toBe(0);
    for (const late of [copyOf({ fence: 2 }), sealOf({ fence: 2 })]) {
      expect(ledger.refuses(late)).toMatchObject({ code: "lease_lost" });
    }
  });

  test("the later one drops all that the earlier one has copied, and the first one nothing", () => {
    const ledger = new TinyJournal();
    const { change } = ledger.submit(forkOf()) as { change: Change };
    expect(change).toEqual({ run: ledger.theRun });
    ledger.accepts(emitOf());
    for (const stepIndex of [0, 1, 2]) ledger.accepts(copyOf({ stepIndex }));
    expect(ledger.submit(forkOf({ requestId: "fork-2" }))).toMatchObject({
      ok: true,
      change: { run: { fence: 2 }, dropFrom: 0 },
    });
    expect(ledger.snapshot()).toMatchObject({ steps: new Map(), events: new Map([["approved", {}]]) });
    // By now the source has no step 2 that has completed.
    for (const stepIndex of [0, 1]) twice(ledger, copyOf({ stepIndex, fence: 2 }));
    ledger.accepts(sealOf({ fence: 2 }));
    expect(ledger.answers(forkOf({ requestId: "fork-2" })).run.fence).toBe(2);
    expect([...ledger.snapshot().steps.keys()]).toEqual([0, 1]);
  });

  test("the later one that is refused drops nothing", () => {
    const ledger = forked();
    ledger.accepts(copyOf());
    const before = ledger.snapshot();
    for (const over of [{ sourceRunId: "other" }, { throughStep: 1 }]) {
      expect(ledger.submit(forkOf({ requestId: "fork-2", ...over })).ok).toBe(false);
    }
    expect(ledger.snapshot()).toEqual(before);
  });
});

describe("a fork that was cut short", () => {
  test.each([
    ["the same request id", "fork-1"],
    ["another request id", "fork-2"],
  ])("is begun anew under %s, and a fence above", (_which, requestId) => {
    const ledger = forked();
    for (const stepIndex of [0, 1]) ledger.accepts(copyOf({ stepIndex }));
    const createdAt = ledger.now;
    ledger.now += LEASE_MS * 100;
    const decision = ledger.submit(forkOf({ requestId }));
    expect(decision).toMatchObject({ ok: true, change: { run: { fence: 2 }, dropFrom: 0 } });
    const begunAnew = { fence: 2, claimRequestId: requestId, createdAt, updatedAt: ledger.now };
    expect(ledger.run).toMatchObject({ ...begunAnew, forkedFrom: { copying: true } });
    for (const late of [copyOf(), sealOf()]) {
      expect(ledger.refuses(late)).toMatchObject({ code: "lease_lost" });
    }
    expect(ledger.snapshot().steps.size).toBe(0);
    ledger.accepts(sealOf({ fence: 2 }));
    expect(ledger.accepts(CLAIM).run.fence).toBe(3);
  });

  test("stays cancelled once it is cancelled, whoever forks on", () => {
    const ledger = cancelledFork();
    const { run } = ledger;
    for (const fence of [1, 2]) {
      const error = ledger.refuses(copyOf({ fence }));
      expect(error.code).toBe(fence === 1 ? "run_cancelled" : "lease_lost");
    }
    expect(ledger.refuses(sealOf())).toMatchObject({ code: "run_cancelled" });
    expect(ledger.refuses(forkOf())).toMatchObject({ code: "run_exists" });
    expect(ledger.refuses(CLAIM)).toMatchObject({ code: "run_cancelled" });
    expect(ledger.run).toBe(run);
  });
});

describe("a sealed fork", () => {
  test("is a run like any other: it is restarted, cancelled and claimed", () => {
    expect(restartedFork().run).toMatchObject({
      status: "pending",
      fence: 2,
      forkedFrom: { copying: false },
    });
    expect(restartedFork().accepts(CLAIM).run).toMatchObject({ status: "running", fence: 3 });
    expect(twice(sealed(), cancelOf()).run).toMatchObject({ status: "cancelled", fence: 2 });
  });
});

function claimedFork(): TinyJournal {
  const ledger = sealed();
  ledger.accepts(CLAIM);
  return ledger;
}

function restartedFork(): TinyJournal {
  const ledger = sealed();
  ledger.accepts(restartOf({ stepIndex: 1 }));
  return ledger;
}

function cancelledFork(): TinyJournal {
  const ledger = forked();
  ledger.accepts(copyOf());
  ledger.accepts(cancelOf());
  return ledger;
}
