/** R24, R30 over real objects and D1: what a worker that dies in a delay or in a sleep leaves to the next one. */
import { env } from "cloudflare:workers";
import { afterEach, describe, expect, test } from "vitest";
import type { Clock } from "../../src/contract/clock.ts";
import { codeOf } from "../../src/contract/errors.ts";
import type { DurableRunStore } from "../../src/contract/types.ts";
import type { DurableContext, StepInfo } from "../../src/runner/types.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { killable } from "../../src/testing/kill-points.ts";
import { WrappedStore } from "../support/wrapped-store.ts";
import { abort, drained, evict, wipe, wipeOnceRecorded } from "./disasters.ts";
import { resetFaults } from "./faults.ts";
import type { RunnerWorld } from "./runner-world.ts";
import { DAY_MS, newRunnerWorld, rejectionOf } from "./runner-world.ts";

afterEach(resetFaults);

const none = async (): Promise<void> => {};
type Case = [
  name: string,
  world: () => RunnerWorld & { opened: () => DurableRunStore },
  disaster: typeof abort,
];

const coordinated = (ack: "record" | "coordinator") => () => {
  const world = newRunnerWorld(ack);
  return { ...world, opened: () => world.open() };
};

const inD1 = () => {
  const world = newRunnerWorld("record");
  return { ...world, opened: () => new D1DurableRunStore(env.DB, { clock: world.time }) };
};

const cases: Case[] = [
  ["an object, ack: record", coordinated("record"), none],
  ["an object that is reset, ack: record", coordinated("record"), abort],
  ["an object that is evicted, ack: record", coordinated("record"), evict],
  ["an object that is wiped, ack: record", coordinated("record"), wipe],
  ["an object that is reset, ack: coordinator", coordinated("coordinator"), abort],
  ["an object that is evicted, ack: coordinator", coordinated("coordinator"), evict],
  ["an object that is wiped, ack: coordinator", coordinated("coordinator"), wipeOnceRecorded],
  ["D1", inD1, none],
];

const DELAY_MS = 120_000;

describe.each(cases)("over %s, a worker that dies", (_where, newWorld, disaster) => {
  test("in a delay leaves the next one neither a new count nor an earlier attempt", async () => {
    const world = newWorld();
    const { runId, time } = world;
    const called: { attempt: number; at: number }[] = [];
    const fn = async ({ attempt }: StepInfo): Promise<never> => {
      called.push({ attempt, at: time.now() });
      throw new Error(`no ${attempt}`);
    };
    const task = (ctx: DurableContext) =>
      ctx.step("flaky", fn, { retries: { limit: 2, delayMs: DELAY_MS, backoff: "constant" } });
    const pending = async () => {
      const step = await world.opened().loadStep(runId, 0);
      return step?.status === "pending"
        ? { ...step, dueAt: Date.parse(step.nextAttemptAt ?? "") }
        : undefined;
    };

    // Claim, begin, and the failure: its answer is the last that the worker would have heard.
    const victim = killable(world.opened(), { call: 3, when: "after" });
    world.run(task, { store: victim.store, workerId: "worker-1" }).catch(() => {});
    await victim.died;
    await disaster(runId);
    const first = await pending();
    expect(first).toMatchObject({ attempts: 1, tries: 1, lastError: { message: "no 1" } });

    const refusals: unknown[] = [];
    const store = new WrappedStore(world.opened());
    store.hooks.beginStep = async (pass) => {
      try {
        return await pass();
      } catch (error) {
        refusals.push(codeOf(error));
        throw error;
      }
    };
    let delays = 0;
    // A worker whose clock goes otherwise: the store's decides.
    const clock: Clock = {
      now: () => time.now() + 3_600_000,
      sleep: (ms, signal) => time.sleep(ms, signal),
      delay: (ms, signal) => {
        delays += 1;
        return time.sleep(ms, signal);
      },
    };
    const attempt = rejectionOf(() =>
      world.resume(task, { store, clock, leaseMs: DAY_MS, workerId: "worker-2" }),
    );
    await expect.poll(() => refusals).toEqual(["step_not_due"]);
    expect(called).toHaveLength(1);

    await expect.poll(() => delays).toBe(1);
    time.advance(DELAY_MS);
    await expect.poll(() => called.length).toBe(2);
    // The step may be seen to be pending before the worker hears so, and begins to wait.
    await expect.poll(() => delays).toBe(2);
    const second = await pending();
    expect(second?.attempts).toBe(2);
    time.advance(DELAY_MS);
    expect((await attempt).message).toBe("no 3");
    expect(called.map((one) => one.attempt)).toEqual([1, 2, 3]);
    expect(called[1]?.at).toBeGreaterThanOrEqual(first?.dueAt ?? Infinity);
    expect(called[2]?.at).toBeGreaterThanOrEqual(second?.dueAt ?? Infinity);
    expect(await world.opened().loadStep(runId, 0)).toMatchObject({
      status: "failed",
      attempts: 3,
      tries: 3,
    });
  });

  test("in a sleep leaves the next one the rest of it", async () => {
    const world = newWorld();
    const { runId, time } = world;
    const task = async (ctx: DurableContext) => {
      await ctx.sleep(DELAY_MS);
      return time.now();
    };
    const victim = killable(world.opened(), { call: 2, when: "after" });
    world.run(task, { store: victim.store, workerId: "worker-1" }).catch(() => {});
    await victim.died;
    // D1 hears of a sleep that begins a little later.
    if (disaster === wipe) await drained(runId);
    await disaster(runId);
    const dueAt = Date.parse((await world.opened().loadStep(runId, 0))?.deadlineAt ?? "");

    const store = new WrappedStore(world.opened());
    const attempt = world.resume(task, { store, leaseMs: DAY_MS, workerId: "worker-2" });
    await expect.poll(() => store.count("beginStep")).toBe(1);
    expect(store.count("completeStep")).toBe(0);
    time.advance(Math.max(0, dueAt - time.now()));
    const { result, steps } = await attempt;
    expect(result).toBeGreaterThanOrEqual(dueAt);
    expect(steps).toMatchObject([{ status: "completed", deadlineAt: new Date(dueAt).toISOString() }]);
  });
});
