/** A run in one step of a Workflow, on the real local engine: its attempts, and who has the run. */
import { abortAllDurableObjects } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { codeOf, DurableStoreUnavailableError } from "../../src/contract/errors.ts";
import { newRunId } from "../../src/identity.ts";
import type { DurableContext } from "../../src/runner/types.ts";
import { inFrontOf } from "../../src/testing/in-front-of.ts";
import { aStep } from "../../src/testing/harness.ts";
import { wakeRun } from "../../src/workflows/start-run.ts";
import {
  AT_ONCE,
  claimedByAnother,
  ONE_ATTEMPT,
  startInWorkflow,
  storeOfRuns,
  until,
} from "./workflow-run.ts";

describe("a run in a Workflow", () => {
  it("answers where its result is, however large that is", async () => {
    const runId = newRunId();
    const big = "x".repeat(2_000_000);
    await using flow = await startInWorkflow(runId, (ctx) => ctx.step("write", async () => big));
    expect(await flow.pointer()).toEqual({
      runId,
      projectId: "conformance",
      status: "completed",
      completedAt: expect.stringMatching(/^\d{4}-.*Z$/) as string,
      stepCount: 1,
      resultBytes: 2_000_002,
    });
    expect((await storeOfRuns().loadRun(runId))?.result).toBe(big);
  });

  it("answers the same when its instance is restarted, without running the task again", async () => {
    const runId = newRunId();
    let calls = 0;
    await using flow = await startInWorkflow(runId, async () => void (calls += 1));
    const pointer = await flow.pointer();
    await flow.handle.restart();
    await until(() => flow.calls.length === 2 && flow.calls[1]?.answer !== undefined);
    expect(await flow.pointer()).toEqual(pointer);
    expect(pointer).toMatchObject({ stepCount: 0, resultBytes: 0 });
    expect(calls).toBe(1);
  });

  it("records the outcome that its result has", async () => {
    const runId = newRunId();
    const outcome = (score: number) => ({ pass: score > 0.5, score });
    await using flow = await startInWorkflow(runId, async () => 0.75, { outcome });
    await flow.pointer();
    expect((await storeOfRuns().loadRun(runId))?.outcome).toEqual({ pass: true, score: 0.75 });
  });

  it("that fails is tried again from the first step that is not on record", async () => {
    const runId = newRunId();
    const ran: string[] = [];
    const task = async (ctx: DurableContext) => {
      await ctx.step("first", async () => void ran.push("first"));
      await ctx.step("second", async () => {
        ran.push("second");
        if (ran.length < 4) throw new Error("not yet");
      });
    };
    await using flow = await startInWorkflow(runId, task);
    await flow.pointer();
    expect(ran).toEqual(["first", "second", "second", "second"]);
    const failed = { failed: { code: "task_failed", message: "not yet" }, retryAfterMs: 0 };
    expect(flow.calls).toMatchObject([
      { count: 1, attempt: 1, answer: failed },
      { count: 2, attempt: 1, answer: failed },
      { count: 3, attempt: 1, answer: { pointer: { runId } } },
    ]);
  });

  it("whose store is out of reach is tried again", async () => {
    const runId = newRunId();
    const claims = { attempt: 0 };
    const store = inFrontOf(storeOfRuns(), (method, _args, call) => {
      if (method === "startOrResume" && claims.attempt < 2) {
        throw new DurableStoreUnavailableError("out of reach");
      }
      return call();
    });
    // A claim is made again for as long as a lease would last.
    await using flow = await startInWorkflow(runId, async () => "there", { store, leaseMs: 500 });
    await until(() => (claims.attempt = flow.calls.at(-1)?.attempt ?? 0) === 2);
    await flow.pointer();
    expect(flow.calls).toMatchObject([
      { count: 1, attempt: 1 },
      { count: 1, attempt: 2 },
    ]);
  });

  it("whose retries are used up fails with its own failure, and a restart goes on from the record", async () => {
    const runId = newRunId();
    const ran: string[] = [];
    let isBroken = true;
    const taskRetries = { limit: 1, delayMs: 0 };
    await using flow = await startInWorkflow(
      runId,
      async (ctx) => {
        await ctx.step("first", async () => void ran.push("first"));
        if (isBroken) throw Object.assign(new RangeError("no seat left"), { code: "sold_out" });
      },
      { taskRetries },
    );
    expect((await flow.error()).message).toContain("[sold_out] no seat left");
    expect(flow.calls).toHaveLength(2);
    expect(await storeOfRuns().loadRun(runId)).toMatchObject({
      status: "failed",
      error: { name: "RangeError", message: "no seat left", code: "sold_out" },
    });
    isBroken = false;
    expect(await wakeRun(env.SCRIPTED, runId)).toBe("restarted");
    await until(async () => (await flow.handle.status()).status === "complete");
    expect(ran).toEqual(["first"]);
  });
});

describe("an attempt that took too long", () => {
  it("goes on without the platform, and what it writes late is refused: the later attempt has the run", async () => {
    const runId = newRunId();
    const writes: string[] = [];
    const gate = { isOpen: false, zombie: "at work" };
    const executions: number[] = [];
    const acknowledged: unknown[] = [];
    // It cannot hear that it has lost the run before it writes.
    const deaf = new Proxy(storeOfRuns(), {
      get: (store, property) => {
        const value: unknown = property === "watchLease" ? undefined : Reflect.get(store, property);
        return typeof value === "function" ? (value.bind(store) as unknown) : value;
      },
    });
    const store = inFrontOf(deaf, async (method, [input], call) => {
      if (method !== "completeStep") return call();
      const { fence } = input as { fence: number };
      try {
        const answer = await call();
        writes.push(`fence ${fence} accepted`);
        return answer;
      } catch (error) {
        writes.push(`fence ${fence} ${codeOf(error)}`);
        throw error;
      }
    });
    await using flow = await startInWorkflow(
      runId,
      async (ctx) => {
        const execution = executions.push(executions.length + 1);
        try {
          const result = await ctx.step("slow", async () => {
            if (execution === 1) await until(() => gate.isOpen);
            return `of execution ${execution}`;
          });
          acknowledged.push(result);
          return result;
        } finally {
          if (execution === 1) gate.zombie = "gone";
        }
      },
      { store, stepConfig: { ...AT_ONCE, timeout: 1_000 } },
    );
    await flow.pointer();
    expect(gate.zombie).toBe("at work");
    const before = await storeOfRuns().loadRun(runId);
    gate.isOpen = true;
    await until(() => gate.zombie === "gone");
    expect(writes).toHaveLength(2);
    expect(writes[0]).toMatch(/^fence \d+ accepted$/);
    expect(writes[1]).toBe("fence 1 lease_lost");
    const last = executions.length;
    expect(last).toBeGreaterThan(1);
    expect(acknowledged).toEqual([`of execution ${last}`]);
    expect(await storeOfRuns().loadRun(runId)).toEqual(before);
    expect(before).toMatchObject({ status: "completed", result: `of execution ${last}` });
    expect(await storeOfRuns().loadStep(runId, 0)).toMatchObject({ result: `of execution ${last}` });
  });
});

describe("a claim of an attempt that the platform has given up on", () => {
  it("is not made again once a later attempt has begun: that one keeps the run", async () => {
    const runId = newRunId();
    const claims: string[] = [];
    let isInStep = false;
    const store = inFrontOf(storeOfRuns(), async (method, _args, call) => {
      if (method !== "startOrResume") return call();
      if (claims.push("begun") > 1) return call();
      await until(() => isInStep);
      claims.push("failed");
      throw new DurableStoreUnavailableError("out of reach");
    });
    let isDone = false;
    let steps = 0;
    await using flow = await startInWorkflow(
      runId,
      (ctx) =>
        ctx.step(
          "pay",
          async ({ signal }) => {
            steps += 1;
            isInStep = true;
            await until(() => claims.includes("failed"));
            await until(() => claims.length > 3 || flow.calls[0]?.answer !== undefined);
            isDone = !signal.aborted;
            return "paid";
          },
          { onInterrupted: "park" },
        ),
      { store, stepConfig: { ...AT_ONCE, timeout: 1_000 } },
    );
    await flow.pointer();
    expect(claims).toEqual(["begun", "begun", "failed"]);
    expect([steps, isDone]).toEqual([1, true]);
    expect(await storeOfRuns().loadRun(runId)).toMatchObject({ status: "completed", result: "paid" });
  });
});

describe("a run that another worker holds", () => {
  it("is waited for without using up attempts, and taken over once the lease has lapsed", async () => {
    const { runId } = await claimedByAnother(1_500);
    await using flow = await startInWorkflow(runId, async () => "taken over", {
      stepConfig: ONE_ATTEMPT,
    });
    await flow.pointer();
    expect(flow.calls.length).toBeGreaterThan(1);
    expect(flow.calls).toMatchObject(flow.calls.map((_, i) => ({ count: i + 1, attempt: 1 })));
    expect(flow.calls[0]?.answer).toEqual({ heldForMs: expect.any(Number) as number });
  });

  it("may be ended by that worker: its result is the run's, and the task is not called", async () => {
    const { runId, store, fence } = await claimedByAnother(600_000);
    let called = false;
    await using flow = await startInWorkflow(
      runId,
      async () => void (called = true),
      { stepConfig: ONE_ATTEMPT },
      (instance) => instance.modify((m) => m.disableSleeps()),
    );
    await until(() => flow.calls.some(({ answer }) => answer !== undefined));
    await store.endRun({ runId, workerId: "another", status: "completed", fence, result: "theirs" });
    expect(await flow.pointer()).toMatchObject({ runId, resultBytes: 8 });
    expect(called).toBe(false);
    expect(flow.calls.every(({ attempt }) => attempt === 1)).toBe(true);
  });

  it("that was taken from an attempt is waited for in the same way", async () => {
    const runId = newRunId();
    const calls: number[] = [];
    await using flow = await startInWorkflow(
      runId,
      (ctx) =>
        ctx.step("work", async ({ signal }) => {
          if (calls.push(calls.length) > 1) return "done";
          // Forgets this very step, once it is seen running, and fences the attempt.
          await until(async () => (await storeOfRuns().loadStep(runId, 0)) !== undefined);
          await storeOfRuns().restartRun(runId, { fromStep: 0, dropLater: true });
          await until(() => signal.aborted);
          return "late";
        }),
      { stepConfig: ONE_ATTEMPT },
    );
    await flow.pointer();
    expect((await storeOfRuns().loadRun(runId))?.result).toBe("done");
    expect(flow.calls).toMatchObject([
      { count: 1, attempt: 1, answer: { isTaken: true } },
      { count: 2, attempt: 1 },
    ]);
  });
});

describe("a step that waits for a decision", () => {
  it.each(["woken", "looking again by itself"])(
    "leaves the instance waiting without using up attempts: %s",
    async (how) => {
      // A worker that died in the step, whose lease has yet to lapse.
      const { runId, store, fence } = await claimedByAnother(1_000);
      await store.beginStep(aStep(runId, 0, { intent: "pay", fence, onInterrupted: "park" }));
      let paid = 0;
      await using flow = await startInWorkflow(
        runId,
        (ctx) => ctx.step("pay", async () => (paid += 1), { onInterrupted: "park" }),
        { stepConfig: ONE_ATTEMPT },
        (instance) =>
          instance.modify(async (m) => {
            if (how !== "woken") await m.forceEventTimeout({ name: "run (decision)" });
          }),
      );
      const looks = () =>
        flow.calls.filter(({ answer }) => JSON.stringify(answer) === '{"suspendedAt":0}').length;
      await until(() => looks() === (how === "woken" ? 1 : 2));
      expect(await store.loadRun(runId)).toMatchObject({ status: "suspended" });
      await store.resolveStep(runId, 0, { result: "receipt 7" });
      expect(await wakeRun(env.SCRIPTED, runId)).toBe("told");
      await flow.pointer();
      expect((await store.loadRun(runId))?.result).toBe("receipt 7");
      expect(paid).toBe(0);
      expect(flow.calls.every(({ attempt }) => attempt === 1)).toBe(true);
    },
  );

  it("does not keep a run that is cancelled meanwhile", async () => {
    const { runId, store, fence } = await claimedByAnother(1_000);
    await store.beginStep(aStep(runId, 0, { intent: "pay", fence, onInterrupted: "park" }));
    const task = (ctx: DurableContext) => ctx.step("pay", async () => null, { onInterrupted: "park" });
    await using flow = await startInWorkflow(runId, task);
    await until(async () => (await store.loadRun(runId))?.status === "suspended");
    await store.cancelRun(runId, "no longer wanted");
    await wakeRun(env.SCRIPTED, runId);
    expect(await flow.error()).toMatchObject({
      code: "run_cancelled",
      message: expect.stringContaining("[run_cancelled]") as string,
    });
  });
});

describe("a run in the middle of a step", () => {
  it("goes on where the record ends when its engine is stopped: the new attempt has the run at once", async () => {
    const runId = newRunId();
    const ran: string[] = [];
    await using flow = await startInWorkflow(
      runId,
      async (ctx) => {
        await ctx.step("first", async () => void ran.push("first"));
        await ctx.step("second", async ({ signal }) => {
          if (ran.push("second") === 2) await until(() => signal.aborted);
        });
      },
      // Nobody waits for it to lapse.
      { leaseMs: 86_400_000 },
    );
    await until(() => ran.includes("second"));
    await flow.handle.terminate();
    expect(await storeOfRuns().loadRun(runId)).toMatchObject({ status: "running" });
    expect(await wakeRun(env.SCRIPTED, runId)).toBe("restarted");
    await until(async () => (await (await env.SCRIPTED.get(runId)).status()).status === "complete");
    expect(await storeOfRuns().loadRun(runId)).toMatchObject({ status: "completed", takeovers: 1 });
    expect(ran).toEqual(["first", "second", "second"]);
  });

  it("outlives its coordinator", async () => {
    const runId = newRunId();
    const gate = { isOpen: false, entered: false };
    await using flow = await startInWorkflow(runId, async (ctx) => {
      const first = await ctx.step("first", async () => 1);
      const second = await ctx.step("second", async () => {
        gate.entered = true;
        await until(() => gate.isOpen);
        return 2;
      });
      return first + second;
    });
    await until(() => gate.entered);
    await abortAllDurableObjects();
    gate.isOpen = true;
    await flow.pointer();
    expect(await storeOfRuns().loadRun(runId)).toMatchObject({ status: "completed", result: 3 });
  });
});
