/** What tests of the coordinator share: stores, runs, the object of a run, and what D1 has of it. */
import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect } from "vitest";
import { CoordinatedDurableRunStore } from "../../src/stores/coordinated/store.ts";
import type { AckPolicy } from "../../src/stores/coordinated/wire.ts";
import { aRun, aStep } from "../../src/testing/harness.ts";

type Row = Record<string, unknown>;

const stores: CoordinatedDurableRunStore[] = [];

export function store(ack: AckPolicy = "record"): CoordinatedDurableRunStore {
  return known(new CoordinatedDurableRunStore(env.RUNS, { ack }));
}

/** Whose sessions are let go of with the others. */
export function known(made: CoordinatedDurableRunStore): CoordinatedDurableRunStore {
  stores.push(made);
  return made;
}

/** As when the invocations that had them are over. */
export async function letGoOfSessions(): Promise<void> {
  for (const made of stores) await made.close();
}

export async function claim(ack: AckPolicy = "record"): Promise<{ runId: string; fence: number }> {
  const input = aRun();
  const { fence = 0 } = await store(ack).startOrResume(input);
  return { runId: input.runId, fence };
}

/** A run whose storage says that it may trail, and D1 holds it all. */
export async function trailing(): Promise<{ runId: string; fence: number }> {
  const run = await claim();
  await store().emitEvent({ runId: run.runId, key: "first", payload: 1 });
  await saved(run.runId);
  return run;
}

/** A run of worker-1 with two completed steps. */
export async function withSteps(): Promise<{ runId: string; fence: number }> {
  const run = await claim();
  for (const stepIndex of [0, 1]) {
    await store().beginStep(aStep(run.runId, stepIndex, { fence: run.fence }));
    await store().completeStep({ ...run, stepIndex, result: `result ${stepIndex}` });
  }
  return run;
}

export function stubOf(runId: string) {
  return env.RUNS.getByName(runId);
}

/** Has the object save what it has deferred, as it would within a second. */
export async function saved(runId: string): Promise<void> {
  await runInDurableObject(stubOf(runId), (object) => object.alarm?.());
}

/** The alarm goes off, also where it is just doing so or being set: `runDurableObjectAlarm` would find none then. */
export async function woken(runId: string): Promise<void> {
  await runInDurableObject(stubOf(runId), async (object, { storage }) => {
    if ((await storage.getAlarm()) !== null) await storage.deleteAlarm();
    await object.alarm?.();
  });
}

/** Resolves once the object has set its alarm: when it has come to rest, when D1 is late, or after a second (0032). */
export async function armed(runId: string): Promise<void> {
  const alarm = () => runInDurableObject(stubOf(runId), (_object, { storage }) => storage.getAlarm());
  await expect.poll(alarm).not.toBeNull();
}

export function recordedRun(runId: string): Promise<Row | null> {
  return env.DB.prepare("SELECT * FROM durable_runs WHERE run_id = ?1").bind(runId).first<Row>();
}

export function recordedStep(runId: string, stepIndex = 0): Promise<Row | null> {
  const query = "SELECT * FROM durable_steps WHERE run_id = ?1 AND step_index = ?2";
  return env.DB.prepare(query).bind(runId, stepIndex).first<Row>();
}

/** Resolves once the object has begun what it was to do by now: its timers go off in the order of their times. */
export function caughtUp(runId: string): Promise<void> {
  return runInDurableObject(stubOf(runId), () => wait(20));
}

export function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
