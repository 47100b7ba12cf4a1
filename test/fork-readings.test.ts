/**
 * A fork of a run that is not at rest: it is read in pages and steps, while its worker goes on, or somebody restarts it,
 * and what comes of it is the run as it was at one moment (R34).
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ForkRunOptions } from "../src/contract/types.ts";
import type { Request } from "../src/ledger/requests.ts";
import type { StepState } from "../src/ledger/state.ts";
import { caughtFailures } from "../src/ledger/steps.ts";
import { InMemoryDurableRunStore } from "../src/stores/memory.ts";
import {
  beginOf,
  cancelOf,
  claimOf,
  completeOf,
  endOf,
  failOf,
  resolveOf,
  restartOf,
  type Snapshot,
  type TinyJournal,
} from "./helpers/ledger.ts";
import { type JournalCall, PagedStore } from "./helpers/paged-store.ts";
import { MANIFEST, rejection } from "./support/world.ts";

const SOURCE = "source";
const COPY = "copy";

/** The worker of the source, and the people around it, who never wait for anybody. */
class Source {
  readonly store: PagedStore;
  readonly ledger: TinyJournal;
  /** The run after each thing that happened to it. */
  readonly moments: Snapshot[] = [];
  #requests = 0;

  constructor(pageSize = 2) {
    this.store = new PagedStore(pageSize);
    this.ledger = this.store.ledger(SOURCE);
    this.claim();
  }

  get fence(): number {
    return this.ledger.theRun.fence;
  }

  get nextPosition(): number {
    return Math.max(-1, ...this.ledger.snapshot().steps.keys()) + 1;
  }

  claim(): void {
    this.#send(claimOf());
  }

  begin(stepIndex: number, ...caught: number[]): void {
    this.#send(beginOf({ stepIndex, fence: this.fence, caught }));
  }

  complete(stepIndex: number, result: unknown = `result ${stepIndex}`): void {
    this.#send(completeOf({ stepIndex, fence: this.fence, result: { text: JSON.stringify(result) } }));
  }

  run(...stepIndices: number[]): void {
    for (const stepIndex of stepIndices) {
      this.begin(stepIndex);
      this.complete(stepIndex);
    }
  }

  fail(stepIndex: number, over: Partial<Parameters<typeof failOf>[0]> = {}): void {
    this.#send(failOf({ stepIndex, fence: this.fence, ...over }));
  }

  /** Ann dies in it, and the next worker parks it. */
  park(stepIndex: number): void {
    this.claim();
    this.#send(beginOf({ stepIndex, fence: this.fence, onInterrupted: "park" }));
  }

  resolve(stepIndex: number, result: unknown): void {
    this.#send(resolveOf({ stepIndex, result: { text: JSON.stringify(result) } }));
  }

  restart(fromStep: number): void {
    this.#send(restartOf({ stepIndex: fromStep }));
    this.claim();
  }

  cancel(): void {
    this.#send(cancelOf());
  }

  end(): void {
    this.#send(endOf({ fence: this.fence }));
  }

  /** Acts before the calls of a fork that read the source, the first of which is call 0. */
  during(act: (call: JournalCall, number: number) => void): void {
    let number = 0;
    this.store.before = (call, runId) => {
      if (runId === SOURCE) act(call, number++);
    };
  }

  /** Acts once, before the nth call of this sort. */
  beforeThe(nth: number, sort: JournalCall, act: () => void): void {
    let count = 0;
    this.during((call) => {
      if (call === sort && (count += 1) === nth) act();
    });
  }

  fork(throughStep: number, options: Partial<ForkRunOptions> = {}): Promise<unknown> {
    return this.store.forkRun(SOURCE, COPY, { throughStep, ...options });
  }

  /** Positions and results of the steps of the copy. */
  copied(): [number, unknown][] {
    const { steps } = this.store.ledger(COPY).snapshot();
    return Array.from(steps, ([position, step]) => [position, resultOf(step)]);
  }

  #send(request: Request): void {
    const requestId = `source-${(this.#requests += 1)}`;
    this.ledger.submit({ ...request, runId: SOURCE, requestId });
    this.moments.push(this.ledger.snapshot());
  }
}

function resultOf({ result, status }: StepState): unknown {
  return result && "text" in result ? JSON.parse(result.text) : status;
}

describe("a fork of a run whose worker goes on", () => {
  test("has a step that ended while it was read, if it has one that began after that", async () => {
    const source = new Source();
    source.run(0);
    source.begin(1);
    // Page 1 has steps 0 and 1, and says that step 1 runs.
    source.begin(2);
    source.beforeThe(2, "steps", () => {
      source.complete(1);
      source.complete(2);
      source.run(3);
    });
    await source.fork(3).catch(() => {});
    expect(source.copied()).toEqual([0, 1, 2, 3].map((position) => [position, `result ${position}`]));
  });

  test("has a failure that was caught while it was read, if it has what began after that", async () => {
    const source = new Source();
    source.run(0);
    source.begin(1);
    source.begin(2);
    source.beforeThe(2, "steps", () => {
      source.fail(1);
      source.complete(2);
      source.begin(3, 1);
      source.complete(3);
    });
    await source.fork(3);
    expect(source.copied()).toEqual([
      [0, "result 0"],
      [1, "failed"],
      [2, "result 2"],
      [3, "result 3"],
    ]);
  });

  test("does not take a step for under way that has failed, begun again and ended meanwhile", async () => {
    const source = new Source();
    source.begin(0);
    source.run(1);
    source.begin(2);
    source.beforeThe(2, "steps", () => {
      source.fail(0, { retryAfterMs: 0 });
      source.begin(0);
      source.complete(0, "at last");
      source.complete(2);
    });
    await source.fork(2);
    expect(source.copied()).toEqual([
      [0, "at last"],
      [1, "result 1"],
      [2, "result 2"],
    ]);
  });

  test("leaves a step out that fails and begins again at each reading, and is open at the end of one", async () => {
    const source = new Source();
    source.begin(0);
    source.run(1);
    let left = 5;
    source.during((call) => {
      if (call !== "step" || left === 0) return;
      left -= 1;
      source.fail(0, { retryAfterMs: 0 });
      source.begin(0);
    });
    await source.fork(1);
    expect(source.copied()).toEqual([[1, "result 1"]]);
  });

  test("has what was decided on a parked step while it was read, if it has what began after that", async () => {
    const source = new Source();
    source.begin(0);
    source.park(0);
    source.run(1);
    source.begin(2);
    source.beforeThe(2, "steps", () => {
      source.resolve(0, "decided");
      source.complete(2);
    });
    await source.fork(2);
    expect(source.copied()).toEqual([
      [0, "decided"],
      [1, "result 1"],
      [2, "result 2"],
    ]);
  });

  test("reads once what is at rest up to the cut, whatever goes on behind it", async () => {
    const source = new Source();
    source.run(0, 1, 2);
    let [next, readings] = [3, 0];
    source.during((call) => {
      readings += call === "steps" ? 1 : 0;
      if (next < 6) source.run(next++);
    });
    await source.fork(1);
    expect(source.copied()).toEqual([0, 1].map((position) => [position, `result ${position}`]));
    // Three pages, as the source grew.
    expect(readings).toBe(3);
  });

  test("is of the run as it was, when the source goes on, ends or is cancelled while the copies are made", async () => {
    for (const act of ["complete", "end", "cancel"] as const) {
      const source = new Source();
      source.run(0);
      source.begin(1);
      source.store.before = (call) => {
        if (call !== "copy") return;
        if (act === "complete") source.complete(1);
        else source[act]();
      };
      await source.fork(1);
      expect(source.copied()).toEqual([[0, "result 0"]]);
    }
  });
});

describe("a fork of a run that is restarted while it is read", () => {
  test.each<[number, JournalCall]>([
    [1, "manifest"],
    [1, "run"],
    [1, "steps"],
    [2, "steps"],
    [2, "run"],
  ])("has nothing of before and after at once: before call %i of %s", async (nth, call) => {
    const source = new Source();
    source.run(0, 1, 2, 3);
    source.beforeThe(nth, call, () => {
      source.restart(1);
      for (const position of [1, 2, 3]) {
        source.begin(position);
        source.complete(position, `anew ${position}`);
      }
    });
    await source.fork(3);
    expect(source.copied()).toEqual([
      [0, "result 0"],
      [1, "anew 1"],
      [2, "anew 2"],
      [3, "anew 3"],
    ]);
  });

  test("is of the run as it was, when the restart comes after the last reading", async () => {
    for (const call of ["fork", "copy", "seal"] as const) {
      const source = new Source();
      source.run(0, 1, 2);
      let isRestarted = false;
      source.store.before = (each) => {
        if (each !== call || isRestarted) return;
        isRestarted = true;
        source.restart(0);
        source.begin(0);
        source.complete(0, "anew");
      };
      await source.fork(2);
      expect(isRestarted).toBe(true);
      expect(source.copied()).toEqual([0, 1, 2].map((position) => [position, `result ${position}`]));
    }
  });

  test("is refused, and makes no run, when the cut is dropped meanwhile", async () => {
    for (const nth of [1, 2]) {
      const source = new Source();
      source.run(0, 1, 2, 3);
      source.beforeThe(nth, "steps", () => source.restart(2));
      expect(await rejection(source.fork(3))).toMatchObject({ code: "invalid_input", field: "throughStep" });
      expect(await source.store.loadRun(COPY)).toBeUndefined();
      await source.fork(1);
      expect(source.copied()).toEqual([0, 1].map((position) => [position, `result ${position}`]));
    }
  });

  test("reads again when the source was only claimed anew, and comes to the same", async () => {
    const source = new Source();
    source.run(0, 1);
    source.beforeThe(2, "run", () => source.claim());
    await source.fork(1);
    expect(source.copied()).toEqual([0, 1].map((position) => [position, `result ${position}`]));
  });

  test.each([
    [9, "it is of the run as it then stands"],
    [10, "nothing is known, and no run is made: it may be called again"],
  ])("of a source that is at rest after %i readings %s", async (changes) => {
    const source = new Source();
    source.run(0, 1);
    let left = changes;
    // A reading looks at the run twice.
    let looks = 0;
    source.during((call) => {
      if (call !== "run" || (looks += 1) % 2 === 1 || left === 0) return;
      left -= 1;
      source.restart(1);
      source.begin(1);
      source.complete(1, left);
    });
    const fork = source.fork(1);
    if (changes === 10) {
      expect(await rejection(fork)).toMatchObject({ code: "store_unavailable" });
      expect(await source.store.loadRun(COPY)).toBeUndefined();
      await source.fork(1);
    } else await fork;
    expect(left).toBe(0);
    expect(source.copied()).toEqual([
      [0, "result 0"],
      [1, 0],
    ]);
  });
});

describe("a fork that was cut short, and is called again after the source was restarted", () => {
  test("has nothing of what it had copied at first", async () => {
    const source = new Source();
    source.run(0, 1, 2, 3);
    source.store.before = (call) => {
      if (call === "seal") throw new Error("the process dies");
    };
    await rejection(source.fork(3));
    expect(source.copied()).toHaveLength(4);
    source.store.before = () => {};
    source.restart(1);
    source.begin(1);
    source.complete(1, "anew");
    source.begin(2);
    source.begin(3);
    source.complete(3, "anew, too");
    await source.fork(3);
    expect(source.copied()).toEqual([
      [0, "result 0"],
      [1, "anew"],
      [3, "anew, too"],
    ]);
  });
});

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
    // Steps are first begun in the order of their positions.
    if (what === "begin") source.begin(source.nextPosition, ...caught);
    else if (what === "claim") source.claim();
    else if (!isOnRecord) return;
    else if (what === "begin again") source.begin(at, ...caught);
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

  /** What a fork takes of a run. */
  function copiesOf({ steps }: Snapshot, throughStep: number): unknown[] {
    const through = [...steps.values()]
      .filter(({ stepIndex }) => stepIndex <= throughStep)
      .toSorted((a, b) => a.stepIndex - b.stepIndex);
    const caught = new Set(caughtFailures(through));
    return through.filter((step) => step.status === "completed" || caught.has(step)).map(asCopied);
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
