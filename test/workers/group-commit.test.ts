/** Group commit against a real D1: entries of many runs in one call, each under its own guard. */
import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, it } from "vitest";
import { withCoarseTimers } from "../../src/coordinator/coarse-timers.ts";
import { commitEntries } from "../../src/coordinator/commit-entries.ts";
import { GroupCommit } from "../../src/coordinator/group-commit.ts";
import type { RecordEntry } from "../../src/coordinator/record-entry.ts";
import { newRunId } from "../../src/identity.ts";
import { TestClock } from "../../src/testing/clock.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { beginRequest, failRequest } from "../../src/stores/to-request.ts";
import { aRun, aStep, MANIFEST } from "../../src/testing/harness.ts";
import { LIMITS_OF_TESTS, rowsOf, RunInstance, WatchedDatabase } from "./recorder-world.ts";

const RECORDED = { ok: true, refused: false };
const REFUSED = { ok: true, refused: true };

let db: WatchedDatabase;
let group: GroupCommit;

beforeEach(() => {
  db = new WatchedDatabase();
  group = new GroupCommit({ db, ...LIMITS_OF_TESTS });
});

/** Instances that have claimed their runs; D1 has not been told. */
function claimed(count: number): Promise<RunInstance[]> {
  return Promise.all(Array.from({ length: count }, async () => (await RunInstance.of()).claim()));
}

/** The same, once D1 has been told. */
async function recorded(instances: RunInstance[]): Promise<RunInstance[]> {
  const told = await Promise.all(instances.map((one) => one.told()));
  const refused = await commitEntries(
    env.DB,
    told.map(({ entry }) => entry),
    LIMITS_OF_TESTS,
  );
  expect([...refused]).toEqual([]);
  await Promise.all(instances.map((one, i) => one.holds(told[i] as (typeof told)[number])));
  return instances;
}

function entriesOf(instances: readonly RunInstance[]): Promise<RecordEntry[]> {
  return Promise.all(instances.map((one) => one.entry()));
}

async function aRecordedRun(): Promise<RunInstance> {
  const [one] = await recorded(await claimed(1));
  return one as RunInstance;
}

async function withAStep(result: unknown): Promise<RecordEntry> {
  const one = await (await RunInstance.of()).claim();
  return (await one.complete(0, result)).entry();
}

describe("one call", () => {
  it("takes the first entry, and the next all of those that came meanwhile", async () => {
    const entries = await entriesOf(await claimed(50));
    const answers = await Promise.all(entries.map((entry) => group.record(entry)));
    expect(answers).toEqual(entries.map(() => RECORDED));
    expect(db.calls.length).toBe(2);
    for (const { runId } of entries) {
      expect(await rowsOf("runs", runId)).toMatchObject([{ status: "running", fence: 1 }]);
      expect(await rowsOf("tags", runId)).toMatchObject([{ key: "suite", value: "conformance" }]);
    }
  });

  it("takes all whose answers went out together, though they come back one by one", async () => {
    const [entries, next] = [await entriesOf(await claimed(10)), await entriesOf(await claimed(10))];
    await Promise.all(entries.map((entry) => group.record(entry)));
    const before = db.calls.length;
    const answers: Promise<unknown>[] = [];
    for (const entry of next) {
      answers.push(group.record(entry));
      // A turn in which a call to D1 would have been made.
      for (let i = 0; i < 10; i += 1) await Promise.resolve();
    }
    expect(await Promise.all(answers)).toEqual(next.map(() => RECORDED));
    expect(db.calls.length - before).toBe(1);
  });

  it("takes at once what comes after one that went alone", async () => {
    const [first, second] = await entriesOf(await claimed(2));
    expect(await group.record(first as RecordEntry)).toEqual(RECORDED);
    const before = db.calls.length;
    const answer = group.record(second as RecordEntry);
    for (let i = 0; i < 10; i += 1) await Promise.resolve();
    expect(db.calls.length - before).toBe(1);
    expect(await answer).toEqual(RECORDED);
  });

  it("records the run, the steps, the tags and the events of each", async () => {
    const instances = await claimed(3);
    for (const one of instances) {
      for (const stepIndex of [0, 1]) await one.complete(stepIndex, { stepIndex });
      await one.emit("go");
      await one.end();
    }
    expect([...(await commitEntries(db, await entriesOf(instances), LIMITS_OF_TESTS))]).toEqual([]);
    expect(db.calls.length).toBe(1);
    for (const { runId } of instances) {
      expect(await rowsOf("runs", runId)).toMatchObject([{ status: "completed", result: '"done"' }]);
      const steps = [{ result: '{"stepIndex":0}' }, { result: '{"stepIndex":1}' }];
      expect(await rowsOf("steps", runId)).toMatchObject(steps);
      expect(await rowsOf("events", runId)).toMatchObject([{ key: "go", payload: '"go"' }]);
      expect(await rowsOf("tags", runId)).toHaveLength(1);
    }
  });

  it("says of many runs which D1 knows, be it by an event alone", async () => {
    const [run, events] = [await aRecordedRun(), await (await RunInstance.of()).emit("early")];
    await group.record(await events.entry());
    const asked = db.calls.length;
    const questions = [newRunId(), run.runId, newRunId(), events.runId, run.runId];
    const answers = await Promise.all(questions.map((runId) => group.isKnown(runId)));
    expect(answers).toEqual([false, true, false, true, true]);
    expect(db.calls.length - asked).toBe(2);
  });
});

/** The next life of a run's object. */
async function nextLife(runId: string, now?: number): Promise<RunInstance> {
  return (await RunInstance.of(runId, now)).rebuilt();
}

/** As if each of them had taken no incarnation: so did those of earlier versions. */
async function withoutIncarnations(runId: string): Promise<void> {
  await env.DB.prepare("UPDATE durable_runs SET incarnation = 0 WHERE run_id = ?1").bind(runId).run();
}

/** Each makes of a run an instance whose entry D1 has to refuse. `run` is recorded. */
const STALE: Readonly<Record<string, (run: RunInstance) => Promise<RunInstance>>> = {
  async "a later claim"(run) {
    const clock = new TestClock();
    clock.advance(60_000);
    // It counts its revisions from where D1 is, below those of the object.
    const elsewhere = new D1DurableRunStore(env.DB, { clock });
    await elsewhere.startOrResume({ ...aRun("worker-2"), runId: run.runId });
    return run;
  },
  async "another claim under the same fence"(run) {
    const [one, other] = [
      await nextLife(run.runId, Date.now() + 60_000),
      await nextLife(run.runId, Date.now() + 60_000),
    ];
    await withoutIncarnations(run.runId);
    await other.claim();
    await recorded([await one.claim()]);
    expect(other.fence).toBe(one.fence);
    return other;
  },
  async "a change by an earlier life, come late"(run) {
    const next = await nextLife(run.runId);
    await withoutIncarnations(run.runId);
    await recorded([await run.end()]);
    return next;
  },
  async "a change by a later life under the same claim"(run) {
    const next = await nextLife(run.runId);
    await withoutIncarnations(run.runId);
    await recorded([await next.end()]);
    return run;
  },
  async "a later incarnation of its object, which has changed nothing"(run) {
    await nextLife(run.runId);
    return run;
  },
  async "another manifest"(run) {
    const requestId = run.cache.run?.claimRequestId ?? "";
    const now = (run.cache.run?.createdAt ?? 0) - 10;
    const other = await RunInstance.of(run.runId, now);
    return other.claim({ requestId, manifest: { ...MANIFEST, input: { question: "another?" } } });
  },
  async "another creation"(run) {
    const requestId = run.cache.run?.claimRequestId ?? "";
    return (await RunInstance.of(run.runId, Date.now() + 60_000)).claim({ requestId });
  },
  async "a deletion of the run"(run) {
    await env.DB.prepare("DELETE FROM durable_runs WHERE run_id = ?1").bind(run.runId).run();
    return run;
  },
};

describe("a guard", () => {
  it.each(Object.keys(STALE))("refuses one of fifty runs after %s, and no other", async (kind) => {
    const [first, ...others] = await recorded(await claimed(50));
    const stale = await STALE[kind]?.(first as RunInstance);
    if (stale === undefined) throw new Error("no such case");
    const { runId } = stale;
    await env.DB.prepare("DELETE FROM durable_tags WHERE run_id = ?1").bind(runId).run();
    const before = await rowsOf("runs", runId);
    const all = others.toSpliced(20, 0, stale);
    await stale.emit("late");
    for (const one of all) await (await one.complete(0, `of ${one.runId}`)).end();

    const refused = await commitEntries(db, await entriesOf(all), LIMITS_OF_TESTS);

    expect([...refused]).toEqual([runId]);
    expect(db.calls.length).toBe(2);
    expect(await rowsOf("runs", runId)).toEqual(before);
    expect(await rowsOf("steps", runId)).toEqual([]);
    expect(await rowsOf("tags", runId)).toEqual([]);
    expect(await rowsOf("events", runId)).toEqual([]);
    for (const one of others) {
      expect(await rowsOf("runs", one.runId)).toMatchObject([{ status: "completed" }]);
      expect(await rowsOf("steps", one.runId)).toMatchObject([{ result: `"of ${one.runId}"` }]);
    }
  });

  it("of an entry that comes again refuses nothing, though nothing changes", async () => {
    const one = await (await RunInstance.of()).claim();
    const entry = await (await one.complete(0, "once")).entry();
    const rows = async () => [await rowsOf("runs", one.runId), await rowsOf("steps", one.runId)];
    expect(await group.record(entry)).toEqual(RECORDED);
    const before = await rows();
    expect(await group.record(entry)).toEqual(RECORDED);
    expect(await group.record({ ...entry, tags: "", runs: "", rows: 1 })).toEqual(RECORDED);
    expect(await rows()).toEqual(before);
  });

  it("lets an older entry of the same claim pass, which replaces no newer step", async () => {
    const one = await aRecordedRun();
    const { runId, fence } = one;
    await one.complete(0, "of worker-1");
    const older = await one.entry();
    await one.change(beginRequest(aStep(runId, 1, { fence })));
    await one.change(failRequest({ runId, fence, stepIndex: 1, error: { message: "once" } }));
    const failed = await one.entry();
    await one.complete(1, "at last");
    expect(await group.record(await one.entry())).toEqual(RECORDED);
    const before = await rowsOf("steps", runId);
    expect(before).toMatchObject([{ status: "completed" }, { status: "completed", result: '"at last"' }]);
    for (const entry of [older, failed]) expect(await group.record(entry)).toEqual(RECORDED);
    expect(await rowsOf("steps", runId)).toEqual(before);
  });

  it("refuses what was read before a change of the run that D1 holds", async () => {
    const one = await aRecordedRun();
    const { runId } = one;
    const begun = await (await one.complete(0, "first")).entry();
    const ended = await (await (await one.complete(1, "second")).end()).entry();
    expect(await group.record(ended)).toEqual(RECORDED);
    const rows = async () => [await rowsOf("runs", runId), await rowsOf("steps", runId)];
    const before = await rows();
    // D1 knows of a later change of the run than this entry's sender did.
    expect(await group.record(begun)).toEqual(REFUSED);
    expect(await rows()).toEqual(before);
  });
});

describe("an event", () => {
  it("refuses nothing where D1 holds another by its key, which stands", async () => {
    const one = await aRecordedRun();
    await new D1DurableRunStore(env.DB).emitEvent({ runId: one.runId, key: "go", payload: "elsewhere" });
    await (await one.emit("go")).emit("on");
    expect(await group.record(await one.entry())).toEqual(RECORDED);
    expect(await rowsOf("events", one.runId)).toMatchObject([
      { key: "go", payload: '"elsewhere"' },
      { key: "on", payload: '"on"' },
    ]);
  });

  it("by itself is refused of a run whose guard refuses, and of no other", async () => {
    const [stale, ...others] = await recorded(await claimed(3));
    const { runId } = stale as RunInstance;
    await nextLife(runId);
    const all = [stale as RunInstance, ...others];
    for (const one of all) await one.emit("go");
    const refused = await commitEntries(db, await entriesOf(all), LIMITS_OF_TESTS);
    expect([...refused]).toEqual([runId]);
    expect(await rowsOf("events", runId)).toEqual([]);
    for (const one of others) expect(await rowsOf("events", one.runId)).toMatchObject([{ key: "go" }]);
  });

  it("that comes again refuses nothing", async () => {
    const one = await (await aRecordedRun()).emit("go");
    const entry = await one.entry();
    for (const _time of [1, 2, 3]) expect(await group.record(entry)).toEqual(RECORDED);
    expect(await rowsOf("events", one.runId)).toMatchObject([{ payload: '"go"' }]);
  });

  it("of an object of the version before is recorded as that takes it, and hides no refusal", async () => {
    const [older, stale, outdated] = (await recorded(await claimed(3))) as [
      RunInstance,
      RunInstance,
      RunInstance,
    ];
    for (const { runId } of [stale, outdated]) await nextLife(runId);
    const before = ({ rows, ...entry }: RecordEntry): RecordEntry => ({ ...entry, v: 1, rows: rows - 1 });
    const entries = [
      before(await (await older.emit("go")).entry()),
      before(await (await outdated.emit("go")).entry()),
      await (await stale.complete(0, "late")).entry(),
    ];
    const refused = await commitEntries(db, entries, LIMITS_OF_TESTS);
    expect(refused).toContain(stale.runId);
    expect(refused).not.toContain(older.runId);
    // Whether refused or not, it takes its events for recorded.
    for (const { runId } of [older, outdated])
      expect(await rowsOf("events", runId)).toMatchObject([{ key: "go" }]);
  });
});

describe("a group", () => {
  it("never has two entries of one run", async () => {
    const runId = newRunId();
    const other = await withAStep("of another run");
    const one = await (await (await RunInstance.of(runId)).claim()).entry();
    const two = await (await (await RunInstance.of(runId)).claim()).entry();
    const first = await withAStep("sent alone");
    const answers = await Promise.all([first, one, two, other].map((entry) => group.record(entry)));
    expect(answers).toEqual([RECORDED, RECORDED, REFUSED, RECORDED]);
    const guarded = db.calls
      .filter(({ queries }) => queries.some((query) => query.includes("INSERT INTO durable_runs")))
      .map(({ values }) => JSON.parse(String(values[0]?.[0])) as unknown[][])
      .map((guards) => guards.map(([id]) => id));
    const last = [runId, other.runId];
    // Who was refused is asked for, with the rows once more.
    expect(guarded.slice(0, 3)).toEqual([[first.runId], [runId], last]);
  });

  it("fails an entry that is wrong in itself alone", async () => {
    const entries = await entriesOf(await claimed(5));
    const wrong = await withAStep("fine");
    const poison = { ...wrong, steps: wrong.steps.replace('"completed"', '"nonsense"') };
    expect(poison.steps).not.toBe(wrong.steps);
    const all = entries.toSpliced(3, 0, poison);
    const answers = await Promise.allSettled(all.map((entry) => group.record(entry)));
    expect(answers.map(({ status }) => status)).toEqual(
      all.map((entry) => (entry === poison ? "rejected" : "fulfilled")),
    );
    expect(answers.filter((one) => one.status === "fulfilled").map(({ value }) => value)).toEqual(
      entries.map(() => RECORDED),
    );
    expect(await rowsOf("runs", wrong.runId)).toEqual([]);
    expect(await group.record(wrong)).toEqual(RECORDED);
  });

  it("is not stopped by what is no entry", async () => {
    const nonsense = { v: 1, runId: "nonsense" } as RecordEntry;
    const entry = await withAStep("fine");
    const settled = await Promise.allSettled([group.record(nonsense), group.record(entry)]);
    expect(settled.map(({ status }) => status)).toEqual(["rejected", "fulfilled"]);
    expect(await group.record(await withAStep("fine, too"))).toEqual(RECORDED);
  });

  it("answers all of its callers when D1 is down, and the next is fine", async () => {
    const entries = await entriesOf(await claimed(10));
    db.before = async () => {
      throw new Error("D1_ERROR: Network connection lost.");
    };
    const answers = await Promise.all(entries.map((entry) => group.record(entry)));
    for (const answer of answers) {
      expect(answer).toMatchObject({
        ok: false,
        message: expect.stringContaining("Network connection lost"),
      });
    }
    expect(await group.isKnown("any")).toBeNull();
    db.before = async () => {};
    const again = await Promise.all(entries.map((entry) => group.record(entry)));
    expect(again).toEqual(entries.map(() => RECORDED));
  });

  it("is given up at the deadline when D1 never answers, and the next is fine", async () => {
    const clock = new TestClock();
    group = new GroupCommit({ db, clock: withCoarseTimers(clock), deadlineMs: 3_600_000 });
    const stalled: unknown[] = [];
    db.before = (call) => (stalled.push(call), new Promise(() => {}));
    const [first, ...others] = await entriesOf(await claimed(3));
    const answer = group.record(first as RecordEntry);
    const waiting = Promise.all(others.map((entry) => group.record(entry)));
    await expect.poll(() => stalled.length).toBe(1);
    db.before = async () => {};
    clock.advance(3_600_001);
    expect(await answer).toEqual({ ok: false, message: "D1 did not answer within 3600000 ms" });
    expect(await waiting).toEqual([RECORDED, RECORDED]);
  });
});

describe("a parameter of D1", () => {
  const bytes = (value: unknown): number => new TextEncoder().encode(String(value)).byteLength;
  const largest = (): number => Math.max(...db.calls.flatMap(({ values }) => values.flat().map(bytes)));

  it.each([
    ["letters", "a"],
    ["text of three bytes a letter", "語"],
    ["emoji", "🌊"],
    ["what is escaped twice", '\\"\n'],
  ])("stays below 2,000,000 bytes, with %s", async (_name, text) => {
    // A JSON text within a JSON text, without the quotes around both.
    const escaped = JSON.stringify(JSON.stringify(text)).length - 6;
    const result = text.repeat(Math.floor(120_000 / escaped));
    const entries: RecordEntry[] = [];
    for (let i = 0; i < 12; i += 1) entries.push(await withAStep(result));
    const answers = await Promise.all(entries.map((entry) => group.record(entry)));
    expect(answers).toEqual(entries.map(() => RECORDED));
    // The first goes alone, and then four together.
    expect(db.calls.map(({ values }) => (JSON.parse(String(values[0]?.[0])) as unknown[]).length)).toEqual([
      1, 4, 4, 3,
    ]);
    expect(largest()).toBeLessThan(2_000_000);
    for (const { runId } of entries) {
      const [step] = await rowsOf("steps", runId);
      expect(JSON.parse(String(step?.["result"])) === result).toBe(true);
    }
  });

  it("stays below 2,000,000 bytes, with very many questions", async () => {
    const unknown = Array.from({ length: 2_500 }, () => `${newRunId()}${"語".repeat(330)}`);
    const { runId } = await aRecordedRun();
    const answers = await Promise.all([...unknown, runId].map((id) => group.isKnown(id)));
    expect(answers).toEqual([...unknown.map(() => false), true]);
    expect(largest()).toBeLessThan(2_000_000);
  });
});
