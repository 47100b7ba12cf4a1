/**
 * Looks at D1, by which an object that comes back begins another life (0033): what it has acknowledged outlives them,
 * however they cross with what is under way, and nothing is acknowledged over what they have thrown away.
 */
import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import type { AckPolicy } from "../../src/stores/coordinated/wire.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { aRun, aStep, refusalOf } from "../../src/testing/harness.ts";
import {
  caughtUp,
  claim,
  recordedStep,
  saved,
  store,
  stubOf,
  trailing,
  wait,
  woken,
} from "./coordinator-world.ts";
import { abort, drained, evict, wipe } from "./disasters.ts";
import { faults } from "./faults.ts";
import { gate } from "./gated-database.ts";
import { clock, db, useClock, useGatedWorld } from "./gated-world.ts";
import { StandingClock } from "./standing-clock.ts";

useGatedWorld();

/** Whether anything is in the object's storage. */
const hasStorage = ({ runId }: Run): Promise<boolean> =>
  runInDurableObject(stubOf(runId), (_object, { storage }) => {
    const tables = storage.sql.exec("SELECT 1 FROM sqlite_master WHERE name = 'durable_rows'");
    return tables.toArray().length > 0;
  });

interface Run {
  readonly runId: string;
  readonly fence: number;
}

const isDown = () => Promise.reject(new Error("D1_ERROR: Network connection lost."));
const writes = (queries: string[]) => queries.some((query) => /^\s*INSERT/.test(query));
/** Compares with D1, be it in the batch that takes a number. */
const looks = (queries: string[]) => queries.some((query) => /AS step_revision/.test(query));
const takes = (queries: string[]) => queries.some((query) => /SET incarnation/.test(query));
const rebuilds = (queries: string[]) => queries.some((query) => /AS last_index/.test(query));

async function complete({ runId, fence }: Run, stepIndex: number, ack: AckPolicy): Promise<unknown> {
  const result = "paid";
  return store(ack).completeStep({ runId, stepIndex, fence, attempt: 1, result });
}

/** Acknowledged under `coordinator`, and not in D1. */
async function paid(run: Run): Promise<void> {
  await store("coordinator").beginStep(aStep(run.runId, 1, { fence: run.fence }));
  await complete(run, 1, "coordinator");
}

async function expectKept({ runId, fence }: Run): Promise<void> {
  await woken(runId);
  await drained(runId);
  expect(await store().loadStep(runId, 1)).toMatchObject({ status: "completed", result: "paid" });
  expect(await recordedStep(runId, 1)).toMatchObject({ status: "completed", result: '"paid"' });
  expect(await refusalOf(() => store().beginStep(aStep(runId, 2, { fence })))).toBe("accepted");
  expect(await refusalOf(() => complete({ runId, fence }, 2, "record"))).toBe("accepted");
}

/** As the look of an instance that was replaced, and not stopped yet, or one whose answer was lost. */
async function lookedAtByAnother({ runId }: Run): Promise<void> {
  await env.DB.prepare("UPDATE durable_runs SET incarnation = incarnation + 1 WHERE run_id = ?1")
    .bind(runId)
    .run();
}

it("what was acknowledged under coordinator is not thrown away while the object that came back still looks", async () => {
  const run = await trailing();
  db.before = async (queries) => {
    if (writes(queries)) await isDown();
  };
  await paid(run);
  await abort(run.runId);
  const held = gate();
  // It has taken the number of its life, and not read yet what it lacks.
  db.before = async (queries) => {
    if (queries.some((query) => /FROM durable_events\s+WHERE run_id = \?1 AND/.test(query)))
      await held.pass();
  };
  const read = store().loadStep(run.runId, 1);
  await expect.poll(() => held.reached).toBe(1);
  // It has more than D1, which a heartbeat, too, has it see to: within 100 ms.
  await store().renewLease({ ...run, workerId: "worker-1" });
  await wait(500);
  held.open = true;
  expect(await read).toMatchObject({ status: "completed", result: "paid" });
  await expectKept(run);
});

describe.each([
  ["with storage that may trail", trailing, abort],
  ["that was used under coordinator alone, and rebuilt", () => claim("coordinator"), wipe],
] as const)("of a run %s, what was acknowledged under coordinator", (_what, begin, befall) => {
  /** Its object has died, and has looked at D1 since. */
  async function cameBack(): Promise<Run> {
    const run = await begin();
    await drained(run.runId);
    await befall(run.runId);
    await store("coordinator").loadRun(run.runId);
    return run;
  }

  it("outlives a look at D1 that comes late", async () => {
    const run = await cameBack();
    await paid(run);
    // All of its batches, as a network might deliver them again.
    await db.replay(db.sent);
    await expectKept(run);
  });

  it("outlives a look of an instance that was replaced, and not stopped yet", async () => {
    const run = await cameBack();
    await paid(run);
    await lookedAtByAnother(run);
    await expectKept(run);
  });

  it("outlives looks of others between its own", async () => {
    const run = await cameBack();
    db.before = async (queries) => {
      if (writes(queries)) await isDown();
    };
    await paid(run);
    await lookedAtByAnother(run);
    db.before = async () => {};
    // Each of its looks is a call that tells it where D1 stands, and one that takes the next number.
    let calls = 0;
    db.after = async (queries) => {
      if (!takes(queries)) return;
      calls += 1;
      if (calls % 2 === 0 && calls <= 6) await lookedAtByAnother(run);
    };
    await expectKept(run);
    expect(calls).toBe(8);
  });
});

it("a run that is in memory alone has no storage made by a look", async () => {
  // Where D1 is late, as on a busy machine, storage would be made without a look.
  faults.times = { gatherMs: 3_000 };
  const run = await claim();
  await store().beginStep(aStep(run.runId, 0, { fence: run.fence }));
  await lookedAtByAnother(run);
  expect(await refusalOf(() => complete(run, 0, "record"))).toBe("accepted");
  expect(await hasStorage(run)).toBe(false);
  await store("coordinator").emitEvent({ runId: run.runId, key: "k", payload: 1 });
  expect(await hasStorage(run)).toBe(true);
  await evict(run.runId);
  await paid(run);
  await expectKept(run);
});

describe("of storage that holds all that was acknowledged, a look", () => {
  /** Put to sleep with a step that D1 lacks. */
  async function asleep(): Promise<Run> {
    const run = await claim("coordinator");
    await drained(run.runId);
    db.before = async (queries) => {
      if (writes(queries)) await isDown();
    };
    await paid(run);
    await evict(run.runId);
    return run;
  }

  it("of another instance costs it nothing", async () => {
    const run = await asleep();
    await lookedAtByAnother(run);
    db.before = async () => {};
    await store("coordinator").beginStep(aStep(run.runId, 3, { fence: run.fence }));
    await expectKept(run);
  });

  it("that began before D1 refused what was sent is no answer to that", async () => {
    const run = await asleep();
    const held = gate();
    const sent = gate();
    db.before = async (queries) => {
      if (writes(queries)) await sent.pass();
    };
    db.after = async (queries) => {
      if (looks(queries) && !held.open) await held.pass();
    };
    const change = store("coordinator").beginStep(aStep(run.runId, 3, { fence: run.fence }));
    await expect.poll(() => held.reached).toBe(1);
    await expect.poll(() => sent.reached).toBe(1);
    await lookedAtByAnother(run);
    const before = db.sent.length;
    sent.open = true;
    // D1 has answered, and the object has heard it.
    await expect.poll(() => db.sent.length).toBeGreaterThan(before);
    await caughtUp(run.runId);
    const batches = db.log.length;
    held.open = true;
    await change;
    await expectKept(run);
    // It has taken another number before anything was sent again.
    const next = db.log.slice(batches).find((queries) => takes(queries) || writes(queries));
    expect(next).toSatisfy(takes);
  });
});

describe("a change under record, of which D1 has not heard when the run is claimed past the object,", () => {
  // So that it waits for as long as a test has it wait.
  useClock(() => new StandingClock());

  /** It waits to try again; what the object sends beside it is refused, and the look that follows is held. */
  async function waiting(): Promise<{ answer: Promise<string>; look: ReturnType<typeof gate>; run: Run }> {
    const run = await trailing();
    await store().beginStep(aStep(run.runId, 0, { fence: run.fence }));
    let failures = 0;
    db.before = async (queries) => {
      if (!writes(queries)) return;
      failures += 1;
      await isDown();
    };
    const answer = refusalOf(() => complete(run, 0, "record"));
    await expect.poll(() => failures).toBe(1);
    await new D1DurableRunStore(env.DB, { clock }).startOrResume({ ...aRun(), runId: run.runId });
    const look = gate();
    db.before = async (queries) => {
      if (looks(queries)) await look.pass();
    };
    void saved(run.runId);
    await expect.poll(() => look.reached).toBe(1);
    return { answer, look, run };
  }

  it("is refused, though what the next attempt finds is recorded", async () => {
    const { answer, look, run } = await waiting();
    clock.advance(2_000);
    await caughtUp(run.runId);
    look.open = true;
    expect(await answer).toBe("lease_lost");
  });

  it("is refused, though its next attempt has failed as well", async () => {
    const { answer, look, run } = await waiting();
    let failures = 0;
    db.before = async (queries) => {
      if (!rebuilds(queries)) return;
      failures += 1;
      await isDown();
    };
    clock.advance(2_000);
    await caughtUp(run.runId);
    look.open = true;
    await expect.poll(() => failures).toBeGreaterThan(0);
    db.before = async () => {};
    await store().loadRun(run.runId);
    clock.advance(2_000);
    expect(await answer).toBe("lease_lost");
  });
});

it.each(["record", "coordinator"] as const)(
  "a step that a look finds otherwise than its author has ended it is D1's, and nothing was recorded for him, under ack: %s",
  async (ack) => {
    const run = await trailing();
    await store().beginStep(aStep(run.runId, 0, { fence: run.fence }));
    await saved(run.runId);
    await drained(run.runId);
    let failures = 0;
    db.before = async (queries) => {
      if (!writes(queries)) return;
      failures += 1;
      await isDown();
    };
    const answer = refusalOf(() => complete(run, 0, ack));
    await expect.poll(() => failures).toBeGreaterThan(0);
    await lookedAtByAnother(run);
    await env.DB.prepare(
      `UPDATE durable_steps SET status = 'completed', result = '"of another"', completed_at = started_at,
       revision = revision + 1000 WHERE run_id = ?1`,
    )
      .bind(run.runId)
      .run();
    db.before = async () => {};
    await woken(run.runId);
    clock.advance(2_000);
    // Under coordinator he was told at once.
    expect(await answer).toBe(ack === "record" ? "lease_lost" : "accepted");
    expect(await store().loadStep(run.runId, 0)).toMatchObject({ result: "of another" });
    expect(await recordedStep(run.runId)).toMatchObject({ result: '"of another"' });
  },
);

it("who waits for an event is told of one that a look has found", async () => {
  const run = await trailing();
  await store().beginStep(aStep(run.runId, 0, { fence: run.fence }));
  const held = store().waitForEvent({ runId: run.runId, key: "k", timeoutMs: 60_000 });
  await store().loadRun(run.runId);
  await lookedAtByAnother(run);
  await env.DB.prepare(
    `INSERT INTO durable_events (run_id, key, emitted_at, request_id, revision, payload)
     SELECT run_id, 'k', emitted_at, 'another', revision + 1000, '"found"' FROM durable_events
     WHERE run_id = ?1 AND key = 'first'`,
  )
    .bind(run.runId)
    .run();
  await complete(run, 0, "record");
  expect(await held).toMatchObject({ payload: "found" });
});
