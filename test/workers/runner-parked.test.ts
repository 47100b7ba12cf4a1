/** R31 over real objects and D1: a run that is parked, whatever befalls its object, until somebody has decided. */
import { env } from "cloudflare:workers";
import { afterEach, describe, expect, test } from "vitest";
import { RERUN } from "../../src/runner/types.ts";
import { recordedRun, recordedStep } from "./coordinator-world.ts";
import { abort, drained, evict, wipe, wipeOnceRecorded } from "./disasters.ts";
import { resetFaults } from "./faults.ts";
import type { Where } from "./runner-payment.ts";
import { coordinated, die, inD1, payment } from "./runner-payment.ts";
import { recordOf, rejectionOf } from "./runner-world.ts";

afterEach(resetFaults);

type Disaster = (runId: string) => Promise<void>;

/** Only what runs can be put to sleep. */
const wakeAndEvict: Disaster = async (runId) => {
  await env.RUNS.getByName(runId).readRun();
  await evict(runId);
};

describe.each<[string, () => Where, Disaster]>([
  ["an object that is wiped, ack: record", coordinated("record"), wipe],
  ["an object that is reset, ack: coordinator", coordinated("coordinator"), abort],
  ["an object that is evicted, ack: coordinator", coordinated("coordinator"), wakeAndEvict],
  [
    "an object that is wiped once D1 has it all, ack: coordinator",
    coordinated("coordinator"),
    wipeOnceRecorded,
  ],
  ["D1", inD1, async () => {}],
])("over %s", (_where, newWorld, disaster) => {
  test("a parked run is suspended, says so with the step, keeps that, and goes on when it is decided", async () => {
    for (const resolution of [{ result: "paid by hand" }, { rerun: true }] as const) {
      const world = newWorld();
      const { runId } = world;
      const paid: string[] = [];
      const task = payment("park", paid);
      await die(world, { call: 4, when: "before" }, "park", paid);
      const suspended = { status: "suspended", waitingFor: [{ stepIndex: 1, for: "decision" }] };
      for (let i = 0; i < 2; i += 1) {
        await disaster(runId);
        const error = await rejectionOf(() => world.resume(task, { store: world.opened() }));
        expect(error).toMatchObject({ code: "run_suspended", stepIndex: 1 });
        expect(await recordOf(world.opened(), runId)).toMatchObject(suspended);
      }
      await disaster(runId);
      expect(await recordOf(world.opened(), runId)).toMatchObject(suspended);
      const step = await world.opened().resolveStep?.(runId, 1, resolution);
      expect(step).toMatchObject({ status: "result" in resolution ? "completed" : "pending" });
      await disaster(runId);
      const pending = await recordOf(world.opened(), runId);
      expect(pending.status).toBe("pending");
      expect(pending).not.toHaveProperty("waitingFor");
      const { result } = await world.run(task, { store: world.opened() });
      expect(result).toBe("result" in resolution ? "paid by hand" : "paid");
      expect(paid).toHaveLength("result" in resolution ? 1 : 2);
    }
  }, 60_000);
});

test("what a parked run waits for is in D1, for those who look there", async () => {
  const world = coordinated("record")();
  const paid: string[] = [];
  await die(world, { call: 4, when: "before" }, "park", paid);
  await rejectionOf(() => world.resume(payment("park", paid)));
  await drained(world.runId);
  expect(await recordedRun(world.runId)).toMatchObject({ status: "suspended" });
  expect(await recordedStep(world.runId, 1)).toMatchObject({ status: "pending", attempts: 1 });
});

test("under ack: record, D1 has a step that may not run twice before its function is called", async () => {
  for (const onInterrupted of ["fail", "park", { reconcile: async () => RERUN }] as const) {
    const world = coordinated("record")();
    const { result } = await world.run((ctx) =>
      ctx.step("pay", async () => (await recordedStep(world.runId))?.["status"], { onInterrupted }),
    );
    expect(result).toBe("running");
  }
});
