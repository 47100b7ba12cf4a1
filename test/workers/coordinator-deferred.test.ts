/**
 * Deferred commits (0026): what was acknowledged under `record` outlives the object's death at every point between
 * D1's commit and the object's own, and nobody is told of what a death could take back.
 */
import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { aRun, aStep, refusalOf } from "../../src/testing/harness.ts";
import {
  armed,
  claim,
  recordedRun,
  recordedStep,
  store,
  stubOf,
  trailing,
  woken,
} from "./coordinator-world.ts";
import { abort, drained, evict, wipe } from "./disasters.ts";
import { gate } from "./gated-database.ts";
import { clock, db, useGatedWorld } from "./gated-world.ts";

useGatedWorld();

const writes = (queries: string[]) => queries.some((query) => /^\s*(INSERT|UPDATE|DELETE)/.test(query));
const isDown = async () => {
  throw new Error("D1_ERROR: Network connection lost.");
};

/** Holds what is written, before it is sent, until it is opened. Batches that come after the first wait as well. */
function stalled() {
  const held = gate();
  db.before = async (queries) => {
    if (writes(queries)) await held.pass();
  };
  return held;
}

/** Steps in the object's storage; `null` where there are no tables. */
const savedSteps = (runId: string) =>
  runInDurableObject(stubOf(runId), (_object, { storage }) => {
    const [table] = storage.sql.exec("SELECT 1 FROM sqlite_master WHERE name = 'durable_rows'").toArray();
    const query = "SELECT id AS step_index, row->>'$.status' AS status FROM durable_rows WHERE kind = 'step'";
    return table && storage.sql.exec(query).toArray();
  });

const runs = [
  ["without storage", claim],
  ["with storage that may trail", trailing],
] as const;

describe.each(runs)("a run %s", (_what, begin) => {
  it("keeps each step that was acknowledged, however often the object dies", async () => {
    const { runId, fence } = await begin();
    for (let stepIndex = 0; stepIndex < 6; stepIndex += 1) {
      await store().beginStep(aStep(runId, stepIndex, { fence }));
      await store().completeStep({ runId, stepIndex, fence, attempt: 1, result: `paid ${stepIndex}` });
      await (stepIndex % 2 === 0 ? abort : evict)(runId);
    }
    const { completedSteps } = await store().startOrResume({ ...aRun(), runId });
    expect(completedSteps.map(({ result }) => result)).toEqual([0, 1, 2, 3, 4, 5].map((i) => `paid ${i}`));
  });

  it("keeps a cancel: heartbeats and watchers hear of it after the object's death", async () => {
    const { runId, fence } = await begin();
    await store().cancelRun(runId);
    await abort(runId);
    const renewed = await store().renewLease({ runId, workerId: "worker-1", fence });
    const watched = await stubOf(runId).watchLease(fence, 0);
    expect([renewed.ok, watched]).toMatchObject([
      false,
      { ok: true, value: { held: false, status: "cancelled" } },
    ]);
  });

  it("tells no reader of a result that the object's death could take back", async () => {
    const { runId, fence } = await begin();
    await store().beginStep(aStep(runId, 0, { fence }));
    const held = stalled();
    const completed = refusalOf(() =>
      store().completeStep({ runId, stepIndex: 0, fence, attempt: 1, result: "paid" }),
    );
    await expect.poll(() => held.reached).toBe(1);
    const seen = (await store().loadStep(runId, 0))?.status;
    await abort(runId);
    db.before = async () => {};
    await completed;
    expect(seen).toBe("completed");
    expect((await store().loadStep(runId, 0))?.status).toBe(seen);
    held.open = true;
  });

  it("says nothing under ack: coordinator that the object's death could take back", async () => {
    const { runId, fence } = await begin();
    await store().beginStep(aStep(runId, 0, { fence }));
    const held = stalled();
    const completion = { runId, stepIndex: 0, fence, attempt: 1, result: "paid" };
    const completed = refusalOf(() => store().completeStep(completion));
    await expect.poll(() => held.reached).toBe(1);
    // The same again, of somebody who does not wait for D1.
    await store("coordinator").completeStep(completion);
    await abort(runId);
    db.before = async () => {};
    await completed;
    expect(await store().loadStep(runId, 0)).toMatchObject({ status: "completed", result: "paid" });
    held.open = true;
  });

  it("has a result in storage soon where D1 stalls, so that it outlives worker and object", async () => {
    const { runId, fence } = await begin();
    await store().beginStep(aStep(runId, 0, { fence }));
    stalled();
    refusalOf(() => store().completeStep({ runId, stepIndex: 0, fence, attempt: 1, result: "paid" })).catch(
      () => {},
    );
    await expect.poll(() => savedSteps(runId)).toMatchObject([{ step_index: 0, status: "completed" }]);
    await abort(runId);
    db.before = async () => {};
    await woken(runId);
    await drained(runId);
    expect(await recordedStep(runId)).toMatchObject({ status: "completed", result: '"paid"' });
  });

  it.each(["record", "coordinator"] as const)(
    "shows a long step as running in D1, under ack: %s",
    async (ack) => {
      const { runId, fence } = await begin();
      await store(ack).beginStep(aStep(runId, 0, { fence }));
      await expect.poll(async () => (await recordedStep(runId))?.["status"]).toBe("running");
    },
  );
});

it.each([
  ["rebuilds", claim, 1],
  ["rebuilds", claim, 2],
  ["catches up", trailing, 1],
  ["catches up", trailing, 2],
  ["catches up", trailing, 3],
] as const)(
  "an object that dies while it %s keeps what was acknowledged (%#)",
  async (_what, begin, number) => {
    const { runId, fence } = await begin();
    for (const stepIndex of [0, 1]) {
      await store().beginStep(aStep(runId, stepIndex, { fence }));
      await store().completeStep({ runId, stepIndex, fence, attempt: 1, result: "paid" });
    }
    await abort(runId);
    const held = gate();
    let asked = 0;
    db.before = async () => {
      asked += 1;
      if (asked >= number) await held.pass();
    };
    const read = refusalOf(() => store().loadRun(runId));
    await expect.poll(() => held.reached).toBe(1);
    await abort(runId);
    db.before = async () => {};
    held.open = true;
    await read;
    expect((await store().loadRun(runId))?.stepCount).toBe(2);
    expect(await store().loadStep(runId, 1)).toMatchObject({ status: "completed", result: "paid" });
  },
);

describe("storage that may trail, while D1 is out of reach", () => {
  async function alone() {
    const run = await trailing();
    await store().beginStep(aStep(run.runId, 0, { fence: run.fence }));
    await store().completeStep({ ...run, stepIndex: 0, attempt: 1, result: "paid" });
    await armed(run.runId);
    await abort(run.runId);
    db.before = isDown;
    return run;
  }

  it("answers store_unavailable but for heartbeats, and is itself again once D1 is back", async () => {
    const { runId, fence } = await alone();
    const refused = [
      await refusalOf(() => store("coordinator").beginStep(aStep(runId, 1, { fence }))),
      await refusalOf(() => store().loadStep(runId, 0)),
      await refusalOf(() => store().loadEvent(runId, "first")),
    ];
    expect(refused).toEqual(["store_unavailable", "store_unavailable", "store_unavailable"]);
    expect((await store().renewLease({ runId, workerId: "worker-1", fence })).ok).toBe(true);
    db.before = async () => {};
    expect(await store().loadStep(runId, 0)).toMatchObject({ result: "paid" });
    expect(await refusalOf(() => store().beginStep(aStep(runId, 1, { fence })))).toBe("accepted");
  });

  it("sets no alarm for now, though its lease has lapsed", async () => {
    const { runId } = await alone();
    clock.advance(60_000);
    for (let i = 0; i < 3; i += 1) {
      const before = Date.now();
      await woken(runId);
      const alarm = await runInDurableObject(stubOf(runId), (_object, state) => state.storage.getAlarm());
      expect(alarm).toBeGreaterThanOrEqual(before + 500);
    }
    db.before = async () => {};
    await woken(runId);
    await drained(runId);
    expect(await recordedRun(runId)).toMatchObject({ status: "running", lease_expires_at: null });
  });

  it("revives no lease that has lapsed, and lets one worker hold the run", async () => {
    const { runId, fence } = await alone();
    clock.advance(60_000);
    db.before = async () => {};
    const [renewed, taken] = await Promise.all([
      store().renewLease({ runId, workerId: "worker-1", fence }),
      store().startOrResume({ ...aRun("worker-2"), runId }),
    ]);
    expect([renewed.ok, taken.fence]).toEqual([false, fence + 1]);
    const late = store().completeStep({ runId, stepIndex: 1, fence, attempt: 1, result: "late" });
    expect(await refusalOf(() => late)).toBe("lease_lost");
  });
});

it("a renewal of a run that has no storage yet is not forgotten", async () => {
  const { runId, fence } = await claim();
  await store().renewLease({ runId, workerId: "worker-1", fence, leaseMs: 600_000 });
  await abort(runId);
  await store().loadRun(runId);
  clock.advance(60_000);
  expect(await refusalOf(() => store().startOrResume({ ...aRun("worker-2"), runId }))).toBe("lease_held");
});

it("a run that begins over steps which D1 has without their run takes them over", async () => {
  const first = await claim();
  await store().beginStep(aStep(first.runId, 0, { fence: first.fence }));
  await store().completeStep({ ...first, stepIndex: 0, attempt: 1, result: "of the run that is gone" });
  await env.DB.prepare("DELETE FROM durable_runs WHERE run_id = ?1").bind(first.runId).run();
  await wipe(first.runId);
  const { completedSteps } = await store().startOrResume({ ...aRun(), runId: first.runId });
  expect(completedSteps).toMatchObject([{ result: "of the run that is gone" }]);
});
