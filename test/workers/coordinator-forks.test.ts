/** Forks that are cut short: by a client that dies, by D1, by the loss of the object's storage (R34). */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { newRunId } from "../../src/identity.ts";
import type { Op } from "../../src/ledger/requests.ts";
import { CoordinatedDurableRunStore } from "../../src/stores/coordinated/store.ts";
import type { WireMessage } from "../../src/stores/coordinated/wire.ts";
import { TestClock } from "../../src/testing/clock.ts";
import { aRun, aStep, refusalOf } from "../../src/testing/harness.ts";
import { claim, recordedStep, store, stubOf, withSteps } from "./coordinator-world.ts";
import { drained, wipe } from "./disasters.ts";
import { faults, resetFaults } from "./faults.ts";
import { GatedDatabase } from "./gated-database.ts";
import { RECORD_DEADLINE_MS, refusedInTime } from "./passing-time.ts";

let clock: TestClock;
let gated: GatedDatabase;
beforeEach(() => {
  clock = new TestClock();
  gated = new GatedDatabase();
  faults.clock = clock;
  const own = gated;
  faults.wrap = () => own;
});
afterEach(resetFaults);

const claimOf = (runId: string) => store().startOrResume({ ...aRun("worker-3"), runId });

/** A store whose client dies before it sends a request of this kind. */
function dyingAt(op: Op): CoordinatedDurableRunStore {
  return new CoordinatedDurableRunStore({
    getByName: (runId) => {
      const stub = stubOf(runId);
      const submit = (message: WireMessage) =>
        message.request.op === op ? Promise.reject(new Error("the client dies here")) : stub.submit(message);
      return new Proxy(stub, { get: (real, name) => (name === "submit" ? submit : Reflect.get(real, name)) });
    },
  });
}

describe("a fork that is cut short", () => {
  it("is nobody's to claim, can be cancelled, and is then not begun again", async () => {
    const { runId } = await withSteps();
    const newId = newRunId();
    const options = { throughStep: 1 };
    expect(await refusalOf(() => dyingAt("copy").forkRun(runId, newId, options))).toMatch(/dies here/);
    expect(await refusalOf(() => claimOf(newId))).toBe("lease_held");
    await wipe(newId);
    expect(await refusalOf(() => claimOf(newId))).toBe("lease_held");
    expect(await store().cancelRun(newId)).toMatchObject({ status: "cancelled" });
    expect(await refusalOf(() => store().forkRun(runId, newId, options))).toBe("run_exists");
    expect(await refusalOf(() => claimOf(newId))).toBe("run_cancelled");
  });

  it("begins anew when it is repeated: nothing is left of what its source has dropped since", async () => {
    const { runId, fence } = await withSteps();
    const newId = newRunId();
    const options = { throughStep: 1 };
    expect(await refusalOf(() => dyingAt("seal").forkRun(runId, newId, options))).toMatch(/dies here/);
    await expect.poll(() => recordedStep(newId, 1)).toMatchObject({ status: "completed" });
    expect(await refusalOf(() => claimOf(newId))).toBe("lease_held");
    expect(await refusalOf(() => store().restartRun(newId, { fromStep: 0, dropLater: true }))).toBe(
      "lease_held",
    );
    await store().restartRun(runId, { fromStep: 1, dropLater: true });
    await claimOf(runId);
    await store().beginStep(aStep(runId, 1, { fence: fence + 2 }));
    expect(await store().forkRun(runId, newId, options)).toMatchObject({ status: "pending", stepCount: 1 });
    expect(await recordedStep(newId, 0)).toMatchObject({ status: "completed", result: '"result 0"' });
    expect(await recordedStep(newId, 1)).toBeNull();
    await wipe(newId);
    expect((await claimOf(newId)).completedSteps.map((step) => step.stepIndex)).toEqual([0]);
  });

  it("is not taken for whole because D1 has heard of some of its steps", async () => {
    faults.times = { recordDeadlineMs: RECORD_DEADLINE_MS };
    const { runId, fence } = await claim("coordinator");
    const text = "x".repeat(250_000);
    const positions = Array.from({ length: 20 }, (_, i) => i);
    for (const stepIndex of positions) {
      await store("coordinator").beginStep(aStep(runId, stepIndex, { fence }));
      await store("coordinator").completeStep({ runId, stepIndex, fence, result: text });
    }
    await drained(runId);
    const writes = (queries: string[], table: string) =>
      queries.some((query) => query.includes(`INSERT INTO ${table}`));
    let isKnown = false;
    let failures = 0;
    gated.before = async (queries) => {
      // Of the seal's batches, the one with the run's row arrives, if steps are all that is missing.
      if (!writes(queries, "durable_steps") || writes(queries, "durable_runs")) return;
      if (isKnown) failures += 1;
      throw new Error("D1_ERROR: Network connection lost.");
    };
    gated.after = async (queries) => {
      if (writes(queries, "durable_runs")) isKnown = true;
    };
    const newId = newRunId();
    const fork = () => store().forkRun(runId, newId, { throughStep: 19 });
    expect(await refusedInTime({ clock, failures: () => failures }, fork)).toBe("store_unavailable");
    await wipe(newId);
    expect(await refusalOf(() => claimOf(newId))).toBe("lease_held");
    gated.before = async () => {};
    expect(await fork()).toMatchObject({ status: "pending", stepCount: 20 });
    await wipe(newId);
    expect((await claimOf(newId)).completedSteps.map((step) => step.result === text)).toEqual(
      positions.map(() => true),
    );
  });
});
