/** Our runner over a store that was written to the plain declaration, and ignores all that we add to it. */
import { describe, expect, test } from "vitest";
import type { DurableContext, RunDurableInput } from "../src/runner/types.ts";
import { runDurable } from "../src/runner/run-durable.ts";
import { ManualClock } from "./support/manual-clock.ts";
import { PlainStore } from "./support/plain-store.ts";
import {
  counted,
  LEASE_MS,
  MANIFEST,
  never,
  rejection,
  RUN_ID,
  tick,
  until,
  whileTimeFlies,
} from "./support/world.ts";

function plainWorld() {
  const clock = new ManualClock();
  const plain = new PlainStore(() => clock.now());
  const run = <T>(taskFn: RunDurableInput<T>["taskFn"], options: Partial<RunDurableInput<T>> = {}) =>
    runDurable({
      runId: RUN_ID,
      manifest: MANIFEST,
      store: plain,
      clock,
      leaseMs: LEASE_MS,
      taskFn,
      ...options,
    });
  const crash = async (task: RunDurableInput<unknown>["taskFn"], reached: () => boolean) => {
    const attempt = rejection(run(task));
    await until(reached);
    clock.advance(LEASE_MS);
    expect(await attempt).toMatchObject({ code: "lease_lost" });
  };
  const steps = async (count: number) =>
    Promise.all(Array.from({ length: count }, (_, i) => plain.loadStep(RUN_ID, i)));
  return { clock, plain, run, crash, steps };
}

test("a run over a plain store completes", async () => {
  const { run } = plainWorld();
  const { result, record, steps } = await run(
    async (ctx) => {
      const id = await ctx.uuid();
      const at = await ctx.now();
      const sum = await ctx.step("add", async () => 1 + 1, { kind: "tool", inputFingerprint: [1, 1] });
      await ctx.emitEvent("added", { sum });
      const event = await ctx.awaitEvent<{ sum: number }>("added");
      return { sum: event.sum, valid: id.length === 36 && at instanceof Date };
    },
    { defaultOutcome: { pass: true } },
  );
  expect(result).toEqual({ sum: 2, valid: true });
  expect(record).toMatchObject({ status: "completed", outcome: { pass: true } });
  expect(steps.map(({ kind, status }) => [kind, status])).toEqual([
    ["deterministic", "completed"],
    ["deterministic", "completed"],
    ["tool", "completed"],
    ["event", "completed"],
  ]);
});

test("a run over a plain store is resumed after a crash, and repeats no recorded step", async () => {
  const { run, crash, steps } = plainWorld();
  const paid = counted(() => ({ text: "paid" }));
  const last = counted((call) => (call === 1 ? never() : "end"));
  const ids: string[] = [];
  const task = async (ctx: DurableContext) => {
    ids.push(await ctx.uuid());
    const [one, two] = await Promise.all([ctx.step("pay", paid), ctx.step("pay", paid)]);
    return [one.text, two.text, await ctx.step("last", last)];
  };
  await crash(task, () => last.calls === 1);
  expect((await run(task)).result).toEqual(["paid", "paid", "end"]);
  expect([paid.calls, last.calls]).toEqual([2, 2]);
  expect(ids[1]).toBe(ids[0]);
  expect((await steps(4)).map((step) => step?.attempts)).toEqual([1, 1, 1, 2]);
});

test("a failed run over a plain store goes on where it failed", async () => {
  const { run } = plainWorld();
  const paid = counted(() => "paid");
  const flaky = counted((call) => (call === 1 ? Promise.reject(new Error("flaky")) : "fine"));
  const task = async (ctx: DurableContext) => [await ctx.step("pay", paid), await ctx.step("flaky", flaky)];
  expect((await rejection(run(task))).message).toBe("flaky");
  expect((await run(task)).result).toEqual(["paid", "fine"]);
  expect(paid.calls).toBe(1);
});

test("a lease held over a plain store is respected, renewed, and lost when its store says so", async () => {
  const { clock, plain, run } = plainWorld();
  const gate = Promise.withResolvers<string>();
  const attempt = rejection(run((ctx) => ctx.step("slow", () => gate.promise), { workerId: "mine" }));
  for (let i = 0; i < 12; i += 1) {
    await tick();
    clock.advance(LEASE_MS / 4);
  }
  await tick();
  expect(await rejection(run(async () => null))).toMatchObject({ code: "lease_held" });
  await plain.endRun({ runId: RUN_ID, workerId: "mine", status: "failed" });
  await plain.startOrResume({ runId: RUN_ID, manifest: MANIFEST, workerId: "theirs", leaseMs: LEASE_MS });
  clock.advance(LEASE_MS / 3);
  expect(await attempt).toMatchObject({ code: "lease_lost" });
  gate.resolve("late");
  await tick();
  expect((await plain.loadStep(RUN_ID, 0))?.status).toBe("running");
});

describe("a run that has completed over a plain store, which keeps no result,", () => {
  test("is replayed to find it, and nothing is written", async () => {
    const { clock, plain, run, steps } = plainWorld();
    const paid = counted(() => "paid");
    const no = counted(() => Promise.reject(Object.assign(new Error("no"), { code: "E_NO" })));
    const task = async (ctx: DurableContext) => {
      const aborted = new AbortController();
      void ctx.awaitEvent("never", { pollMs: 1_000 }).catch(() => aborted.abort());
      const why = await ctx.step("risky", no).catch((error: Error & { code: string }) => error.code);
      const { accepted } = await ctx.emitEvent("k", 1);
      return { paid: await ctx.step("pay", paid), why, accepted };
    };
    const first = await run(task);
    const before = JSON.stringify([await steps(3), first.record]);
    clock.advance(LEASE_MS * 100);
    const second = await run(task);
    expect(first.result).toEqual({ paid: "paid", why: "E_NO", accepted: true });
    // Without request ids a plain store cannot know its first emitter again.
    expect(second.result).toEqual({ paid: "paid", why: "E_NO", accepted: false });
    expect([paid.calls, no.calls]).toEqual([1, 1]);
    expect(second.record).toEqual(first.record);
    expect(JSON.stringify([await steps(3), (await run(task)).record])).toBe(before);
    expect((await plain.renewLease({ runId: RUN_ID, workerId: "x" })).ok).toBe(false);
  });

  test("is replayed without what it did not wait for, though that has come since", async () => {
    const { plain, run, steps } = plainWorld();
    const work = async (ctx: DurableContext) => {
      const worked = await ctx.step("work", async () => "worked");
      await tick();
      return worked;
    };
    const task = (ctx: DurableContext) =>
      Promise.race([ctx.awaitEvent("cancel").then(() => "cancelled"), work(ctx)]);
    expect((await run(task)).result).toBe("worked");
    await plain.emitEvent({ runId: RUN_ID, key: "cancel", payload: true });
    expect((await run(task)).result).toBe("worked");
    expect((await steps(2)).map((step) => step?.status)).toEqual(["running", "completed"]);
  });

  test("is not failed by code that has diverged since, and takes no new step", async () => {
    const { clock, run } = plainWorld();
    const fn = counted(() => 1);
    const task = (ctx: DurableContext) => ctx.step("one", fn);
    const { record } = await run(task);
    const wrong: [RunDurableInput<unknown>["taskFn"], RegExp][] = [
      [(ctx) => ctx.step("two", fn), /logic "one".*logic "two"/],
      [
        async (ctx) => [await ctx.step("one", fn), await ctx.step("two", fn)],
        /without a step 1.*logic "two"/,
      ],
      [async () => null, /without step 0/],
    ];
    for (const [diverged, message] of wrong) {
      const error = await rejection(run(diverged));
      expect(error).toMatchObject({
        code: "step_divergence",
        message: expect.stringMatching(message) as string,
      });
    }
    expect(await rejection(run(() => Promise.reject(new Error("own"))))).toMatchObject({ message: "own" });
    expect(fn.calls).toBe(1);
    clock.advance(LEASE_MS);
    const again = await run(task);
    expect(again.record).toEqual(record);
    expect(again.record.status).toBe("completed");
    expect(again.result).toBe(1);
  });

  test("may take longer to replay than a lease", async () => {
    const { clock, run } = plainWorld();
    let pauseMs = 0;
    const task = async (ctx: DurableContext) => {
      const one = await ctx.step("one", async () => 1);
      clock.advance(pauseMs);
      await tick();
      return [one, await ctx.step("two", async () => 2)];
    };
    await run(task);
    pauseMs = LEASE_MS * 3;
    expect((await run(task)).result).toEqual([1, 2]);
  });
});

test("what a plain store is given and hands out is not shared with the task", async () => {
  const { run, crash, plain } = plainWorld();
  const value = { n: 1 };
  const payload = { n: 1 };
  const seen: string[] = [];
  const last = counted((call) => (call < 3 ? never() : null));
  const task = async (ctx: DurableContext) => {
    await ctx.emitEvent("k", payload);
    const [step, event] = [
      await ctx.step("value", async () => value),
      await ctx.awaitEvent<typeof payload>("k"),
    ];
    seen.push(JSON.stringify([step, event]));
    for (const one of [step, event, value, payload]) one.n = 99;
    await ctx.step("last", last);
  };
  await crash(task, () => last.calls === 1);
  await crash(task, () => last.calls === 2);
  await run(task);
  expect(seen).toEqual(Array(3).fill('[{"n":1},{"n":1}]'));
  expect((await plain.loadEvent(RUN_ID, "k"))?.payload).toEqual({ n: 1 });
});

test("a plain store's wait counts from its latest begin, and times out", async () => {
  const { clock, run } = plainWorld();
  const error = await rejection(
    whileTimeFlies(
      clock,
      run((ctx) => ctx.awaitEvent("k", { timeoutMs: 5_000 })),
    ),
  );
  expect(error).toMatchObject({ code: "await_event_timeout" });
});

test.each<[string, (ctx: DurableContext) => Promise<unknown>, string]>([
  ["an empty intent", (ctx) => ctx.step("", async () => 1), "intent"],
  ["an intent of 2 KB", (ctx) => ctx.step("x".repeat(2_048), async () => 1), "intent"],
  ["a timeout of NaN", (ctx) => ctx.awaitEvent("k", { timeoutMs: Number.NaN }), "timeoutMs"],
  ["a timeout that leads to no date", (ctx) => ctx.awaitEvent("k", { timeoutMs: 9e15 }), "timeoutMs"],
  ["an empty key", (ctx) => ctx.emitEvent("", 1), "key"],
])("bad input is refused though a plain store checks nothing: %s", async (_what, call, field) => {
  const { run, steps } = plainWorld();
  expect(await rejection(run(call))).toMatchObject({ code: "invalid_input", field });
  expect(await steps(1)).toEqual([undefined]);
});

test("a divergence that only the plain store notices is one", async () => {
  const { run, crash } = plainWorld();
  const last = counted(() => never());
  await crash(
    (ctx) => ctx.step("one", last),
    () => last.calls === 1,
  );
  const error = await rejection(run((ctx) => ctx.step("two", async () => 1).catch(() => "made up")));
  expect(error).toMatchObject({ code: "step_divergence" });
  expect((await run((ctx) => ctx.step("one", async () => 1))).result).toBe(1);
});
