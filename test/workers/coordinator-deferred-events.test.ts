/**
 * Deferred events (0026, 0033): D1 alone has one before the object has saved it. Of each key one event stands, whatever
 * comes late, and nobody is told of one that the object's death could take back.
 */
import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { newRequestId } from "../../src/identity.ts";
import type { AckPolicy } from "../../src/stores/coordinated/wire.ts";
import { aRun, aStep, refusalOf } from "../../src/testing/harness.ts";
import { caught, db, useCatchingWorld } from "./catching-world.ts";
import { claim, saved, store, stubOf, trailing } from "./coordinator-world.ts";
import { abort, drained, wipe } from "./disasters.ts";

useCatchingWorld();

interface Run {
  readonly runId: string;
  readonly fence: number;
}

const runs = [
  ["without storage", claim],
  ["with storage that may trail", trailing],
] as const;
const policies: [AckPolicy][] = [["record"], ["coordinator"]];

const emit = ({ runId }: Run, payload: unknown, ack: AckPolicy = "record", requestId = newRequestId()) =>
  store(ack).emitEvent({ runId, key: "k", payload, requestId });

/** By key, the payloads in D1. */
async function recorded({ runId }: Run): Promise<unknown> {
  const query =
    "SELECT json_group_object(key, json(payload)) AS k FROM durable_events WHERE run_id = ?1 AND key = 'k'";
  return JSON.parse(String(await env.DB.prepare(query).bind(runId).first("k")));
}

/** Keys of events in the object's storage. */
const inStorage = ({ runId }: Run) =>
  runInDurableObject(stubOf(runId), (_object, { storage }) => {
    const [table] = storage.sql.exec("SELECT 1 FROM sqlite_master WHERE name = 'durable_rows'").toArray();
    if (!table) return [];
    const rows = storage.sql.exec("SELECT id FROM durable_rows WHERE kind = 'event' ORDER BY id").toArray();
    return rows.map(({ id }) => id);
  });

/** Both the object and D1 say so, and still do when the object has died. */
async function expectStands(run: Run, payload: unknown): Promise<void> {
  await saved(run.runId);
  await drained(run.runId);
  for (const befall of [async () => {}, abort, wipe]) {
    await befall(run.runId);
    expect(await store().loadEvent(run.runId, "k")).toMatchObject({ payload });
    expect(await recorded(run)).toEqual({ k: payload });
  }
}

/** Waits for "k" in its first step, of which D1 knows. */
async function waits({ runId, fence }: Run): Promise<void> {
  const wait = { kind: "event", timeoutMs: 3_600_000, waitFor: { kind: "event", key: "k" } } as const;
  await store().beginStep(aStep(runId, 0, { fence, ...wait }));
  await saved(runId);
  await drained(runId);
}

const ending = ({ runId, fence }: Run) => ({
  runId,
  key: "k",
  timeoutMs: 60_000,
  step: { stepIndex: 0, fence, attempt: 1, requestId: newRequestId() },
});

/** Who asks for an event beside its emitter, and the event that is told. */
const TOLD: Readonly<Record<string, (run: Run, requestId: string) => Promise<unknown>>> = {
  "a reader": ({ runId }) => store().loadEvent(runId, "k"),
  "a waiter": ({ runId }) => store().waitForEvent({ runId, key: "k", timeoutMs: 1_000 }),
  "its emitter, again, under coordinator": async (run, requestId) =>
    (await emit(run, "kept", "coordinator", requestId)).record,
  "another emitter under coordinator": async (run) => (await emit(run, "another", "coordinator")).record,
};

describe.each(runs)("of a run %s, an event", (_what, begin) => {
  it("that was acknowledged under record is in D1 alone, and outlives the object", async () => {
    const run = await begin();
    expect(await emit(run, "first")).toMatchObject({ accepted: true });
    expect(await inStorage(run)).not.toContain("k");
    expect(await recorded(run)).toEqual({ k: "first" });
    await abort(run.runId);
    expect(await emit(run, "second")).toMatchObject({ accepted: false, record: { payload: "first" } });
    await expectStands(run, "first");
  });

  it.each(policies)("of an earlier life that comes late takes nobody's place, under ack: %s", async (ack) => {
    const run = await begin();
    await caught(run.runId, () => emit(run, "of an earlier life"));
    expect(await emit(run, "stands", ack)).toMatchObject({ accepted: true });
    await db.deliver();
    await expectStands(run, "stands");
  });

  it.each(policies)("of an earlier life that comes first stands, under ack: %s", async (ack) => {
    const run = await begin();
    await caught(run.runId, () => emit(run, "of an earlier life"));
    await db.deliver();
    expect(await emit(run, "late", ack)).toMatchObject({
      accepted: false,
      record: { payload: "of an earlier life" },
    });
    await expectStands(run, "of an earlier life");
  });

  it("of an earlier life is the same when it is emitted again", async () => {
    const run = await begin();
    const requestId = newRequestId();
    await caught(run.runId, () => emit(run, "once", "record", requestId));
    await db.deliver();
    expect(await emit(run, "once", "record", requestId)).toMatchObject({ accepted: true });
    await expectStands(run, "once");
  });

  it.each(policies)("of an earlier life ends no step when it comes late, under ack: %s", async (ack) => {
    const run = await begin();
    await waits(run);
    // It is given up while D1 is out of reach, or goes on.
    refusalOf(() => store().waitForEvent(ending(run))).catch(() => {});
    await store().loadRun(run.runId);
    await caught(run.runId, () => emit(run, "of an earlier life"));
    expect(await emit(run, "stands", ack)).toMatchObject({ accepted: true });
    await db.deliver();
    expect(await store().waitForEvent(ending(run))).toMatchObject({
      payload: "stands",
      step: { status: "completed", result: "stands" },
    });
    await expectStands(run, "stands");
    expect(await store().loadStep(run.runId, 0)).toMatchObject({ result: "stands" });
  });

  it.each(Object.keys(TOLD))("that D1 lacks is saved before it is told to %s", async (who) => {
    const run = await begin();
    const requestId = newRequestId();
    db.mode = "catches";
    const answer = refusalOf(() => emit(run, "kept", "record", requestId));
    await expect.poll(() => db.caught).toBeGreaterThan(0);
    expect(await inStorage(run)).not.toContain("k");
    expect(await TOLD[who]?.(run, requestId)).toMatchObject({ payload: "kept" });
    expect(await inStorage(run)).toContain("k");
    db.mode = "down";
    await abort(run.runId);
    await answer;
    db.mode = "open";
    await expectStands(run, "kept");
  });

  it("that is long is in the object's storage first", async () => {
    const run = await begin();
    db.mode = "catches";
    const answer = refusalOf(() => emit(run, "p".repeat(5_000)));
    await expect.poll(() => db.caught).toBeGreaterThan(0);
    expect(await inStorage(run)).toContain("k");
    db.mode = "down";
    await abort(run.runId);
    await answer;
    db.mode = "open";
    await expectStands(run, "p".repeat(5_000));
  });
});

it("an event that comes before its run is in the object's storage first", async () => {
  const { runId } = aRun();
  const run = { runId, fence: 0 };
  db.mode = "catches";
  const answer = refusalOf(() => emit(run, "early"));
  await expect.poll(() => db.caught).toBeGreaterThan(0);
  expect(await inStorage(run)).toEqual(["k"]);
  db.mode = "down";
  await abort(runId);
  await answer;
  db.mode = "open";
  await store().startOrResume({ ...aRun(), runId });
  await expectStands(run, "early");
});

it("a step that ends with a deferred event, and a waiter under coordinator: both are saved before it is told", async () => {
  const run = await trailing();
  await waits(run);
  const held = store("coordinator").waitForEvent(ending(run));
  await store().loadRun(run.runId);
  db.mode = "catches";
  const answer = refusalOf(() => emit(run, "kept"));
  expect(await held).toMatchObject({ step: { status: "completed", result: "kept" } });
  db.mode = "down";
  await abort(run.runId);
  await answer;
  db.mode = "open";
  expect(await store().loadStep(run.runId, 0)).toMatchObject({ status: "completed", result: "kept" });
  await expectStands(run, "kept");
});

it("more events at once than are deferred are all kept, in D1 and by the object", async () => {
  const run = await trailing();
  const keys = Array.from({ length: 80 }, (_one, i) => `k${i}`);
  const worker = store();
  await Promise.all(keys.map((key) => worker.emitEvent({ runId: run.runId, key, payload: key })));
  for (const befall of [abort, wipe]) {
    await befall(run.runId);
    for (const key of keys) expect(await store().loadEvent(run.runId, key)).toMatchObject({ payload: key });
  }
});
