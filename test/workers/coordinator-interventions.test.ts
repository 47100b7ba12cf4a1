/**
 * What was acknowledged under `ack: "record"` outlives the object's storage, and a call whose answer was lost has one
 * effect: cancel, suspend, resolve, restart, fork, begins in doubt, retries (R14, R17, R30 to R34).
 */
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { RunRecord, StepRecord } from "../../src/contract/types.ts";
import { newRequestId, newRunId } from "../../src/identity.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { TestClock } from "../../src/testing/clock.ts";
import type { DatabaseFault } from "../../src/testing/faulty-database.ts";
import { FaultyDatabase } from "../../src/testing/faulty-database.ts";
import { aRun, aStep, refusalOf } from "../../src/testing/harness.ts";
import { claim, recordedRun, recordedStep, store, withSteps } from "./coordinator-world.ts";
import { d1 } from "./d1.ts";
import { abort, wipe } from "./disasters.ts";
import { faults, resetFaults } from "./faults.ts";
import { RECORD_DEADLINE_MS, refusedInTime } from "./passing-time.ts";

let clock: TestClock;
let db: FaultyDatabase;
beforeEach(() => {
  clock = new TestClock();
  db = new FaultyDatabase(d1, clock);
  faults.clock = clock;
  const own = db;
  faults.wrap = () => own;
});
afterEach(resetFaults);
const failing = () => ({ clock, failures: () => db.faults });

/** A run of worker-2, in whose step 0 worker-1 has died. */
async function takenOver(): Promise<{ runId: string; fence: number }> {
  const { runId, fence: old } = await claim();
  await store().beginStep(aStep(runId, 0, { fence: old }));
  clock.advance(30_001);
  const { fence = 0 } = await store().startOrResume({ ...aRun("worker-2"), runId });
  return { runId, fence };
}

async function parked(): Promise<{ runId: string; fence: number }> {
  const run = await takenOver();
  await store().beginStep(aStep(run.runId, 0, { fence: run.fence, onInterrupted: "park" }));
  return run;
}

interface Case {
  /** Prepares a run, and answers the call that is to be acknowledged, repeatable as it is. */
  readonly prepare: () => Promise<{ runId: string; call: () => Promise<RunRecord | StepRecord> }>;
  /** What holds for whoever comes later. */
  readonly later?: (runId: string) => Promise<void>;
}

const requestId = () => ({ requestId: newRequestId() });
const claimOf = (runId: string) => store().startOrResume({ ...aRun("worker-3"), runId });

const CASES: Record<string, Case> = {
  "a cancel": {
    prepare: async () => {
      const { runId } = await withSteps();
      const options = requestId();
      return { runId, call: () => store().cancelRun(runId, "why", options) };
    },
    later: async (runId) => {
      for (const call of [() => claimOf(runId), () => store().beginStep(aStep(runId, 2, { fence: 1 }))]) {
        expect(await refusalOf(call)).toBe("run_cancelled");
      }
    },
  },
  "a suspension": {
    prepare: async () => {
      const run = { ...(await parked()), workerId: "worker-2", ...requestId() };
      return { runId: run.runId, call: () => store().suspendRun(run) };
    },
    later: async (runId) => {
      expect(await store().loadRun(runId)).toMatchObject({
        status: "suspended",
        waitingFor: [{ for: "decision" }],
      });
      expect((await claimOf(runId)).openSteps).toMatchObject([{ status: "pending", inDoubt: true }]);
    },
  },
  "a decision with a result": {
    prepare: async () => {
      const { runId } = await parked();
      const options = requestId();
      return { runId, call: () => store().resolveStep(runId, 0, { result: "by hand" }, options) };
    },
    later: async (runId) => {
      expect(await store().loadRun(runId)).not.toHaveProperty("waitingFor");
      expect(await refusalOf(() => store().resolveStep(runId, 0, { result: "other" }))).toBe(
        "step_not_in_doubt",
      );
    },
  },
  "a decision with a result of 1 MiB": {
    prepare: async () => {
      const { runId } = await parked();
      const options = requestId();
      const resolution = { result: "é🙂".repeat(174_763) };
      return { runId, call: () => store().resolveStep(runId, 0, resolution, options) };
    },
  },
  "a decision for another attempt": {
    prepare: async () => {
      const { runId, fence } = await parked();
      const options = requestId();
      await store().suspendRun({ runId, fence, workerId: "worker-2" });
      return { runId, call: () => store().resolveStep(runId, 0, { rerun: true }, options) };
    },
    later: async (runId) => {
      expect(await store().loadRun(runId)).toMatchObject({ status: "pending" });
      const { fence = 0 } = await claimOf(runId);
      const begun = await store().beginStep(aStep(runId, 0, { fence, onInterrupted: "park" }));
      expect(begun).toMatchObject({ status: "running", attempts: 2 });
    },
  },
  "a restart": {
    prepare: async () => {
      const { runId } = await withSteps();
      const options = { fromStep: 1, dropLater: true, ...requestId() } as const;
      return { runId, call: () => store().restartRun(runId, options) };
    },
    later: async (runId) => {
      expect(await store().loadStep(runId, 1)).toBeUndefined();
      const next = await claimOf(runId);
      expect(next.completedSteps.map((step) => step.result)).toEqual(["result 0"]);
      expect(next.openSteps).toEqual([]);
    },
  },
  "a fork": {
    prepare: async () => {
      const [source, runId] = [await withSteps(), newRunId()];
      const options = { throughStep: 1, edits: { 0: "edited" }, ...requestId() };
      return { runId, call: () => store().forkRun(source.runId, runId, options) };
    },
    later: async (runId) => {
      const next = await claimOf(runId);
      expect(next.completedSteps.map((step) => step.result)).toEqual(["edited", "result 1"]);
    },
  },
  "a first begin that is to be parked": {
    prepare: async () => {
      const run = await claim();
      const step = aStep(run.runId, 0, { fence: run.fence, onInterrupted: "park", ...requestId() });
      return { runId: run.runId, call: () => store().beginStep(step) };
    },
    later: async (runId) => {
      clock.advance(60_001);
      const { fence = 0 } = await claimOf(runId);
      const begun = await store().beginStep(aStep(runId, 0, { fence, onInterrupted: "park" }));
      expect(begun).toMatchObject({ status: "pending", inDoubt: true, attempts: 1 });
    },
  },
  ...Object.fromEntries(
    (["park", "fail", "reconcile"] as const).map((onInterrupted): [string, Case] => [
      `a begin of a step in doubt, under the policy ${onInterrupted}`,
      {
        prepare: async () => {
          const { runId, fence } = await takenOver();
          const step = aStep(runId, 0, { fence, onInterrupted, ...requestId() });
          return { runId, call: () => store().beginStep(step) };
        },
        later: async (runId) => expect(await store().loadStep(runId, 0)).toMatchObject({ inDoubt: true }),
      },
    ]),
  ),
  "a failure that is to be followed by another attempt": {
    prepare: async () => {
      const { runId, fence } = await claim();
      await store().beginStep(aStep(runId, 0, { fence }));
      const error = { message: "503" };
      const fail = { runId, stepIndex: 0, fence, attempt: 1, error, retryAfterMs: 600_000, ...requestId() };
      return { runId, call: () => store().failStep(fail) };
    },
    later: async (runId) => {
      const begin = () => store().beginStep(aStep(runId, 0));
      expect(await refusalOf(begin)).toBe("step_not_due");
      clock.advance(600_001);
      expect(await begin()).toMatchObject({ attempts: 2, tries: 2, lastError: { message: "503" } });
    },
  },
};

/** As it reads, wherever it is kept: a lease that was found in D1 is longer than it was. */
async function standing(
  runId: string,
  answer: RunRecord | StepRecord,
): Promise<RunRecord | StepRecord | undefined> {
  return "stepIndex" in answer ? store().loadStep(runId, answer.stepIndex) : store().loadRun(runId);
}

describe.each(Object.entries(CASES))(
  "%s that was acknowledged",
  (_name, { prepare, later = async () => {} }) => {
    it("is not lost with the object's storage", async () => {
      const { runId, call } = await prepare();
      const answer = await call();
      await wipe(runId);
      expect(await standing(runId, answer)).toEqual(answer);
      await later(runId);
    });

    it("is known again when it is repeated over an object that has lost its storage", async () => {
      const { runId, call } = await prepare();
      const answer = await call();
      await wipe(runId);
      expect(await call()).toEqual(answer);
      await wipe(runId);
      expect(await standing(runId, answer)).toEqual(answer);
      await later(runId);
    });

    it("is not lost when the object is reset", async () => {
      const { runId, call } = await prepare();
      const answer = await call();
      await abort(runId);
      expect(await standing(runId, answer)).toEqual(answer);
      await later(runId);
    });

    it.each<DatabaseFault>(["before", "after"])(
      "took effect once, though D1 failed %s its commit",
      async (fault) => {
        const { runId, call } = await prepare();
        let failed = 0;
        db.fault = ({ writes }) => (writes && (failed += 1) <= 2 ? fault : "none");
        const answer = await call();
        expect(failed).toBeGreaterThan(2);
        await wipe(runId);
        expect(await standing(runId, answer)).toEqual(answer);
        await later(runId);
      },
    );
  },
);

describe.each(Object.entries(CASES))(
  "%s, while D1 is down,",
  (_name, { prepare, later = async () => {} }) => {
    it("is told so, and takes effect once when it is repeated", async () => {
      faults.times = { recordDeadlineMs: RECORD_DEADLINE_MS };
      const { runId, call } = await prepare();
      db.fault = ({ writes }) => (writes ? "before" : "none");
      expect(await refusedInTime(failing(), call)).toBe("store_unavailable");
      expect(await refusedInTime(failing(), call)).toBe("store_unavailable");
      db.fault = () => "none";
      const answer = await call();
      await wipe(runId);
      expect(await standing(runId, answer)).toEqual(answer);
      await later(runId);
    });
  },
);

describe("over a claim that only D1 knows of", () => {
  /** Another store claims the run, and its object, which has been compared with D1 by then, does not hear of it. */
  async function claimedElsewhere(runId: string): Promise<void> {
    clock.advance(60_001);
    await new D1DurableRunStore(env.DB, { clock }).startOrResume({ ...aRun("elsewhere"), runId });
  }

  it("a cancel is decided again over what D1 has", async () => {
    const { runId, fence } = await withSteps();
    await claimedElsewhere(runId);
    const cancelled = await store().cancelRun(runId);
    expect(cancelled).toMatchObject({ status: "cancelled", fence: fence + 2 });
    expect(await recordedRun(runId)).toMatchObject({ status: "cancelled", fence: fence + 2 });
  });

  it("a restart is, and drops the steps once", async () => {
    const { runId, fence } = await withSteps();
    await claimedElsewhere(runId);
    const restarted = await store().restartRun(runId, { fromStep: 1, dropLater: true });
    expect(restarted).toMatchObject({ status: "pending", fence: fence + 2, stepCount: 1 });
    expect(await recordedStep(runId, 0)).toMatchObject({ status: "completed" });
    expect(await recordedStep(runId, 1)).toBeNull();
  });

  it("a decision is", async () => {
    const { runId } = await parked();
    await claimedElsewhere(runId);
    const resolved = await store().resolveStep(runId, 0, { result: "by hand" });
    expect(resolved).toMatchObject({ status: "completed", result: "by hand" });
    expect(await recordedStep(runId, 0)).toMatchObject({ status: "completed", result: '"by hand"' });
  });

  it("a fork is refused", async () => {
    const [source, newId] = [await withSteps(), newRunId()];
    expect(await store().loadRun(newId)).toBeUndefined();
    await claimedElsewhere(newId);
    const fork = () => store().forkRun(source.runId, newId, { throughStep: 1 });
    expect(await refusalOf(fork)).toBe("run_exists");
    expect(await recordedRun(newId)).toMatchObject({ status: "running", worker_id: "elsewhere" });
  });
});
