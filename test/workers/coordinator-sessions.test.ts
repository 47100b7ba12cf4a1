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
  /** Stands in the way of a message on a session. */
  around: (submit: () => Promise<OpeningAnswer>) => Promise<OpeningAnswer>;
}

let traffic: Traffic;
beforeEach(() => {
  traffic = { toObject: [], onSession: [], disposed: 0, around: (submit) => submit() };
});

/** Over real objects; what passes is noted. */
const namespace = {
  getByName(runId: string): object {
    const stub = stubOf(runId) as unknown as CoordinatorLike;
    const submit = async (message: WireMessage): Promise<OpeningAnswer> => {
      traffic.toObject.push(message.request.op);
      const answer = await stub.submit(message);
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

  it.each(["end", "suspension", "loss"])(
    "is let go of at the run's %s, and lets the object sleep",
    async (how) => {
      const store = client();
      const run = await claimed(store);
      await step(store, run, 0);
      if (how === "end") await end(store, run);
      if (how === "suspension") await store.suspendRun({ ...run, workerId: "worker-1" });
      if (how === "loss") {
        await client().restartRun(run.runId, { fromStep: 0, dropLater: true });
        expect(await refusalOf(() => step(store, run, 1))).toBe("lease_lost");
      }
      expect(traffic.disposed).toBe(1);
      await putToSleep(stubOf(run.runId));
    },
  );

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
    void step(store, run, 0);
    await expect.poll(() => traffic.onSession).toEqual(["complete"]);
    clock.advance(5_000);
    traffic.around = (submit) => submit();
    expect(await store.renewLease({ ...run, workerId: "worker-1" })).toMatchObject({ ok: true });
    expect(traffic.toObject).toEqual(["claim", "renew"]);
    await step(store, run, 0);
    expect(traffic.onSession).toEqual(["complete", "complete"]);
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
