/** RunHistory.stuck: what is told of runs that real workers have left, and what is not. */
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { RunHistory } from "../../src/history/run-history.ts";
import type { StuckOptions } from "../../src/history/types.ts";
import { WALK_ROWS } from "../../src/history/walk.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { FaultyDatabase } from "../../src/testing/faulty-database.ts";
import { aRun, aStep } from "../../src/testing/harness.ts";
import { claim, recordedRun, saved, store, stubOf, woken } from "./coordinator-world.ts";
import { d1 } from "./d1.ts";
import { drained, evict, wipe } from "./disasters.ts";
import { faults, resetFaults } from "./faults.ts";
import { gate, GatedDatabase } from "./gated-database.ts";
import { AT, insert, iso, runRow, SetClock } from "./history-world.ts";

let clock = new SetClock(AT);
let history = new RunHistory(env.DB, { clock });
beforeEach(async () => {
  await env.DB.exec("DELETE FROM durable_runs");
  clock = new SetClock(AT);
  history = new RunHistory(env.DB, { clock });
});
afterEach(resetFaults);

async function found(options?: StuckOptions): Promise<unknown[]> {
  const { runs } = await history.stuck(options);
  return runs.map(({ runId, reasons, since }) => ({ runId, reasons, since }));
}

describe("without a coordinator", () => {
  it("a run is stuck once its lease has lapsed for longer than the grace, and no more once it is claimed again", async () => {
    const plain = new D1DurableRunStore(env.DB, { clock });
    const input = aRun();
    const { fence = 0 } = await plain.startOrResume(input);
    const { runId, workerId } = input;
    clock.advance(20_000);
    await plain.renewLease({ runId, workerId, fence, leaseMs: 30_000 });
    const lapsesAt = AT + 50_000;
    clock.advance(89_999);
    expect(await found()).toEqual([]);
    clock.advance(1);
    const lapsed = { runId, reasons: ["lease_lapsed"], since: iso(lapsesAt) };
    expect(await found()).toEqual([lapsed]);
    expect(await found({ graceMs: 60_001 })).toEqual([]);
    const again = await plain.startOrResume(input);
    expect(await found({ graceMs: 0 })).toEqual([]);
    await plain.endRun({ runId, workerId, fence: again.fence ?? 0, status: "failed" });
    clock.advance(1_000_000);
    expect(await found()).toEqual([]);
  });

  it("a wait is overdue from its end on, whoever holds the run", async () => {
    const plain = new D1DurableRunStore(env.DB, { clock });
    const input = { ...aRun(), leaseMs: 3_600_000 };
    const { fence = 0 } = await plain.startOrResume(input);
    const wait = { fence, timeoutMs: 5_000, waitFor: { kind: "time" } } as const;
    await plain.beginStep(aStep(input.runId, 0, wait));
    clock.advance(65_000);
    expect(await found()).toEqual([
      { runId: input.runId, reasons: ["wait_overdue"], since: iso(AT + 5_000) },
    ]);
    await plain.completeStep({ runId: input.runId, stepIndex: 0, fence, result: null });
    expect(await found()).toEqual([]);
  });
});

describe("with a coordinator", () => {
  it("a lease that is set says nothing, and one that its alarm found lapsed does", async () => {
    const coordinatorClock = new SetClock(AT);
    faults.clock = coordinatorClock;
    const { runId } = await claim();
    await saved(runId);
    clock.advance(10_000_000);
    expect(await found()).toEqual([]);
    coordinatorClock.advance(40_000);
    await woken(runId);
    await drained(runId);
    expect(await found()).toEqual([{ runId, reasons: ["lease_lapsed"], since: iso(AT + 40_000) }]);
  });

  it.each([
    ["the object was rebuilt by somebody who looked", false],
    ["it was, and slept since", true],
  ])("a lease that lapses after %s is noted all the same", async (_what, sleeps) => {
    const coordinatorClock = new SetClock(AT);
    faults.clock = coordinatorClock;
    const { runId } = await claim();
    await drained(runId);
    await wipe(runId);
    coordinatorClock.advance(20_000);
    await stubOf(runId).readRun();
    if (sleeps) await evict(runId);
    coordinatorClock.advance(30_000);
    await woken(runId);
    await drained(runId);
    clock.advance(10_000_000);
    expect(await found()).toEqual([{ runId, reasons: ["lease_lapsed"], since: iso(AT + 50_000) }]);
  });

  it("a lease that was renewed past a rebuilt object, in D1 alone, is not taken from its holder", async () => {
    faults.clock = clock;
    const { runId, fence } = await claim();
    await drained(runId);
    await wipe(runId);
    await stubOf(runId).readRun();
    const plain = new D1DurableRunStore(env.DB, { clock });
    const renewal = { runId, workerId: "worker-1", fence, leaseMs: 30_000 };
    for (let renewed = 0; renewed < 4; renewed += 1) {
      clock.advance(10_000);
      expect(await plain.renewLease(renewal)).toMatchObject({ ok: true });
    }
    await woken(runId);
    expect(await recordedRun(runId)).toMatchObject({ lease_expires_at: AT + 70_000, lag_ms: null });
    expect(await plain.renewLease(renewal)).toMatchObject({ ok: true });
    clock.advance(90_000);
    expect(await found()).toEqual([{ runId, reasons: ["lease_lapsed"], since: iso(AT + 70_000) }]);
  });
});

describe("while D1 cannot be written", () => {
  let coordinatorClock: SetClock;
  let db: FaultyDatabase;
  beforeEach(() => {
    coordinatorClock = new SetClock(AT);
    db = new FaultyDatabase(d1, coordinatorClock);
    faults.clock = coordinatorClock;
    const own = db;
    faults.wrap = () => own;
  });

  const isRefusing = async (work: () => Promise<unknown>): Promise<void> => {
    const { faults: before } = db;
    db.fault = ({ writes }) => (writes ? "before" : "none");
    await work();
    await expect.poll(() => db.faults).toBeGreaterThan(before);
  };
  const works = async (runId: string): Promise<void> => {
    db.fault = () => "none";
    await woken(runId);
    await drained(runId);
  };
  const waits = { timeoutMs: 1_000_000, waitFor: { kind: "time" } } as const;
  const waitsAt = ({ runId, fence }: { runId: string; fence: number }, stepIndex: number) =>
    store("coordinator").beginStep(aStep(runId, stepIndex, { fence, ...waits }));
  /** Until D1 has refused a change of the run's row: that it waits. */
  const waiting = async (): Promise<{ runId: string; fence: number }> => {
    const run = await claim("coordinator");
    await isRefusing(() => waitsAt(run, 0));
    return run;
  };

  it("a change that waited long is a late record, until the run's next one did not", async () => {
    const { runId, fence } = await waiting();
    coordinatorClock.advance(15_000);
    await works(runId);
    expect(await found()).toEqual([{ runId, reasons: ["late_record"], since: iso(AT) }]);
    expect(await found({ lagMs: 15_001 })).toEqual([]);
    expect(await history.get(runId)).toMatchObject({ lagMs: 15_000 });
    await waitsAt({ runId, fence }, 1);
    await drained(runId);
    expect(await found()).toEqual([]);
  });

  it("a late record is one no more once anything of the run arrives in time", async () => {
    const { runId, fence } = await waiting();
    coordinatorClock.advance(15_000);
    await works(runId);
    await store().beginStep(aStep(runId, 1, { fence }));
    // What comes late itself says nothing better.
    await isRefusing(() => store("coordinator").completeStep({ runId, stepIndex: 1, fence, result: 1 }));
    coordinatorClock.advance(5_000);
    await works(runId);
    expect(await found()).toMatchObject([{ runId, reasons: ["late_record"] }]);
    await store().beginStep(aStep(runId, 2, { fence }));
    await store().completeStep({ runId, stepIndex: 2, fence, result: 1 });
    expect(await found()).toEqual([]);
    expect(await history.get(runId)).toMatchObject({ lagMs: 0 });
  });

  it.each<[string, (run: { runId: string; fence: number }) => Promise<unknown>]>([
    [
      "heartbeats come",
      ({ runId, fence }) => store().renewLease({ runId, workerId: "worker-1", fence, leaseMs: 30_000 }),
    ],
    ["the row changes again", (run) => isRefusing(() => waitsAt(run, 1))],
    ["the object sleeps", ({ runId }) => evict(runId)],
  ])("the lag is that of the first change that D1 lacked, though %s meanwhile", async (_what, meanwhile) => {
    const run = await waiting();
    coordinatorClock.advance(15_000);
    await meanwhile(run);
    coordinatorClock.advance(4_000);
    await works(run.runId);
    clock.advance(19_000);
    expect(await history.get(run.runId)).toMatchObject({ lagMs: 19_000 });
    expect(await found()).toMatchObject([{ runId: run.runId, reasons: ["late_record"] }]);
  });

  it("the lag of a change that came while an earlier one was on its way is its own", async () => {
    const run = await claim("coordinator");
    const { runId } = run;
    const gated = new GatedDatabase();
    faults.wrap = () => gated;
    gated.before = async (queries) => {
      if (queries.some((query) => query.includes("INSERT")))
        throw new Error("D1_ERROR: Network connection lost.");
    };
    await waitsAt(run, 0);
    await expect.poll(() => gated.log.length).toBeGreaterThan(1);
    coordinatorClock.advance(15_000);
    const held = gate();
    gated.before = () => held.pass();
    const alarm = woken(runId);
    await expect.poll(() => held.reached).toBeGreaterThan(0);
    coordinatorClock.advance(300);
    await waitsAt(run, 1);
    coordinatorClock.advance(200);
    held.open = true;
    await alarm;
    await drained(runId);
    expect(gated.sent.length).toBeGreaterThan(1);
    // Not before the earlier one was sent.
    expect(await history.get(runId)).toMatchObject({
      lagMs: 500,
      waitingFor: [{ stepIndex: 0 }, { stepIndex: 1 }],
    });
  });

  it("an outage that is over is none of a later change's lag", async () => {
    const { runId, fence } = await waiting();
    coordinatorClock.advance(15_000);
    await works(runId);
    await evict(runId);
    coordinatorClock.advance(5_000);
    await waitsAt({ runId, fence }, 1);
    await drained(runId);
    expect(await history.get(runId)).toMatchObject({ lagMs: 0 });
  });
});

describe("of many", () => {
  const due = (runId: string, at: number, more = {}) =>
    runRow(runId, { status: "running", due_at: at, updated_at: at, ...more });

  it("the longest overdue comes first, each once, page by page", async () => {
    const late = { lag_ms: 20_000 };
    await insert("durable_runs", [
      due("b", AT - 100_000),
      due("a", AT - 300_000, late),
      runRow("c", { status: "suspended", updated_at: AT - 200_000, ...late }),
      due("not-yet", AT - 30_000),
      due("later", AT + 1_000),
      runRow("quick", { status: "running", lag_ms: 5, lease_expires_at: AT - 9_000_000 }),
      runRow("ended", { completed_at: AT - 100_000, due_at: AT - 100_000, ...late }),
      due("foreign", AT - 400_000, { project_id: "q" }),
    ]);
    const seen: string[] = [];
    for (let cursor: string | undefined = ""; cursor !== undefined;) {
      const page = await history.stuck({ limit: 1, projectId: "p", ...(cursor && { cursor }) });
      seen.push(...page.runs.map(({ runId, reasons, since }) => `${runId} ${reasons.join("+")} ${since}`));
      ({ cursor } = page);
    }
    expect(seen).toEqual([
      `a lease_lapsed+late_record ${iso(AT - 300_000)}`,
      `c late_record ${iso(AT - 200_000)}`,
      `b lease_lapsed ${iso(AT - 100_000)}`,
    ]);
    expect(await new RunHistory(env.DB, { clock, projectId: "q" }).stuck()).toMatchObject({
      runs: [{ runId: "foreign" }],
    });
    expect((await history.stuck({ lagMs: 20_001 })).runs.map(({ runId }) => runId)).toEqual([
      "foreign",
      "a",
      "b",
    ]);
  });

  it("nothing is missed behind more runs of another project than a page looks at", async () => {
    const foreign = Array.from({ length: WALK_ROWS + 5 }, (_one, i) =>
      due(`f-${String(i).padStart(5, "0")}`, AT - 200_000, { project_id: "q" }),
    );
    await insert("durable_runs", [...foreign, due("mine", AT - 100_000)]);
    const first = await history.stuck({ projectId: "p" });
    expect(first.runs).toEqual([]);
    const { runs, cursor } = await history.stuck({ projectId: "p", cursor: first.cursor ?? "" });
    expect(runs.map(({ runId }) => runId)).toEqual(["mine"]);
    expect(cursor).toBeUndefined();
  });

  it.each<[string, unknown]>([
    ["graceMs", -1],
    ["graceMs", 1.5],
    ["lagMs", 999],
    ["lagMs", "10"],
    ["limit", 0],
    ["status", "running"],
    ["projectId", ""],
  ])("a bad option is refused by its name: %s %j", async (field, value) => {
    await expect(() => history.stuck({ [field]: value })).rejects.toMatchObject({
      code: "invalid_input",
      field,
    });
  });
});
