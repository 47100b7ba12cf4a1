/** A renewal extends a live lease of its own, and never revives one; a lease that has lapsed is noted as gone (R5, R8). */
import { describe, expect, test } from "vitest";
import { lapse } from "../src/ledger/runs.ts";
import { cancelOf, claimOf, endOf, LEASE_MS, renewOf, TinyJournal } from "./helpers/ledger.ts";
import { claimed, suspended, takenOver } from "./helpers/ledger-worlds.ts";

/** The run is cancelled, and stands at fence 2. */
function cancelled(): TinyJournal {
  const ledger = claimed();
  ledger.accepts(cancelOf());
  return ledger;
}

describe("a renewal", () => {
  test("extends a live lease to its length from now, and changes nothing else", () => {
    const ledger = claimed();
    const before = ledger.theRun;
    ledger.now += LEASE_MS - 1;
    const leaseExpiresAt = ledger.now + 45_000;
    expect(ledger.accepts(renewOf({ leaseMs: 45_000 }))).toEqual({ leaseExpiresAt, status: "running" });
    expect(ledger.run).toEqual({ ...before, leaseExpiresAt, leaseMs: 45_000, updatedAt: ledger.now });
  });

  test("without a fence is held to the worker id (R5)", () => {
    const ledger = claimed();
    const leaseExpiresAt = ledger.now + LEASE_MS;
    expect(ledger.accepts(renewOf({ fence: null }))).toMatchObject({ leaseExpiresAt });
    expect(ledger.answers(renewOf({ fence: null, workerId: "bob" }))).toMatchObject({ leaseExpiresAt: null });
  });

  test("keeps another worker out for as long as it says", () => {
    const ledger = claimed();
    ledger.now += LEASE_MS - 1;
    ledger.accepts(renewOf());
    ledger.now += LEASE_MS - 1;
    expect(ledger.refuses(claimOf({ requestId: "claim-2", workerId: "bob" }))).toMatchObject({
      retryAfterMs: 1,
    });
  });

  test("of an unknown run is refused", () => {
    expect(new TinyJournal().refuses(renewOf())).toMatchObject({ code: "run_not_found" });
  });

  // R8: a renewal never resurrects.
  const lapsed = claimed();
  lapsed.now += LEASE_MS;
  const seized = takenOver(claimed());
  const reclaimed = claimed();
  reclaimed.accepts(claimOf({ requestId: "claim-2" }));
  const completed = claimed();
  completed.accepts(endOf());
  const failed = claimed();
  failed.accepts(endOf({ status: "failed" }));
  test.each<[string, TinyJournal, ReturnType<typeof renewOf>]>([
    ["that has lapsed, at that very instant", lapsed, renewOf()],
    ["that has lapsed, without a fence", lapsed, renewOf({ fence: null })],
    ["that another worker holds now", seized, renewOf()],
    ["of another worker, under that worker's fence", seized, renewOf({ fence: 2 })],
    ["of another worker, without a fence", seized, renewOf({ fence: null })],
    ["of an older claim by the same worker id", reclaimed, renewOf({ fence: 1 })],
    ["of a claim that never was", reclaimed, renewOf({ fence: 3 })],
    ["of a completed run", completed, renewOf()],
    ["of a failed run", failed, renewOf({ fence: null })],
    ["of a cancelled run", cancelled(), renewOf()],
    ["of a cancelled run, without a fence", cancelled(), renewOf({ fence: null })],
    ["of a suspended run", suspended(), renewOf({ workerId: "bob", fence: 2 })],
  ])("does not revive a lease %s, and says how the run stands", (_which, ledger, request) => {
    const { status } = ledger.theRun;
    expect(ledger.answers(request)).toEqual({ leaseExpiresAt: null, status });
  });
});

describe("a lapse", () => {
  test("is noted from the very instant on at which the lease ends: nobody can revive it", () => {
    const ledger = claimed();
    ledger.now += LEASE_MS;
    const run = ledger.theRun;
    expect(lapse(run, ledger.now)).toEqual({ ...run, leaseExpiresAt: null, updatedAt: ledger.now });
    expect(lapse(run, ledger.now - 1)).toBeNull();
  });

  test("noted leaves the run to the next claim, as a takeover, and its holder what it may still record", () => {
    const ledger = claimed();
    ledger.now += LEASE_MS;
    const run = lapse(ledger.theRun, ledger.now);
    if (!run) throw new Error("no lapse");
    ledger.commit({ run });
    expect(ledger.answers(renewOf())).toEqual({ leaseExpiresAt: null, status: "running" });
    expect(ledger.decide(endOf()).ok).toBe(true);
    const claim = claimOf({ requestId: "claim-2", workerId: "bob" });
    expect(ledger.accepts(claim).run).toMatchObject({ fence: 2, takeovers: 1, workerId: "bob" });
  });

  test("is noted once, and not of a run that nobody holds", () => {
    const once = claimed();
    once.now += LEASE_MS;
    const lapsed = lapse(once.theRun, once.now);
    expect(lapsed && lapse(lapsed, once.now + 1)).toBeNull();
    for (const ledger of [suspended(), cancelled()]) {
      expect(lapse(ledger.theRun, ledger.now + LEASE_MS)).toBeNull();
      // Even if one were still on record.
      const run = { ...ledger.theRun, leaseExpiresAt: ledger.now };
      expect(lapse(run, ledger.now + LEASE_MS)).toBeNull();
    }
  });
});
