/** How many Worker invocations the store makes over a binding, and what it does with a session that is of no more use. */
import { abortAllDurableObjects } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { systemClock } from "../../src/contract/clock.ts";
import { newRunId } from "../../src/identity.ts";
import { runDurable } from "../../src/runner/run-durable.ts";
import { connectRuns } from "../../src/service/connect-runs.ts";
import { Sessions } from "../../src/service/sessions.ts";
import type { RunServiceMethods, RunSessionMethods } from "../../src/service/wire.ts";
import { MANIFEST, refusalOf } from "../../src/testing/harness.ts";
import { wait } from "./coordinator-world.ts";
import { around } from "./rpc-world.ts";

const world = env.RUNS_WORLD;

/** Invocations of the service, and sessions that were given back, while `work` was done. */
async function countedIn<T>(
  work: () => Promise<T>,
): Promise<{ result: T; opened: number; disposed: number }> {
  const before = await world.counts();
  const result = await work();
  const after = await world.counts();
  return { result, opened: after.opened - before.opened, disposed: after.disposed - before.disposed };
}

test("a run of 200 steps, with history and a large body, is one invocation, and is given back", async () => {
  const store = connectRuns(env.RUNS_COUNTED);
  const runId = newRunId();
  const task = async () => {
    const { result } = await runDurable({
      runId,
      store,
      manifest: MANIFEST,
      taskFn: async (ctx) => {
        let sum = 0;
        for (let i = 0; i < 199; i += 1) sum += await ctx.step(`step ${i}`, async () => i);
        await ctx.step("large", async () => "x".repeat(300 * 1_024));
        return sum;
      },
    });
    expect((await store.loadStep(runId, 199))?.result).toHaveLength(300 * 1_024);
    expect(await store.history.get(runId)).toBeDefined();
    return result;
  };
  expect(await countedIn(task)).toMatchObject({ result: (199 * 198) / 2, opened: 1, disposed: 0 });
  const before = await world.counts();
  await store.close();
  await store.close();
  await expect.poll(() => world.counts()).toEqual({ opened: before.opened, disposed: before.disposed + 1 });
});

test("first calls that are made at once share one session", async () => {
  const store = connectRuns(env.RUNS_COUNTED);
  const calls = () => Promise.all(Array.from({ length: 8 }, () => store.loadRun(newRunId())));
  expect(await countedIn(calls)).toMatchObject({ opened: 1 });
  await store.close();
});

test("a store that was closed opens another session when it is called", async () => {
  const store = connectRuns(env.RUNS_COUNTED);
  const work = async () => {
    await store.loadRun(newRunId());
    await store.close();
    expect(await store.loadRun(newRunId())).toBeUndefined();
    await store.close();
  };
  expect(await countedIn(work)).toMatchObject({ opened: 2 });
});

test("an object that is reset costs one invocation more, whatever the number of calls that meet it", async () => {
  const store = connectRuns(env.RUNS_COUNTED);
  const runId = newRunId();
  const keys = ["a", "b", "c"];
  const work = async () => {
    await store.startOrResume({ runId, workerId: "worker-1", manifest: MANIFEST });
    const waits = keys.map((key) => store.waitForEvent({ runId, key, timeoutMs: 20_000 }));
    await wait(50);
    await abortAllDurableObjects();
    const other = connectRuns(env.RUNS_SERVICE);
    for (const key of keys) await other.emitEvent({ runId, key, payload: key });
    await other.close();
    return (await Promise.all(waits)).map((event) => event?.payload);
  };
  expect(await countedIn(work)).toMatchObject({ result: keys, opened: 2 });
  await store.close();
});

test("a service that is aborted costs one invocation more, and calls under way are made again", async () => {
  const store = connectRuns(env.RUNS_COUNTED);
  const runId = newRunId();
  const work = async () => {
    await store.startOrResume({ runId, workerId: "worker-1", manifest: MANIFEST });
    const waiting = store.waitForEvent({ runId, key: "k", timeoutMs: 20_000 });
    await wait(50);
    await world.abortSessions();
    await expect.poll(async () => (await world.counts()).opened).toBe(opened + 2);
    await store.emitEvent({ runId, key: "k", payload: "heard" });
    return (await waiting)?.payload;
  };
  const { opened } = await world.counts();
  expect(await countedIn(work)).toMatchObject({ result: "heard", opened: 2 });
  await store.close();
});

test("an open that fails is tried again, and is told when it keeps failing", async () => {
  const store = connectRuns(env.RUNS_COUNTED, { retry: { attempts: 3, baseMs: 1 } });
  await world.failNextOpens(2);
  const read = () => Promise.all([store.loadRun(newRunId()), store.loadRun(newRunId())]);
  expect(await countedIn(read)).toMatchObject({ result: [undefined, undefined] });
  await store.close();
  await world.failNextOpens(3);
  const refused = () => refusalOf(() => store.loadRun(newRunId()));
  expect(await countedIn(refused)).toMatchObject({ result: "store_unavailable", opened: 3 });
  expect(await store.loadRun(newRunId())).toBeUndefined();
  await store.close();
});

test("a session with a call under way is disposed of after that call, not under it", async () => {
  let givenUp = 0;
  const service = around(
    env.RUNS_COUNTED,
    (call) => call(),
    () => (givenUp += 1),
  );
  const sessions = new Sessions(service, systemClock);
  const other = connectRuns(env.RUNS_SERVICE);
  const runId = newRunId();
  const nonsense = async (session: RunSessionMethods): Promise<never> =>
    (session as unknown as { nonsense(): Promise<never> }).nonsense();
  const before = await world.counts();
  const held = sessions.call((session) => session.waitForEvent(runId, "k", 20_000));
  await wait(50);
  await expect(() => sessions.call(nonsense)).rejects.toThrow(/nonsense/);
  await sessions.call((session) => session.readRun(runId));
  await wait(50);
  expect(await world.counts()).toEqual({ ...before, opened: before.opened + 2 });
  expect(givenUp).toBe(0);
  await other.emitEvent({ runId, key: "k", payload: 1 });
  expect(await held).toMatchObject({ ok: true, value: { key: "k" } });
  expect(givenUp).toBe(1);
  await expect.poll(async () => (await world.counts()).disposed).toBe(before.disposed + 1);
  sessions.close();
  await other.close();
});

test("of a session that owes an answer for too long, nothing more is asked", async () => {
  let now = 0;
  const clock = { ...systemClock, now: () => now };
  const sessions = new Sessions(env.RUNS_COUNTED as RunServiceMethods, clock);
  const runId = newRunId();
  const work = async () => {
    const held = sessions.call((session) => session.waitForEvent(runId, "never", 1_000));
    now = 60_000;
    await sessions.call((session) => session.readRun(runId));
    expect((await world.counts()).opened).toBe(opened + 1);
    now = 100_000;
    await sessions.call((session) => session.readRun(runId));
    await held;
  };
  const { opened } = await world.counts();
  expect(await countedIn(work)).toMatchObject({ opened: 2 });
  sessions.close();
});

test("a store that requests share works for each: whoever finds another's session opens one", async () => {
  const runId = newRunId();
  const first = await countedIn(() => env.SHARED_STORE.emit(runId, "k1"));
  const second = await countedIn(() => env.SHARED_STORE.emit(runId, "k2"));
  const third = await countedIn(() => env.SHARED_STORE.read(runId));
  expect(first).toMatchObject({ result: true, opened: 1 });
  expect(second).toMatchObject({ result: true, opened: 1 });
  expect(third).toMatchObject({ result: 5, opened: 1 });
  const waiting = env.SHARED_STORE.wait(runId, "k3");
  await wait(50);
  expect(await env.SHARED_STORE.emit(runId, "k3")).toBe(true);
  expect(await waiting).toBe(true);
  const keys = Array.from({ length: 10 }, (_, i) => `at once ${i}`);
  const emitted = await Promise.all(keys.map((key) => env.SHARED_STORE.emit(runId, key)));
  expect(emitted).toEqual(keys.map(() => true));
});

test("a binding that itself belongs to another request is refused, and not tried for ever", async () => {
  let opened = 0;
  const message = "Cannot perform I/O on behalf of a different request. I/O objects (such as streams) …";
  const open = () => {
    opened += 1;
    return { readRun: () => Promise.reject(new Error(message)) } as unknown as RunSessionMethods;
  };
  const store = connectRuns({ open });
  for (const call of [1, 2]) {
    await expect(() => store.loadRun("r")).rejects.toThrow(message);
    expect(opened).toBe(call);
  }
});

test("the requests of a Durable Object share one session", async () => {
  const runId = newRunId();
  const emit = async () => {
    for (const key of ["a", "b", "c"]) expect(await env.SHARED_STORE.emitFromObject(runId, key)).toBe(true);
  };
  expect(await countedIn(emit)).toMatchObject({ opened: 1, disposed: 0 });
});
