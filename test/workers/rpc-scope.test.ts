/** What a binding's props promise: whoever is bound to one project neither sees nor touches another's runs, by any method. */
import { env, exports, RpcTarget, WorkerEntrypoint } from "cloudflare:workers";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { newRunId } from "../../src/identity.ts";
import type { Op } from "../../src/ledger/requests.ts";
import type { RunServiceProps } from "../../src/service/props.ts";
import { RunService } from "../../src/service/run-service.ts";
import { RunSession } from "../../src/service/run-session.ts";
import type { CoordinatorReads } from "../../src/stores/coordinated/wire.ts";
import { LedgerStore } from "../../src/stores/ledger-store.ts";
import { aStep, refusalOf } from "../../src/testing/harness.ts";
import { wait } from "./coordinator-world.ts";
import { resetFaults } from "./faults.ts";
import type { Target } from "./rpc-calls.ts";
import { claimOf, contractCalls, messageOf, rawReads, requestsOf } from "./rpc-calls.ts";
import { runsOver, sessionOf } from "./rpc-world.ts";

afterEach(resetFaults);

/** The projects of second-workers.ts. */
const OWN = "project-a";
const FOREIGN = "project-b";
const ALL = runsOver(env.RUNS_SERVICE);
/** Longer than the test may take: whoever is not woken fails it. */
const HELD_MS = 60_000;
/** Above what lies in its row, so that there is a body to be read. */
const LARGE = "x".repeat(300 * 1_024);

/** A run with a completed step, one under way, and an event. */
async function aRunOf(projectId: string): Promise<Target> {
  const run = { runId: newRunId(), projectId, workerId: "worker-1", fence: 1 };
  const { runId, fence } = run;
  await ALL.startOrResume(claimOf(run));
  await ALL.beginStep(aStep(runId, 0, { fence }));
  await ALL.completeStep({ runId, fence, stepIndex: 0, result: LARGE });
  await ALL.beginStep(aStep(runId, 1, { fence, onInterrupted: "park" }));
  await ALL.emitEvent({ runId, key: "secret", payload: "of the run's own project" });
  return run;
}

/** All that D1 and the object hold of a run, but how often the object has begun anew. */
async function everythingOf({ runId }: Target): Promise<unknown> {
  const rows = ["durable_runs", "durable_steps", "durable_events"].map((table) =>
    env.DB.prepare(`SELECT * FROM ${table} WHERE run_id = ?1`).bind(runId).all(),
  );
  const [runs = [], steps, events] = (await Promise.all(rows)).map(({ results }) => results);
  for (const run of runs) delete run["incarnation"];
  const read = [ALL.loadRun(runId), ALL.loadStep(runId, 1), ALL.loadEvent(runId, "new"), ALL.lag(runId)];
  return { runs, steps, events, read: await Promise.all(read) };
}

let victim: Target;
let ref: string;
let before: unknown;
beforeAll(async () => {
  victim = await aRunOf(FOREIGN);
  const step = await sessionOf(env.RUNS_SERVICE).readStep(victim.runId, 0);
  ref = step.ok && step.value?.result && "ref" in step.value.result ? step.value.result.ref : "";
  expect(ref).not.toBe("");
  before = await everythingOf(victim);
});

describe("the tables of calls", () => {
  test("have every method of the service, of its session and of the store", () => {
    // A service that can only open sessions has nothing else to be covered.
    expect(Object.getOwnPropertyNames(RunService.prototype).toSorted()).toEqual(["constructor", "open"]);
    expect(Object.getPrototypeOf(RunService)).toBe(WorkerEntrypoint);
    const session = Object.getOwnPropertyNames(RunSession.prototype);
    expect(session.toSorted()).toEqual(
      ["constructor", "submit", "history", ...Object.keys(rawReads)].toSorted(),
    );
    expect(Object.getPrototypeOf(RunSession)).toBe(RpcTarget);
    const store = new Set([
      ...Object.getOwnPropertyNames(LedgerStore.prototype),
      ...Object.getOwnPropertyNames(Object.getPrototypeOf(Object.getPrototypeOf(ALL)) as object),
    ]);
    // `eventRecord` is for stores alone, and makes a record of what it is given.
    for (const other of ["constructor", "close", "eventRecord"]) store.delete(other);
    expect([...store].toSorted()).toEqual(Object.keys(contractCalls).toSorted());
  });
});

describe("a binding of one project, and a run of another", () => {
  const own = runsOver(env.RUNS_OF_A);
  const session = sessionOf(env.RUNS_OF_A);

  test.each(Object.entries(contractCalls))("%s is forbidden, and changes nothing", async (_name, call) => {
    expect(await refusalOf(() => call(own, victim))).toBe("forbidden");
    expect(await everythingOf(victim)).toEqual(before);
    // In its own scope the same call has another answer, so it was the scope that refused it.
    const same = await aRunOf(OWN);
    expect(await refusalOf(() => call(own, same))).not.toBe("forbidden");
  });

  test.each(Object.entries(requestsOf))(
    "the request %s is forbidden, whatever project it says it is for",
    async (_op, requestOf) => {
      for (const more of [{}, { projectId: FOREIGN }, { v: 2, projectId: FOREIGN }] as const) {
        const answer = await session.submit(messageOf(requestOf(victim), more));
        expect(answer).toMatchObject({ ok: false, error: { code: "forbidden" } });
        const disguised = requestOf({ ...victim, projectId: OWN });
        const second = await session.submit(messageOf(disguised, more));
        expect(second).toMatchObject({ ok: false, error: { code: "forbidden" } });
      }
      expect(await everythingOf(victim)).toEqual(before);
    },
  );

  test.each(Object.entries(rawReads))("the read %s is forbidden", async (name, read) => {
    const forbidden = { ok: false, error: { code: "forbidden" } };
    expect(await read(session, victim, ref)).toMatchObject(forbidden);
    expect(await read(sessionOf(env.RUNS_OF_B), victim, ref)).toMatchObject({ ok: true });
    // A scope that the caller adds is not heard.
    const raw = session as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;
    const asked = (...args: unknown[]) => raw[name]?.(victim.runId, ...args);
    const args: Record<string, unknown[]> = {
      readStep: [0],
      readSteps: [0],
      readEvent: ["secret"],
      waitForEvent: ["secret", 10, undefined],
      watchLease: [1, 10],
      readBody: [ref, 0],
    };
    expect(await asked(...(args[name] ?? []), FOREIGN)).toMatchObject(forbidden);
  });

  test("a fork into a run of the other project is forbidden", async () => {
    const { runId } = await aRunOf(OWN);
    const fork = () => own.forkRun(runId, victim.runId, { throughStep: 0 });
    expect(await refusalOf(fork)).toBe("forbidden");
    expect(await everythingOf(victim)).toEqual(before);
  });

  test("an error says nothing of whose the run is", async () => {
    const { message } = (await own.loadRun(victim.runId).catch((error: unknown) => error)) as Error;
    expect(message).toContain(victim.runId);
    expect(message).not.toContain(FOREIGN);
  });
});

describe("a binding of one project, and a run that does not exist", () => {
  const own = runsOver(env.RUNS_OF_A);
  const none = (): Target => ({ runId: newRunId(), projectId: OWN, workerId: "worker-1", fence: 1 });

  test("may begin it for its own project only, and then do all", async () => {
    const run = none();
    expect(await refusalOf(() => own.startOrResume(claimOf({ ...run, projectId: FOREIGN })))).toBe(
      "forbidden",
    );
    expect(await ALL.loadRun(run.runId)).toBeUndefined();
    await own.startOrResume(claimOf(run));
    await own.emitEvent({ runId: run.runId, key: "k", payload: 1 });
    expect(await own.loadEvent(run.runId, "k")).toMatchObject({ payload: 1 });
  });

  test("may not emit to it, and reads nothing of it, not even an event that is there", async () => {
    const run = none();
    const emit = () => own.emitEvent({ runId: run.runId, key: "k", payload: 1 });
    await expect(emit).rejects.toThrow(/Begin it first/);
    expect(await refusalOf(emit)).toBe("forbidden");
    await ALL.emitEvent({ runId: run.runId, key: "secret", payload: LARGE });
    const { runId } = run;
    expect(await own.loadEvent(runId, "secret")).toBeUndefined();
    expect(await own.waitForEvent({ runId, key: "secret", timeoutMs: 0 })).toBeUndefined();
    expect(await own.loadRun(runId)).toBeUndefined();
    expect(await own.watchLease({ runId, fence: 1, timeoutMs: 0 })).toEqual({ held: false });
    expect(await own.lag(runId)).toBe(0);
    const event = await sessionOf(env.RUNS_SERVICE).readEvent(runId, "secret");
    const bodyRef = event.ok && event.value && "ref" in event.value.payload ? event.value.payload.ref : "";
    const body = await sessionOf(env.RUNS_OF_A).readBody(runId, bodyRef, 0);
    expect(body).toMatchObject({ ok: false, error: { code: "run_not_found" } });
    expect(await sessionOf(env.RUNS_SERVICE).readBody(runId, bodyRef, 0)).toMatchObject({ ok: true });
  });

  test("is told of an earlier event, if it waits for it, when the run begins for its project", async () => {
    const { runId, ...run } = none();
    await ALL.emitEvent({ runId, key: "k", payload: "early" });
    const waiting = own.waitForEvent({ runId, key: "k", timeoutMs: HELD_MS });
    await wait(50);
    await own.startOrResume(claimOf({ runId, ...run }));
    expect(await waiting).toMatchObject({ payload: "early" });
  }, 30_000);

  test("is refused, if it waits, once the run has begun for another project", async () => {
    const { runId, ...run } = none();
    const waiting = refusalOf(() => own.waitForEvent({ runId, key: "k", timeoutMs: HELD_MS }));
    await wait(50);
    await ALL.startOrResume(claimOf({ runId, ...run, projectId: FOREIGN }));
    await ALL.emitEvent({ runId, key: "k", payload: "not for you" });
    expect(await waiting).toBe("forbidden");
  }, 30_000);

  test("of two that begin it for different projects, one is refused", async () => {
    for (let i = 0; i < 5; i += 1) {
      const run = none();
      const foreign = { ...run, projectId: FOREIGN };
      const [mine, theirs] = await Promise.all([
        refusalOf(() => own.startOrResume(claimOf(run))),
        refusalOf(() => runsOver(env.RUNS_OF_B).startOrResume(claimOf(foreign))),
      ]);
      expect([mine, theirs].toSorted()).toEqual(["accepted", "forbidden"]);
    }
  });
});

describe("a step that is to end with an event", () => {
  const completionOf = ({ runId, fence }: Target) => ({
    ack: "record" as const,
    request: {
      op: "complete" as const,
      runId,
      requestId: newRunId(),
      fence,
      stepIndex: 1,
      attempt: 1,
      begun: null,
    },
  });
  const stepOf = ({ runId, fence }: Target, key: string, timeoutMs: number) => ({
    runId,
    key,
    timeoutMs,
    step: { stepIndex: 1, fence, attempt: 1 },
  });
  const forbidden = { ok: false, error: { code: "forbidden" } };

  test("ends over a binding, and is answered with it", async () => {
    const run = await aRunOf(OWN);
    const own = runsOver(env.RUNS_OF_A);
    const waiting = own.waitForEvent(stepOf(run, "k", HELD_MS));
    await own.loadRun(run.runId);
    await own.emitEvent({ runId: run.runId, key: "k", payload: LARGE });
    const answer = await waiting;
    expect(answer?.step?.status).toBe("completed");
    expect(answer?.step?.result === LARGE).toBe(true);
    expect(await own.loadStep(run.runId, 1)).toEqual(answer?.step);
  });

  test("of another project is forbidden, whether the event is there or comes, and nothing changes", async () => {
    const session = sessionOf(env.RUNS_OF_A);
    expect(await session.waitForEvent(victim.runId, "secret", 10, completionOf(victim))).toMatchObject(
      forbidden,
    );
    expect(await everythingOf(victim)).toEqual(before);
    const own = runsOver(env.RUNS_OF_A);
    expect(await refusalOf(() => own.waitForEvent(stepOf(victim, "secret", 10)))).toBe("forbidden");
    // A run that begins while the call is held turns out to be another's.
    const unborn = { runId: newRunId(), projectId: FOREIGN, workerId: "worker-1", fence: 1 };
    const held = session.waitForEvent(unborn.runId, "k", HELD_MS, completionOf(unborn));
    await wait(50);
    await ALL.startOrResume(claimOf(unborn));
    await ALL.beginStep(aStep(unborn.runId, 1, { fence: 1 }));
    await ALL.emitEvent({ runId: unborn.runId, key: "k", payload: 1 });
    expect(await held).toMatchObject(forbidden);
    expect(await ALL.loadStep(unborn.runId, 1)).toMatchObject({ status: "running" });
  });

  test("is not for a binding that reads, which may wait for the event alone", async () => {
    const run = await aRunOf(OWN);
    const reader = sessionOf(env.RUNS_FOR_READING);
    expect(await reader.waitForEvent(run.runId, "secret", 10, completionOf(run))).toMatchObject(forbidden);
    expect(await reader.waitForEvent(run.runId, "secret", 10)).toMatchObject({ ok: true });
    expect(await ALL.loadStep(run.runId, 1)).toMatchObject({ status: "running" });
  });

  test("is of the run that is asked, and of no other that its request names", async () => {
    const run = await aRunOf(OWN);
    const answer = await sessionOf(env.RUNS_OF_A).waitForEvent(run.runId, "secret", 10, completionOf(victim));
    expect(answer).toMatchObject({ ok: false, error: { code: "invalid_input", field: "runId" } });
    expect(await everythingOf(victim)).toEqual(before);
  });
});

describe("a binding for reading", () => {
  const reader = sessionOf(env.RUNS_FOR_READING);

  test.each(Object.keys(requestsOf) as Op[])(
    "the request %s is forbidden, and changes nothing",
    async (op) => {
      const request = requestsOf[op](victim);
      expect(await reader.submit(messageOf(request))).toMatchObject({
        ok: false,
        error: { code: "forbidden", message: expect.stringContaining(op) as string },
      });
      expect(await everythingOf(victim)).toEqual(before);
    },
  );

  test.each(Object.entries(rawReads))("the read %s passes", async (_name, read) => {
    expect(await read(reader, victim, ref)).toMatchObject({ ok: true });
  });

  test("is also bound to its project", async () => {
    const both = sessionOf(env.RUNS_OF_A_FOR_READING);
    expect(await both.readRun(victim.runId)).toMatchObject({ ok: false, error: { code: "forbidden" } });
    const { runId } = await aRunOf(OWN);
    expect(await both.readRun(runId)).toMatchObject({ ok: true, value: { run: { runId } } });
    const emit = messageOf(requestsOf.emit({ ...victim, runId }));
    expect(await both.submit(emit)).toMatchObject({ ok: false, error: { code: "forbidden" } });
  });
});

describe("props that are not understood", () => {
  test.each<[string, object]>([
    ["props.access", { access: "admin" }],
    ["props.access", { access: null }],
    ["props.projectId", { projectId: 7 }],
    ["props.projectId", { projectId: "" }],
    ["props.projectId", { projectId: null, access: "read" }],
    ["props.projectID", { projectID: OWN }],
  ])("are no open door: %s of %o", async (field, props) => {
    const service = exports.RunService({ props });
    const session = sessionOf(service);
    const refused = { ok: false, error: { code: "invalid_input", field } };
    for (const read of Object.values(rawReads))
      expect(await read(session, victim, ref)).toMatchObject(refused);
    expect(await session.submit(messageOf(requestsOf.cancel(victim)))).toMatchObject(refused);
    await expect(() => runsOver(service).loadRun(victim.runId)).rejects.toMatchObject({
      name: "DurableInvalidInputError",
      field,
    });
    expect(await everythingOf(victim)).toEqual(before);
  });
});

describe("an object of a version that knows no scopes", () => {
  /** Ignores what it does not know, refuses messages of a version that it does not know, and says nothing of scopes. */
  function olderNamespace() {
    const { scope: _, ...without } = { scope: "" };
    const plain = async (answer: Promise<object>) => ({ ...(await answer), ...without, scope: undefined });
    return {
      getByName: (runId: string) => {
        const object = env.RUNS.getByName(runId) as unknown as CoordinatorReads & {
          submit(message: object): Promise<object>;
        };
        return {
          readRun: () => plain(object.readRun()),
          submit: ({ projectId: __, ...message }: { projectId?: string; v: number }) =>
            message.v === 1
              ? plain(object.submit(message))
              : { ok: false, error: { code: "invalid_input", message: `v is ${message.v}` } },
        };
      },
    };
  }

  const sessionBefore = (props: RunServiceProps): RunSession =>
    new RunSession({ RUNS: olderNamespace(), DB: env.DB }, props);

  test("is not asked on behalf of one project: nothing is told, and nothing is done", async () => {
    const scoped = sessionBefore({ projectId: OWN });
    const unavailable = { ok: false, error: { code: "store_unavailable" } };
    expect(await scoped.readRun(victim.runId)).toMatchObject(unavailable);
    expect(await scoped.submit(messageOf(requestsOf.cancel(victim)))).toMatchObject(unavailable);
    expect(await everythingOf(victim)).toEqual(before);
    const all = sessionBefore({});
    expect(await all.readRun(victim.runId)).toMatchObject({ ok: true });
    const { runId } = await aRunOf(OWN);
    const cancel = messageOf(requestsOf.cancel({ ...victim, runId }));
    expect(await all.submit(cancel)).toMatchObject({ ok: true });
  });
});
