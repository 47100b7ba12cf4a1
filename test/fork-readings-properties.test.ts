/** A fork of a run that is not at rest, whatever happens to that, and whenever: it is the run as it was at one moment (R34). */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { StepState } from "../src/ledger/state.ts";
import { InMemoryDurableRunStore } from "../src/stores/memory.ts";
import { COPY, Source, SOURCE } from "./helpers/forked-source.ts";
import type { Snapshot } from "./helpers/ledger.ts";
import { MANIFEST } from "./support/world.ts";

describe("whatever happens while a fork reads", () => {
  const act = fc.record({
    what: fc.oneof(
      { weight: 6, arbitrary: fc.constant("begin" as const) },
      { weight: 4, arbitrary: fc.constant("begin again" as const) },
      { weight: 8, arbitrary: fc.constant("complete" as const) },
      { weight: 3, arbitrary: fc.constantFrom("fail" as const, "try again" as const) },
      { weight: 4, arbitrary: fc.constantFrom("park", "resolve", "claim", "restart") },
    ),
    at: fc.nat({ max: 5 }),
    caught: fc.subarray([0, 1, 2, 3]),
    result: fc.nat(),
  });
  type Act = typeof act extends fc.Arbitrary<infer A> ? A : never;

  function perform(source: Source, { what, at, caught, result }: Act): void {
    const isOnRecord = source.ledger.snapshot().steps.has(at);
    if (what === "begin") source.begin(source.nextPosition, ...caught);
    else if (what === "claim") source.claim();
    // Of two branches, the later position may be begun first.
    else if (what === "begin again") source.begin(at, ...caught);
    else if (!isOnRecord) return;
    else if (what === "complete") source.complete(at, result);
    else if (what === "try again") source.fail(at, { retryAfterMs: 0, inDoubt: true });
    else if (what === "resolve") source.resolve(at, result);
    else source[what](at);
  }

  test("its copies are those of the run at one moment since it was called", async () => {
    let [made, mixed] = [0, 0];
    await fc.assert(
      fc.asyncProperty(
        fc.array(act, { minLength: 4, maxLength: 30, size: "max" }),
        fc.array(fc.array(act, { maxLength: 3, size: "max" }), { maxLength: 14, size: "max" }),
        fc.integer({ min: 1, max: 4 }),
        fc.nat({ max: 4 }),
        async (before, meanwhile, pageSize, throughStep) => {
          const source = new Source(pageSize);
          for (const each of before) perform(source, each);
          const from = source.moments.length - 1;
          source.during((_call, number) => {
            for (const each of meanwhile[number] ?? []) perform(source, each);
          });
          const error = await source.fork(throughStep).then(
            () => undefined,
            (reason: unknown) => reason as { code: string },
          );
          const moments = source.moments.slice(from);
          if (error === undefined) {
            const { steps } = source.store.ledger(COPY).snapshot();
            const copies = JSON.stringify([...steps.values()].map(asCopied));
            const possible = moments
              .filter(({ steps }) => steps.has(throughStep))
              .map((moment) => JSON.stringify(copiesOf(moment, throughStep)));
            expect(possible).toContain(copies);
            made += 1;
            mixed += new Set(possible).size > 1 ? 1 : 0;
          } else {
            expect(source.store.ledger(COPY).run).toBeNull();
            const isDropped = moments.some(({ steps }) => !steps.has(throughStep));
            if (error.code !== "store_unavailable") {
              expect(error).toMatchObject({ code: "invalid_input", field: "throughStep" });
              expect(isDropped).toBe(true);
            }
          }
        },
      ),
      { numRuns: 1_500 },
    );
    expect(made).toBeGreaterThan(200);
    expect(mixed).toBeGreaterThan(50);
  });

  /** What a fork takes of a run: what has completed, and each failure that something it takes has gone on from. */
  function copiesOf({ steps }: Snapshot, throughStep: number): unknown[] {
    const through = [...steps.values()]
      .filter(({ stepIndex }) => stepIndex <= throughStep)
      .toSorted((a, b) => a.stepIndex - b.stepIndex);
    let taken = through.filter(({ status }) => status === "completed");
    for (const _ of through) {
      const named = new Set(taken.flatMap(({ caught }) => caught));
      taken = through.filter(
        ({ status, stepIndex }) => status === "completed" || (status === "failed" && named.has(stepIndex)),
      );
    }
    return taken.map(asCopied);
  }

  function asCopied({ fence: _fence, beginRequestId: _beginRequestId, ...step }: StepState): unknown {
    return step;
  }
});

describe("over the memory store, whenever it comes", () => {
  const step = { intent: "fetch", kind: "tool", inputHash: "" } as const;

  async function ran(
    store: InMemoryDurableRunStore,
    fence: number,
    results: Readonly<Record<number, string>>,
  ): Promise<void> {
    for (const [position, result] of Object.entries(results)) {
      const at = { runId: SOURCE, stepIndex: Number(position), fence };
      await store.beginStep({ ...at, ...step });
      await store.completeStep({ ...at, result });
    }
  }

  async function claimed(store: InMemoryDurableRunStore): Promise<number> {
    const { fence = 0 } = await store.startOrResume({ runId: SOURCE, manifest: MANIFEST, workerId: "ann" });
    return fence;
  }

  /** Forks, and acts so many turns of the event loop's smallest kind later. */
  async function forkedBeside(
    store: InMemoryDurableRunStore,
    throughStep: number,
    turns: number,
    act: () => Promise<unknown>,
  ): Promise<unknown[] | string> {
    const forking = store.forkRun(SOURCE, COPY, { throughStep }).then(
      () => "forked",
      (error: unknown) => (error as { code: string }).code,
    );
    for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
    await act();
    const outcome = await forking;
    if (outcome !== "forked") return outcome;
    const manifest = MANIFEST;
    const { completedSteps } = await store.startOrResume({ runId: COPY, manifest, workerId: "bob" });
    return completedSteps.map(({ result }) => result);
  }

  test("a restart leaves a fork of what was before it, or of what came after it, or none", async () => {
    const seen = new Set<string>();
    for (let turns = 0; turns < 40; turns += 1) {
      const store = new InMemoryDurableRunStore();
      await ran(store, await claimed(store), { 0: "a", 1: "b", 2: "c" });
      const outcome = await forkedBeside(store, 2, turns, async () => {
        await store.restartRun(SOURCE, { fromStep: 1, dropLater: true });
        await ran(store, await claimed(store), { 1: "B", 2: "C" });
      });
      seen.add(JSON.stringify(outcome));
    }
    const possible = [["a", "b", "c"], ["a", "B"], ["a", "B", "C"], "invalid_input"];
    for (const outcome of seen) expect(possible.map((each) => JSON.stringify(each))).toContain(outcome);
    expect(seen.size).toBeGreaterThan(1);
  });

  test("a worker that goes on leaves a fork of its first steps", async () => {
    const seen = new Set<string>();
    for (let turns = 0; turns < 40; turns += 1) {
      const store = new InMemoryDurableRunStore();
      const fence = await claimed(store);
      await ran(store, fence, { 0: "a" });
      await store.beginStep({ runId: SOURCE, stepIndex: 1, fence, ...step });
      const outcome = await forkedBeside(store, 1, turns, async () => {
        await store.completeStep({ runId: SOURCE, stepIndex: 1, fence, result: "b" });
        await ran(store, fence, { 2: "c", 3: "d" });
      });
      seen.add(JSON.stringify(outcome));
    }
    expect([...seen].toSorted()).toEqual([JSON.stringify(["a", "b"]), JSON.stringify(["a"])].toSorted());
  });
});
