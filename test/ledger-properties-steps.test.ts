/** The invariants of the steps of a run, over random histories of it, and of what the run waits for at them. */
import { describe, expect, test } from "vitest";
import type { StepState } from "../src/ledger/state.ts";
import { always, type Moment } from "./helpers/ledger-play.ts";

/** Holds of each step that was on record and still is, but for the copies of a fork that is not sealed. */
function alwaysOfSteps(invariant: (was: StepState, is: StepState, moment: Moment) => void): void {
  always((moment) => {
    if (moment.request.op === "copy") return;
    for (const [index, was] of moment.before.steps) {
      const is = moment.after.steps.get(index);
      if (is) invariant(was, is, moment);
    }
  });
}

/** Holds of each step that is on record, at each moment. */
function alwaysOfEach(invariant: (step: StepState, moment: Moment) => void): void {
  always((moment) => {
    for (const step of moment.after.steps.values()) invariant(step, moment);
  });
}

describe("a step that is on record", () => {
  test("stays there, unless a restart drops it with all that come after it, or a fork is begun anew", () => {
    always(({ request, decision, before, after }) => {
      const dropsFrom = decision.ok ? (decision.change.dropFrom ?? Infinity) : Infinity;
      if (dropsFrom < Infinity && request.op === "fork") {
        expect(dropsFrom).toBe(0);
        expect(before.run?.forkedFrom).toMatchObject({ copying: true });
      } else if (dropsFrom < Infinity) {
        expect(request).toMatchObject({ op: "restart", stepIndex: dropsFrom });
      }
      const left = [...before.steps.keys()].filter((index) => index < dropsFrom);
      expect([...after.steps.keys()]).toEqual(expect.arrayContaining(left));
      if (dropsFrom < Infinity) expect(after.steps.size).toBe(left.length);
    });
  });

  test("never changes once it has completed", () => {
    alwaysOfSteps((was, is) => {
      if (was.status === "completed") expect(is).toEqual(was);
    });
  });

  test("changes only while its run is running, or by a decision on it", () => {
    alwaysOfSteps((was, is, { request, before }) => {
      if (before.run?.status === "running") return;
      if (request.op !== "resolve" || request.stepIndex !== was.stepIndex) expect(is).toEqual(was);
    });
  });

  test("keeps its path, intent, kind, deadline and input, its attempts only grow, and so does what it caught", () => {
    alwaysOfSteps((was, is) => {
      const { path, intent, kind, inputHash, deadlineAt } = was;
      expect(is).toMatchObject({
        path,
        intent,
        kind,
        ...(inputHash !== "" && { inputHash }),
        ...(deadlineAt !== null && { deadlineAt }),
        caught: expect.arrayContaining([...was.caught]) as number[],
      });
      expect(is.attempts).toBeGreaterThanOrEqual(was.attempts);
    });
  });

  test("stands under the fence at which it last changed", () => {
    always(({ before, after }) => {
      for (const [index, step] of after.steps) {
        if (step !== before.steps.get(index)) expect(step.fence).toBe(after.run?.fence);
      }
    });
  });

  test("has a result once completed, an error once failed, and no more doubt or delay than its status allows", () => {
    alwaysOfEach(({ status, result, error, inDoubt, nextAttemptAt, completedAt, attempts, tries }) => {
      expect(result !== null).toBe(status === "completed");
      if (status === "failed") expect(error).not.toBeNull();
      if (status === "completed") expect(inDoubt).toBe(false);
      if (status !== "pending") expect(nextAttemptAt).toBeNull();
      if (status === "completed" || status === "failed") expect(completedAt).not.toBeNull();
      if (status === "running") expect(completedAt).toBeNull();
      expect(tries).toBeGreaterThanOrEqual(status === "running" ? 1 : 0);
      expect(tries).toBeLessThanOrEqual(attempts);
    });
  });

  test("keeps its last failure until another one takes its place", () => {
    alwaysOfSteps((was, is, { request }) => {
      if (is.error === was.error) return;
      const isHeldBack = request.op === "begin" && request.onInterrupted === "fail";
      expect(request.op === "fail" || isHeldBack).toBe(true);
      expect(is.error).not.toBeNull();
    });
  });
});

describe("an attempt", () => {
  test("is counted once for each begin that sets the step running, and no other request counts one", () => {
    always(({ request, decision, before }) => {
      if (!decision.ok || request.op === "copy") return;
      const { step } = decision.change;
      if (!step) return;
      const was = before.steps.get(step.stepIndex);
      const counted = step.attempts - (was?.attempts ?? 0);
      if (request.op === "begin") {
        expect(was?.beginRequestId).not.toBe(request.requestId);
        expect(counted).toBe(step.status === "running" ? 1 : 0);
        // No late copy of it begins a later one.
        if (request.attempt !== null) expect(was?.attempts ?? 0).toBeLessThan(request.attempt);
        expect(step.beginRequestId).toBe(request.requestId);
      } else if (counted > 0) {
        // R16: its begin was lost.
        if (request.op !== "complete" && request.op !== "fail") throw new Error(`${request.op} counts`);
        expect(request.begun?.requestId).toBe(step.beginRequestId);
        expect(step.attempts).toBe(Math.max((was?.attempts ?? 0) + 1, request.attempt ?? 0));
      }
    });
  });

  test("that came late began in the lifetime of its run, and no later than it ended", () => {
    always(({ request, decision, before }) => {
      if (!decision.ok || (request.op !== "complete" && request.op !== "fail")) return;
      const { step } = decision.change;
      if (!step || request.begun?.startedAt !== null) return;
      if (step.attempts === before.steps.get(step.stepIndex)?.attempts) return;
      expect(step.startedAt).toBeGreaterThanOrEqual(before.run?.createdAt ?? Infinity);
      expect(step.startedAt).toBeLessThanOrEqual(step.completedAt ?? -Infinity);
    });
  });

  test("repeats its begin without counting, until another request of its step stands (R20)", () => {
    always(({ request, decision, before }) => {
      if (request.op !== "begin" || !decision.ok) return;
      const was = before.steps.get(request.stepIndex);
      if (was?.beginRequestId === request.requestId)
        expect(decision).toEqual({ ok: true, reply: { step: was }, change: {} });
    });
  });

  test("does not begin before its time", () => {
    always(({ request, decision, before, after, now }) => {
      if (request.op !== "begin") return;
      const was = before.steps.get(request.stepIndex);
      if (!was || was.nextAttemptAt === null || was.nextAttemptAt <= now) return;
      expect(after.steps.get(request.stepIndex)?.attempts).toBe(was.attempts);
      if (!decision.ok && decision.error.code === "step_not_due")
        expect(decision.error.retryAfterMs).toBe(was.nextAttemptAt - now);
    });
  });

  test("is a first try when there was none, or after a failure for good, and else one more", () => {
    always(({ request, decision, before }) => {
      if (request.op !== "begin" || !decision.ok || decision.change.step?.status !== "running") return;
      const was = before.steps.get(request.stepIndex);
      const isFirst = was === undefined || was.status === "failed";
      expect(decision.change.step.tries).toBe(isFirst ? 1 : was.tries + 1);
    });
  });
});

describe("tries", () => {
  test("are set to none by a decision for another attempt, and when a failure for good is parked", () => {
    alwaysOfSteps((was, is, { request, decision }) => {
      if (!decision.ok || decision.change.step !== is || is.status !== "pending") return;
      if (request.op === "resolve") expect(is.tries).toBe(0);
      if (request.op === "begin") expect(is.tries).toBe(was.status === "failed" ? 0 : was.tries);
    });
  });

  test("are otherwise changed by attempts alone", () => {
    alwaysOfSteps((was, is) => {
      if (is.status !== "pending" && is.attempts === was.attempts) expect(is.tries).toBe(was.tries);
    });
  });
});

describe("a step in doubt", () => {
  test("is not run under a policy that holds it back", () => {
    always(({ request, decision, before }) => {
      if (request.op !== "begin" || !decision.ok || !decision.change.step) return;
      const was = before.steps.get(request.stepIndex);
      if (!was || !(was.inDoubt || was.status === "running")) return;
      const { step } = decision.change;
      const become = { rerun: "running", reconcile: "running", fail: "failed", park: "pending" } as const;
      expect(step.status).toBe(become[request.onInterrupted]);
      expect(step.inDoubt).toBe(request.onInterrupted !== "rerun");
    });
  });

  test("comes to be by a begin that finds its worker dead, or by a failure that says so", () => {
    always(({ request, decision, before }) => {
      if (!decision.ok || !decision.change.step?.inDoubt || request.op === "copy") return;
      const was = before.steps.get(decision.change.step.stepIndex);
      if (request.op === "begin") expect(was?.status === "running" || was?.inDoubt).toBe(true);
      else expect(request).toMatchObject({ op: "fail", inDoubt: true });
    });
  });

  test("that failed for good stays as it is while the policy is to fail", () => {
    alwaysOfSteps((was, is, { request }) => {
      if (request.op !== "begin" || request.onInterrupted !== "fail") return;
      if (was.status !== "failed" || !was.inDoubt) return;
      const { caught, fence, beginRequestId } = is;
      expect(is).toEqual({ ...was, caught, fence, beginRequestId });
    });
  });

  test("is resolved as the decision says, and never while an attempt is under way", () => {
    alwaysOfSteps((was, is, { request, before }) => {
      if (request.op !== "resolve" || was === is) return;
      expect(was).toMatchObject({
        inDoubt: true,
        status: expect.stringMatching(/^(pending|failed)$/) as string,
      });
      const { result } = request;
      expect(is).toMatchObject({ inDoubt: false, result, status: result ? "completed" : "pending" });
      expect(before.run?.status).not.toMatch(/^(completed|cancelled)$/);
      expect(before.run?.forkedFrom?.copying ?? false).toBe(false);
    });
  });

  test("that has failed is resolved only in a run that is at rest, by whoever has read it as it is, and knows of nothing that caught it", () => {
    alwaysOfSteps((was, is, { request, before }) => {
      if (request.op !== "resolve" || was === is || was.status !== "failed") return;
      expect(before.run?.status).toMatch(/^(pending|suspended|failed)$/);
      expect(request).toMatchObject({ isCaught: false, readAt: before.run?.updatedAt });
    });
  });
});

describe("what a run waits for", () => {
  test("is at a step that is running or pending, one thing at each", () => {
    always(({ after }) => {
      const waits = after.run?.waits ?? [];
      expect(new Set(waits.map((wait) => wait.stepIndex)).size).toBe(waits.length);
      for (const { stepIndex, path } of waits) {
        const step = after.steps.get(stepIndex);
        expect(step).toMatchObject({ path, status: expect.stringMatching(/^(running|pending)$/) as string });
      }
    });
  });

  test("is what its step says", () => {
    always(({ after }) => {
      for (const { stepIndex, for: what, key, until } of after.run?.waits ?? []) {
        const { status, deadlineAt, nextAttemptAt, inDoubt } = after.steps.get(stepIndex)!;
        if (what === "event" || what === "time") {
          expect({ status, until }).toEqual({ status: "running", until: deadlineAt });
        } else {
          expect(status).toBe("pending");
          expect(until).toBe(nextAttemptAt);
        }
        expect(key !== null).toBe(what === "event");
        if (what === "retry") expect(until).not.toBeNull();
        if (what === "decision") expect({ inDoubt, until }).toEqual({ inDoubt: true, until: null });
      }
    });
  });

  test("is not at a step below one that has just begun or ended, but for decisions until that has completed", () => {
    always(({ request, decision, after }) => {
      if (!decision.ok || !decision.change.step || request.op === "copy") return;
      const { path: above, status } = decision.change.step;
      const below = after.run?.waits.filter(({ path }) => path.startsWith(`${above}/`)) ?? [];
      expect(below.filter((wait) => status === "completed" || wait.for !== "decision")).toEqual([]);
    });
  });

  test("comes into being with a change of its step, and with nothing else", () => {
    always(({ decision, before, after }) => {
      const known = new Set(before.run?.waits);
      for (const wait of after.run?.waits ?? []) {
        if (known.has(wait)) continue;
        expect(decision).toMatchObject({ ok: true, change: { step: { stepIndex: wait.stepIndex } } });
      }
    });
  });
});
