/**
 * What a step and a run cost, counted at the database, the object's storage and the stub, by wrapping them from
 * outside: figures that do not depend on the machine. The clock stands still, so that nothing gathers unless a test
 * moves it.
 */
import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Counts } from "../../bench/counts/counters.ts";
import {
  costOf,
  countedDatabase,
  countedNamespace,
  countStorage,
  noCounts,
} from "../../bench/counts/counters.ts";
import { systemClock } from "../../src/contract/clock.ts";
import type { DurableRunStore } from "../../src/contract/types.ts";
import { runDurable } from "../../src/runner/run-durable.ts";
import type { DurableContext } from "../../src/runner/types.ts";
import { CoordinatedDurableRunStore } from "../../src/stores/coordinated/store.ts";
import type { AckPolicy } from "../../src/stores/coordinated/wire.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { aRun, aStep } from "../../src/testing/harness.ts";
import { inFrontOf } from "../../src/testing/in-front-of.ts";
import { store as lagStore } from "./coordinator-world.ts";
import { faults, resetFaults } from "./faults.ts";
import { StandingClock } from "./standing-clock.ts";

const STEPS = 32;

let clock: StandingClock;
let counts: Counts;

beforeEach(() => {
  clock = new StandingClock();
  counts = noCounts();
  const mine = counts;
  faults.clock = clock;
  faults.wrap = (db) => countedDatabase(db, mine);
});

afterEach(() => resetFaults());

interface Held {
  readonly runId: string;
  readonly fence: number;
}

/** The store, and a run in it that has one step, so that what is counted is the steady state. */
async function begun(store: DurableRunStore): Promise<Held> {
  const input = aRun();
  const { fence = 0 } = await store.startOrResume(input);
  const held = { runId: input.runId, fence };
  await aShortStep(store, held, 0);
  return held;
}

async function coordinated(ack: AckPolicy): Promise<{ store: DurableRunStore; held: Held }> {
  const store = new CoordinatedDurableRunStore(countedNamespace(env.RUNS, counts), { ack });
  const held = await begun(store);
  await runInDurableObject(env.RUNS.getByName(held.runId), (_object, { storage }) =>
    countStorage(storage, counts),
  );
  await recorded(held);
  await allSaved(held);
  return { store, held };
}

type Step = (store: DurableRunStore, held: Held, stepIndex: number) => Promise<void>;

/** As the runner makes it: its begin comes with its completion. */
const aShortStep: Step = async (store, held, stepIndex) => {
  const { intent, kind, inputHash } = aStep(held.runId, stepIndex);
  const begin = { intent, kind, inputHash, elapsedMs: 0 };
  await store.completeStep({ ...held, stepIndex, attempt: 1, begin, result: "small" });
};

/** One that the store is told of first: with a limit of retries, for example. */
const aStepToldFirst: Step = async (store, held, stepIndex) => {
  await store.beginStep(aStep(held.runId, stepIndex, { fence: held.fence }));
  await store.completeStep({ ...held, stepIndex, result: "small" });
};

async function shortSteps(store: DurableRunStore, held: Held, step = aShortStep): Promise<Counts> {
  const before = { ...counts };
  for (let stepIndex = 1; stepIndex <= STEPS; stepIndex += 1) await step(store, held, stepIndex);
  return costOf(before, counts);
}

/** Moves the clock until D1 holds all, over a stub that is not counted. */
async function recorded({ runId }: Held): Promise<void> {
  do {
    clock.advance(100);
    await systemClock.sleep(10);
  } while ((await lagStore().lag(runId)) > 0);
}

/** Moves the clock until the object has saved all that it has deferred. */
async function allSaved(held: Held): Promise<void> {
  clock.advance(1_000);
  await expect.poll(() => unsavedSteps(held)).toBe(0);
}

/** Steps that D1 has, and the object's storage has not. */
async function unsavedSteps({ runId }: Held): Promise<number> {
  const counted = "SELECT count(*) AS n FROM sqlite_master WHERE name = 'durable_rows'";
  const saved = await runInDurableObject(env.RUNS.getByName(runId), (_object, { storage: { sql } }) => {
    if (sql.exec<{ n: number }>(counted).one().n === 0) return 0;
    return sql.exec<{ n: number }>("SELECT count(*) AS n FROM durable_rows WHERE kind = 'step'").one().n;
  });
  const recordedSteps = await env.DB.prepare("SELECT count(*) AS n FROM durable_steps WHERE run_id = ?1")
    .bind(runId)
    .first<number>("n");
  return (recordedSteps ?? 0) - saved;
}

describe("CoordinatedDurableRunStore, ack: record,", () => {
  it.each([
    ["one RPC call", aShortStep, 1],
    ["two RPC calls, where it is told of first,", aStepToldFirst, 2],
  ])(
    "takes one D1 round trip, one D1 row, %s and, later, one object row a short step",
    async (_which, step, calls) => {
      const { store, held } = await coordinated("record");
      const cost = await shortSteps(store, held, step);
      expect(cost.d1RoundTrips / STEPS).toBe(1);
      expect(cost.d1RowsWritten / STEPS).toBe(1);
      expect(cost.rpcCalls / STEPS).toBe(calls);
      expect([cost.alarmsSet, cost.objectRowsWritten]).toEqual([0, 0]);
      const before = { ...counts };
      await allSaved(held);
      expect(costOf(before, counts).objectRowsWritten).toBe(STEPS);
    },
  );
});

describe("CoordinatedDurableRunStore, ack: coordinator,", () => {
  it("takes one object row a short step, and D1 hears of them all in one round trip and one row each", async () => {
    const { store, held } = await coordinated("coordinator");
    const cost = await shortSteps(store, held);
    expect(cost.objectRowsWritten / STEPS).toBe(1);
    expect(cost.rpcCalls / STEPS).toBe(1);
    expect([cost.alarmsSet, cost.d1RoundTrips]).toEqual([0, 0]);
    const before = { ...counts };
    await recorded(held);
    const later = costOf(before, counts);
    expect(later.d1RoundTrips).toBe(1);
    expect(later.d1RowsWritten / STEPS).toBe(1);
  });
});

describe.each(["coordinator", "record"] as const)("CoordinatedDurableRunStore, ack: %s,", (ack) => {
  it("takes two object rows for a step that is seen running", async () => {
    const { store, held } = await coordinated(ack);
    const before = { ...counts };
    await store.beginStep(aStep(held.runId, 1, { fence: held.fence }));
    await recorded(held);
    expect(costOf(before, counts).objectRowsWritten).toBe(1);
    await store.completeStep({ ...held, stepIndex: 1, result: "small" });
    await recorded(held);
    await allSaved(held);
    if (ack === "record") await expect.poll(() => costOf(before, counts).objectRowsWritten).toBe(2);
    expect(costOf(before, counts).objectRowsWritten).toBe(2);
    await recorded(held);
    expect(costOf(before, counts).d1RowsWritten).toBe(2);
  });

  it("makes no D1 traffic by the heartbeats of an idle lease", async () => {
    const { store, held } = await coordinated(ack);
    const before = { ...counts };
    for (let beat = 0; beat < 5; beat += 1) {
      clock.advance(10_000);
      expect(await store.renewLease({ ...held, workerId: "worker-1" })).toMatchObject({ ok: true });
    }
    await recorded(held);
    const cost = costOf(before, counts);
    expect(cost.rpcCalls).toBe(5);
    expect(cost.objectRowsWritten).toBe(5);
    expect([cost.d1RoundTrips, cost.d1RowsRead, cost.d1RowsWritten]).toEqual([0, 0, 0]);
  });
});

describe("D1DurableRunStore", () => {
  it.each([
    ["one D1 round trip and one D1 row a short step", aShortStep, 1],
    ["two of each for one that it is told of first", aStepToldFirst, 2],
  ])("takes %s", async (_which, step, each) => {
    const store = new D1DurableRunStore(countedDatabase(env.DB, counts));
    const cost = await shortSteps(store, await begun(store), step);
    expect(cost.d1RoundTrips / STEPS).toBe(each);
    expect(cost.d1RowsWritten / STEPS).toBe(each);
    expect([cost.rpcCalls, cost.objectRowsWritten, cost.alarmsSet]).toEqual([0, 0, 0]);
  });
});

describe("a whole run of short steps, from its claim to its end", () => {
  async function wholeRun(store: DurableRunStore): Promise<Counts> {
    const input = aRun();
    const { fence = 0 } = await store.startOrResume(input);
    const held = { runId: input.runId, fence };
    await shortSteps(store, held);
    await store.endRun({ ...held, workerId: "worker-1", status: "completed" });
    return costOf(noCounts(), counts);
  }

  it("adds two D1 round trips under ack: record, for its claim, which looks at D1 as well, and its end", async () => {
    const namespace = countedNamespace(env.RUNS, counts);
    const cost = await wholeRun(new CoordinatedDurableRunStore(namespace, { ack: "record" }));
    expect(cost.d1RoundTrips).toBe(STEPS + 2);
    expect([cost.rpcCalls, cost.requests]).toEqual([STEPS + 2, 1]);
  });

  it("waits for one D1 round trip under ack: coordinator, its look at D1", async () => {
    const namespace = countedNamespace(env.RUNS, counts);
    const cost = await wholeRun(new CoordinatedDurableRunStore(namespace, { ack: "coordinator" }));
    expect(cost.d1RoundTrips).toBe(1);
    expect([cost.rpcCalls, cost.requests]).toEqual([STEPS + 2, 1]);
  });

  it("adds four D1 round trips over the D1 store", async () => {
    const cost = await wholeRun(new D1DurableRunStore(countedDatabase(env.DB, counts)));
    expect(cost.d1RoundTrips).toBe(STEPS + 4);
  });

  /** The same, by the runner itself, whose calls the tests above make by hand. */
  it.each([
    ["record", STEPS + 2, STEPS + 2],
    ["D1 alone", STEPS + 4, 0],
  ] as const)("comes to the same by the runner (%s)", async (which, trips, calls) => {
    const db = countedDatabase(env.DB, counts);
    const namespace = countedNamespace(env.RUNS, counts);
    const store = which === "record" ? new CoordinatedDurableRunStore(namespace) : new D1DurableRunStore(db);
    const taskFn = async (ctx: DurableContext): Promise<void> => {
      for (let i = 0; i < STEPS; i += 1) await ctx.step("work", async () => "small");
    };
    const { runId, manifest } = aRun();
    await runDurable({ runId, manifest, store: quiet(store), clock, taskFn });
    expect([counts.d1RoundTrips, counts.rpcCalls]).toEqual([trips, calls]);
  });
});

/** The store without its watch over the lease, which is a call whenever it is. */
function quiet(store: DurableRunStore): DurableRunStore {
  return inFrontOf(store, (method, _args, call) =>
    method === "watchLease" ? new Promise<never>(() => {}) : call(),
  );
}
