/** R33 over real objects: a wait whose call the object holds, and what the object's reset does to it. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { DurableContext } from "../../src/runner/types.ts";
import type { AckPolicy } from "../../src/stores/coordinated/wire.ts";
import { woken } from "./coordinator-world.ts";
import { abort, drained, evict, wipe, wipeOnceRecorded } from "./disasters.ts";
import { resetFaults } from "./faults.ts";
import type { RunnerWorld } from "./runner-world.ts";
import { DAY_MS, newRunnerWorld, recordOf, rejectionOf } from "./runner-world.ts";

afterEach(resetFaults);

/** The longest slice. */
const HOLD_MS = 30_000;

const waiting = (ctx: DurableContext) => ctx.awaitEvent("k", { timeoutMs: 2 * HOLD_MS });

describe.each<[AckPolicy]>([["record"], ["coordinator"]])("under ack: %s", (ack) => {
  let world: RunnerWorld;
  beforeEach(() => {
    world = newRunnerWorld(ack);
    // The watch over the lease is held as well, and nothing here is about that.
    world.store.hooks.watchLease = async () => ({ held: true });
  });

  const emit = (payload: unknown) => world.open().emitEvent({ runId: world.runId, key: "k", payload });
  const isHeld = async () => {
    await expect.poll(() => world.held(HOLD_MS)).toBe(1);
  };

  test("a wait is answered while its call is held, and nothing is polled", async () => {
    const attempt = world.run(waiting, { leaseMs: DAY_MS });
    await isHeld();
    expect(await recordOf(world.open(), world.runId)).toMatchObject({
      status: "running",
      waitingFor: [{ stepIndex: 0, for: "event", key: "k", until: expect.any(String) as string }],
    });
    await emit({ by: "ann" });
    const { result, record } = await attempt;
    expect(result).toEqual({ by: "ann" });
    expect(record).not.toHaveProperty("waitingFor");
    expect(world.store.methods()).toEqual(["startOrResume", "beginStep", "waitForEvent", "endRun"]);
  });

  test("two waits in one run, and their events in another order", async () => {
    const attempt = world.run((ctx) => Promise.all([waiting(ctx), ctx.awaitEvent("other")]), {
      leaseMs: DAY_MS,
    });
    await expect.poll(() => world.held(HOLD_MS)).toBe(2);
    await world.open().emitEvent({ runId: world.runId, key: "other", payload: 2 });
    await emit(1);
    expect((await attempt).result).toEqual([1, 2]);
  });

  test("a wait goes on in another slice, and ends at its deadline, which is fixed", async () => {
    const attempt = rejectionOf(() =>
      world.run((ctx) => ctx.awaitEvent("k", { timeoutMs: 45_000 }), { leaseMs: DAY_MS }),
    );
    await expect.poll(() => world.store.count("waitForEvent")).toBe(1);
    const { waitingFor } = await recordOf(world.open(), world.runId);
    world.time.advance(30_000);
    await expect.poll(() => world.store.count("waitForEvent")).toBe(2);
    world.time.advance(15_000);
    const error = await attempt;
    expect(error).toMatchObject({ code: "await_event_timeout" });
    expect(error.message).toContain(`by ${waitingFor?.[0]?.until}`);
  });

  /** An object that holds a call is not put to sleep: it is between two slices. */
  const evictBetweenSlices = async (runId: string): Promise<void> => {
    const next = Promise.withResolvers<void>();
    world.store.hooks.waitForEvent = async (pass) => (await next.promise, pass());
    world.time.advance(HOLD_MS);
    await expect.poll(() => world.held(HOLD_MS)).toBe(0);
    await evict(runId);
    next.resolve();
  };

  type Disaster = (runId: string) => Promise<void>;
  const wiped = ack === "record" ? wipe : wipeOnceRecorded;
  describe.each<[string, Disaster, Disaster]>([
    ["reset", abort, abort],
    ["evicted", evict, evictBetweenSlices],
    ["wiped", wiped, wiped],
  ])("a wait whose object is %s while it holds the call", (_how, disaster, disasterFirst) => {
    const held = async () => {
      const attempt = world.run(waiting, { leaseMs: DAY_MS });
      attempt.catch(() => {});
      await isHeld();
      return { attempt };
    };

    test("has its event when that came before", async () => {
      const { attempt } = await held();
      await emit("before");
      await disaster(world.runId);
      expect((await attempt).result).toBe("before");
    });

    test("has its event when that comes at the same time", async () => {
      const { attempt } = await held();
      const [emitted] = await Promise.all([emit("during"), disaster(world.runId)]);
      expect(emitted.record.payload).toBe("during");
      expect((await attempt).result).toBe("during");
    });

    test("has its event when that comes afterwards, though twice", async () => {
      const { attempt } = await held();
      await disasterFirst(world.runId);
      const [first, second] = [await emit("after"), await emit("again")];
      expect([first.accepted, second.accepted]).toEqual([true, false]);
      expect((await attempt).result).toBe("after");
    });

    test("is held again, without anybody else's doing, and keeps its deadline", async () => {
      const { attempt } = await held();
      const before = await recordOf(world.open(), world.runId);
      // D1 hears of a wait that begins a little later.
      await drained(world.runId);
      await disasterFirst(world.runId);
      await expect.poll(() => world.held(HOLD_MS)).toBeGreaterThan(0);
      expect((await recordOf(world.open(), world.runId)).waitingFor).toEqual(before.waitingFor);
      await emit("later");
      expect((await attempt).result).toBe("later");
    });
  });

  test("a wait whose object goes through its alarm while it holds the call is answered all the same", async () => {
    const attempt = world.run(waiting, { leaseMs: DAY_MS });
    await isHeld();
    await woken(world.runId);
    await emit("here");
    expect((await attempt).result).toBe("here");
  });

  test("an event that was emitted before the run existed, and lost its object since, is found at once", async () => {
    await emit("early");
    await (ack === "record" ? wipe : wipeOnceRecorded)(world.runId);
    expect((await world.run(waiting)).result).toBe("early");
    expect(world.store.count("waitForEvent")).toBe(1);
  });
});

test("a wait that is held for a worker that has died harms nobody: the next one has the event", async () => {
  const world = newRunnerWorld("record");
  world.store.hooks.watchLease = async () => ({ held: true });
  const caller = new AbortController();
  const dead = rejectionOf(() => world.run(waiting, { leaseMs: DAY_MS, signal: caller.signal }));
  await expect.poll(() => world.held(HOLD_MS)).toBe(1);
  caller.abort(new Error("shut down"));
  expect((await dead).message).toBe("shut down");
  const next = world.run((ctx) => ctx.awaitEvent("k"), { workerId: "worker-2" });
  await expect.poll(() => world.store.count("waitForEvent")).toBe(2);
  await world.open().emitEvent({ runId: world.runId, key: "k", payload: "here" });
  expect((await next).result).toBe("here");
});
