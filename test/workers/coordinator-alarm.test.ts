/** When an object sets its alarm (0032). Time stands still unless a test moves it, so no look comes by itself. */
import { runInDurableObject } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import { systemClock } from "../../src/contract/clock.ts";
import { aRun, refusalOf } from "../../src/testing/harness.ts";
import { armed, claim, recordedStep, store, stubOf } from "./coordinator-world.ts";
import { abort, drained } from "./disasters.ts";
import { gate } from "./gated-database.ts";
import { clock, db, useGatedWorld } from "./gated-world.ts";
import { StandingClock } from "./standing-clock.ts";

const GATHER_MS = 100;
const SAFETY_MS = 10_000;
const LEASE_MS = 30_000;

useGatedWorld(() => new StandingClock());

const one = () => store("coordinator");

interface Held {
  readonly runId: string;
  readonly fence: number;
}

async function step({ runId, fence }: Held, stepIndex: number): Promise<void> {
  const begin = { intent: `step-${stepIndex}`, kind: "logic", inputHash: "", elapsedMs: 0 } as const;
  await one().completeStep({ runId, fence, stepIndex, attempt: 1, begin, result: stepIndex });
}

/** In how many milliseconds the alarm is due, `null` where none is set. */
async function alarmIn({ runId }: Held): Promise<number | null> {
  const at = await runInDurableObject(stubOf(runId), (_object, { storage }) => storage.getAlarm());
  return at === null ? null : at - Date.now();
}

/** Lets the object look, and resolves once it knows that D1 has what it found. */
async function look({ runId }: Held, last: number): Promise<void> {
  clock.advance(GATHER_MS);
  await drained(runId);
  expect(await recordedStep(runId, last)).not.toBeNull();
}

describe("under ack: coordinator, an object without an alarm", () => {
  it("sets none with what it acknowledges, and one for the lease once it is at rest", async () => {
    const run = await claim("coordinator");
    await step(run, 0);
    expect(await alarmIn(run)).toBeNull();
    await look(run, 0);
    clock.advance(GATHER_MS);
    await armed(run.runId);
    expect(await alarmIn(run)).toBeGreaterThan(SAFETY_MS);
    expect(await alarmIn(run)).toBeLessThanOrEqual(LEASE_MS);
  });

  it.each<[string, (run: Held) => Promise<unknown>]>([
    [
      "the end of its run",
      (run) => one().endRun({ ...run, workerId: "worker-1", status: "completed", result: 1 }),
    ],
    ["a cancel", ({ runId }) => one().cancelRun(runId)],
    ["an event", ({ runId }) => one().emitEvent({ runId, key: "k", payload: 1 })],
  ])("sets one with %s, for nobody may come again", async (_what, change) => {
    const run = await claim("coordinator");
    await step(run, 0);
    await change(run);
    expect(await alarmIn(run)).toBeLessThanOrEqual(SAFETY_MS);
  });

  it("sets one a second after it began, where it never comes to rest", async () => {
    const run = await claim("coordinator");
    for (let stepIndex = 0; stepIndex < 9; stepIndex += 1) {
      await step(run, stepIndex);
      expect(await alarmIn(run)).toBeNull();
      await look(run, stepIndex);
    }
    await step(run, 9);
    clock.advance(GATHER_MS);
    await armed(run.runId);
    expect(await alarmIn(run)).toBeLessThanOrEqual(SAFETY_MS);
  });

  it("sets one when D1 has not taken within 100 ms what it was sent", async () => {
    const run = await claim("coordinator");
    const slow = gate();
    db.before = () => slow.pass();
    await step(run, 0);
    clock.advance(GATHER_MS);
    await expect.poll(() => slow.reached).toBe(1);
    expect(await alarmIn(run)).toBeNull();
    clock.advance(GATHER_MS);
    await armed(run.runId);
    expect(await alarmIn(run)).toBeLessThanOrEqual(SAFETY_MS);
    slow.open = true;
  });

  it("sets one when D1 refuses what it was sent", async () => {
    const run = await claim("coordinator");
    db.before = async () => {
      throw new Error("D1_ERROR: D1 DB is overloaded. Requests queued for too long.");
    };
    await step(run, 0);
    clock.advance(GATHER_MS);
    await armed(run.runId);
    expect(await alarmIn(run)).toBeLessThanOrEqual(SAFETY_MS);
  });
});

describe("an object that died before it set one", () => {
  it.each<[string, ({ runId }: Held) => Promise<unknown>]>([
    ["a read", ({ runId }) => one().loadRun(runId)],
    ["a refusal", ({ runId }) => refusalOf(() => one().startOrResume({ ...aRun("worker-2"), runId }))],
  ])("brings D1 what it has, and sets one, with the next request (%s)", async (_what, ask) => {
    const run = await claim("coordinator");
    await step(run, 0);
    await abort(run.runId);
    await ask(run);
    expect(await alarmIn(run)).toBeNull();
    await look(run, 0);
    clock.advance(GATHER_MS);
    await armed(run.runId);
  });
});

it("under ack: record, the alarm is set with what was deferred, a second after it", async () => {
  const { runId, fence } = await claim();
  const begin = { intent: "step-0", kind: "logic", inputHash: "", elapsedMs: 0 } as const;
  await store().completeStep({ runId, fence, stepIndex: 0, attempt: 1, begin, result: 0 });
  clock.advance(GATHER_MS);
  await systemClock.sleep(20);
  const run = { runId, fence };
  expect(await alarmIn(run)).toBeNull();
  clock.advance(900);
  await armed(runId);
  expect(await alarmIn(run)).toBeGreaterThan(SAFETY_MS);
});
