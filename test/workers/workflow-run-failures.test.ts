/** How a run in a Workflow fails, on the real local engine: whose failure it was, what is tried again, and what is on record. */
import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import {
  codeOf,
  DurableRunLeaseHeldError,
  DurableRunLeaseLostError,
  DurableStoreUnavailableError,
} from "../../src/contract/errors.ts";
import type { DurableRunStore } from "../../src/contract/types.ts";
import { newRunId } from "../../src/identity.ts";
import { runDurable } from "../../src/runner/run-durable.ts";
import { MANIFEST } from "../../src/testing/harness.ts";
import { inFrontOf } from "../../src/testing/in-front-of.ts";
import {
  runDurableInWorkflow,
  type RunDurableInWorkflowInput,
} from "../../src/workflows/run-durable-in-workflow.ts";
import { ScriptedWorkflow } from "./worker.ts";
import { claimedByAnother, ONE_ATTEMPT, startInWorkflow, storeOfRuns, until } from "./workflow-run.ts";

const ended = async (id: string): Promise<InstanceStatus> => {
  const status = async () => (await env.SCRIPTED.get(id)).status();
  await until(async () => ["complete", "errored"].includes((await status()).status));
  return status();
};

/** What a Workflow's own code caught of its run, each time that the code ran; then it went on. */
async function caughtTwice(
  given: Omit<RunDurableInWorkflowInput<unknown>, "store" | "manifest"> & { store?: DurableRunStore },
) {
  const id = newRunId();
  const seen: { name: string; message: string; code: string | undefined }[] = [];
  const told: string[] = [];
  ScriptedWorkflow.scripts.set(id, async (step, event) => {
    const run = { store: storeOfRuns(), manifest: MANIFEST, stepConfig: ONE_ATTEMPT, ...given };
    try {
      await runDurableInWorkflow(step, event, run);
    } catch (error) {
      const { name, message } = error as Error;
      seen.push({ name, message, code: codeOf(error) });
      await step.do("tell the customer", async () => void told.push(message));
    }
    await step.do("after", async () => null);
  });
  const handle = await env.SCRIPTED.create({ id, params: id });
  await ended(id);
  await handle.restart({ from: { name: "after" } });
  await until(() => seen.length === 2);
  await ended(id);
  return { seen, told };
}

const refusedCard = { code: "card_refused" };

describe("a failure that the Workflow's own code catches", () => {
  it.each([
    ["that no retry would mend", { retryable: false }, {}],
    ["whose retries are used up", {}, { taskRetries: { limit: 0 } }],
  ])("%s is on record: a replay sees it again, and does not run the task", async (_what, own, settings) => {
    let charged = 0;
    const { seen, told } = await caughtTwice({
      ...settings,
      taskFn: async () => {
        charged += 1;
        throw Object.assign(new Error("no"), refusedCard, own);
      },
    });
    const failure = { name: "NonRetryableError", message: "[card_refused] no", code: "card_refused" };
    expect(seen).toEqual([failure, failure]);
    expect([charged, told]).toEqual([1, ["[card_refused] no"]]);
  });

  it("of a step that was out of time has a code, too", async () => {
    const { seen } = await caughtTwice({
      stepConfig: { ...ONE_ATTEMPT, timeout: 200 },
      taskFn: () => new Promise(() => {}),
    });
    const failure = { name: "NonRetryableError", code: "step_timeout" };
    expect(seen).toMatchObject([failure, failure]);
  });

  it("of a store that is out of reach has its code", async () => {
    const store = broken("startOrResume");
    const { seen } = await caughtTwice({ taskFn: async () => null, leaseMs: 200, store });
    const failure = { name: "NonRetryableError", code: "store_unavailable" };
    expect(seen).toMatchObject([failure, failure]);
  });
});

describe("a failure of the task", () => {
  it.each(["lease_held", "lease_lost", "run_suspended", "store_unavailable"])(
    "is that, though its code is %s",
    async (code) => {
      const runId = newRunId();
      let runs = 0;
      await using flow = await startInWorkflow(
        runId,
        async () => {
          runs += 1;
          throw Object.assign(new Error("of another run"), { code, retryAfterMs: 1, stepIndex: 0 });
        },
        { taskRetries: { limit: 1, delayMs: 0 } },
      );
      expect(await flow.error()).toEqual({ code, message: `[${code}] of another run` });
      expect(runs).toBe(2);
      expect(await storeOfRuns().loadRun(runId)).toMatchObject({ status: "failed" });
    },
  );

  it("is that, if it comes from a run within it that another worker holds", async () => {
    const child = await claimedByAnother(86_400_000);
    const runId = newRunId();
    const within = () =>
      runDurable({ runId: child.runId, manifest: MANIFEST, store: child.store, taskFn: async () => null });
    await using flow = await startInWorkflow(
      runId,
      (ctx) => ctx.step("child", async () => void (await within())),
      { taskRetries: { limit: 0 } },
    );
    expect(await flow.error()).toMatchObject({ code: "lease_held" });
    expect(flow.calls).toHaveLength(1);
  });

  it("is tried again as a function says, which is asked once for each", async () => {
    const asked: unknown[] = [];
    await using flow = await startInWorkflow(
      newRunId(),
      async () => {
        throw new RangeError("no");
      },
      { taskRetries: (error, attempt) => (asked.push([(error as Error).name, attempt]), attempt < 3 && 0) },
    );
    expect(await flow.error()).toMatchObject({ code: "task_failed" });
    expect(asked).toEqual([1, 2, 3].map((attempt) => ["RangeError", attempt]));
  });

  it("uses up no attempt of the platform, and its outcome's failure is one", async () => {
    let runs = 0;
    await using flow = await startInWorkflow(newRunId(), async () => (runs += 1), {
      stepConfig: ONE_ATTEMPT,
      outcome: (run) => {
        if (run < 3) throw new Error("not yet");
        return { score: 1 };
      },
    });
    await flow.pointer();
    expect(flow.calls).toMatchObject([1, 2, 3].map((count) => ({ count, attempt: 1 })));
  });

  it("ends the instance with its code and its message cut, however long they are", async () => {
    const long = "x".repeat(3_000_000);
    await using flow = await startInWorkflow(newRunId(), async () => {
      throw Object.assign(new Error(long), { code: long, retryable: false });
    });
    const { message } = await flow.error();
    expect(message.slice(0, 5)).toBe("[xxxx");
    expect(message.length).toBeLessThan(20_000);
  });
});

describe("a lease that is lost", () => {
  it.each<[string, (keyof DurableRunStore)[]]>([
    ["because a result is never taken", ["completeStep"]],
    ["because it could not be renewed", ["completeStep", "renewLease"]],
  ])("without a word of the store, %s, is a failed attempt", async (_how, methods) => {
    const runId = newRunId();
    let charged = 0;
    await using flow = await startInWorkflow(
      runId,
      (ctx) => ctx.step("charge", async () => void (charged += 1)),
      { store: broken(...methods), leaseMs: 200, stepConfig: { retries: { limit: 1, delay: 0 } } },
    );
    expect(await flow.error()).toMatchObject({
      code: "lease_lost",
      message: expect.stringContaining("[lease_lost] worker") as string,
    });
    expect(flow.calls).toMatchObject([
      { count: 1, attempt: 1 },
      { count: 1, attempt: 2 },
    ]);
    expect(charged).toBe(2);
  });
});

describe("what is asked of the platform", () => {
  /** Notes what it is asked, and does as it is asked at once. */
  class Platform {
    readonly configs: unknown[] = [];
    readonly sleeps: number[] = [];

    async do<T>(_name: string, config: unknown, work?: () => Promise<T>): Promise<T> {
      this.configs.push(config);
      return (work as () => Promise<T>)();
    }

    async sleep(_name: string, ms: number): Promise<void> {
      this.sleeps.push(ms);
    }

    async waitForEvent(): Promise<{ payload: unknown }> {
      return { payload: null };
    }
  }

  const runOn = (platform: Platform, given: { store?: DurableRunStore; stepConfig?: object }) =>
    runDurableInWorkflow(
      platform,
      { instanceId: newRunId(), workflowName: "w" },
      { store: storeOfRuns(), manifest: MANIFEST, taskFn: async () => null, ...given },
    );

  it("is the default where a member is undefined", async () => {
    const platform = new Platform();
    await runOn(platform, { stepConfig: { retries: undefined, timeout: undefined } });
    expect(platform.configs).toEqual([
      { retries: { limit: 100, delay: "10 seconds", backoff: "linear" }, timeout: "30 days" },
    ]);
  });

  it("are waits that grow while another has the run, and begin anew once it was taken", async () => {
    const platform = new Platform();
    const answers = ["held", "held", "held", "lost", "held", "held"];
    const store = inFrontOf(storeOfRuns(), (method, _args, call) => {
      const answer = method === "startOrResume" ? answers.shift() : undefined;
      if (answer === "held") throw new DurableRunLeaseHeldError("held", { retryAfterMs: 5 });
      if (answer === "lost") throw new DurableRunLeaseLostError("lost");
      return call();
    });
    await runOn(platform, { store });
    expect(platform.sleeps).toEqual([1_000, 2_000, 4_000, 1_000, 1_000, 2_000]);
  });

  it("is nothing for retries that are none", async () => {
    await using flow = await startInWorkflow(newRunId(), async () => null, {
      taskRetries: { limit: -1 },
    });
    expect(await flow.error()).toMatchObject({ code: "invalid_input" });
    expect(flow.calls).toEqual([]);
  });
});

/** A store whose calls of these methods fail. */
function broken(...methods: (keyof DurableRunStore)[]): DurableRunStore {
  return inFrontOf(storeOfRuns(), (method, _args, call) => {
    if (!methods.includes(method)) return call();
    if (method === "completeStep") throw new TypeError("D1_ERROR: database or disk is full");
    throw new DurableStoreUnavailableError("out of reach");
  });
}
