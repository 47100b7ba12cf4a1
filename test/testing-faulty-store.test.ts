/** FaultyStore: what befalls a call, what is counted, and that without a fault it is the store that it wraps. */
import { describe, expect, test } from "vitest";
import { runDurable } from "../src/runner/run-durable.ts";
import { InMemoryDurableRunStore } from "../src/stores/memory.ts";
import { TestClock } from "../src/testing/clock.ts";
import { describeRunStore } from "../src/testing/describe-run-store.ts";
import { FaultyStore } from "../src/testing/faulty-store.ts";
import type { StoreFault } from "../src/testing/faulty-store.ts";
import { aRun } from "../src/testing/harness.ts";
import { SkippingClock } from "../src/testing/skipping-clock.ts";
import { PlainStore } from "./support/plain-store.ts";
import { counted, MANIFEST, plainError, rejection, RUN_ID, tick } from "./support/world.ts";

describeRunStore("FaultyStore, without a fault,", {
  newStore: () => {
    const clock = new TestClock();
    return { store: new FaultyStore(new InMemoryDurableRunStore({ clock })), clock };
  },
});

function newWorld() {
  const clock = new SkippingClock();
  // Each begin is a call, as it is counted and made to fail here.
  const memory = new InMemoryDurableRunStore({ clock, beginAfterMs: 0 });
  const store = new FaultyStore(memory);
  return {
    clock,
    memory,
    store,
    /** Befalls the first call of `method`. */
    once: (method: string, fault: StoreFault): void => {
      store.fault = (call) => (call.method === method && call.number === 1 ? fault : "none");
    },
    run: (work: () => Promise<unknown>) =>
      runDurable({
        runId: RUN_ID,
        manifest: MANIFEST,
        store,
        clock,
        taskFn: (ctx) => ctx.step("work", work),
      }),
  };
}

describe("a call", () => {
  test("that fails before, rejects with store_unavailable and changes nothing", async () => {
    const { store, memory, once } = newWorld();
    once("startOrResume", "before");
    const error = await rejection(store.startOrResume(aRun()));
    expect(error).toMatchObject({ code: "store_unavailable" });
    expect(error.message).toContain("startOrResume");
    const input = aRun();
    once("emitEvent", "before");
    await rejection(store.emitEvent({ runId: input.runId, key: "go", payload: 1 }));
    expect(await memory.loadEvent(input.runId, "go")).toBeUndefined();
  });

  test("that fails after, rejects with store_unavailable and has taken effect", async () => {
    const { store, memory, once } = newWorld();
    const input = aRun();
    once("startOrResume", "after");
    expect(await rejection(store.startOrResume(input))).toMatchObject({ code: "store_unavailable" });
    expect(await memory.loadRun(input.runId)).toMatchObject({ status: "running" });
  });

  test("that fails after, and is refused, rejects with the refusal", async () => {
    const { store, once } = newWorld();
    once("completeStep", "after");
    const completion = { runId: aRun().runId, stepIndex: 0, result: 1 };
    expect(await rejection(store.completeStep(completion))).toMatchObject({ code: "run_not_found" });
  });

  test("that hangs never settles and changes nothing", async () => {
    const { store, memory, once } = newWorld();
    const input = aRun();
    once("startOrResume", "hang");
    let settled = false;
    const settle = (): void => void (settled = true);
    store.startOrResume(input).then(settle, settle);
    for (let i = 0; i < 10; i += 1) await tick();
    expect(settled).toBe(false);
    expect(await memory.loadRun(input.runId)).toBeUndefined();
  });

  test("that fails with an error rejects with that error and changes nothing", async () => {
    const { store, memory, once } = newWorld();
    const input = aRun();
    const error = plainError();
    once("startOrResume", error);
    expect(await rejection(store.startOrResume(input))).toBe(error);
    expect(await memory.loadRun(input.runId)).toBeUndefined();
  });
});

describe("what is counted", () => {
  test("is each call of each method, failed ones included, with its arguments", async () => {
    const { store, run, once } = newWorld();
    once("completeStep", "before");
    await run(async () => "done");
    expect(store.count("completeStep")).toBe(2);
    expect(store.count("beginStep")).toBe(1);
    expect(store.count("failStep")).toBe(0);
    expect(store.faults).toBe(1);
    const completions = store.calls.filter(({ method }) => method === "completeStep");
    expect(completions.map(({ number }) => number)).toEqual([1, 2]);
    expect(completions[1]?.args).toMatchObject([{ runId: RUN_ID, stepIndex: 0, result: "done" }]);
    expect(completions[1]?.args).toEqual(completions[0]?.args);
  });

  test("tells the types of the arguments by the method", async () => {
    const { store, run } = newWorld();
    const intents: string[] = [];
    store.fault = (call) => {
      if (call.method === "beginStep") intents.push(call.args[0].intent);
      return "none";
    };
    await run(async () => "done");
    expect(intents).toEqual(["work"]);
  });
});

describe("a store around a store", () => {
  test("has what is optional exactly when the inner one does", () => {
    const plain = new FaultyStore(new PlainStore(Date.now));
    const full = new FaultyStore(new InMemoryDurableRunStore());
    const optional = [
      "beginAfterMs",
      "loadRun",
      "waitForEvent",
      "watchLease",
      "suspendRun",
      "cancelRun",
      "resolveStep",
      "restartRun",
      "forkRun",
    ] as const;
    expect(optional.filter((name) => plain[name] !== undefined)).toEqual([]);
    expect(optional.filter((name) => full[name] === undefined)).toEqual([]);
    expect(optional.filter((name) => name in plain)).toEqual([]);
    expect(optional.filter((name) => !(name in full))).toEqual([]);
  });
});

describe("a run over it", () => {
  test.each<[string, StoreFault]>([
    ["startOrResume", "before"],
    ["startOrResume", "after"],
    ["beginStep", "before"],
    ["beginStep", "after"],
    ["completeStep", "before"],
    ["completeStep", "after"],
    ["completeStep", plainError()],
    ["endRun", "before"],
    ["endRun", "after"],
  ])("whose first %s fails (%s) does its work once", async (method, fault) => {
    const { run, once, store } = newWorld();
    once(method, fault);
    const work = counted(() => "done");
    expect((await run(work)).result).toBe("done");
    expect(work.calls).toBe(1);
    expect(store.faults).toBe(1);
  });

  test("whose completion hangs completes when the call is given up and made again", async () => {
    const { run, once, clock, store } = newWorld();
    once("completeStep", "hang");
    const work = counted(() => "done");
    const attempt = run(work);
    await expect.poll(() => store.count("completeStep"), { interval: 1 }).toBe(1);
    await clock.delay(300_000);
    expect((await attempt).result).toBe("done");
    expect(work.calls).toBe(1);
    expect(store.count("completeStep")).toBe(2);
  });
});
