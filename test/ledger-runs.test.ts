/** The rules of a run and its lease: claim, renew, end (R5 to R8). */
import { describe, expect, test } from "vitest";
import type { RunState } from "../src/ledger/state.ts";
import {
  beginOf,
  claimOf,
  completeOf,
  endOf,
  failOf,
  LEASE_MS,
  renewOf,
  TinyJournal,
} from "./helpers/ledger.ts";

/** A run that ann holds under fence 1. */
function claimed(): TinyJournal {
  const ledger = new TinyJournal();
  ledger.accepts(claimOf());
  return ledger;
}

function runOf(ledger: TinyJournal): RunState {
  if (!ledger.run) throw new Error("no run");
  return ledger.run;
}

/** No rule cancels a run yet; the record may say so all the same, and with the lease still in it. */
function cancelled(): TinyJournal {
  const ledger = claimed();
  ledger.commit({ run: { ...runOf(ledger), status: "cancelled" } });
  return ledger;
}

describe("a claim", () => {
  test("creates the run, running, under fence 1 and a lease that begins now", () => {
    const ledger = new TinyJournal();
    const claim = claimOf({ scenarioId: "nda", tags: '{"env":"prod"}', input: { ref: "body-1" } });
    const { run } = ledger.accepts(claim);
    expect(run).toEqual({
      runId: "run-1",
      manifestHash: "hash-1",
      projectId: "project",
      scenarioId: "nda",
      task: '{"id":"task"}',
      input: { ref: "body-1" },
      tags: '{"env":"prod"}',
      status: "running",
      fence: 1,
      takeovers: 0,
      workerId: "ann",
      claimRequestId: "claim-1",
      leaseMs: LEASE_MS,
      leaseExpiresAt: ledger.now + LEASE_MS,
      createdAt: ledger.now,
      updatedAt: ledger.now,
      completedAt: null,
      outcome: null,
      result: null,
      error: null,
    });
    expect(ledger.run).toEqual(run);
  });

  test("by another worker is refused while the lease lives, and told for how long", () => {
    const ledger = claimed();
    ledger.now += LEASE_MS - 1;
    const error = ledger.refuses(claimOf({ requestId: "claim-2", workerId: "bob" }));
    expect(error).toMatchObject({ code: "lease_held", retryAfterMs: 1 });
    expect(error.message).toContain('run "run-1" is held by worker "ann" for another 1 ms');
  });

  test("by another worker is granted at the very instant at which the lease lapses, as a takeover", () => {
    const ledger = claimed();
    const first = runOf(ledger);
    ledger.now += LEASE_MS;
    const { run } = ledger.accepts(claimOf({ requestId: "claim-2", workerId: "bob", leaseMs: 5_000 }));
    expect(run).toEqual({
      ...first,
      fence: 2,
      takeovers: 1,
      workerId: "bob",
      claimRequestId: "claim-2",
      leaseMs: 5_000,
      leaseExpiresAt: ledger.now + 5_000,
      updatedAt: ledger.now,
    });
  });

  test("by the same worker id is a new claim: a new fence, and the first claim is fenced out (R6)", () => {
    const ledger = claimed();
    ledger.accepts(beginOf());
    expect(ledger.accepts(claimOf({ requestId: "claim-2" })).run).toMatchObject({ fence: 2, takeovers: 1 });
    const late = [beginOf({ requestId: "begin-2" }), completeOf(), failOf(), endOf()];
    for (const request of late) expect(ledger.refuses(request)).toMatchObject({ code: "lease_lost" });
    expect(ledger.answers(renewOf())).toEqual({ leaseExpiresAt: null });
    expect(ledger.accepts(completeOf({ fence: 2 })).accepted).toBe(true);
  });

  test("repeated under its request id answers the same, also once the lease was renewed or has lapsed", () => {
    const ledger = claimed();
    const { run } = ledger.answers(claimOf());
    expect(run).toEqual(ledger.run);
    ledger.now += 10;
    ledger.accepts(renewOf());
    expect(ledger.answers(claimOf()).run).toMatchObject({
      fence: 1,
      takeovers: 0,
      leaseExpiresAt: ledger.now + LEASE_MS,
    });
    ledger.now += LEASE_MS;
    expect(ledger.answers(claimOf()).run).toEqual(ledger.run);
  });

  test("repeated under its request id after the run failed does not set it running again (R20)", () => {
    const ledger = claimed();
    ledger.accepts(endOf({ status: "failed" }));
    expect(ledger.answers(claimOf()).run).toMatchObject({ status: "failed", fence: 1, leaseExpiresAt: null });
  });

  test("of a failed run sets it running again, at once, and clears what its end had recorded", () => {
    const ledger = claimed();
    ledger.now += 5;
    const end = endOf({ status: "failed", outcome: '{"pass":false}', error: '{"message":"broke"}' });
    const failed = ledger.accepts(end).run;
    expect(failed).toMatchObject({ completedAt: ledger.now, error: '{"message":"broke"}' });
    const { run } = ledger.accepts(claimOf({ requestId: "claim-2", workerId: "bob" }));
    expect(run).toEqual({
      ...failed,
      status: "running",
      fence: 2,
      workerId: "bob",
      claimRequestId: "claim-2",
      leaseExpiresAt: ledger.now + LEASE_MS,
      completedAt: null,
      outcome: null,
      result: null,
      error: null,
    });
    expect(run.takeovers).toBe(0);
  });

  test("of a completed run answers the run as it is, with no new lease", () => {
    const ledger = claimed();
    const completed = ledger.accepts(endOf()).run;
    ledger.now += LEASE_MS;
    expect(ledger.answers(claimOf({ requestId: "claim-2", workerId: "bob" })).run).toEqual(completed);
  });

  test("of a cancelled run is refused", () => {
    const error = cancelled().refuses(claimOf({ requestId: "claim-2" }));
    expect(error).toMatchObject({
      code: "run_cancelled",
      message: expect.stringContaining('"run-1"') as string,
    });
  });

  test("with another manifest is refused, naming both hashes, whatever the run's state", () => {
    const held = claimed();
    const completed = claimed();
    completed.accepts(endOf());
    for (const ledger of [held, completed, cancelled()]) {
      const error = ledger.refuses(claimOf({ requestId: "claim-2", manifestHash: "hash-2" }));
      expect(error.code).toBe("manifest_mismatch");
      expect(error.message).toContain("hash-1");
      expect(error.message).toContain("hash-2");
    }
  });

  test("keeps the manifest of the first claim, down to what does not count for its hash", () => {
    const ledger = claimed();
    const later = { task: '{"id":"task","metadata":1}', input: { ref: "b" }, tags: "{}", projectId: "x" };
    ledger.accepts(claimOf({ requestId: "claim-2", ...later }));
    expect(ledger.run).toMatchObject({
      task: '{"id":"task"}',
      input: { text: "{}" },
      tags: null,
      projectId: "project",
    });
  });
});

describe("a renewal", () => {
  test("extends a live lease to its length from now, and changes nothing else", () => {
    const ledger = claimed();
    const before = runOf(ledger);
    ledger.now += LEASE_MS - 1;
    const leaseExpiresAt = ledger.now + 45_000;
    expect(ledger.accepts(renewOf({ leaseMs: 45_000 }))).toEqual({ leaseExpiresAt });
    expect(ledger.run).toEqual({ ...before, leaseExpiresAt, leaseMs: 45_000, updatedAt: ledger.now });
  });

  test("without a fence is held to the worker id (R5)", () => {
    const ledger = claimed();
    expect(ledger.accepts(renewOf({ fence: null }))).toEqual({ leaseExpiresAt: ledger.now + LEASE_MS });
    expect(ledger.answers(renewOf({ fence: null, workerId: "bob" }))).toEqual({ leaseExpiresAt: null });
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
  const takenOver = claimed();
  takenOver.now += LEASE_MS;
  takenOver.accepts(claimOf({ requestId: "claim-2", workerId: "bob" }));
  const restarted = claimed();
  restarted.accepts(claimOf({ requestId: "claim-2" }));
  const completed = claimed();
  completed.accepts(endOf());
  const failed = claimed();
  failed.accepts(endOf({ status: "failed" }));
  test.each<[string, TinyJournal, ReturnType<typeof renewOf>]>([
    ["that has lapsed, at that very instant", lapsed, renewOf()],
    ["that has lapsed, without a fence", lapsed, renewOf({ fence: null })],
    ["that another worker holds now", takenOver, renewOf()],
    ["of another worker, under that worker's fence", takenOver, renewOf({ fence: 2 })],
    ["of another worker, without a fence", takenOver, renewOf({ fence: null })],
    ["of an older claim by the same worker id", restarted, renewOf({ fence: 1 })],
    ["of a claim that never was", restarted, renewOf({ fence: 3 })],
    ["of a completed run", completed, renewOf()],
    ["of a failed run", failed, renewOf({ fence: null })],
    ["of a cancelled run", cancelled(), renewOf()],
  ])("does not revive a lease %s", (_which, ledger, request) => {
    expect(ledger.answers(request)).toEqual({ leaseExpiresAt: null });
  });
});

describe("an end", () => {
  test("records how the run went, and frees the lease", () => {
    const ledger = claimed();
    const before = runOf(ledger);
    ledger.now += 5;
    const { run, accepted } = ledger.accepts(endOf({ outcome: '{"pass":true}', result: { ref: "body-1" } }));
    expect(accepted).toBe(true);
    expect(run).toEqual({
      ...before,
      status: "completed",
      leaseExpiresAt: null,
      updatedAt: ledger.now,
      completedAt: ledger.now,
      outcome: '{"pass":true}',
      result: { ref: "body-1" },
    });
    expect(ledger.run).toEqual(run);
  });

  test("as failed records why, and lets the next worker in at once", () => {
    const ledger = claimed();
    const { run } = ledger.accepts(endOf({ status: "failed", result: null, error: '{"message":"broke"}' }));
    expect(run).toMatchObject({
      status: "failed",
      result: null,
      error: '{"message":"broke"}',
      leaseExpiresAt: null,
    });
    expect(ledger.accepts(claimOf({ requestId: "claim-2", workerId: "bob" })).run).toMatchObject({
      workerId: "bob",
    });
  });

  test.each(["completed", "failed"] as const)("as %s, repeated, answers the standing record", (status) => {
    const ledger = claimed();
    const { run } = ledger.accepts(endOf({ status }));
    ledger.now += 10;
    expect(ledger.answers(endOf({ status }))).toEqual({ run, accepted: false });
    const other = endOf({ status, requestId: "end-2", result: { text: '"another"' } });
    expect(ledger.answers(other)).toEqual({ run, accepted: false });
  });

  test.each([
    ["completed", "failed"],
    ["failed", "completed"],
  ] as const)("of a %s run as %s is refused", (first, second) => {
    const ledger = claimed();
    ledger.accepts(endOf({ status: first }));
    const error = ledger.refuses(endOf({ requestId: "end-2", status: second }));
    expect(error).toMatchObject({
      code: "lease_lost",
      message: expect.stringContaining(`is ${first}`) as string,
    });
  });

  test("of a cancelled run is refused", () => {
    expect(cancelled().refuses(endOf())).toMatchObject({
      code: "lease_lost",
      message: expect.stringContaining("is cancelled") as string,
    });
  });

  test("of an unknown run is refused", () => {
    expect(new TinyJournal().refuses(endOf())).toMatchObject({
      code: "run_not_found",
      message: expect.stringContaining('"run-1"') as string,
    });
  });

  test("under a fence that is not the run's is refused, naming both and the holder (R5)", () => {
    const ledger = claimed();
    ledger.now += LEASE_MS;
    ledger.accepts(claimOf({ requestId: "claim-2", workerId: "bob" }));
    for (const fence of [1, 3]) {
      const error = ledger.refuses(endOf({ fence, workerId: "bob" }));
      expect(error.code).toBe("lease_lost");
      expect(error.message).toContain(`under fence ${fence} is lost`);
      expect(error.message).toContain('stands at fence 2, held by worker "bob"');
    }
  });

  test("by a worker that did not claim last is refused, naming both, with a fence or without", () => {
    const ledger = claimed();
    for (const fence of [null, 1]) {
      const error = ledger.refuses(endOf({ fence, workerId: "bob" }));
      expect(error.code).toBe("lease_lost");
      expect(error.message).toContain('worker "bob" does not hold');
      expect(error.message).toContain('worker "ann" claimed it');
    }
    expect(ledger.accepts(endOf({ fence: null })).accepted).toBe(true);
  });

  test("after the lease lapsed still counts while nobody else has claimed", () => {
    const ledger = claimed();
    ledger.now += LEASE_MS * 2;
    expect(ledger.accepts(endOf())).toMatchObject({ accepted: true, run: { status: "completed" } });
  });
});
