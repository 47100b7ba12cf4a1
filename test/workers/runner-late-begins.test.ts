/** R16 over real objects and D1: a step that is under way is seen running, and its end is on record whatever befalls. */
import { env } from "cloudflare:workers";
import { afterEach, describe, expect, test } from "vitest";
import type { DurableRunStore } from "../../src/contract/types.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { WrappedStore } from "../support/wrapped-store.ts";
import { recordedStep } from "./coordinator-world.ts";
import { abort, evict, wipe } from "./disasters.ts";
import { resetFaults } from "./faults.ts";
import type { RunnerWorld } from "./runner-world.ts";
import { DAY_MS, newRunnerWorld, recordOf, rejectionOf } from "./runner-world.ts";

afterEach(resetFaults);

/** So long that no step is told of before a test has time go on. */
const AFTER_MS = 3_600_000;

type Where = [name: string, open: (world: RunnerWorld) => DurableRunStore, ack: "record" | "coordinator"];

const WHERE: Where[] = [
  ["the coordinator, ack: record", (world) => world.open(), "record"],
  ["the coordinator, ack: coordinator", (world) => world.open(), "coordinator"],
  ["D1", ({ time }) => new D1DurableRunStore(env.DB, { clock: time }), "record"],
];

/** A run whose only step ends when it is told to. */
function underWay(open: Where[1], ack: Where[2]) {
  const world = newRunnerWorld(ack);
  const store = new WrappedStore(open(world), { beginAfterMs: AFTER_MS });
  const signals: AbortSignal[] = [];
  const isOver = { yet: false };
  const fn = async ({ signal }: { signal: AbortSignal }): Promise<string> => {
    signals.push(signal);
    // Polled, as another request's promise must not be waited for.
    while (!isOver.yet) await new Promise((resolve) => setTimeout(resolve, 2));
    return "done";
  };
  const end = (): void => void (isOver.yet = true);
  const run = () => world.run((ctx) => ctx.step("work", fn, { kind: "tool" }), { store, leaseMs: DAY_MS });
  return { world, store, signals, run, end };
}

describe.each(WHERE)("over %s", (_name, open, ack) => {
  test("a step under way is told of once, and is then on record as running, and so in D1", async () => {
    const { world, store, signals, run, end } = underWay(open, ack);
    const running = run();
    await expect.poll(() => signals.length).toBe(1);
    world.time.advance(AFTER_MS);
    await expect.poll(() => store.count("beginStep")).toBe(1);
    await expect.poll(async () => (await open(world).loadStep(world.runId, 0))?.status).toBe("running");
    world.time.advance(AFTER_MS);
    await expect.poll(async () => (await recordedStep(world.runId))?.["status"]).toBe("running");
    end();
    expect((await running).steps).toMatchObject([
      { intent: "work", kind: "tool", attempts: 1, result: "done" },
    ]);
    expect(store.methods()).toEqual(["startOrResume", "beginStep", "completeStep", "endRun"]);
    expect(await recordOf(open(world), world.runId)).toMatchObject({ status: "completed", stepCount: 1 });
  });

  test("a cancel is heard of by that, and nothing is recorded of the step", async () => {
    const { world, signals, run, end } = underWay(open, ack);
    const running = rejectionOf(run);
    await expect.poll(() => signals.length).toBe(1);
    await open(world).cancelRun?.(world.runId);
    world.time.advance(AFTER_MS);
    expect(await running).toMatchObject({ code: "run_cancelled" });
    expect(signals[0]?.aborted).toBe(true);
    end();
    expect(await open(world).loadStep(world.runId, 0)).toBeUndefined();
  });
});

describe.each([
  ["aborted", abort],
  ["evicted", evict],
  ["wiped", wipe],
] as const)("an object that is %s while a step is under way", (_what, disaster) => {
  test.each([
    ["untold", false],
    ["told of", true],
  ])("has it on record with its end, counted once (%s)", async (_which, isTold) => {
    const { world, store, signals, run, end } = underWay((it) => it.open(), "record");
    const running = run();
    await expect.poll(() => signals.length).toBe(1);
    if (isTold) {
      world.time.advance(AFTER_MS);
      await expect.poll(async () => (await world.open().loadStep(world.runId, 0))?.status).toBe("running");
    }
    await disaster(world.runId);
    end();
    const { record, steps } = await running;
    expect(record).toMatchObject({ status: "completed", stepCount: 1 });
    expect(steps).toMatchObject([{ kind: "tool", status: "completed", attempts: 1, result: "done" }]);
    expect(store.count("completeStep")).toBe(1);
    expect(await recordedStep(world.runId)).toMatchObject({ status: "completed", attempts: 1 });
  });
});
