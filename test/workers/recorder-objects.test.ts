/** Runs over recorder objects, through the store: what they share, and that they are never needed. */
import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { systemClock } from "../../src/contract/clock.ts";
import type { RecorderSession } from "../../src/coordinator/record-entry.ts";
import { RunHistory } from "../../src/history/run-history.ts";
import { newRunId } from "../../src/identity.ts";
import { runDurable } from "../../src/runner/run-durable.ts";
import type { DurableContext } from "../../src/runner/types.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { TestClock } from "../../src/testing/clock.ts";
import { aRun, aStep, MANIFEST, refusalOf } from "../../src/testing/harness.ts";
import { claim, recordedRun, recordedStep, store } from "./coordinator-world.ts";
import { abort, putToSleep, wipe } from "./disasters.ts";
import { faults, resetFaults } from "./faults.ts";
import { ownRecorders, rowsOf, WatchedDatabase } from "./recorder-world.ts";

let db: WatchedDatabase;

beforeEach(() => {
  db = new WatchedDatabase();
  const own = db;
  faults.wrap = () => own;
});
afterEach(resetFaults);

const STEPS = 6;

/** A run whose effects are noted. */
function aTask(effects: number[]): (ctx: DurableContext) => Promise<number> {
  return async (ctx) => {
    for (let i = 0; i < STEPS; i += 1) {
      await ctx.step(`step-${i}`, async () => {
        effects.push(i);
        return { i };
      });
    }
    return STEPS;
  };
}

async function runOnce(runId = newRunId()): Promise<{ runId: string; effects: number[] }> {
  const effects: number[] = [];
  const own = store();
  await runDurable({ runId, store: own, workerId: "worker-1", manifest: MANIFEST, taskFn: aTask(effects) });
  await own.close();
  return { runId, effects };
}

/** That D1 holds all of a run, each step of which has run once. */
async function expectWhole({ runId, effects }: { runId: string; effects: number[] }): Promise<void> {
  expect(effects).toEqual(Array.from({ length: STEPS }, (_, i) => i));
  expect(await rowsOf("runs", runId)).toMatchObject([{ status: "completed", result: String(STEPS) }]);
  const steps = await rowsOf("steps", runId);
  expect(steps).toMatchObject(effects.map((i) => ({ status: "completed", result: `{"i":${i}}` })));
}

/** Entries that came to recorder objects, and what befalls them, if anything. */
interface Way {
  readonly asked: { name: string; runId: string }[];
  /** How often one was asked whether D1 knows a run. */
  questions: number;
  accident: ((recorder: RecorderSession) => RecorderSession) | undefined;
  /** Runs of which a question or an entry has not been answered. */
  readonly waiting: Set<string>;
  readonly prefix: string;
}

function recordersOnTheWay(): Way {
  const asked: Way["asked"] = [];
  const waiting = new Set<string>();
  const noted = <T>(runId: string, answer: Promise<T>): Promise<T> => {
    waiting.add(runId);
    return answer.finally(() => waiting.delete(runId));
  };
  const recorders = ownRecorders((real, name) => {
    const recorder = (): RecorderSession => way.accident?.(real) ?? real;
    return {
      record(entry) {
        asked.push({ name, runId: entry.runId });
        return noted(entry.runId, recorder().record(entry));
      },
      isKnown(runId) {
        way.questions += 1;
        return noted(runId, recorder().isKnown(runId));
      },
    };
  });
  const way: Way = { asked, questions: 0, waiting, accident: undefined, prefix: recorders.prefix };
  faults.recorders = recorders;
  return way;
}

async function aShortStep(run: { runId: string; fence: number }, stepIndex: number): Promise<void> {
  await store().beginStep(aStep(run.runId, stepIndex, { fence: run.fence }));
  await store().completeStep({ ...run, stepIndex, attempt: 1, result: `result ${stepIndex}` });
}

describe("a recorder object", () => {
  it("takes the changes of fifty runs in far fewer calls to D1 than they have steps", async () => {
    const at = Date.now();
    // Nothing is late, and nothing gathers, however slow the machine is.
    faults.clock = { now: () => at, sleep: () => new Promise(() => {}) };
    const way = recordersOnTheWay();
    let going = 50;
    // No call before all have asked: those that it is for, and those that are to be in the next one.
    db.before = async () => {
      while (way.waiting.size < going) await systemClock.sleep(2);
      // What was asked has to get there.
      await systemClock.sleep(50);
    };
    const runs = await Promise.all(
      Array.from({ length: going }, async () => {
        const run = await runOnce();
        going -= 1;
        return run;
      }),
    );
    for (const run of runs) await expectWhole(run);
    // By themselves they take 450: a look at D1, a claim, six steps and an end each.
    expect(db.calls.length).toBeLessThan(100);
  });

  it("takes all that a small run has to tell", async () => {
    const way = recordersOnTheWay();
    const run = await runOnce();
    await expectWhole(run);
    expect(way.asked.length).toBe(STEPS + 2);
    expect(db.calls.length).toBe(STEPS + 2);
  });

  it("is one of as many as there are said to be", async () => {
    const way = recordersOnTheWay();
    faults.recorderShards = 4;
    const runs = await Promise.all(Array.from({ length: 40 }, () => runOnce()));
    for (const run of runs) await expectWhole(run);
    const names = new Set(way.asked.map(({ name }) => name));
    expect([...names].sort()).toEqual(["recorder-0", "recorder-1", "recorder-2", "recorder-3"]);
    for (const { runId } of runs) {
      const own = way.asked.filter((one) => one.runId === runId).map(({ name }) => name);
      expect(new Set(own).size).toBe(1);
    }
  });
});

const ACCIDENTS: Readonly<Record<string, (recorder: RecorderSession) => RecorderSession>> = {
  "throws before it has sent anything": () => ({
    record: () => Promise.reject(new Error("internal error; reference = x")),
    isKnown: () => Promise.reject(new Error("internal error; reference = x")),
  }),
  "throws after D1 has taken all": (recorder) => ({
    async record(entry) {
      await recorder.record(entry);
      throw new Error("Network connection lost.");
    },
    async isKnown(runId) {
      await recorder.isKnown(runId);
      throw new Error("Network connection lost.");
    },
  }),
  "speaks another version": (recorder) => ({
    record: (entry) => recorder.record({ ...entry, v: 4 as 1 }),
    isKnown: (runId) => recorder.isKnown(runId),
  }),
};

describe("a recorder object is not needed: where it", () => {
  it.each(Object.keys(ACCIDENTS))("%s, runs go on by themselves", async (accident) => {
    const way = recordersOnTheWay();
    way.accident = ACCIDENTS[accident];
    const runs = await Promise.all(Array.from({ length: 5 }, () => runOnce()));
    for (const run of runs) await expectWhole(run);
    expect(way.asked.length).toBe(5);
  });

  it("is of a version that does not know what is new, a claim goes to D1 by itself, and finds what D1 has", async () => {
    const input = aRun();
    const elsewhere = new D1DurableRunStore(env.DB);
    const { fence = 0 } = await elsewhere.startOrResume(input);
    await elsewhere.beginStep(aStep(input.runId, 0, { fence }));
    await elsewhere.completeStep({ runId: input.runId, stepIndex: 0, fence, result: "paid" });
    const way = recordersOnTheWay();
    const versions: number[] = [];
    way.accident = (recorder) => ({
      record(entry) {
        versions.push(entry.v);
        // As version 1 does.
        if (entry.v !== 1) return Promise.reject(new Error(`v is ${entry.v}`));
        return recorder.record({ ...entry, isNew: false });
      },
      isKnown: (runId) => recorder.isKnown(runId),
    });
    const { completedSteps, ...claimed } = await store().startOrResume(input);
    expect(completedSteps).toMatchObject([{ result: "paid" }]);
    expect(claimed.fence).toBe(2);
    expect(versions[0]).toBe(2);
  });

  it.each(Object.keys(ACCIDENTS))(
    "%s once, flushes go to D1 for ten seconds, and later ones to it again",
    async (accident) => {
      const clock = new TestClock();
      faults.clock = clock;
      const way = recordersOnTheWay();
      const run = await claim();
      expect(way.asked.length).toBe(1);
      way.accident = ACCIDENTS[accident];
      await aShortStep(run, 0);
      // Once more over another session, for the one that worked may have been of an instance that is gone.
      expect(way.asked.length).toBe(3);
      way.accident = undefined;
      await aShortStep(run, 1);
      expect(way.asked.length).toBe(3);
      clock.advance(10_001);
      await aShortStep(run, 2);
      // What was deferred meanwhile may go by itself.
      expect(way.asked.length).toBeGreaterThan(3);
      for (const stepIndex of [0, 1, 2]) {
        expect(await recordedStep(run.runId, stepIndex)).toMatchObject({ result: `"result ${stepIndex}"` });
      }
    },
  );

  it("does not answer at all, a run begins by itself after the deadline, and asks it no more for a while", async () => {
    const clock = new TestClock();
    faults.clock = clock;
    const way = recordersOnTheWay();
    way.accident = () => ({ record: () => new Promise(() => {}), isKnown: () => new Promise(() => {}) });
    const { runId } = aRun();
    const begun = store().startOrResume({ ...aRun(), runId });
    await expect.poll(() => way.waiting.size).toBe(1);
    clock.advance(10_001);
    await begun;
    expect(way.asked.length).toBe(1);
    expect(await recordedRun(runId)).toMatchObject({ status: "running" });
  });

  it("does not answer, runs go on by themselves after the deadline", async () => {
    const clock = new TestClock();
    faults.clock = clock;
    const way = recordersOnTheWay();
    const run = await claim();
    way.accident = () => ({ record: () => new Promise(() => {}), isKnown: () => new Promise(() => {}) });
    const step = aShortStep(run, 0);
    await expect.poll(() => way.asked.length).toBe(2);
    clock.advance(10_001);
    await step;
    expect(await recordedStep(run.runId)).toMatchObject({ result: '"result 0"' });
    way.accident = undefined;
    clock.advance(10_001);
    await aShortStep(run, 1);
    expect(way.asked.length).toBe(3);
  });
});

describe("a recorder object that is", () => {
  const stubOf = (way: Way) => env.RECORDERS.getByName(`${way.prefix}-recorder-0`);

  it("aborted between and within calls, again and again, loses nothing and repeats nothing", async () => {
    const way = recordersOnTheWay();
    const state = { isOver: false };
    const aborts = (async () => {
      for (let round = 0; round < 10 && !state.isOver; round += 1) {
        await runInDurableObject(stubOf(way), (_object, ctx) => ctx.abort("test")).catch(() => {});
      }
    })();
    const runs = await Promise.all(Array.from({ length: 10 }, () => runOnce()));
    state.isOver = true;
    await aborts;
    for (const run of runs) await expectWhole(run);
  });

  it("reset in the middle of a run is asked over another session at once, and later as well", async () => {
    const way = recordersOnTheWay();
    const run = await claim();
    await aShortStep(run, 0);
    await runInDurableObject(stubOf(way), (_object, ctx) => ctx.abort("test")).catch(() => {});
    await aShortStep(run, 1);
    await aShortStep(run, 2);
    // The first step after the reset twice.
    expect(way.asked.length).toBe(5);
    expect(await rowsOf("steps", run.runId)).toHaveLength(3);
  });

  it("evicted in the middle of a run comes back for the next step", async () => {
    const way = recordersOnTheWay();
    const run = await claim();
    await aShortStep(run, 0);
    await putToSleep(stubOf(way));
    await aShortStep(run, 1);
    expect(way.asked.length).toBe(3);
    expect(await recordedStep(run.runId, 1)).toMatchObject({ result: '"result 1"' });
  });

  it("aborted with all coordinators, in the middle of a run, forgets nothing that was acknowledged", async () => {
    recordersOnTheWay();
    const run = await claim();
    await aShortStep(run, 0);
    await abort(run.runId);
    expect(await store().loadStep(run.runId, 0)).toMatchObject({ status: "completed", result: "result 0" });
    await aShortStep(run, 1);
    expect(await rowsOf("steps", run.runId)).toHaveLength(2);
  });
});

describe("over recorder objects", () => {
  it("a coordinator whose run was claimed elsewhere is refused, and takes over what D1 holds", async () => {
    const clock = new TestClock();
    faults.clock = clock;
    recordersOnTheWay();
    const run = await claim();
    const bystander = await claim();
    clock.advance(30_001);
    const elsewhere = new D1DurableRunStore(env.DB, { clock });
    const taken = await elsewhere.startOrResume({ ...aRun("worker-2"), runId: run.runId });
    expect(taken.fence).toBe(run.fence + 1);

    const answers = await Promise.all([
      refusalOf(() => aShortStep(run, 0)),
      refusalOf(() => aShortStep(bystander, 0)),
    ]);

    expect(answers).toEqual(["lease_lost", "accepted"]);
    expect(await rowsOf("steps", run.runId)).toEqual([]);
    expect(await store().loadRun(run.runId)).toMatchObject({ leaseHolderId: "worker-2" });
  });

  it("a late entry of an object that has died changes nothing that was recorded since", async () => {
    const clock = new TestClock();
    faults.clock = clock;
    const way = recordersOnTheWay();
    const run = await claim();
    const late: (() => Promise<unknown>)[] = [];
    way.accident = (recorder) => ({
      record: (entry) => {
        late.push(() => env.RECORDERS.getByName(`${way.prefix}-recorder-0`).record(entry));
        return new Promise(() => {});
      },
      isKnown: (runId) => recorder.isKnown(runId),
    });
    const unanswered = aShortStep(run, 0).catch(() => {});
    await expect.poll(() => late.length).toBe(1);
    way.accident = undefined;
    await wipe(run.runId);
    const successor = { ...aRun("worker-2"), runId: run.runId };
    // An object that finds no storage gives the holder one more lease.
    expect(await refusalOf(() => store().startOrResume(successor))).toBe("lease_held");
    clock.advance(30_001);
    const { fence = 0 } = await store().startOrResume(successor);
    const next = { runId: run.runId, fence };
    await store().beginStep(aStep(run.runId, 0, { fence }));
    await store().completeStep({ ...next, stepIndex: 0, attempt: 1, result: "of worker-2" });
    const before = [await rowsOf("runs", run.runId), await rowsOf("steps", run.runId)];

    await late[0]?.();

    expect([await rowsOf("runs", run.runId), await rowsOf("steps", run.runId)]).toEqual(before);
    expect(before[1]).toMatchObject([{ result: '"of worker-2"' }]);
    await aShortStep(next, 1);
    await unanswered;
  });
});

/** A run with all that a run may have: 300 steps, a large result, failures, events, a restart and a fork. */
async function aLongRun(): Promise<{ runId: string; forkId: string }> {
  const own = store();
  const runId = newRunId();
  const forkId = newRunId();
  const { fence = 0 } = await own.startOrResume({ ...aRun(), runId });
  for (let stepIndex = 0; stepIndex < 300; stepIndex += 1) {
    await own.beginStep(aStep(runId, stepIndex, { fence }));
    const end = { runId, fence, stepIndex, attempt: 1 };
    if (stepIndex % 50 === 49) await own.failStep({ ...end, error: { message: "as it should" } });
    else await own.completeStep({ ...end, result: { stepIndex } });
  }
  for (const key of ["a", "b"]) await own.emitEvent({ runId, key, payload: { key } });
  await own.forkRun(runId, forkId, { throughStep: 20 });
  await own.restartRun(runId, { fromStep: 280, dropLater: true });
  const again = await own.startOrResume({ ...aRun(), runId });
  const held = { runId, fence: again.fence ?? 0 };
  await own.beginStep(aStep(runId, 280, held));
  await own.completeStep({ ...held, stepIndex: 280, attempt: 1, result: "語".repeat(350_000) });
  const result = { text: "🌊".repeat(260_000) };
  await own.endRun({ ...held, workerId: "worker-1", status: "completed", outcome: { score: 1 }, result });
  await own.close();
  return { runId, forkId };
}

const TABLES = ["runs", "steps", "events", "tags", "chunks"];

/** Made anew in each run. A revision is given to begins in memory too, and a lag is what it is. */
const OF_THE_RUN = /(_at|^run_id|request_id|_ref|^ref|^revision|^lag_ms|^interventions|^forked_from)$/;

async function tablesOf(runId: string): Promise<Record<string, unknown>> {
  const tables: Record<string, unknown> = {};
  for (const table of TABLES) {
    tables[table] = (await rowsOf(table, runId)).map((row) =>
      Object.fromEntries(
        Object.entries(row).map(([column, cell]) => [column, OF_THE_RUN.test(column) ? typeof cell : cell]),
      ),
    );
  }
  return tables;
}

it("readers see the same of two runs, over a recorder object and without one", async () => {
  const alone = await aLongRun();
  const way = recordersOnTheWay();
  const shared = await aLongRun();
  expect(way.asked.filter(({ runId }) => runId === shared.runId).length).toBeGreaterThan(300);
  for (const id of ["runId", "forkId"] as const) {
    expect(await tablesOf(shared[id])).toEqual(await tablesOf(alone[id]));
  }
  const history = new RunHistory(env.DB);
  const seen = await history.get(shared.runId);
  expect(seen).toMatchObject({ status: "completed", stepCount: 281, outcome: { score: 1 } });
  expect(await history.get(shared.forkId)).toMatchObject({ stepCount: 21 });
  const of = async (runId: string) => (await history.step(runId, 280))?.result;
  expect((await of(shared.runId)) === "語".repeat(350_000)).toBe(true);
});
