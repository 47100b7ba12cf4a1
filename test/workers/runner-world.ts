/**
 * What tests of the runner over real objects stand on: one movable time for the worker and for the object of its run,
 * and a view of the calls that the object holds.
 */
import type { Clock } from "../../src/contract/clock.ts";
import { codeOf } from "../../src/contract/errors.ts";
import type { DurableRunStore } from "../../src/contract/types.ts";
import { newRunId } from "../../src/identity.ts";
import { runDurable } from "../../src/runner/run-durable.ts";
import type { RunDurableInput, RunDurableResult } from "../../src/runner/types.ts";
import type { CoordinatedDurableRunStore } from "../../src/stores/coordinated/store.ts";
import type { AckPolicy } from "../../src/stores/coordinated/wire.ts";
import { TestClock } from "../../src/testing/clock.ts";
import { MANIFEST } from "../../src/testing/harness.ts";
import { WrappedStore } from "../support/wrapped-store.ts";
import { store as storeOver } from "./coordinator-world.ts";
import { faults } from "./faults.ts";
import { GatedDatabase } from "./gated-database.ts";

export const LEASE_MS = 30_000;
/** So long that no heartbeat comes into it. */
export const DAY_MS = 86_400_000;

type Options<T> = Partial<Omit<RunDurableInput<T>, "taskFn">>;

export interface RunnerWorld {
  readonly runId: string;
  readonly time: TestClock;
  readonly db: GatedDatabase;
  readonly store: WrappedStore;
  /** Another store over the same object, as another worker's. */
  open(): CoordinatedDurableRunStore;
  run<T>(taskFn: RunDurableInput<T>["taskFn"], options?: Options<T>): Promise<RunDurableResult<T>>;
  /** The same, once whoever held the lease is given up on. */
  resume<T>(taskFn: RunDurableInput<T>["taskFn"], options?: Options<T>): Promise<RunDurableResult<T>>;
  /** How many calls the object holds that were asked to be held for so long, give or take what asking takes. */
  held(ms: number): number;
}

export function newRunnerWorld(ack: AckPolicy): RunnerWorld {
  const runId = newRunId();
  const time = new TestClock();
  const db = new GatedDatabase();
  const asleep = new Set<{ readonly ms: number }>();
  const clock: Clock = {
    now: () => time.now(),
    sleep: async (ms, signal) => {
      const sleeper = { ms };
      asleep.add(sleeper);
      try {
        await time.sleep(ms, signal);
      } finally {
        asleep.delete(sleeper);
      }
    },
  };
  faults.clock = clock;
  faults.wrap = () => db;
  const open = () => storeOver(ack);
  const store = new WrappedStore(open(), { pushes: true });
  const run: RunnerWorld["run"] = (taskFn, options = {}) =>
    runDurable({ runId, manifest: MANIFEST, store, clock: time, leaseMs: LEASE_MS, ...options, taskFn });
  return {
    runId,
    time,
    db,
    store,
    open,
    run,
    resume: async (taskFn, options) => {
      time.advance(LEASE_MS + 1);
      try {
        return await run(taskFn, options);
      } catch (error) {
        // An object that rebuilt itself gives the holder one more lease.
        if (codeOf(error) !== "lease_held") throw error;
        time.advance(LEASE_MS + 1);
        return run(taskFn, options);
      }
    },
    held: (ms) => [...asleep].filter((one) => one.ms <= ms && one.ms > ms - 2_000).length,
  };
}

/** The run as its store has it. */
export async function recordOf(store: DurableRunStore, runId: string) {
  const record = await store.loadRun?.(runId);
  if (!record) throw new Error(`no run "${runId}"`);
  return record;
}

/** What a promise rejects with; fails when it resolves. Takes a call, for a rejection that nobody waits for is reported. */
export async function rejectionOf(
  call: () => Promise<unknown>,
): Promise<Error & { code?: string; stepIndex?: number }> {
  try {
    await call();
  } catch (error) {
    return error as Error;
  }
  throw new Error("it resolved, but should have rejected");
}
