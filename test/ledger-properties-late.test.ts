/** What late repetitions may do, over random histories of a run: of any earlier request, and at any time after it. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Change } from "../src/ledger/state.ts";
import type { Decision, Request } from "../src/ledger/requests.ts";
import { decideOn, type Snapshot } from "./helpers/ledger.ts";
import { history, type Moment, throughout } from "./helpers/ledger-play.ts";

/** How many interventions a run knows again. */
const KNOWN = 16;

/** What became of a request when it came again, after the moment whose snapshot that is. */
interface Repetition {
  readonly request: Request;
  readonly late: Decision;
  /** What the same request would become of under a request id that nobody has used. */
  readonly fresh: Decision;
  readonly standing: Snapshot;
  /** Of those that took effect since the run began, or was begun as a fork: the latest ones, up to this moment. */
  readonly known: ReadonlySet<string>;
  /** The moments at which this very request had an effect before. */
  readonly effects: readonly Moment[];
}

/**
 * Holds of any earlier request of each history, were it to come once more at a later moment, or long after that. At each
 * moment a third of them is tried, and so each of them over and over.
 */
function alwaysOfRepetitions(invariant: (repetition: Repetition) => void): void {
  throughout((moments) => {
    const requests = new Map<string, Request>();
    const effects = new Map<string, Moment[]>();
    for (const [i, moment] of moments.entries()) {
      const { request, now, after: standing } = moment;
      requests.set(request.requestId, request);
      if (hasEffect(moment))
        effects.set(request.requestId, [...(effects.get(request.requestId) ?? []), moment]);
      const known = new Set(interventionsOf(moments.slice(0, i + 1)));
      for (const [nth, [requestId, repeated]] of [...requests].entries()) {
        if ((i + nth) % 3 !== 0) continue;
        for (const at of [now, now + 1_000]) {
          const late = decideOn(standing, repeated, at);
          const fresh = decideOn(standing, { ...repeated, requestId: FRESH }, at);
          invariant({
            request: repeated,
            late,
            fresh,
            standing,
            known,
            effects: effects.get(requestId) ?? [],
          });
        }
      }
    }
  }, 100);
}

const FRESH = "a request that nobody has made";

describe("any earlier request that is repeated, at any time", () => {
  test("changes nothing, or just what a new one would", () => {
    alwaysOfRepetitions(({ request: { requestId }, late, fresh }) => {
      if (!late.ok || isNothing(late.change)) return;
      expect(fresh.ok).toBe(true);
      expect(withId(late, requestId)).toEqual(withId(fresh, FRESH));
    });
  });

  test("is refused with nothing but what a new one would be refused with", () => {
    alwaysOfRepetitions(({ request: { requestId }, late, fresh }) => {
      if (!late.ok) expect(withId(late, requestId)).toEqual(withId(fresh, FRESH));
    });
  });

  test("takes neither the fence back nor any step", () => {
    alwaysOfRepetitions(({ request, late, standing }) => {
      if (!late.ok) return;
      const { run, step, dropFrom } = late.change;
      if (run) expect(run.fence).toBeGreaterThanOrEqual(standing.run?.fence ?? 0);
      const was = step && standing.steps.get(step.stepIndex);
      if (was && request.op !== "copy") {
        expect(was.status).not.toBe("completed");
        expect(step.attempts).toBeGreaterThanOrEqual(was.attempts);
        expect(step.fence).toBeGreaterThanOrEqual(was.fence);
      }
      if (dropFrom !== undefined) expect(run?.fence).toBe((standing.run?.fence ?? 0) + 1);
    });
  });
});

describe("a repeated cancellation, restart or decision", () => {
  test("that has taken effect takes none again, and answers what stands", () => {
    alwaysOfRepetitions(({ request, late, standing, known }) => {
      if (!known.has(request.requestId)) return;
      if (request.op === "resolve") {
        const step = standing.steps.get(request.stepIndex);
        if (step) expect(late).toEqual({ ok: true, reply: { step }, change: {} });
        else expect(late).toMatchObject({ ok: false, error: { code: "step_not_in_doubt" } });
      } else {
        expect(late).toEqual({ ok: true, reply: { run: standing.run }, change: {} });
      }
    });
  });

  test("has one effect in the history of a run, unless it was forgotten", () => {
    throughout((moments) => {
      for (const [i, moment] of moments.entries()) {
        if (!isIntervention(moment)) continue;
        const before = interventionsOf(moments.slice(0, i));
        expect(before).not.toContain(moment.request.requestId);
      }
    });
  });

  test("is known by the run as long as it is among its last 16, in their order", () => {
    throughout((moments) => {
      for (const [i, { after }] of moments.entries()) {
        expect(after.run?.interventions ?? []).toEqual(interventionsOf(moments.slice(0, i + 1)));
      }
    });
  });

  test("is forgotten in some histories: people asked for more than 16", () => {
    const most = fc
      .sample(history, { numRuns: 300, seed: 1 })
      .map((all) => all.filter(isIntervention).length);
    expect(Math.max(...most)).toBeGreaterThan(KNOWN);
  });
});

describe("a repeated begin that says its attempt", () => {
  test("begins no later one", () => {
    alwaysOfRepetitions(({ request, late, standing }) => {
      if (request.op !== "begin" || request.attempt === null || !late.ok) return;
      const step = standing.steps.get(request.stepIndex);
      if (late.change.step?.status !== "running") return;
      expect(late.change.step.attempts).toBe((step?.attempts ?? 0) + 1);
      expect(late.change.step.attempts).toBeLessThanOrEqual(request.attempt);
    });
  });

  test("of the attempt after the one on record begins that one once, whatever became of it", () => {
    alwaysOfRepetitions(({ request, late, effects }) => {
      if (request.op !== "begin" || request.fence === null || !late.ok) return;
      const hasBegun = effects.some(
        ({ decision }) => decision.ok && decision.change.step?.attempts === request.attempt,
      );
      if (hasBegun) expect(late.change).toEqual({});
    });
  });
});

/** The request ids of what took effect last, as the run should know them. */
function interventionsOf(moments: readonly Moment[]): string[] {
  return moments
    .filter(isIntervention)
    .map(({ request }) => request.requestId)
    .slice(-KNOWN);
}

function isIntervention(moment: Moment): boolean {
  return ["cancel", "restart", "resolve"].includes(moment.request.op) && hasEffect(moment);
}

function hasEffect({ decision }: Moment): boolean {
  return decision.ok && !isNothing(decision.change);
}

function isNothing(change: Change): boolean {
  return Object.keys(change).length === 0;
}

/** With one id for all requests. */
function withId(decision: Decision, requestId: string): Decision {
  return JSON.parse(JSON.stringify(decision).replaceAll(JSON.stringify(requestId), '"id"')) as Decision;
}
