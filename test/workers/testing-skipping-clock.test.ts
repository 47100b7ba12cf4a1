/** SkippingClock where calls take real time, and where sleepers belong to other requests. */
import { abortAllDurableObjects, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, it } from "vitest";
import { newRunId } from "../../src/identity.ts";
import { runDurable } from "../../src/runner/run-durable.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { MANIFEST } from "../../src/testing/harness.ts";
import { SkippingClock } from "../../src/testing/skipping-clock.ts";
import { stubOf } from "./coordinator-world.ts";

const HOUR = 3_600_000;

it("skips a day over D1: the lease is kept, and each attempt is accepted", async () => {
  const clock = new SkippingClock();
  const store = clock.pauseDuringCalls(new D1DurableRunStore(env.DB, { clock }));
  const runId = newRunId();
  let attempts = 0;
  const { record, steps } = await runDurable({
    runId,
    manifest: MANIFEST,
    store,
    clock,
    leaseMs: HOUR,
    taskFn: async (ctx) => {
      await ctx.sleep(24 * HOUR);
      const work = async (): Promise<void> => {
        attempts += 1;
        if (attempts < 3) throw new Error("the service is down");
      };
      await ctx.step("work", work, { retries: { limit: 2, delayMs: 2 * HOUR, maxDelayMs: 24 * HOUR } });
    },
  });
  expect(record).toMatchObject({ status: "completed", fence: 1 });
  expect(steps[1]).toMatchObject({ attempts: 3 });
  const tookMs = Date.parse(record.updatedAt) - Date.parse(record.createdAt);
  expect(tookMs).toBeGreaterThanOrEqual(30 * HOUR);
  expect(tookMs).toBeLessThan(31 * HOUR);
});

it("waits for a sleeper in an object, which acts before time moves on", async () => {
  const clock = new SkippingClock();
  const order: string[] = [];
  let sleeps = 0;
  const inObject = runInDurableObject(stubOf(newRunId()), async () => {
    for (const hours of [1, 2]) {
      sleeps += 1;
      await clock.sleep(hours * HOUR);
      order.push(`object: ${hours} hours`);
    }
  });
  await expect.poll(() => sleeps).toBe(1);
  await clock.delay(2 * HOUR);
  order.push("test: 2 hours");
  await clock.delay(2 * HOUR);
  order.push("test: 2 hours");
  await inObject;
  expect(order).toEqual(["object: 1 hours", "test: 2 hours", "object: 2 hours", "test: 2 hours"]);
});

it("is moved by a delay in an object", async () => {
  const clock = new SkippingClock();
  const sleep = clock.sleep(HOUR);
  await runInDurableObject(stubOf(newRunId()), () => clock.delay(2 * HOUR));
  await sleep;
});

it("is not held up by a sleeper or a delay whose object is gone", async () => {
  const clock = new SkippingClock();
  const startedAt = clock.now();
  await runInDurableObject(stubOf(newRunId()), () => {
    for (const wait of [clock.sleep(HOUR), clock.delay(9 * HOUR)]) wait.catch(() => {});
  });
  await abortAllDurableObjects();
  await clock.delay(10 * HOUR);
  expect(clock.now() - startedAt).toBeLessThan(20 * HOUR);
});
