/** RunHistory.stuck: what is told of runs that real workers have left, and what is not. */
import { env } from "cloudflare:workers";
import { runDurableObjectAlarm } from "cloudflare:test";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { RunHistory } from "../../src/history/run-history.ts";
import type { StuckOptions } from "../../src/history/types.ts";
import { WALK_ROWS } from "../../src/history/walk.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { FaultyDatabase } from "../../src/testing/faulty-database.ts";
import { aRun, aStep } from "../../src/testing/harness.ts";
import { claim, store, stubOf } from "./coordinator-world.ts";
import { drained } from "./disasters.ts";
import { faults, resetFaults } from "./faults.ts";
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
    clock.advance(10_000_000);
    expect(await found()).toEqual([]);
    coordinatorClock.advance(40_000);
    await runDurableObjectAlarm(stubOf(runId));
    await drained(runId);
    expect(await found()).toEqual([{ runId, reasons: ["lease_lapsed"], since: iso(AT + 40_000) }]);
  });

  it("a change that waited long for D1 is a late record, until the run's next one did not", async () => {
    const coordinatorClock = new SetClock(AT);
    faults.clock = coordinatorClock;
    const db = new FaultyDatabase(env.DB, coordinatorClock);
    db.fault = ({ writes }) => (writes ? "before" : "none");
    faults.wrap = () => db;
    const { runId, fence } = await claim("coordinator");
    await expect.poll(() => db.faults).toBeGreaterThan(0);
    coordinatorClock.advance(15_000);
    db.fault = () => "none";
    await runDurableObjectAlarm(stubOf(runId));
    await drained(runId);
    expect(await found()).toEqual([{ runId, reasons: ["late_record"], since: iso(AT) }]);
    expect(await found({ lagMs: 15_001 })).toEqual([]);
    expect(await history.get(runId)).toMatchObject({ lagMs: 15_000 });
    await store().beginStep(aStep(runId, 0, { fence, timeoutMs: 1_000_000, waitFor: { kind: "time" } }));
    await drained(runId);
    expect(await found()).toEqual([]);
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
