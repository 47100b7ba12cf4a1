/** A parked step beside a branch that decides its group. */
import { expect, test } from "vitest";
import { runDurable } from "../src/runner/run-durable.ts";
import type { DurableContext } from "../src/runner/types.ts";
import { InMemoryDurableRunStore } from "../src/stores/memory.ts";
import { LEASE_MS, MANIFEST, never, rejection, RUN_ID, tick } from "./support/world.ts";
import { ManualClock } from "./support/manual-clock.ts";
import { WrappedStore } from "./support/wrapped-store.ts";

type Task = (ctx: DurableContext) => Promise<unknown>;

function world() {
  const clock = new ManualClock();
  const store = new InMemoryDurableRunStore({ clock });
  const run = (taskFn: Task, over: object = store) =>
    runDurable({
      runId: RUN_ID,
      manifest: MANIFEST,
      store: over as typeof store,
      clock,
      leaseMs: LEASE_MS,
      taskFn,
    });
  /** The worker dies in the steps that never settle. */
  const die = async (taskFn: Task): Promise<void> => {
    const attempt = run(taskFn);
    attempt.catch(() => {});
    for (let i = 0; i < 5; i += 1) await tick();
    clock.advance(LEASE_MS);
    await attempt.catch(() => {});
  };
  return { clock, store, run, die };
}

const pay = (ctx: DurableContext): Promise<unknown> =>
  ctx.step("pay", () => never(), { onInterrupted: "park" });

test.each(["all", "race"] as const)(
  "in ctx.%s, a run is suspended for it, though another branch fails at once",
  async (group) => {
    const { store, run, die } = world();
    await die((ctx) => ctx[group]({ a: pay, b: () => never() }));
    const task: Task = (ctx) => ctx[group]({ a: pay, b: () => Promise.reject(new Error("b")) });
    for (let call = 0; call < 3; call += 1) {
      const error = await rejection(run(task));
      const record = await store.loadRun(RUN_ID);
      // Whichever came first: a failed run, or one that says what it waits for.
      if (error.message === "b") expect(record?.status).toBe("failed");
      else
        expect(record).toMatchObject({
          status: "suspended",
          waitingFor: [{ stepIndex: 0, for: "decision" }],
        });
    }
  },
);

test("a branch that has lost its race does not park the run", async () => {
  const { store, run, die } = world();
  await die((ctx) => ctx.race({ a: pay, b: () => never() }));
  const slow = new WrappedStore(store, { pushes: true });
  let answer = (): void => {};
  const answered = new Promise<void>((resolve) => (answer = resolve));
  slow.hooks.beginStep = async (pass, input) => {
    const begun = await pass();
    if (input.intent === "pay") await answered;
    return begun;
  };
  const work = run(async (ctx) => {
    const first = await ctx.race({ a: pay, b: async () => "b" });
    answer();
    return [first, await ctx.step("later", async () => "done")];
  }, slow);
  expect((await work).result).toEqual(["b", "done"]);
});
