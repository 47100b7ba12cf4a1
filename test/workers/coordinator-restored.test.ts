/**
 * Cases in which a coordinator once went wrong: leases of an object that was rebuilt or restored.
 */
import { runInDurableObject } from "cloudflare:test";
import { expect, it } from "vitest";
import { aRun, aStep } from "../../src/testing/harness.ts";
import {
  armed,
  claim,
  recordedRun,
  recordedStep,
  saved,
  store,
  stubOf,
  wait,
  woken,
} from "./coordinator-world.ts";
import { drained, evict, wipe } from "./disasters.ts";
import { faults } from "./faults.ts";
import { clock, useGatedWorld } from "./gated-world.ts";

useGatedWorld();

it.each(["claim", "renew"] as const)(
  "a lease that was granted in the very millisecond of the rebuild is noted when it lapses: %s",
  async (op) => {
    let at = Date.now();
    faults.clock = { now: () => at, sleep: (ms, signal) => clock.sleep(ms, signal) };
    const { runId, fence } = await claim();
    await drained(runId);
    await wipe(runId);
    if (op === "claim") await store().startOrResume({ ...aRun(), runId });
    else await store().renewLease({ runId, workerId: "worker-1", fence });
    await wait(300);
    await woken(runId);
    at += 100_000;
    await armed(runId);
    await woken(runId);
    await wait(300);
    expect((await recordedRun(runId))?.["lease_expires_at"]).toBeNull();
  },
);
it("storage that was restored to an older lease ends no live one", async () => {
  const { runId, fence } = await claim();
  await drained(runId);
  // What will be restored: the run as it is now, without steps.
  for (let i = 0; i < 3; i += 1) {
    // Too far apart to have been deferred at once.
    clock.advance(6_000);
    await store().beginStep(aStep(runId, i, { fence }));
    await store().completeStep({ runId, stepIndex: i, fence, attempt: 1, result: i });
  }
  clock.advance(7_000);
  await store().renewLease({ runId, workerId: "worker-1", fence });
  await saved(runId);
  await runInDurableObject(stubOf(runId), (_o, state) => {
    state.storage.sql.exec("DELETE FROM durable_rows WHERE kind = 'step'");
    state.storage.sql.exec(
      "UPDATE durable_rows SET row = json_set(row, '$.leaseExpiresAt', (row->>'$.leaseExpiresAt') - 25000, '$.revision', 1), revision = 1 WHERE kind = 'run'",
    );
    state.storage.sql.exec("DELETE FROM durable_rows WHERE id = 'recorded_revision'");
  });
  await evict(runId);
  clock.advance(10_000);
  const renewed = await store().renewLease({ runId, workerId: "worker-1", fence });
  const after = await store().renewLease({ runId, workerId: "worker-1", fence });
  expect({ renewed: renewed.ok, after: after.ok }).toEqual({ renewed: true, after: true });
});

it("storage that was restored to an earlier life acknowledges nothing that D1 then refuses", async () => {
  const { runId, fence } = await claim("coordinator");
  await drained(runId);
  await wipe(runId);
  await store("coordinator").loadRun(runId);
  await runInDurableObject(stubOf(runId), (_o, { storage }) =>
    storage.sql.exec("DELETE FROM durable_rows WHERE kind = 'meta' AND id = 'incarnation'"),
  );
  await evict(runId);
  await store("coordinator").beginStep(aStep(runId, 0, { fence }));
  await store("coordinator").completeStep({ runId, stepIndex: 0, fence, attempt: 1, result: "paid" });
  await woken(runId);
  await drained(runId);
  expect(await store("coordinator").loadStep(runId, 0)).toMatchObject({ status: "completed" });
  expect(await recordedStep(runId)).toMatchObject({ status: "completed", result: '"paid"' });
});
