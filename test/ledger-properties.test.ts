/**
 * The invariants of a run, over random histories of it. A failure prints its seed and its shortest history. Those of
 * its steps are in ledger-properties-steps.test.ts.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Decision, Op, Request } from "../src/ledger/requests.ts";
import type { Change } from "../src/ledger/state.ts";
import { leaseIsLive } from "../src/ledger/state.ts";
import { always, history, type Moment, throughout } from "./helpers/ledger-play.ts";

/** What mints a fence. */
const FENCING: readonly Op[] = ["claim", "cancel", "restart", "fork"];

describe("leases and fences", () => {
  test("at most one worker has been told of a lease that still counts (R5)", () => {
    throughout((moments) => {
      /** By worker: until when it may believe that it holds the run. */
      const until = new Map<string, number>();
      for (const { request, now, decision, after } of moments) {
        if (!decision.ok) continue;
        if (request.op === "claim" && after.run?.leaseExpiresAt)
          until.set(request.workerId, after.run.leaseExpiresAt);
        if (
          request.op === "renew" &&
          "leaseExpiresAt" in decision.reply &&
          decision.reply.leaseExpiresAt !== null
        ) {
          until.set(request.workerId, decision.reply.leaseExpiresAt);
        }
        if (request.op === "end" || request.op === "suspend") until.delete(request.workerId);
        // Whoever held it then has lost it without being told.
        if ((request.op === "cancel" || request.op === "restart") && decision.change.run) until.clear();
        expect([...until.values()].filter((expiry) => expiry > now).length).toBeLessThanOrEqual(1);
      }
    });
  });

  test("the fence never falls, and grows by one at each claim, cancellation, restart and fork that changes the run (R5)", () => {
    always(({ request, decision, before, after }) => {
      const mints = FENCING.includes(request.op) && decision.ok && decision.change.run !== undefined;
      expect(after.run?.fence ?? 0).toBe((before.run?.fence ?? 0) + (mints ? 1 : 0));
    });
  });

  test("what minted the run's fence mints no second one when it comes again (R20), but for a fork before its seal", () => {
    always(({ request, decision, before }) => {
      if (before.run?.claimRequestId !== request.requestId) return;
      expect(FENCING).toContain(request.op);
      if (request.op === "fork" && before.run.forkedFrom?.copying) {
        const { fence, createdAt: _createdAt, updatedAt: _updatedAt, ...run } = before.run;
        const change = { run: { ...run, fence: fence + 1 }, dropFrom: 0 };
        return expect(decision).toMatchObject({ ok: true, reply: { run: change.run }, change });
      }
      expect(decision).toEqual({ ok: true, reply: { run: before.run }, change: {} });
    });
  });

  test("a mutation under a lower fence is always refused: lease_lost, or run_cancelled if that is why (R5)", () => {
    always(({ request, decision, before }) => {
      if (!("fence" in request) || request.fence === null || !before.run || request.fence >= before.run.fence)
        return;
      const { status } = before.run;
      if (request.op === "renew") {
        expect(decision).toEqual({ ok: true, reply: { leaseExpiresAt: null, status }, change: {} });
      } else {
        const code = status === "cancelled" ? "run_cancelled" : "lease_lost";
        expect(decision).toMatchObject({ ok: false, error: { code } });
      }
    });
  });

  test("a renewal extends only a lease that lives, of the worker that claimed last (R8)", () => {
    always(({ request, decision, before, after, now }) => {
      if (request.op !== "renew" || !decision.ok || !before.run) return;
      const { status } = before.run;
      const holds = leaseIsLive(before.run, now) && before.run.workerId === request.workerId;
      if (after.run?.leaseExpiresAt !== before.run.leaseExpiresAt) expect(holds).toBe(true);
      if (!holds) expect(decision.reply).toEqual({ leaseExpiresAt: null, status });
    });
  });

  test("a lease is set exactly while the run is running, and an end or a suspension releases it", () => {
    always(({ request, decision, after, now }) => {
      if (!after.run) return;
      expect(after.run.leaseExpiresAt !== null).toBe(after.run.status === "running");
      if (request.op === "end" && decision.ok) expect(after.run.status).toBe(request.status);
      if (request.op === "suspend" && decision.ok) expect(after.run.status).toMatch(/^(suspended|pending)$/);
      if (["end", "suspend"].includes(request.op) && decision.ok) {
        expect(leaseIsLive(after.run, now)).toBe(false);
      }
    });
  });
});

describe("a run that has ended", () => {
  test("as completed never changes, unless it is restarted", () => {
    always(({ request, before, after }) => {
      if (before.run?.status === "completed" && request.op !== "restart")
        expect(after.run).toEqual(before.run);
    });
  });

  test("as cancelled never changes, unless it is restarted", () => {
    always(({ request, before, after }) => {
      if (before.run?.status === "cancelled" && request.op !== "restart")
        expect(after.run).toEqual(before.run);
    });
  });

  test("waits for nothing, and a suspended one for a decision", () => {
    always(({ after }) => {
      if (!after.run) return;
      const { status, waits, completedAt } = after.run;
      const hasEnded = ["completed", "failed", "cancelled"].includes(status);
      expect(completedAt !== null).toBe(hasEnded);
      if (hasEnded) expect(waits).toEqual([]);
      if (status === "suspended") expect(waits.map((wait) => wait.for)).toContain("decision");
    });
  });
});

describe("a fork", () => {
  test("is claimed, and worked on, by nobody before its seal", () => {
    always(({ request, before, after }) => {
      if (!before.run?.forkedFrom?.copying) return;
      expect(after.run?.status).toMatch(/^(pending|cancelled)$/);
      if (!["fork", "copy", "seal", "cancel"].includes(request.op)) {
        expect(after.run).toEqual(before.run);
      }
      if (!["copy", "fork"].includes(request.op)) expect(after.steps).toEqual(before.steps);
    });
  });

  test("that is begun anew has a higher fence, and nothing of what was copied under the lower one", () => {
    always(({ decision, request, before, after }) => {
      if (request.op !== "fork" || !decision.ok || !decision.change.run) return;
      expect(after.steps.size).toBe(0);
      expect(decision.change.dropFrom).toBe(before.run === null ? undefined : 0);
      expect(after.run?.interventions).toEqual([]);
    });
  });

  test("is sealed under its own fence, and never opened again", () => {
    always(({ request, before, after }) => {
      const [was, is] = [before.run?.forkedFrom, after.run?.forkedFrom];
      if (was?.copying && !is?.copying) {
        expect(request).toMatchObject({ op: "seal", fence: before.run?.fence });
        expect(is).toEqual({ ...was, copying: false });
      }
      if (before.run && !was?.copying) expect(is).toEqual(was);
    });
  });

  test("creates runs, and takes none over", () => {
    always(({ request, decision, before, after }) => {
      if (request.op !== "fork" || !decision.ok || decision.change.run === undefined) return;
      const { sourceRunId: runId, throughStep } = request;
      const forkedFrom = { runId, throughStep, copying: true };
      expect(after.run).toMatchObject({ status: "pending", forkedFrom });
      if (before.run) expect(before.run).toMatchObject({ status: "pending", forkedFrom });
    });
  });
});

describe("what stands", () => {
  test("the first emit of a key wins, for good", () => {
    throughout((moments) => {
      const first = new Map<string, Moment["request"]>();
      for (const { request, after } of moments) {
        if (request.op === "emit" && !first.has(request.key)) first.set(request.key, request);
        expect(after.events.size).toBe(first.size);
        for (const [key, { requestId }] of first) {
          expect(after.events.get(key)).toMatchObject({
            requestId,
            payload: { text: JSON.stringify(requestId) },
          });
        }
      }
    });
  });

  test("a run keeps its manifest, where it comes from, and, once it may be claimed, the time of its creation", () => {
    always(({ before, after }) => {
      if (!before.run) return;
      const { manifestHash, projectId, task, input, createdAt, forkedFrom } = before.run;
      expect(after.run).toMatchObject({ manifestHash, projectId, task, input });
      if (!forkedFrom?.copying) expect(after.run).toMatchObject({ createdAt });
      if (forkedFrom) {
        const { runId, throughStep } = forkedFrom;
        expect(after.run?.forkedFrom).toMatchObject({ runId, throughStep });
      }
    });
  });
});

describe("each decision", () => {
  test("that refuses brings no change, and the run stays as it was", () => {
    always(({ decision, before, after }) => {
      if (decision.ok) return;
      expect(decision).not.toHaveProperty("change");
      expect(after).toEqual(before);
    });
  });

  test("depends on nothing but the slice, the request and the instant (R1)", () => {
    always(({ decision, again }) => expect(again).toEqual(decision));
  });

  test("changes only what its request is about", () => {
    always(({ request, decision, before, after }) => {
      if (!decision.ok) return;
      const about = SUBJECT[request.op];
      expect(Object.keys(decision.change).filter((key) => !about.includes(key as keyof Change))).toEqual([]);
      // What a step brings about in its run is what that waits for; a decision may free it.
      if (!about.includes("step") || !after.run || !before.run) return;
      const { waits } = after.run;
      const { status, updatedAt, interventions } = after.run;
      const freed = request.op === "resolve" && { status, updatedAt, interventions };
      expect(after.run).toEqual({ ...before.run, waits, ...freed });
      if (after.run.status !== before.run.status) {
        expect([before.run.status, after.run.status]).toEqual(["suspended", "pending"]);
      }
    });
  });

  test("is the same when the very same request comes again at once, and then changes nothing (R20)", () => {
    always(({ request, decision, repeated, after }) => {
      if (request.op === "fork" && decision.ok && after.run?.forkedFrom?.copying) {
        // Before its seal, each one begins the fork anew.
        const run = { ...after.run, fence: after.run.fence + 1 };
        return expect(repeated).toEqual({ ok: true, reply: { run }, change: { run, dropFrom: 0 } });
      }
      expect(answerOf(repeated)).toEqual(answerOf(decision));
      if (!repeated.ok) return;
      // A renewal and a copy write again, what stands.
      if (request.op === "renew") expect(repeated.change.run ?? after.run).toEqual(after.run);
      else if (request.op === "copy")
        expect(repeated.change).toEqual({ step: after.steps.get(request.stepIndex) });
      else expect(repeated.change).toEqual({});
    });
  });
});

const SUBJECT: Record<Op, readonly (keyof Change)[]> = {
  claim: ["run"],
  renew: ["run"],
  end: ["run"],
  begin: ["step", "run"],
  complete: ["step", "run"],
  fail: ["step", "run"],
  emit: ["event"],
  suspend: ["run"],
  cancel: ["run"],
  resolve: ["step", "run"],
  restart: ["run", "dropFrom"],
  fork: ["run", "dropFrom"],
  copy: ["step"],
  seal: ["run"],
};

const OUTCOMES: Record<Op, readonly string[]> = {
  begin: [
    "failed in doubt",
    "lease_lost",
    "pending in doubt",
    "run_cancelled",
    "run_not_found",
    "running",
    "running in doubt",
    "standing",
    "step_divergence",
    "step_input_mismatch",
    "step_not_due",
    "step_not_running",
  ],
  cancel: ["cancelled", "run_not_found", "standing"],
  claim: ["lease_held", "manifest_mismatch", "run_cancelled", "running", "standing"],
  complete: [
    "completed",
    "lease_lost",
    "run_cancelled",
    "run_not_found",
    "standing",
    "step_divergence",
    "step_input_mismatch",
    "step_not_running",
  ],
  copy: ["completed", "failed", "failed in doubt", "lease_lost", "run_cancelled", "run_not_found"],
  emit: ["accepted", "standing"],
  end: ["completed", "failed", "lease_lost", "run_cancelled", "run_not_found", "standing"],
  fail: [
    "failed",
    "failed in doubt",
    "lease_lost",
    "pending in doubt, due later",
    "pending, due later",
    "run_cancelled",
    "run_not_found",
    "standing",
    "step_divergence",
    "step_input_mismatch",
    "step_not_running",
  ],
  fork: ["pending", "run_exists", "standing"],
  renew: ["extended", "run_not_found", "standing"],
  resolve: ["completed", "lease_held", "pending", "run_not_found", "standing", "step_not_in_doubt"],
  restart: ["invalid_input", "lease_held", "pending", "run_not_found", "standing"],
  seal: ["lease_lost", "pending", "run_cancelled", "run_not_found", "standing"],
  suspend: ["lease_lost", "pending", "run_cancelled", "run_not_found", "standing", "suspended"],
};

test("the random histories come by every outcome there is", () => {
  const seen = new Map<Op, Set<string>>();
  for (const { request, decision } of fc.sample(history, { numRuns: 3_000, seed: 1 }).flat()) {
    const outcomes = seen.get(request.op) ?? new Set();
    seen.set(request.op, outcomes.add(outcomeOf(request, decision)));
  }
  const sorted = Array.from(seen, ([op, outcomes]) => [op, [...outcomes].sort()]);
  expect(Object.fromEntries(sorted)).toEqual(OUTCOMES);
});

function outcomeOf(request: Request, decision: Decision): string {
  if (!decision.ok) return decision.error.code;
  const { step, run } = decision.change;
  if (step)
    return `${step.status}${step.inDoubt ? " in doubt" : ""}${step.nextAttemptAt ? ", due later" : ""}`;
  if (run) return request.op === "renew" ? "extended" : run.status;
  return decision.change.event ? "accepted" : "standing";
}

/**
 * What a caller sees of a decision. `accepted` tells a journal of a completion or an end which body to answer with, the
 * request's or the record's, and so does an emit's `isNew`; the two are the same when a request is repeated.
 */
function answerOf(decision: Decision): unknown {
  if (!decision.ok) return decision.error;
  if ("event" in decision.reply) {
    const { accepted, event } = decision.reply;
    return { accepted, event };
  }
  const { accepted: _, ...seen } = { accepted: undefined, ...decision.reply };
  return seen;
}
