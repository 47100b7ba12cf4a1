/** R33 over real objects: whoever works on a run hears of its end from outside at once, whatever befalls the object. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { DurableContext } from "../../src/runner/types.ts";
import type { AckPolicy } from "../../src/stores/coordinated/wire.ts";
import { recordedRun } from "./coordinator-world.ts";
import { abort, drained, wipe, wipeOnceRecorded } from "./disasters.ts";
import { resetFaults } from "./faults.ts";
import type { RunnerWorld } from "./runner-world.ts";
import { DAY_MS, newRunnerWorld, recordOf, rejectionOf } from "./runner-world.ts";

afterEach(resetFaults);

/** How long the object holds a watch. */
const WATCH_MS = 30_000;

describe.each<[AckPolicy]>([["record"], ["coordinator"]])("under ack: %s", (ack) => {
  let world: RunnerWorld;
  beforeEach(() => {
    world = newRunnerWorld(ack);
  });

  const isWatched = async () => {
    await expect.poll(() => world.held(WATCH_MS)).toBe(1);
  };
  const cancel = () => world.open().cancelRun(world.runId, "no longer wanted");

  /** An attempt whose only step never ends, and which no heartbeat will tell anything. */
  async function watched() {
    const signals: AbortSignal[] = [];
    const attempt = rejectionOf(() =>
      world.run(
        (ctx) =>
          ctx.step("slow", ({ signal }) => {
            signals.push(ctx.signal, signal);
            return new Promise<never>(() => {});
          }),
        { leaseMs: DAY_MS },
      ),
    );
    await expect.poll(() => signals.length).toBe(2);
    world.time.advance(1_000);
    await isWatched();
    return { attempt, signals };
  }

  test("a cancelled run's worker is told, its signals abort, and its step is not recorded", async () => {
    const { attempt, signals } = await watched();
    expect(await cancel()).toMatchObject({ status: "cancelled", error: { message: "no longer wanted" } });
    const error = await attempt;
    expect(error).toMatchObject({ code: "run_cancelled" });
    expect(signals.map((signal) => signal.reason as unknown)).toEqual([error, error]);
    expect(world.store.count("renewLease")).toBe(0);
    expect(world.store.methods()).toEqual(["startOrResume", "beginStep"]);
    await drained(world.runId);
    expect(await recordedRun(world.runId)).toMatchObject({ status: "cancelled" });
  });

  test("a restarted run's worker is told that it has lost the lease", async () => {
    const { attempt } = await watched();
    await world.open().restartRun(world.runId, { fromStep: 0, dropLater: true });
    expect(await attempt).toMatchObject({ code: "lease_lost" });
    expect(world.store.count("renewLease")).toBe(0);
  });

  test.each<[string, (runId: string) => Promise<void>]>([
    ["reset", abort],
    ["wiped", ack === "record" ? wipe : wipeOnceRecorded],
  ])("a worker whose watch was cut off as its object was %s is told all the same", async (_how, disaster) => {
    const { attempt } = await watched();
    await disaster(world.runId);
    await cancel();
    // The call that was held may have been made again, and found out; or it is made again in five seconds.
    world.time.advance(5_000);
    expect(await attempt).toMatchObject({ code: "run_cancelled" });
    expect(world.store.count("renewLease")).toBe(0);
  });

  test.each<[string, (ctx: DurableContext) => Promise<unknown>]>([
    ["waits for an event", (ctx) => ctx.awaitEvent("k")],
    ["sleeps", (ctx) => ctx.sleep(DAY_MS)],
    [
      "is between two attempts",
      (ctx) =>
        ctx.step("x", () => Promise.reject(new Error("no")), { retries: { limit: 1, delayMs: DAY_MS } }),
    ],
  ])("a run that %s is cancelled at once, and waits for nothing any more", async (_what, wait) => {
    const attempt = rejectionOf(() => world.run(wait, { leaseMs: DAY_MS }));
    const waitsFor = async () => (await recordOf(world.open(), world.runId)).waitingFor?.length;
    await expect.poll(waitsFor).toBe(1);
    world.time.advance(1_000);
    await expect.poll(() => world.store.count("watchLease")).toBe(1);
    expect(await cancel()).not.toHaveProperty("waitingFor");
    expect(await attempt).toMatchObject({ code: "run_cancelled" });
    expect(await rejectionOf(() => world.run(wait))).toMatchObject({ code: "run_cancelled" });
  });

  test("a run that is cancelled as it ends is either completed or cancelled, and all agree on which", async () => {
    const task = (ctx: DurableContext) => ctx.step("x", async () => "done");
    for (const at of ["beginStep", "completeStep", "endRun"] as const) {
      const one = newRunnerWorld(ack);
      one.store.inject(at, async (pass) => {
        const [answer] = await Promise.allSettled([pass(), one.open().cancelRun(one.runId)]);
        if (answer.status === "rejected") throw answer.reason;
        return answer.value;
      });
      const outcome = await one.run(task).then(
        ({ record }) => record.status,
        (error: unknown) => (error as { code?: string }).code,
      );
      const { status } = await recordOf(one.open(), one.runId);
      expect([outcome, status]).toEqual(
        status === "completed" ? ["completed", "completed"] : ["run_cancelled", "cancelled"],
      );
    }
  });
});
