/**
 * The invariants of the ledger, over random histories of a run. A failure prints its seed and its shortest history.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Decision } from "../src/ledger/requests.ts";
import { leaseIsLive } from "../src/ledger/state.ts";
import { history, type Moment } from "./helpers/ledger-play.ts";

/** Holds at each moment of each history. */
function always(invariant: (moment: Moment) => void): void {
  throughout((moments) => {
    for (const moment of moments) invariant(moment);
  });
}

function throughout(invariant: (moments: readonly Moment[]) => void): void {
  fc.assert(fc.property(history, invariant), { numRuns: 300 });
}

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
        if (request.op === "end") until.delete(request.workerId);
        expect([...until.values()].filter((expiry) => expiry > now).length).toBeLessThanOrEqual(1);
      }
    });
  });

  test("the fence grows by one at each claim that is granted, and never else (R5)", () => {
    always(({ request, decision, before, after }) => {
      const granted = request.op === "claim" && decision.ok && decision.change.run !== undefined;
      expect(after.run?.fence ?? 0).toBe((before.run?.fence ?? 0) + (granted ? 1 : 0));
    });
  });

  test("a claim that comes again is granted no second fence while no other was granted since (R20)", () => {
    always(({ request, decision, before }) => {
      if (request.op !== "claim" || before.run?.claimRequestId !== request.requestId) return;
      expect(decision).toEqual({ ok: true, reply: { run: before.run }, change: {} });
    });
  });

  test("a mutation under a lower fence is always refused with lease_lost (R5)", () => {
    always(({ request, decision, before }) => {
      if (!("fence" in request) || request.fence === null || !before.run || request.fence >= before.run.fence)
        return;
      if (request.op === "renew")
        expect(decision).toEqual({ ok: true, reply: { leaseExpiresAt: null }, change: {} });
      else expect(decision).toMatchObject({ ok: false, error: { code: "lease_lost" } });
    });
  });

  test("a renewal extends only a lease that lives, of the worker that claimed last (R8)", () => {
    always(({ request, decision, before, after, now }) => {
      if (request.op !== "renew" || !decision.ok || !before.run) return;
      const holds = leaseIsLive(before.run, now) && before.run.workerId === request.workerId;
      if (after.run?.leaseExpiresAt !== before.run.leaseExpiresAt) expect(holds).toBe(true);
      if (!holds) expect(decision.reply).toEqual({ leaseExpiresAt: null });
    });
  });

  test("a lease is set exactly while the run is running, and an end releases it", () => {
    always(({ request, decision, after, now }) => {
      if (!after.run) return;
      expect(after.run.leaseExpiresAt !== null).toBe(after.run.status === "running");
      if (request.op === "end" && decision.ok) {
        expect(after.run).toMatchObject({ status: request.status, leaseExpiresAt: null });
        expect(leaseIsLive(after.run, now)).toBe(false);
      }
    });
  });
});

describe("what stands", () => {
  test("a completed step never changes", () => {
    always(({ before, after }) => {
      for (const [index, step] of before.steps) {
        if (step.status === "completed") expect(after.steps.get(index)).toEqual(step);
      }
    });
  });

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

  test("a completed run never changes", () => {
    always(({ before, after }) => {
      if (before.run?.status === "completed") expect(after.run).toEqual(before.run);
    });
  });

  test("no step changes while its run is not running", () => {
    always(({ before, after }) => {
      if (before.run?.status !== "running") expect(after.steps).toEqual(before.steps);
    });
  });

  test("a step keeps its intent, kind, deadline and input, its attempts only grow, and so does what it caught", () => {
    always(({ before, after }) => {
      for (const [index, was] of before.steps) {
        const { intent, kind, inputHash, deadlineAt } = was;
        expect(after.steps.get(index)).toMatchObject({
          intent,
          kind,
          ...(inputHash !== "" && { inputHash }),
          ...(deadlineAt !== null && { deadlineAt }),
          caught: expect.arrayContaining([...was.caught]) as number[],
        });
        expect(after.steps.get(index)?.attempts).toBeGreaterThanOrEqual(was.attempts);
      }
    });
  });

  test("a run keeps its manifest and the time of its creation", () => {
    always(({ before, after }) => {
      if (!before.run) return;
      const { manifestHash, projectId, task, input, createdAt } = before.run;
      expect(after.run).toMatchObject({ manifestHash, projectId, task, input, createdAt });
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
    always(({ request, decision }) => {
      if (!decision.ok) return;
      const subject = {
        claim: "run",
        renew: "run",
        end: "run",
        begin: "step",
        complete: "step",
        fail: "step",
        emit: "event",
      };
      expect(Object.keys(decision.change).filter((key) => key !== subject[request.op])).toEqual([]);
    });
  });

  test("is the same when the very same request comes again at once, and then changes nothing (R20)", () => {
    always(({ request, decision, repeated, after }) => {
      expect(answerOf(repeated)).toEqual(answerOf(decision));
      if (!repeated.ok) return;
      // A renewal writes again, what stands.
      if (request.op === "renew") expect(repeated.change.run ?? after.run).toEqual(after.run);
      else expect(repeated.change).toEqual({});
    });
  });
});

test("the random histories come by every outcome there is", () => {
  const seen = new Set<string>();
  for (const moments of fc.sample(history, { numRuns: 300, seed: 1 })) {
    for (const { request, decision } of moments) seen.add(`${request.op}: ${outcomeOf(decision)}`);
  }
  expect([...seen].sort()).toEqual([
    "begin: accepted",
    "begin: lease_lost",
    "begin: run_not_found",
    "begin: standing",
    "begin: step_divergence",
    "begin: step_input_mismatch",
    "claim: accepted",
    "claim: lease_held",
    "claim: manifest_mismatch",
    "claim: standing",
    "complete: accepted",
    "complete: lease_lost",
    "complete: run_not_found",
    "complete: standing",
    "complete: step_divergence",
    "complete: step_input_mismatch",
    "complete: step_not_running",
    "emit: accepted",
    "emit: standing",
    "end: accepted",
    "end: lease_lost",
    "end: run_not_found",
    "end: standing",
    "fail: accepted",
    "fail: lease_lost",
    "fail: run_not_found",
    "fail: standing",
    "fail: step_divergence",
    "fail: step_input_mismatch",
    "fail: step_not_running",
    "renew: accepted",
    "renew: run_not_found",
    "renew: standing",
  ]);
});

function outcomeOf(decision: Decision): string {
  if (!decision.ok) return decision.error.code;
  return Object.keys(decision.change).length > 0 ? "accepted" : "standing";
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
