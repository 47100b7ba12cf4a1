/** What ends an instance at once, on the real local engine: what no further attempt of its run would mend. */
import { NonRetryableError as PlatformError } from "cloudflare:workflows";
import { describe, expect, it } from "vitest";
import { DurableForbiddenError, NonRetryableError } from "../../src/contract/errors.ts";
import type { DurableRunStore } from "../../src/contract/types.ts";
import { newRunId } from "../../src/identity.ts";
import { runDurable } from "../../src/runner/run-durable.ts";
import type { DurableContext } from "../../src/runner/types.ts";
import { MANIFEST } from "../../src/testing/harness.ts";
import { inFrontOf } from "../../src/testing/in-front-of.ts";
import type { RunOutcome } from "../../src/contract/types.ts";
import { startInWorkflow, storeOfRuns, type Settings } from "./workflow-run.ts";

type Task = (ctx: DurableContext) => Promise<unknown>;

interface Refused {
  readonly task: Task;
  readonly settings?: Settings<unknown>;
  /** What was done with the run before. */
  readonly before?: (store: DurableRunStore, runId: string) => Promise<unknown>;
}

const nothing: Task = async () => null;
const step =
  (intent: string, inputFingerprint?: unknown): Task =>
  (ctx) =>
    ctx.step(intent, async () => null, { inputFingerprint });

/** A run that has the task's steps on record, and then failed. */
const failedAfter =
  (task: Task): NonNullable<Refused["before"]> =>
  async (store, runId) => {
    const taskFn: Task = async (ctx) => {
      await task(ctx);
      throw new Error("broken");
    };
    await runDurable({ runId, manifest: MANIFEST, store, taskFn }).catch(() => {});
  };

const refused: [code: string, Refused][] = [
  [
    "manifest_mismatch",
    {
      task: nothing,
      before: failedAfter(nothing),
      settings: { manifest: { ...MANIFEST, input: { other: 1 } } },
    },
  ],
  ["step_divergence", { task: step("b"), before: failedAfter(step("a")) }],
  ["step_input_mismatch", { task: step("a", 2), before: failedAfter(step("a", 1)) }],
  ["payload_not_json", { task: async () => ({ count: 1n }) }],
  ["payload_too_large", { task: async () => "x".repeat(16 * 1_024 * 1_024) }],
  [
    "payload_too_large",
    { task: nothing, settings: { outcome: (): RunOutcome => ({ notes: "x".repeat(300_000) }) } },
  ],
  ["invalid_input", { task: nothing, settings: { leaseMs: 0 } }],
  ["invalid_input", { task: (ctx) => ctx.sleep(-1) }],
  [
    "forbidden",
    {
      task: nothing,
      settings: {
        store: inFrontOf(storeOfRuns(), (method, _args, call) => {
          if (method === "startOrResume") throw new DurableForbiddenError("the run is of another project");
          return call();
        }),
      },
    },
  ],
  [
    "run_cancelled",
    {
      task: nothing,
      before: async (store, runId) => {
        await failedAfter(nothing)(store, runId);
        await store.cancelRun?.(runId);
      },
    },
  ],
  ["nested_step", { task: (ctx) => ctx.step("outer", () => ctx.step("inner", async () => null)) }],
  [
    "task_failed",
    {
      task: async () => {
        throw new NonRetryableError("the card is stolen");
      },
    },
  ],
  [
    "task_failed",
    {
      task: async () => {
        throw new PlatformError("the card is stolen");
      },
    },
  ],
  [
    "sold_out",
    {
      task: async () =>
        Promise.reject(Object.assign(new Error("no"), { code: "sold_out", retryable: false })),
    },
  ],
];

describe("an instance ends at once, with the code in its error,", () => {
  it.each(refused)("for %s (%#)", async (code, { task, settings, before }) => {
    const runId = newRunId();
    await before?.(storeOfRuns(), runId);
    await using flow = await startInWorkflow(runId, task, settings);
    const error = await flow.error();
    expect(error.message).toContain(`[${code}] `);
    expect(error.code).toBe(code);
    const refused = { code, message: expect.any(String) as string };
    expect(flow.calls).toEqual([{ count: 1, attempt: 1, answer: { refused } }]);
  });

  it("for a run that is cancelled while it runs: its step's signal aborts, and no other begins", async () => {
    const runId = newRunId();
    const ran: string[] = [];
    await using flow = await startInWorkflow(runId, async (ctx) => {
      await ctx.step("long", async ({ signal }) => {
        ran.push("long");
        await storeOfRuns().cancelRun(runId, "enough");
        while (!signal.aborted) await new Promise((resolve) => setTimeout(resolve, 5));
      });
      await ctx.step("next", async () => void ran.push("next"));
    });
    expect((await flow.error()).message).toContain("[run_cancelled] ");
    expect(ran).toEqual(["long"]);
    expect(flow.calls).toMatchObject([{ count: 1, attempt: 1 }]);
  });
});
