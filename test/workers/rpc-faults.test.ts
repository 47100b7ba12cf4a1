/** What befalls a run whose worker sits behind a service binding: objects that are reset, and callers that die. */
import { abortAllDurableObjects } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import type { CompleteStepInput } from "../../src/contract/types.ts";
import { newRunId } from "../../src/identity.ts";
import { runDurable } from "../../src/runner/run-durable.ts";
import type { DurableContext } from "../../src/runner/types.ts";
import type { ConnectedRuns } from "../../src/service/connect-runs.ts";
import type { RunServiceProps } from "../../src/service/props.ts";
import { RunService } from "../../src/service/run-service.ts";
import { CoordinatedDurableRunStore } from "../../src/stores/coordinated/store.ts";
import { MANIFEST } from "../../src/testing/harness.ts";
import { wait } from "./coordinator-world.ts";
import { around, runsOver, sessionOf } from "./rpc-world.ts";

const session = sessionOf(env.RUNS_SERVICE);

const SPENT = { message: "as the runtime would say it: Too many subrequests by single Worker invocation" };

test("a reset of the object reaches the caller as a fault that may be repeated", async () => {
  const runId = newRunId();
  await session.readRun(runId);
  const held = session.waitForEvent(runId, "never", 20_000);
  await wait(50);
  await abortAllDurableObjects();
  expect(await held).toMatchObject({ ok: false, error: { code: "store_unavailable" }, fault: "transient" });
  expect(await session.readRun(runId)).toEqual({ ok: true, value: null });
});

test.each([
  ["is repeated when it was reset", { durableObjectReset: true }, 3, "store_unavailable"],
  ["is repeated when the connection was lost", { retryable: true }, 3, "store_unavailable"],
  ["is left alone when it is overloaded", { overloaded: true, retryable: true }, 1, "store_unavailable"],
  ["is not called again when it is defect", {}, 1, undefined],
  ["is called on a fresh session when one may call no more", SPENT, 3, "store_unavailable"],
])("an object behind the service %s", async (_what, flags, calls, code) => {
  let called = 0;
  const fail = async (): Promise<never> => {
    called += 1;
    throw Object.assign(new Error("as the runtime would say it"), flags);
  };
  const RUNS = { getByName: () => ({ readRun: fail, submit: fail }) };
  const ctx = { props: {} } as unknown as ExecutionContext<RunServiceProps>;
  const store = runsOver(new RunService(ctx, { RUNS, DB: env.DB }), { retry: { attempts: 3, baseMs: 1 } });
  for (const call of [() => store.loadRun("r"), () => store.cancelRun("r")]) {
    called = 0;
    const error = (await call().catch((thrown: unknown) => thrown)) as Error & { code?: string };
    expect(error.message).toContain("as the runtime would say it");
    expect(error.code).toBe(code);
    expect(called).toBe(calls);
  }
});

test("a held wait goes on over a reset, and hears of the event", async () => {
  const store = runsOver(env.RUNS_SERVICE);
  const runId = newRunId();
  const waiting = store.waitForEvent({ runId, key: "k", timeoutMs: 20_000 });
  await wait(50);
  await abortAllDurableObjects();
  await store.emitEvent({ runId, key: "k", payload: "heard" });
  expect(await waiting).toMatchObject({ payload: "heard" });
});

test("objects that are reset under load lose no acknowledged step, and no such step runs again", async () => {
  const RUNS = 8;
  const STEPS = 6;
  const faults: string[] = [];
  const acknowledged = new Set<string>();
  const repeated: string[] = [];
  const store = noting(runsOver(counting(faults), { retry: { attempts: 10 } }), acknowledged);
  const task =
    (runId: string) =>
    async (ctx: DurableContext): Promise<number[]> => {
      const results: number[] = [];
      for (let i = 0; i < STEPS; i += 1) {
        const step = async ({ stepIndex }: { stepIndex: number }): Promise<number> => {
          if (acknowledged.has(`${runId}/${stepIndex}`)) repeated.push(`${runId}/${stepIndex}`);
          await wait(5);
          return i * 10;
        };
        results.push(await ctx.step(`step ${i}`, step));
      }
      return results;
    };
  const finish = async (runId: string): Promise<number[]> => {
    for (;;) {
      const input = { runId, workerId: "worker-1", store, manifest: MANIFEST, taskFn: task(runId) };
      try {
        return (await runDurable(input)).result;
      } catch (error) {
        // The store gave up: the next attempt goes on from what is on record.
        expect(error).toMatchObject({ code: "store_unavailable" });
      }
    }
  };
  const runIds: string[] = [];
  // As long as no call has met a reset, nothing was tried.
  while (faults.length === 0) {
    const begun = Array.from({ length: RUNS }, () => newRunId());
    runIds.push(...begun);
    let isOver = false;
    const work = Promise.all(begun.map(finish)).finally(() => (isOver = true));
    for (let resets = 0; !isOver && resets < 40; resets += 1) {
      await wait(25);
      await abortAllDurableObjects();
    }
    expect(await work).toEqual(begun.map(() => [0, 10, 20, 30, 40, 50]));
  }

  expect(new Set(faults)).toEqual(new Set(["transient"]));
  expect(repeated).toEqual([]);
  expect(acknowledged.size).toBe(runIds.length * STEPS);
  for (const runId of runIds) {
    expect(await runsOver(env.RUNS_SERVICE).loadRun(runId)).toMatchObject({ status: "completed" });
    const query = "SELECT status FROM durable_steps WHERE run_id = ?1";
    const { results: rows } = await env.DB.prepare(query).bind(runId).all();
    expect(rows).toEqual(Array.from({ length: STEPS }, () => ({ status: "completed" })));
  }
});

test("the class itself, bound by script_name, is another way to the same runs, without a scope", async () => {
  const direct = new CoordinatedDurableRunStore(env.RUNS_ACROSS);
  const runId = newRunId();
  const manifest = { ...MANIFEST, projectId: "project-a" };
  await runsOver(env.RUNS_OF_A).startOrResume({ runId, workerId: "worker-1", manifest });
  expect(await direct.loadRun(runId)).toMatchObject({ projectId: "project-a", status: "running" });
  await direct.cancelRun(runId);
  expect(await runsOver(env.RUNS_OF_A).loadRun(runId)).toMatchObject({ status: "cancelled" });
});

/** Notes which steps were acknowledged as complete. */
function noting(store: ConnectedRuns, acknowledged: Set<string>): ConnectedRuns {
  const complete = store.completeStep.bind(store);
  store.completeStep = async (input: CompleteStepInput) => {
    const record = await complete(input);
    acknowledged.add(`${input.runId}/${input.stepIndex}`);
    return record;
  };
  return store;
}

/** The binding, with the faults that its calls meet noted. */
function counting(faults: string[]): object {
  return around(env.RUNS_SERVICE, async (call) => {
    const answer = await call();
    const { fault } = answer as { fault?: string };
    if (fault !== undefined) faults.push(fault);
    return answer;
  });
}
