/** The rules of a run and its lease: claim and end (R5 to R7). */
import { describe, expect, test } from "vitest";
import {
  beginOf,
  cancelOf,
  claimOf,
  completeOf,
  endOf,
  failOf,
  LEASE_MS,
  renewOf,
  TinyJournal,
} from "./helpers/ledger.ts";
import { claimed, suspended } from "./helpers/ledger-worlds.ts";

/** The run is cancelled, and stands at fence 2. */
function cancelled(): TinyJournal {
  const ledger = claimed();
  ledger.accepts(cancelOf());
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
      waits: [],
      interventions: [],
      forkedFrom: null,
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
    const first = ledger.theRun;
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
    expect(ledger.answers(renewOf())).toEqual({ leaseExpiresAt: null, status: "running" });
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

  test("of a cancelled run is refused, also one that is repeated", () => {
    for (const requestId of ["claim-1", "claim-2"]) {
      expect(cancelled().refuses(claimOf({ requestId }))).toEqual({
        code: "run_cancelled",
        message: 'run "run-1" was cancelled. Start a new run, with a new run id, or restart it from a step.',
      });
    }
  });

  test("of a suspended run is granted at once to anybody, as no takeover, and keeps what the run waits for", () => {
    const ledger = suspended();
    const { waits, takeovers } = ledger.theRun;
    const { run } = ledger.accepts(claimOf({ requestId: "claim-3", workerId: "cat" }));
    expect(run).toMatchObject({ status: "running", fence: 3, workerId: "cat", takeovers, waits });
    expect(waits).toMatchObject([{ stepIndex: 0, for: "decision" }]);
  });

  test("repeated under its request id after the run was suspended does not set it running again (R20)", () => {
    const ledger = suspended();
    const { run } = ledger.answers(claimOf({ requestId: "claim-2", workerId: "bob" }));
    expect(run).toEqual(ledger.run);
    expect(run.status).toBe("suspended");
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

describe("an end", () => {
  test("records how the run went, and frees the lease", () => {
    const ledger = claimed();
    const before = ledger.theRun;
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

  test("of a cancelled run is refused, with a fence or without", () => {
    for (const fence of [1, null]) {
      expect(cancelled().refuses(endOf({ fence }))).toMatchObject({ code: "run_cancelled" });
    }
  });

  test("of a suspended run is refused: its lease was released", () => {
    const ledger = suspended();
    for (const status of ["completed", "failed"] as const) {
      expect(ledger.refuses(endOf({ workerId: "bob", fence: 2, status }))).toMatchObject({
        code: "lease_lost",
        message: 'run "run-1" is suspended, and its lease was released.',
      });
    }
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
