/**
 * Whole tasks over the store: what a task is promised, it is promised by runDurable and the store together. First what the
 * context alone promises, then what of it is on record.
 */
import { describe, expect } from "vitest";
import { codeOf } from "../../contract/errors.ts";
import type { DurableRunStore } from "../../contract/types.ts";
import { newRunId } from "../../identity.ts";
import { runDurable } from "../../runner/run-durable.ts";
import type { DurableContext, RunDurableResult } from "../../runner/types.ts";
import { RERUN } from "../../runner/types.ts";
import type { ContextRun, ContextTask, StartContext } from "../context-harness.ts";
import { describeContext } from "../describe-durable-context.ts";
import { aStep, MANIFEST } from "../harness.ts";
import type { Suite } from "./suite.ts";

const LEASE_MS = 30_000;

export function describeTasks(suite: Suite): void {
  const { itWith } = suite;

  const run = <T>(
    store: DurableRunStore,
    runId: string,
    taskFn: (ctx: DurableContext) => Promise<T>,
  ): Promise<RunDurableResult<T>> => {
    const { clock } = suite;
    return runDurable({ runId, store, clock, leaseMs: LEASE_MS, manifest: MANIFEST, taskFn });
  };

  /** The code that a run ends with. */
  const codeOfRun = (work: Promise<unknown>): Promise<string | undefined> =>
    work.then(
      () => "completed",
      (error: unknown) => codeOf(error) ?? (error as Error).message,
    );

  /** A run whose worker died in its only step, "pay", so that it is in doubt. */
  const interrupted = async (store: DurableRunStore, onInterrupted: "fail" | "park" | "reconcile") => {
    const runId = newRunId();
    const claim = { runId, manifest: MANIFEST, workerId: "worker-1", leaseMs: LEASE_MS };
    const { fence = 0 } = await store.startOrResume(claim);
    await store.beginStep(aStep(runId, 0, { intent: "pay", fence, onInterrupted }));
    suite.clock.advance(LEASE_MS + 1);
    return runId;
  };

  /** At first the run is left open, by a failure of ours: one that has completed would not be replayed. */
  const start: StartContext = async <T>(task: ContextTask<T>): Promise<ContextRun<T>> => {
    const { store } = suite;
    const runId = newRunId();
    const leftOpen = new Error("the run is to be replayed");
    const once = async <R>(taskFn: ContextTask<R>, isLast: boolean): Promise<R> => {
      const returned: R[] = [];
      const ended = run(store, runId, async (ctx) => {
        returned.push(await taskFn(ctx));
        if (!isLast) throw leftOpen;
      });
      await ended.catch((error: unknown) => {
        if (error !== leftOpen) throw error;
      });
      return returned[0] as R;
    };
    const first = once(task, false);
    first.catch(() => {});
    return {
      runId,
      result: () => first,
      emit: async (key, payload) => void (await store.emitEvent({ runId, key, payload })),
      replay: <R = T>(other?: ContextTask<R>) => once((other ?? task) as ContextTask<R>, true),
    };
  };

  describe("the context of a task", () => {
    describeContext((title, body) => itWith(["tries"], title, () => body(start)));
  });

  describe("a task", () => {
    itWith(["tries"], "has its failed step tried again, and each attempt recorded", async (store) => {
      const runId = newRunId();
      const attempts: number[] = [];
      const { result } = await run(store, runId, (ctx) =>
        ctx.step(
          "flaky",
          async ({ attempt }) => {
            attempts.push(attempt);
            if (attempt < 3) throw new Error(`attempt ${attempt}`);
            return "third time";
          },
          { retries: { limit: 3, delayMs: 5, backoff: "constant" } },
        ),
      );
      expect(result).toBe("third time");
      expect(attempts).toEqual([1, 2, 3]);
      expect(await store.loadStep(runId, 0)).toMatchObject({
        attempts: 3,
        lastError: { message: "attempt 2" },
      });
    });

    itWith(
      ["tries"],
      "has an attempt that takes too long aborted, and its late result dropped",
      async (store) => {
        const runId = newRunId();
        const late = ({ signal }: { signal: AbortSignal }): Promise<string> =>
          new Promise((resolve) => signal.addEventListener("abort", () => resolve("late")));
        const work = run(store, runId, (ctx) => ctx.step("slow", late, { timeoutMs: 5 }));
        expect(await codeOfRun(work)).toBe("step_timeout");
        expect(await store.loadStep(runId, 0)).toMatchObject({
          status: "failed",
          error: { code: "step_timeout" },
        });
      },
    );

    itWith(["tries"], "sleeps as a step", async (store) => {
      const runId = newRunId();
      await run(store, runId, (ctx) => ctx.sleep(5));
      const step = await store.loadStep(runId, 0);
      expect(step).toMatchObject({ status: "completed", kind: "deterministic" });
      expect(Date.parse(step?.deadlineAt ?? "") - Date.parse(step?.startedAt ?? "")).toBe(5);
    });

    itWith(
      ["loadRun", "tries"],
      "gets an event that comes while it waits, and is told apart as waiting",
      async (store) => {
        const runId = newRunId();
        const work = run(store, runId, (ctx) => ctx.awaitEvent("approve", { pollMs: 5 }));
        const waits = async () => (await store.loadRun?.(runId))?.waitingFor;
        while ((await waits()) === undefined) await suite.clock.sleep(5);
        expect(await waits()).toMatchObject([{ stepIndex: 0, for: "event", key: "approve" }]);
        await store.emitEvent({ runId, key: "approve", payload: "yes" });
        expect((await work).result).toBe("yes");
        expect(await waits()).toBeUndefined();
      },
    );

    itWith(
      ["cancelRun", "tries"],
      "is stopped by a cancel: its signal aborts, and it is told why",
      async (store) => {
        const runId = newRunId();
        let stopped = (_reason: unknown): void => {};
        const reason = new Promise<unknown>((resolve) => (stopped = resolve));
        const work = run(store, runId, (ctx) =>
          ctx.step("long", async ({ signal }) => {
            await store.cancelRun(runId, "enough");
            while (!signal.aborted) {
              suite.clock.advance(1_000);
              await suite.clock.sleep(5);
            }
            stopped(signal.reason);
          }),
        );
        expect(await codeOfRun(work)).toBe("run_cancelled");
        expect(codeOf(await reason)).toBe("run_cancelled");
        expect(await store.loadRun?.(runId)).toMatchObject({
          status: "cancelled",
          error: { message: "enough" },
        });
      },
    );
  });

  describe("a task whose worker died in a step", () => {
    const paying =
      (onInterrupted: "fail" | "park" | { reconcile: () => Promise<unknown> }, calls: string[]) =>
      (ctx: DurableContext): Promise<unknown> =>
        ctx.step("pay", async () => (calls.push("pay"), "paid"), { onInterrupted });

    itWith(
      ["resolveStep", "suspendRun", "tries"],
      "is parked until somebody decides, and goes on then",
      async (store) => {
        const runId = await interrupted(store, "park");
        const calls: string[] = [];
        expect(await codeOfRun(run(store, runId, paying("park", calls)))).toBe("run_suspended");
        expect(await store.loadRun?.(runId)).toMatchObject({
          status: "suspended",
          waitingFor: [{ stepIndex: 0, for: "decision" }],
        });
        await store.resolveStep(runId, 0, { result: "receipt 7" });
        expect((await run(store, runId, paying("park", calls))).result).toBe("receipt 7");
        expect(calls).toEqual([]);
      },
    );

    itWith(["resolveStep", "tries"], "fails of it at each attempt, until somebody decides", async (store) => {
      const runId = await interrupted(store, "fail");
      const calls: string[] = [];
      for (let call = 0; call < 2; call += 1) {
        expect(await codeOfRun(run(store, runId, paying("fail", calls)))).toBe("step_interrupted");
      }
      expect(calls).toEqual([]);
      await store.resolveStep(runId, 0, { rerun: true });
      expect((await run(store, runId, paying("fail", calls))).result).toBe("paid");
    });

    itWith(
      ["resolveStep", "tries"],
      "finds out what became of it, and runs it again only where that is said",
      async (store) => {
        const answers: [unknown, unknown, string[]][] = [
          ["found", "found", []],
          [RERUN, "paid", ["pay"]],
        ];
        for (const [found, result, ran] of answers) {
          const runId = await interrupted(store, "reconcile");
          const calls: string[] = [];
          const task = paying({ reconcile: async () => found }, calls);
          expect((await run(store, runId, task)).result).toBe(result);
          expect(calls).toEqual(ran);
        }
      },
    );
  });
}
