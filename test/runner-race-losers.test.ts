/** R32: the branches of a race that did not come first are stopped and dropped, with all that they have under way. */
import { describe, expect, test } from "vitest";
import type { DurableContext, StepInfo } from "../src/runner/types.ts";
import { recorded, Turns } from "./helpers/branches.ts";
import { counted, never, newWorld, rejection, RUN_ID, tick, until } from "./support/world.ts";

describe("a branch that has lost", () => {
  test("has its signals aborted, takes no further step, and the result of the one that it is in is dropped", async () => {
    const world = newWorld();
    const turns = new Turns();
    const signals: AbortSignal[] = [];
    const late: unknown[] = [];
    const task = async (ctx: DurableContext) => {
      const won = await ctx.race({
        a: (c) => c.step("a", turns.of("a")),
        b: async (c) => {
          const work = ({ signal }: StepInfo) => (signals.push(c.signal, signal), turns.of("b")());
          late.push((await rejection(c.step("b", work, { timeoutMs: 60_000 }))).code);
          for (const call of [() => c.uuid(), () => c.emitEvent("k", 1), () => c.all([async () => 1])]) {
            late.push((await rejection(call())).code);
          }
          return "too late";
        },
      });
      await turns.end("b");
      await tick();
      return [won, ctx.signal.aborted];
    };
    const running = world.run(task);
    await until(() => turns.called.length === 2);
    expect(signals.map(({ aborted }) => aborted)).toEqual([false, false]);
    await turns.end("a");
    expect((await running).result).toEqual(["a", false]);
    expect(signals.map(({ reason }) => (reason as { code: string }).code)).toEqual([
      "branch_stopped",
      "branch_stopped",
    ]);
    expect(late).toEqual(Array(4).fill("branch_stopped"));
    expect(await recorded(world)).toEqual({
      "0/a/0": "a: completed, 1",
      "0/b/0": "b: failed, 1",
      "0": "ctx.race: completed, 1",
    });
    expect(await world.step(1)).toMatchObject({ error: { code: "branch_stopped" } });
    expect(await world.memory.loadEvent(RUN_ID, "k")).toBeUndefined();
  });

  test("does not keep the run from its end, though it never settles", async () => {
    const world = newWorld();
    const { result, record } = await world.run((ctx) =>
      ctx.race({
        stuck: () => never(),
        inStep: (c) => c.step("stuck", () => never()),
        deeper: (c) =>
          c.all({
            x: () => never(),
            y: (d) => d.race([() => never(), (e) => e.step("stuck", () => never())]),
          }),
        quick: (c) => c.step("quick", async () => "quick"),
      }),
    );
    expect(result).toBe("quick");
    expect(record.status).toBe("completed");
  });

  test("is waited for no longer by the run: not its event, its sleep, its next attempt, nor those of its own branches", async () => {
    const world = newWorld();
    const turns = new Turns();
    const later = { retries: () => 50_000 };
    const task = async (ctx: DurableContext) => {
      await ctx.race({
        a: (c) => c.step("a", turns.of("a")),
        b: (c) => c.awaitEvent("k"),
        c: (c) =>
          c.all({
            x: (d) => d.sleep(40_000),
            y: (d) => d.step("y", () => Promise.reject(new Error("no")), later),
          }),
      });
      return ctx.step("after", turns.of("after"));
    };
    const running = world.run(task);
    await until(() => world.record().waitingFor?.length === 3);
    await turns.end("a");
    await until(() => turns.called.includes("after"));
    expect(world.record().waitingFor).toBeUndefined();
    await turns.end("after");
    expect((await running).result).toBe("after");
  });

  test("begins no step while the outcome is being recorded, and none whose begin was on its way is run", async () => {
    const world = newWorld();
    const turns = new Turns();
    const tooLate = counted(() => "too late");
    const gates = { begin: Promise.withResolvers<void>(), outcome: Promise.withResolvers<void>() };
    world.store.hooks.beginStep = async (pass, { intent }) => {
      if (intent === "begun late") await gates.begin.promise;
      return pass();
    };
    world.store.hooks.completeStep = async (pass, { stepIndex }) => {
      if (stepIndex === 3) await gates.outcome.promise;
      return pass();
    };
    const task = async (ctx: DurableContext) => {
      const won = await ctx.race({
        a: (c) => c.step("a", turns.of("a")),
        b: async (c) => [await c.step("b", turns.of("b")), await c.step("next", tooLate)],
        c: (c) => c.step("begun late", tooLate),
      });
      gates.begin.resolve();
      return won;
    };
    const running = world.run(task);
    await turns.end("a");
    await until(() => world.store.count("completeStep") === 2);
    // Until the outcome stands, what is under way may count.
    await turns.end("b");
    await until(() => world.store.count("completeStep") === 3);
    gates.outcome.resolve();
    expect((await running).result).toBe("a");
    expect(tooLate.calls).toBe(0);
    expect(await recorded(world)).toMatchObject({
      "0/b/0": "b: completed, 1",
      "0/c/0": "begun late: failed, 1",
    });
  });

  test.each([
    ["park", "run_suspended"],
    ["fail", "branch_stopped"],
    ["rerun", "paid"],
  ] as const)(
    "in a step with onInterrupted: %s has that done to it, should the race be run again",
    async (onInterrupted, becomes) => {
      const world = newWorld();
      const turns = new Turns();
      const pay = counted((call) => (call === 1 ? never<string>() : "paid"));
      const task = (ctx: DurableContext) =>
        ctx.race({
          pay: (c) => c.step("pay", pay, { onInterrupted }),
          other: (c) => c.step("other", turns.of("other")),
        });
      const running = rejection(world.run(task));
      await turns.fail("other", new Error("no"));
      expect((await running).message).toBe("no");
      expect((await world.step(0))?.inDoubt).toBe(onInterrupted === "rerun" ? undefined : true);
      const again = world.run(task).then(
        ({ result }) => result,
        ({ code }: { code: string }) => code,
      );
      if (onInterrupted === "park") await turns.end("other");
      expect(await again).toBe(becomes);
      expect(pay.calls).toBe(onInterrupted === "rerun" ? 2 : 1);
    },
  );

  test("is stopped with all that it has in its own branches, and catching that does not bring it back", async () => {
    const world = newWorld();
    const turns = new Turns();
    const signals: AbortSignal[] = [];
    const further = counted(() => 1);
    const task = (ctx: DurableContext) =>
      ctx.race({
        a: (c) => c.step("a", turns.of("a")),
        b: async (c) => {
          const stuck = async (d: DurableContext) => {
            signals.push(d.signal);
            await d.step("stuck", () => never()).catch(() => {});
            return d.step("further", further).catch(() => "caught");
          };
          return c.all([stuck, (d) => d.race([stuck])]).catch(() => c.step("further", further));
        },
      });
    const running = world.run(task);
    await until(() => signals.length === 2);
    await turns.end("a");
    expect((await running).result).toBe("a");
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, true]);
    expect(further.calls).toBe(0);
  });
});
