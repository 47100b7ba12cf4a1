/**
 * What a test of the runner stands on: a memory store and a runner on one movable clock, and ways to let time pass, to
 * crash and to take over, none of which waits for real time.
 */
import { expect } from "vitest";
import { DurableStoreUnavailableError } from "../../src/contract/errors.ts";
import type { DurableRunManifest, RunRecord, StepRecord } from "../../src/contract/types.ts";
import { runDurable } from "../../src/runner/run-durable.ts";
import type { RunDurableInput, RunDurableResult } from "../../src/runner/types.ts";
import { InMemoryDurableRunStore } from "../../src/stores/memory.ts";
import { ManualClock } from "./manual-clock.ts";
import type { WrappedStoreOptions } from "./wrapped-store.ts";
import { WrappedStore } from "./wrapped-store.ts";

export const RUN_ID = "run-1";
export const LEASE_MS = 30_000;
/** The sleepers of an attempt's own: its heartbeat, and the watchdog over its calls. */
export const OWN_SLEEPERS = 2;

export const MANIFEST: DurableRunManifest = {
  projectId: "test-agent",
  task: { id: "task-1", intent: "test the runner" },
  input: { url: "http://localhost/" },
};

export type TaskFn<T> = RunDurableInput<T>["taskFn"];
type Options<T = unknown> = Partial<Omit<RunDurableInput<T>, "taskFn">>;

export interface World {
  readonly clock: ManualClock;
  readonly memory: InMemoryDurableRunStore;
  /** In front of the memory store. What `run` works with. */
  readonly store: WrappedStore;
  run<T>(taskFn: TaskFn<T>, options?: Options<T>): Promise<RunDurableResult<T>>;
  /** The run as the store has it. */
  record(): RunRecord;
  step(stepIndex: number): Promise<StepRecord | undefined>;
}

export function newWorld(options: WrappedStoreOptions = {}): World {
  const clock = new ManualClock();
  const memory = new InMemoryDurableRunStore({ clock });
  const store = new WrappedStore(memory, options);
  return {
    clock,
    memory,
    store,
    run: (taskFn, options = {}) =>
      runDurable({ runId: RUN_ID, manifest: MANIFEST, store, clock, leaseMs: LEASE_MS, ...options, taskFn }),
    record: () => {
      const record = memory._inspect(RUN_ID);
      if (!record) throw new Error("no such run");
      return record;
    },
    step: (stepIndex) => memory.loadStep(RUN_ID, stepIndex),
  };
}

/** A function that counts its calls and answers each with `answer`. */
export function counted<T>(answer: (call: number) => T | Promise<T>): (() => Promise<T>) & { calls: number } {
  const fn = async (): Promise<T> => answer((fn.calls += 1));
  fn.calls = 0;
  return fn;
}

export function never<T>(): Promise<T> {
  return new Promise<T>(() => {});
}

/** Lets everything that is ready run. The clock stands still meanwhile. */
export function tick(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

/** Resolves once `condition` holds, however long that takes. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await tick();
}

/** Lets time pass in strides, with everything that it wakes, until `work` settles. */
export async function whileTimeFlies<T>(clock: ManualClock, work: Promise<T>, strideMs = 1_000): Promise<T> {
  let settled = false;
  const done = work.finally(() => (settled = true));
  done.catch(() => {});
  while (!settled) {
    await tick();
    clock.advance(strideMs);
  }
  return done;
}

/** As when the process of an attempt is stopped for longer than its lease: it lapses, and the attempt finds out. */
export async function lapse(world: World, attempt: Promise<unknown>, leaseMs = LEASE_MS): Promise<void> {
  world.clock.advance(leaseMs);
  await expect(attempt).rejects.toMatchObject({ code: "lease_lost" });
}

/** Starts an attempt that dies inside the function of its last step, once `reached()`. */
export async function crash(world: World, taskFn: TaskFn<unknown>, reached: () => boolean): Promise<void> {
  const attempt = world.run(taskFn);
  attempt.catch(() => {});
  await until(reached);
  await lapse(world, attempt);
}

/** Another worker takes the run over: its lease lapses, and "thief" claims it. */
export async function seize(world: World): Promise<void> {
  world.memory._expireLease(RUN_ID);
  await world.memory.startOrResume({
    runId: RUN_ID,
    manifest: MANIFEST,
    workerId: "thief",
    leaseMs: LEASE_MS,
  });
}

/** What a promise rejects with; fails when it resolves. */
export async function rejection(work: Promise<unknown>): Promise<Error & { code?: string; field?: string }> {
  try {
    await work;
  } catch (error) {
    return error as Error;
  }
  throw new Error("it resolved, but should have rejected");
}

export function unavailable(): Error {
  return new DurableStoreUnavailableError("the database is having a moment");
}

export function plainError(): Error {
  return new Error("D1_ERROR: network connection lost");
}
