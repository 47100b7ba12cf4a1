/** The session that a worker has with its run's object: what goes over it, what ends it, and that nothing rests on it. */
import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { countedNamespace, noCounts } from "../../bench/counts/counters.ts";
import { newRunId } from "../../src/identity.ts";
import { runDurable } from "../../src/runner/run-durable.ts";
import { CoordinatedDurableRunStore } from "../../src/stores/coordinated/store.ts";
import type {
  CoordinatorLike,
  CoordinatorSession,
  OpeningAnswer,
  WireMessage,
} from "../../src/stores/coordinated/wire.ts";
import { emitRequest } from "../../src/stores/to-request.ts";
import { TestClock } from "../../src/testing/clock.ts";
import { aRun, aStep, MANIFEST, refusalOf } from "../../src/testing/harness.ts";
import { recordedRun, store as direct, stubOf, withSteps } from "./coordinator-world.ts";
import { abort, evict, putToSleep } from "./disasters.ts";
import { resetFaults } from "./faults.ts";

afterEach(resetFaults);

type Ack = "record" | "coordinator";

/** What one client sends: to the object, and over sessions that it handed out. */
interface Traffic {
  readonly toObject: string[];
  readonly onSession: string[];
  /** Sessions that the client has let go of. */
  disposed: number;
  /** What answers of the object wait for. */
  onTheWay: Promise<void>;
  /** Stands in the way of a message on a session. */
  around: (submit: () => Promise<OpeningAnswer>) => Promise<OpeningAnswer>;
}

let traffic: Traffic;
beforeEach(() => {
  traffic = {
    toObject: [],
    onSession: [],
    disposed: 0,
    onTheWay: Promise.resolve(),
    around: (submit) => submit(),
  };
});

/** Over real objects; what passes is noted. */
const namespace = {
  getByName(runId: string): object {
    const stub = stubOf(runId) as unknown as CoordinatorLike;
    const submit = async (message: WireMessage): Promise<OpeningAnswer> => {
      const { onTheWay } = traffic;
      traffic.toObject.push(message.request.op);
      const answer = await stub.submit(message);
      await onTheWay;
      return answer.session ? { ...answer, session: noted(answer.session) } : answer;
    };
    return new Proxy(stub, {
      get: (real, name): unknown => (name === "submit" ? submit : Reflect.get(real, name)),
    });
  },
};

function noted(session: CoordinatorSession & Partial<Disposable>): CoordinatorSession & Disposable {
  return {
    submit(message) {
      traffic.onSession.push(message.request.op);
      return traffic.around(() => session.submit(message));
    },
    [Symbol.dispose]() {
      traffic.disposed += 1;
      session[Symbol.dispose]?.();
    },
  };
}

const client = (options: ConstructorParameters<typeof CoordinatedDurableRunStore>[1] = {}) =>
  new CoordinatedDurableRunStore(namespace, options);

async function claimed(store: CoordinatedDurableRunStore) {
  const input = aRun();
  const { fence = 0 } = await store.startOrResume(input);
  return { runId: input.runId, fence };
}

type Held = Awaited<ReturnType<typeof claimed>>;

async function step(store: CoordinatedDurableRunStore, run: Held, stepIndex: number): Promise<void> {
  const { intent, kind, inputHash } = aStep(run.runId, stepIndex);
  const begin = { intent, kind, inputHash, elapsedMs: 0 };
  await store.completeStep({ ...run, stepIndex, attempt: 1, begin, result: `result ${stepIndex}` });
}

const end = (store: CoordinatedDurableRunStore, run: Held) =>
  store.endRun({ ...run, workerId: "worker-1", status: "completed" });

describe.each<Ack>(["record", "coordinator"])("a run under ack: %s", (ack) => {
  it("is one request to its object, however many its steps", async () => {
    const counts = noCounts();
    const store = new CoordinatedDurableRunStore(countedNamespace(env.RUNS, counts), { ack });
    const run = await claimed(store);
    for (let i = 0; i < 30; i += 1) await step(store, run, i);
    await store.renewLease({ ...run, workerId: "worker-1" });
    await end(store, run);
    expect([counts.rpcCalls, counts.requests]).toEqual([33, 1]);
  });

  it("goes on when its object is reset between and within calls, and opens another session", async () => {
    const store = client({ ack, retry: { baseMs: 1 } });
    const run = await claimed(store);
    await step(store, run, 0);
    await abort(run.runId);
    await step(store, run, 1);
    await step(store, run, 2);
    // What was taken, and whose answer was lost, is not done twice.
    traffic.around = async (submit) => {
      traffic.around = (other) => other();
      await submit();
      await abort(run.runId);
      throw new Error("Network connection lost.");
    };
    await step(store, run, 3);
    await end(store, run);
    expect(traffic.toObject).toEqual(["claim", "complete", "complete"]);
    expect(traffic.disposed).toBe(3);
    for (const i of [0, 1, 2, 3])
      expect(await direct().loadStep(run.runId, i)).toMatchObject({ attempts: 1, result: `result ${i}` });
  });
});

describe("a session", () => {
  it("acknowledges nothing that the object's storage has not committed", async () => {
    const store = client({ ack: "coordinator", retry: { attempts: 1 } });
    const run = await claimed(store);
    await step(store, run, 0);
    let isArmed = true;
    await runInDurableObject(stubOf(run.runId), (_object, state) => {
      const { sql } = state.storage;
      const exec = sql.exec.bind(sql) as (...args: unknown[]) => unknown;
      sql.exec = ((...args: unknown[]) => {
        const cursor = exec(...args);
        isArmed = false;
        state.abort("dies before the commit");
        return cursor;
      }) as typeof sql.exec;
    });
    traffic.onSession.length = 0;
    // A begin of such a step is committed before it is answered. With the write, its answer is lost: the object is asked.
    await store.beginStep({ ...aStep(run.runId, 1, { fence: run.fence }), onInterrupted: "park" });
    expect(isArmed).toBe(false);
    expect(traffic.onSession).toEqual(["begin"]);
    expect(traffic.toObject).toEqual(["claim", "begin"]);
    expect(await direct().loadStep(run.runId, 1)).toMatchObject({ status: "running", attempts: 1 });
  });

  type Leaving = (store: CoordinatedDurableRunStore, run: Held) => Promise<unknown>;
  const lose = ({ runId }: Held) => client().restartRun(runId, { fromStep: 0, dropLater: true });

  it.each<[string, Leaving]>([
    ["the run has ended", end],
    ["it was suspended", (store, run) => store.suspendRun({ ...run, workerId: "worker-1" })],
    [
      "a step is refused for its fence",
      async (store, run) => {
        await lose(run);
        expect(await refusalOf(() => step(store, run, 1))).toBe("lease_lost");
      },
    ],
    [
      "a renewal is refused",
      async (store, run) => {
        await lose(run);
        expect(await store.renewLease({ ...run, workerId: "worker-1" })).toMatchObject({ ok: false });
      },
    ],
    [
      "the completion of a held wait is refused",
      async (store, run) => {
        await lose(run);
        await client().emitEvent({ runId: run.runId, key: "k", payload: 1 });
        const awaited = { stepIndex: 1, attempt: 1, fence: run.fence };
        const wait = { runId: run.runId, key: "k", timeoutMs: 60_000, step: awaited };
        expect(await refusalOf(() => store.waitForEvent(wait))).toBe("lease_lost");
      },
    ],
    [
      "a watch hears that it was cancelled",
      async (store, run) => {
        const watched = store.watchLease({ ...run, timeoutMs: 60_000 });
        await client().cancelRun(run.runId);
        expect(await watched).toEqual({ held: false, status: "cancelled" });
      },
    ],
  ])("is let go of when %s, and lets the object sleep", async (_how, leave) => {
    const store = client();
    const run = await claimed(store);
    await step(store, run, 0);
    await leave(store, run);
    expect(traffic.disposed).toBe(1);
    await putToSleep(stubOf(run.runId));
  });

  it("is not kept of a run that has completed already", async () => {
    const store = client();
    const input = aRun();
    const { fence = 0 } = await store.startOrResume(input);
    await end(store, { runId: input.runId, fence });
    await store.startOrResume(input);
    expect(traffic.disposed).toBe(2);
    await putToSleep(stubOf(input.runId));
  });

  it("is not kept where it comes after its store was closed, or its run has ended", async () => {
    const store = client();
    const input = aRun();
    const claimArrives = Promise.withResolvers<void>();
    traffic.onTheWay = claimArrives.promise;
    const claiming = store.startOrResume(input);
    await expect.poll(() => traffic.toObject).toEqual(["claim"]);
    await store.close();
    claimArrives.resolve();
    const { fence = 0 } = await claiming;
    expect(traffic.disposed).toBe(1);
    const run = { runId: input.runId, fence };
    const stepArrives = Promise.withResolvers<void>();
    traffic.onTheWay = stepArrives.promise;
    const late = step(store, run, 0);
    await expect.poll(() => traffic.toObject).toEqual(["claim", "complete"]);
    traffic.onTheWay = Promise.resolve();
    await end(store, run);
    stepArrives.resolve();
    await late;
    expect(traffic.toObject).toEqual(["claim", "complete", "end"]);
    expect(traffic.disposed).toBe(2);
    await putToSleep(stubOf(run.runId));
  });

  it("is brought by no answer to what is not a worker's", async () => {
    const runId = newRunId();
    const object = stubOf(runId) as unknown as CoordinatorLike;
    const request = emitRequest({ runId, key: "k", payload: 1 });
    expect(await object.submit({ v: 1, ack: "record", request, opens: true })).not.toHaveProperty("session");
  });

  it("is let go of when its store is closed, and opened again by whoever goes on", async () => {
    const store = client();
    const run = await claimed(store);
    await store.close();
    expect(traffic.disposed).toBe(1);
    await putToSleep(stubOf(run.runId));
    await step(store, run, 0);
    await step(store, run, 1);
    expect(traffic.toObject).toEqual(["claim", "complete"]);
  });

  it("is disposed of once its last call has been answered, and not before", async () => {
    const store = client();
    const run = await claimed(store);
    const held = Promise.withResolvers<void>();
    traffic.around = async (submit) => (await held.promise, submit());
    const late = step(store, run, 0);
    await store.close();
    expect(traffic.disposed).toBe(0);
    held.resolve();
    await late;
    expect(traffic.disposed).toBe(1);
  });

  it("is for whoever holds the fence alone: others call the object", async () => {
    const store = client();
    const run = await claimed(store);
    await store.emitEvent({ runId: run.runId, key: "k", payload: 1 });
    await store.cancelRun(run.runId);
    expect(traffic.onSession).toEqual([]);
    expect(traffic.toObject).toEqual(["claim", "emit", "cancel"]);
    expect(await refusalOf(() => step(store, run, 0))).toBe("run_cancelled");
  });

  it("is that of the last claim, where one client claims again", async () => {
    const store = client();
    const input = aRun();
    const first = await store.startOrResume(input);
    const second = await store.startOrResume(input);
    const [before, after] = [first, second].map(({ fence = 0 }) => ({ runId: input.runId, fence }));
    expect(await refusalOf(() => step(store, before as Held, 0))).toBe("lease_lost");
    await step(store, after as Held, 0);
    // The refusal of an old fence says nothing of the new one's session.
    expect(traffic.toObject).toEqual(["claim", "claim", "complete"]);
    expect(traffic.onSession).toEqual(["complete"]);
    expect(await recordedRun(input.runId)).toMatchObject({ fence: after?.fence });
  });

  it("of another invocation cannot be used: the object is called at once", async () => {
    const store = client({ retry: { attempts: 1 } });
    const run = await claimed(store);
    const message = "Cannot perform I/O on behalf of a different request. I/O objects (such as streams) …";
    traffic.around = () => Promise.reject(new Error(message));
    await step(store, run, 0);
    expect(traffic.toObject).toEqual(["claim", "complete"]);
  });

  it("that owes an answer is asked no more: a heartbeat goes to the object", async () => {
    const clock = new TestClock();
    const store = client({ clock });
    const run = await claimed(store);
    traffic.around = () => new Promise(() => {});
    const late = step(store, run, 0);
    await expect.poll(() => traffic.onSession).toEqual(["complete"]);
    clock.advance(5_000);
    traffic.around = (submit) => submit();
    expect(await store.renewLease({ ...run, workerId: "worker-1" })).toMatchObject({ ok: true });
    // What was under way is not left to it either.
    await late;
    expect(traffic.toObject.toSorted()).toEqual(["claim", "complete", "renew"]);
    await step(store, run, 1);
    expect(traffic.onSession).toEqual(["complete", "complete"]);
  });

  it("is not trusted for longer than a short lease allows", async () => {
    const clock = new TestClock();
    const store = client({ clock });
    const run = await claimed(store);
    traffic.around = () => new Promise(() => {});
    const renew = () => store.renewLease({ ...run, workerId: "worker-1", leaseMs: 6_000 });
    const first = renew();
    await expect.poll(() => traffic.onSession).toEqual(["renew"]);
    clock.advance(2_500);
    expect(await renew()).toMatchObject({ ok: true });
    expect(await first).toMatchObject({ ok: true });
    expect(traffic.toObject).toEqual(["claim", "renew", "renew"]);
  });

  it("is none of an object that is overloaded to be pressed again", async () => {
    const store = client();
    const run = await claimed(store);
    traffic.around = () => Promise.reject(Object.assign(new Error("overloaded"), { overloaded: true }));
    expect(await refusalOf(() => step(store, run, 0))).toBe("store_unavailable");
    expect(traffic.toObject).toEqual(["claim"]);
  });

  it("is not needed: an object from before there were sessions is called each time", async () => {
    const older = {
      getByName: (runId: string) => ({
        async submit({ opens: _, ...message }: WireMessage) {
          traffic.toObject.push(message.request.op);
          return stubOf(runId).submit(message);
        },
      }),
    };
    const store = new CoordinatedDurableRunStore(older);
    const run = await claimed(store);
    await step(store, run, 0);
    await end(store, run);
    expect(traffic.toObject).toEqual(["claim", "complete", "end"]);
  });

  it("does not keep an object awake that its dead worker had", async () => {
    const { runId } = await withSteps();
    await evict(runId);
  });
});

it("whole runs of many branches at once share one session each", async () => {
  const store = client({ beginAfterMs: 0 });
  const runs = Array.from({ length: 5 }, () => newRunId());
  const results = await Promise.all(
    runs.map((runId) =>
      runDurable({
        runId,
        manifest: MANIFEST,
        store,
        taskFn: (ctx) => Promise.all([0, 1, 2, 3].map((n) => ctx.step(`step ${n}`, async () => n))),
      }),
    ),
  );
  expect(results.map(({ result }) => result)).toEqual(runs.map(() => [0, 1, 2, 3]));
  expect(traffic.toObject).toEqual(runs.map(() => "claim"));
  expect(traffic.disposed).toBe(5);
});
