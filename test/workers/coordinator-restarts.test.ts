/**
 * A restart deletes, and D1 may be down, slow, or hear of old changes late: it ends up without the steps that were
 * dropped, and with those that took their place (R13, R15, R34).
 */
import { abortAllDurableObjects } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { newRequestId } from "../../src/identity.ts";
import { TestClock } from "../../src/testing/clock.ts";
import { FaultyDatabase } from "../../src/testing/faulty-database.ts";
import { aRun, aStep, refusalOf } from "../../src/testing/harness.ts";
import { armed, claim, recordedRun, store, stubOf, woken } from "./coordinator-world.ts";
import { d1 } from "./d1.ts";
import { abort, drained, evict, wipe } from "./disasters.ts";
import { faults, resetFaults } from "./faults.ts";
import { gate, GatedDatabase } from "./gated-database.ts";
import { RECORD_DEADLINE_MS, refusedInTime } from "./passing-time.ts";

let clock: TestClock;
let db: FaultyDatabase;
beforeEach(() => {
  clock = new TestClock();
  db = new FaultyDatabase(d1, clock);
  faults.clock = clock;
  const own = db;
  faults.wrap = () => own;
});
afterEach(resetFaults);
const failing = () => ({ clock, failures: () => db.faults });

const one = () => store("coordinator");
const from = (fromStep: number) => ({ fromStep, dropLater: true, requestId: newRequestId() }) as const;
const down = () => {
  db.fault = ({ writes }) => (writes ? "before" : "none");
};
const up = () => {
  db.fault = () => "none";
};

async function work(
  run: { runId: string; fence: number },
  positions: number[],
  result: unknown,
): Promise<void> {
  for (const stepIndex of positions) {
    await one().beginStep(aStep(run.runId, stepIndex, { fence: run.fence }));
    await one().completeStep({ ...run, stepIndex, result });
  }
}

/** A run with steps 0 to 4, "old", which D1 holds. */
async function recorded(): Promise<{ runId: string; fence: number }> {
  const run = await claim("coordinator");
  await work(run, [0, 1, 2, 3, 4], "old");
  await drained(run.runId);
  return run;
}

/** The next life of a restarted run: claimed anew, with two steps. */
async function workAnew(runId: string, result: string): Promise<{ runId: string; fence: number }> {
  const { fence = 0 } = await one().startOrResume({ ...aRun(), runId });
  await work({ runId, fence }, [2, 3], result);
  return { runId, fence };
}

/** Position and result of each step that D1 holds, with the run's fence and status. */
async function inD1(runId: string): Promise<{ run: unknown[]; steps: unknown[] }> {
  const query = "SELECT step_index, result FROM durable_steps WHERE run_id = ?1 ORDER BY step_index";
  const { results } = await env.DB.prepare(query).bind(runId).all<{ step_index: number; result: string }>();
  const run = await recordedRun(runId);
  return {
    run: [run?.["fence"], run?.["status"]],
    steps: results.map((row) => [row.step_index, row.result]),
  };
}

const OLD = [0, 1].map((stepIndex) => [stepIndex, '"old"']);
const of = (life: string) => [...OLD, [2, `"${life}"`], [3, `"${life}"`]];

describe("a restart while D1 is down", () => {
  it("leaves D1 as it was, and then without the dropped steps and with the new ones", async () => {
    const { runId } = await recorded();
    const before = await inD1(runId);
    down();
    await one().restartRun(runId, from(2));
    const { fence } = await workAnew(runId, "new");
    expect(await inD1(runId)).toEqual(before);
    up();
    await woken(runId);
    await drained(runId);
    const after = await inD1(runId);
    expect(after).toEqual({ run: [fence, "running"], steps: of("new") });
    for (const order of ["oldest first", "newest first"] as const) {
      await db.replayLate(order);
      expect(await inD1(runId)).toEqual(after);
    }
  });

  it.each([
    ["reset", abort],
    ["put to sleep", evict],
  ])("is brought to D1 by an object that was %s meanwhile", async (_what, disaster) => {
    const { runId } = await recorded();
    down();
    await one().restartRun(runId, from(2));
    await disaster(runId);
    const { fence } = await workAnew(runId, "new");
    await armed(runId);
    await disaster(runId);
    up();
    await woken(runId);
    await drained(runId);
    expect(await inD1(runId)).toEqual({ run: [fence, "running"], steps: of("new") });
    await wipe(runId);
    const { completedSteps, openSteps } = await one().startOrResume({ ...aRun(), runId });
    expect(completedSteps.map((step) => step.result)).toEqual(["old", "old", "new", "new"]);
    expect(openSteps).toEqual([]);
  });

  it("under ack: record is told so, and happens once when it is repeated", async () => {
    faults.times = { recordDeadlineMs: RECORD_DEADLINE_MS };
    const { runId, fence } = await recorded();
    const options = from(2);
    down();
    for (let i = 0; i < 3; i += 1) {
      expect(await refusedInTime(failing(), () => store().restartRun(runId, options))).toBe(
        "store_unavailable",
      );
    }
    // The old worker is fenced all the same.
    expect(await refusalOf(() => store().beginStep(aStep(runId, 5, { fence })))).toBe("lease_lost");
    up();
    expect(await store().restartRun(runId, options)).toMatchObject({ status: "pending", fence: fence + 1 });
    expect(await inD1(runId)).toEqual({ run: [fence + 1, "pending"], steps: OLD });
  });

  it("waits with a second one until D1 has heard of the first", async () => {
    const { runId, fence } = await recorded();
    down();
    const first = from(3);
    expect(await one().restartRun(runId, first)).toMatchObject({ fence: fence + 1, stepCount: 3 });
    const second = from(1);
    for (let i = 0; i < 2; i += 1) {
      expect(await refusalOf(() => one().restartRun(runId, second))).toBe("store_unavailable");
    }
    expect(await one().loadRun(runId)).toMatchObject({ fence: fence + 1, stepCount: 3 });
    up();
    expect(await one().restartRun(runId, second)).toMatchObject({ fence: fence + 2, stepCount: 1 });
    expect(await one().restartRun(runId, second)).toMatchObject({ fence: fence + 2, stepCount: 1 });
    await drained(runId);
    expect(await inD1(runId)).toEqual({ run: [fence + 2, "pending"], steps: [[0, '"old"']] });
    await db.replayLate("oldest first");
    await db.replayLate("newest first");
    expect(await inD1(runId)).toEqual({ run: [fence + 2, "pending"], steps: [[0, '"old"']] });
  });

  it("is followed by ten more at once, of which one happens", async () => {
    const { runId, fence } = await recorded();
    down();
    await one().restartRun(runId, from(3));
    up();
    const calls = Array.from({ length: 10 }, () => one().restartRun(runId, from(1)));
    const settled = await Promise.allSettled(calls);
    expect(settled.filter((call) => call.status === "fulfilled")).toHaveLength(1);
    await drained(runId);
    expect(await inD1(runId)).toEqual({ run: [fence + 2, "pending"], steps: [[0, '"old"']] });
  });
});

describe("a restart while D1 stalls", () => {
  it("is not undone by what D1 commits late", async () => {
    const { runId, fence: old } = await recorded();
    db.fault = ({ writes }) => (writes ? "stall" : "none");
    await work({ runId, fence: old }, [5, 6], "stalled");
    await expect.poll(() => db.faults).toBeGreaterThan(0);
    // The call has missed its deadline, and is out all the same.
    clock.advance(10_001);
    await one().restartRun(runId, from(2));
    const { fence } = await workAnew(runId, "new");
    up();
    clock.advance(10_001);
    await woken(runId);
    await drained(runId);
    clock.advance(60_001);
    await db.settled();
    expect(await inD1(runId)).toEqual({ run: [fence, "running"], steps: of("new") });
  });

  it("whose own deletion D1 commits late does not lose what came after", async () => {
    const { runId } = await recorded();
    db.fault = ({ writes }) => (writes ? "stall" : "none");
    await one().restartRun(runId, from(2));
    await expect.poll(() => db.faults).toBeGreaterThan(0);
    up();
    clock.advance(10_001);
    const { fence } = await workAnew(runId, "new");
    await woken(runId);
    await drained(runId);
    clock.advance(60_001);
    await db.settled();
    expect(await inD1(runId)).toEqual({ run: [fence, "running"], steps: of("new") });
  });
});

describe("a restart beside a flush of many batches", () => {
  const large = "x".repeat(250_000);
  let gated: GatedDatabase;
  beforeEach(() => {
    gated = new GatedDatabase();
    const own = gated;
    faults.wrap = () => own;
  });

  it("keeps an old batch that comes late from bringing dropped steps back", async () => {
    const run = await claim("coordinator");
    await drained(run.runId);
    const held = [gate(), gate()] as const;
    gated.before = async (queries) => {
      if (queries.some((query) => /^\s*INSERT/.test(query)))
        throw new Error("D1_ERROR: Network connection lost.");
    };
    // More than one batch takes.
    await work(
      run,
      Array.from({ length: 20 }, (_, i) => i),
      large,
    );
    let batches = 0;
    gated.before = async (queries) => {
      if (!queries.some((query) => /INSERT INTO durable_steps/.test(query))) return;
      batches += 1;
      await held[batches - 1]?.pass();
    };
    await one().emitEvent({ runId: run.runId, key: "k", payload: "wakes the recorder" });
    await expect.poll(() => held[0].reached).toBe(1);
    await one().restartRun(run.runId, from(0));
    // The first batch arrives; the second is held up beyond its deadline, and the next flush overtakes it.
    held[0].open = true;
    await expect.poll(() => held[1].reached).toBe(1);
    clock.advance(10_001);
    await expect.poll(async () => (await recordedRun(run.runId))?.["status"]).toBe("pending");
    await drained(run.runId);
    held[1].open = true;
    await gated.settled();
    expect((await inD1(run.runId)).steps).toHaveLength(0);
  });

  it("of a run that has ended since takes D1 from one history to the other in one batch", async () => {
    const old = await claim("coordinator");
    await work(
      old,
      Array.from({ length: 30 }, (_, i) => i),
      "old",
    );
    await drained(old.runId);
    const oldBatches = [...gated.sent];
    gated.before = async (queries) => {
      if (queries.some((query) => /^\s*INSERT/.test(query)))
        throw new Error("D1_ERROR: Network connection lost.");
    };
    await one().restartRun(old.runId, from(1));
    const { fence = 0 } = await one().startOrResume({ ...aRun(), runId: old.runId });
    const fresh = { runId: old.runId, fence };
    await work(
      fresh,
      Array.from({ length: 20 }, (_, i) => i + 1),
      large,
    );
    await one().endRun({ ...fresh, workerId: "worker-1", status: "completed", result: 1 });
    gated.before = async () => {};
    // Between two batches, a late copy of the old life's rows arrives.
    let late = 0;
    gated.after = async (queries) => {
      if (!queries.some((query) => /INSERT INTO durable_steps/.test(query))) return;
      late += 1;
      if (late === 1) await gated.replay(oldBatches);
    };
    await woken(old.runId);
    await drained(old.runId);
    expect(late).toBeGreaterThan(1);
    const { run, steps } = await inD1(old.runId);
    expect({ run, count: steps.length }).toEqual({ run: [fence, "completed"], count: 21 });
  });
});

it("a restart that waits for D1 as the object goes is decided over what D1 has", async () => {
  const gated = new GatedDatabase();
  faults.wrap = () => gated;
  const { runId, fence: old } = await recorded();
  const isInsert = (queries: string[]) => queries.some((query) => /^\s*INSERT/.test(query));
  gated.before = async (queries) => {
    if (isInsert(queries)) throw new Error("D1_ERROR: Network connection lost.");
  };
  await one().restartRun(runId, from(3));
  const { fence = 0 } = await one().startOrResume({ ...aRun(), runId });
  await one().endRun({ runId, workerId: "worker-1", fence, status: "completed", result: 1 });
  clock.advance(3_600_001);
  const held = gate();
  gated.before = async (queries) => {
    if (isInsert(queries)) await held.pass();
  };
  // One flush is under way; the alarm, which will find that the object may go, and the restart wait for the next.
  await one().emitEvent({ runId, key: "k", payload: "wakes the recorder" });
  await expect.poll(() => held.reached).toBe(1);
  const alarm = woken(runId);
  await stubOf(runId).lag();
  const restarted = one()
    .restartRun(runId, from(1))
    .catch((error: unknown) => error);
  await stubOf(runId).lag();
  held.open = true;
  await alarm;
  expect(await restarted).toMatchObject({ status: "pending", fence: old + 3, stepCount: 1 });
  await drained(runId);
  expect((await inD1(runId)).steps).toEqual([[0, '"old"']]);
});

it("an object that is reset while a restart is on its way to D1 sends it again", async () => {
  const { runId, fence } = await recorded();
  db.fault = ({ writes }) => (writes ? "after" : "none");
  await one().restartRun(runId, from(2));
  await expect.poll(() => db.faults).toBeGreaterThan(0);
  await abortAllDurableObjects();
  up();
  await woken(runId);
  await drained(runId);
  expect(await inD1(runId)).toEqual({ run: [fence + 1, "pending"], steps: OLD });
});
