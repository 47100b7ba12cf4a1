/** Begins that come with the end of their attempt, over a store that takes them so (R16). */
import { describe, expect } from "vitest";
import type { CompleteStepInput, DurableRunStore, FailStepInput, LateBegin } from "../../contract/types.ts";
import { newRequestId } from "../../identity.ts";
import { aRun, aStep, refusalOf } from "../harness.ts";
import type { Suite } from "./suite.ts";
import { race, refusal } from "./suite.ts";

const LABELS = { intent: "pay", kind: "tool", inputHash: "abc" } as const;
const ERROR = { name: "HttpError", message: "503", code: "unavailable" };

/** The end of an attempt, which brings its begin. */
type End = (
  store: DurableRunStore,
  held: Held,
  begin?: Partial<LateBegin>,
  attempt?: number,
) => Promise<unknown>;

interface Held {
  readonly runId: string;
  readonly fence: number;
  readonly requestId?: string;
  /** Default 0. */
  readonly stepIndex?: number;
}

function completion(held: Held, begin: Partial<LateBegin> = {}, attempt = 1): CompleteStepInput {
  return { stepIndex: 0, ...held, attempt, result: "paid", begin: { ...LABELS, elapsedMs: 0, ...begin } };
}

function failure(held: Held, begin: Partial<LateBegin> = {}, attempt = 1): FailStepInput {
  return { stepIndex: 0, ...held, attempt, error: ERROR, begin: { ...LABELS, elapsedMs: 0, ...begin } };
}

const ENDS: readonly [what: string, status: "completed" | "failed", end: End][] = [
  ["completion", "completed", (store, ...of) => store.completeStep(completion(...of))],
  ["failure", "failed", (store, ...of) => store.failStep(failure(...of))],
];

export function describeLateBegins(suite: Suite): void {
  const { claimed, takenOver, everything } = suite;
  const NEEDS = ["beginAfterMs"] as const;

  const itWith = (title: string, body: (store: DurableRunStore) => Promise<void>): void =>
    suite.itWith(NEEDS, title, body);

  const held = async (): Promise<Held> => {
    const { runId, fence } = await claimed();
    return { runId, fence };
  };

  describe("begins that come late", () => {
    for (const [what, status, end] of ENDS) {
      itWith(`are recorded with the ${what} of their attempt, as if they had been told`, async (store) => {
        const run = await held();
        const step = await end(store, run, { path: "0/a/0" });
        expect(step).toMatchObject({
          runId: run.runId,
          stepIndex: 0,
          path: "0/a/0",
          ...LABELS,
          status,
          attempts: 1,
          workerId: "worker-1",
          ...(status === "completed" ? { result: "paid" } : { error: ERROR }),
        });
        expect(step).not.toHaveProperty("inDoubt");
        expect(step).not.toHaveProperty("deadlineAt");
        expect(await store.loadStep(run.runId, 0)).toEqual(step);
        expect((await store.startOrResume({ ...aRun(), runId: run.runId })).run).toMatchObject({
          stepCount: 1,
        });
      });

      itWith(`begin so long before the ${what}, by the store's clock`, async (store) => {
        const run = await held();
        suite.clock.advance(60_000);
        const before = suite.clock.now();
        const step = (await end(store, run, { elapsedMs: 5_000 })) as {
          startedAt: string;
          completedAt: string;
        };
        const startedAt = Date.parse(step.startedAt);
        expect(startedAt).toBeGreaterThanOrEqual(before - 5_000);
        expect(startedAt).toBeLessThanOrEqual(suite.clock.now() - 5_000);
        expect(Date.parse(step.completedAt) - startedAt).toBe(5_000);
      });

      itWith(`begin no sooner than their run, whatever their ${what} says`, async (store) => {
        const { runId, fence, run } = await claimed();
        const step = (await end(store, { runId, fence }, { elapsedMs: 86_400_000 })) as { startedAt: string };
        expect(step.startedAt).toBe(run.createdAt);
      });

      itWith(`have one effect and one answer when their ${what} is repeated`, async (store) => {
        const requestId = newRequestId();
        const run = { ...(await held()), requestId };
        const step = await end(store, run);
        const before = await everything(run.runId);
        suite.clock.advance(1_000);
        expect(await end(store, run, { elapsedMs: 1_000 })).toEqual(step);
        expect(await end(store, { ...run, requestId: newRequestId() })).toEqual(step);
        expect(await everything(run.runId)).toEqual(before);
      });

      itWith(`have one effect when ten copies of their ${what} race`, async (store) => {
        const run = { ...(await held()), requestId: newRequestId() };
        const { answers, refusals } = await race(Array.from({ length: 10 }, () => end(store, run)));
        expect(refusals).toEqual([]);
        const step = await store.loadStep(run.runId, 0);
        expect(step).toMatchObject({ status, attempts: 1 });
        for (const answer of answers) expect(answer).toEqual(step);
      });

      itWith(`race with the ${what}, and count once`, async (store) => {
        const run = await held();
        const begin = aStep(run.runId, 0, { ...LABELS, fence: run.fence, attempt: 1 });
        await race([store.beginStep(begin), end(store, run), store.beginStep(begin)]);
        expect(await store.loadStep(run.runId, 0)).toMatchObject({ ...LABELS, status, attempts: 1 });
      });

      itWith(
        `change nothing when they are told of after the ${what}, or after the run's end`,
        async (store) => {
          const run = await held();
          const begin = aStep(run.runId, 0, { ...LABELS, fence: run.fence, attempt: 1 });
          const step = await end(store, run);
          for (const hasEnded of [false, true]) {
            if (hasEnded) await store.endRun({ ...run, workerId: "worker-1", status: "completed" });
            const before = await everything(run.runId);
            if (status === "completed") expect(await store.beginStep(begin)).toEqual(step);
            else
              expect(await refusalOf(() => store.beginStep(begin))).toBe(
                hasEnded ? "lease_lost" : "step_not_running",
              );
            expect(await everything(run.runId)).toEqual(before);
          }
        },
      );

      itWith(`are refused with their ${what} under a fence that is over`, async (store) => {
        const { runId, old } = await takenOver();
        const before = await everything(runId);
        for (const stepIndex of [0, 1]) {
          expect(await refusalOf(() => end(store, { runId, fence: old, stepIndex }))).toBe("lease_lost");
        }
        expect(await everything(runId)).toEqual(before);
      });

      itWith(`are refused with their ${what} once the run has ended`, async (store) => {
        const run = await held();
        await store.endRun({ ...run, workerId: "worker-1", status: "failed", error: { message: "no" } });
        const before = await everything(run.runId);
        expect(await refusalOf(() => end(store, run))).toBe("lease_lost");
        expect(await everything(run.runId)).toEqual(before);
      });

      suite.itWith(
        ["beginAfterMs", "cancelRun"],
        `are refused with their ${what} once the run is cancelled`,
        async (store) => {
          const run = await held();
          await store.cancelRun(run.runId);
          const before = await everything(run.runId);
          expect(await refusalOf(() => end(store, run))).toBe("run_cancelled");
          expect(await everything(run.runId)).toEqual(before);
        },
      );

      itWith(`leave a step as it was begun, when it is on record before the ${what}`, async (store) => {
        const run = await held();
        const begun = await store.beginStep(aStep(run.runId, 0, { ...LABELS, fence: run.fence, attempt: 1 }));
        suite.clock.advance(1_000);
        const step = await end(store, run, { elapsedMs: 60_000, intent: "another" });
        expect(step).toMatchObject({ ...LABELS, status, attempts: 1, startedAt: begun.startedAt });
      });

      itWith(`are held to what is on record, with their ${what} (R23)`, async (store) => {
        const run = await held();
        await store.failStep(failure(run));
        const before = await everything(run.runId);
        const again = (begin: Partial<LateBegin>) => refusalOf(() => end(store, run, begin, 2));
        expect(await again({ intent: "another" })).toBe("step_divergence");
        expect(await again({ kind: "llm" })).toBe("step_divergence");
        expect(await again({ path: "0/a/0" })).toBe("step_divergence");
        expect(await again({ inputHash: "def" })).toBe("step_input_mismatch");
        expect(await everything(run.runId)).toEqual(before);
      });

      itWith(`count as the next attempt of a failed step, with their ${what}`, async (store) => {
        const run = await held();
        await store.failStep(failure(run));
        suite.clock.advance(1_000);
        const step = (await end(store, run, { elapsedMs: 400 }, 2)) as {
          startedAt: string;
          completedAt: string;
        };
        expect(step).toMatchObject({ ...LABELS, status, attempts: 2 });
        expect(Date.parse(step.completedAt) - Date.parse(step.startedAt)).toBe(400);
        expect(await store.loadStep(run.runId, 0)).toEqual(step);
      });

      itWith(`are refused, with their ${what}, when a field is none`, async (store) => {
        const run = await held();
        const before = await everything(run.runId);
        const bad: [field: string, begin: Record<string, unknown>][] = [
          ...[-1, 0.5, Number.NaN, Infinity, "5", null, undefined, Number.MAX_SAFE_INTEGER].map(
            (elapsedMs): [string, Record<string, unknown>] => ["begin.elapsedMs", { elapsedMs }],
          ),
          ["begin.intent", { intent: "" }],
          ["begin.intent", { intent: undefined }],
          ["begin.kind", { kind: "magic" }],
          ["begin.inputHash", { inputHash: "x".repeat(10_000) }],
          ["begin.path", { path: "" }],
        ];
        for (const [field, begin] of bad) {
          const error = await refusal(() => end(store, run, begin as Partial<LateBegin>));
          expect({ begin, error }).toMatchObject({ begin, error: { code: "invalid_input", field } });
        }
        for (const none of [null, "begin", 1, []] as unknown[]) {
          const begin = none as LateBegin;
          const error = await refusal(() =>
            status === "completed"
              ? store.completeStep({ ...completion(run), begin })
              : store.failStep({ ...failure(run), begin }),
          );
          expect({ none, error }).toMatchObject({ none, error: { code: "invalid_input", field: "begin" } });
        }
        expect(await everything(run.runId)).toEqual(before);
      });
    }

    itWith("do not open a completed step again", async (store) => {
      const run = await held();
      const done = await store.completeStep(completion(run));
      const before = await everything(run.runId);
      expect(await store.completeStep({ ...completion(run, {}, 2), result: "another" })).toEqual(done);
      expect(await refusalOf(() => store.failStep(failure(run, {}, 2)))).toBe("step_not_running");
      expect(await everything(run.runId)).toEqual(before);
    });

    itWith("bring large results, and replay", async (store) => {
      const run = await held();
      const result = "x".repeat(1_000_000);
      await store.completeStep({ ...completion(run), result });
      const { completedSteps } = await store.startOrResume({ ...aRun(), runId: run.runId });
      expect(completedSteps).toMatchObject([{ ...LABELS, status: "completed", attempts: 1 }]);
      expect(completedSteps[0]?.result === result).toBe(true);
    });
  });
}
