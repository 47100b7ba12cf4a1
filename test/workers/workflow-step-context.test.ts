/** The suite of DurableContext over runOnWorkflowStep, on the real local engine. */
import { env } from "cloudflare:workers";
import { newRunId } from "../../src/identity.ts";
import type { ContextRun, ContextTask } from "../../src/testing/context-harness.ts";
import { describeDurableContext } from "../../src/testing/describe-durable-context.ts";
import { workflowEventType } from "../../src/workflows/event-type.ts";
import { runOnWorkflowStep } from "../../src/workflows/run-on-workflow-step.ts";
import { until } from "./workflow-run.ts";
import { ONCE } from "./workflow-step.ts";
import { ScriptedWorkflow } from "./worker.ts";

/** A new instance. The step "end" comes after the task, as something to restart from. */
async function start<T>(task: ContextTask<T>): Promise<ContextRun<T>> {
  const runId = newRunId();
  const settled: ({ value: unknown } | { error: unknown })[] = [];
  let hasBegun = false;
  let current: ContextTask<unknown> = task;
  const handleOf = () => env.SCRIPTED.get(runId);
  ScriptedWorkflow.scripts.set(runId, async (step) => {
    hasBegun = true;
    try {
      const value = await runOnWorkflowStep(step, {
        workflowName: "context",
        runId,
        stepConfig: ONCE,
        instance: { sendEvent: async (event) => (await handleOf()).sendEvent(event) },
        taskFn: async (ctx) => {
          const returned = await current(ctx);
          await ctx.step("end", async () => null).catch(() => {});
          return returned;
        },
      });
      settled.push({ value });
    } catch (error) {
      settled.push({ error });
      throw error;
    }
    return null;
  });
  const handle = await env.SCRIPTED.create({ id: runId, params: runId });
  await until(() => hasBegun);
  /** What its lifetime of that number came to, once the engine knows. */
  const outcome = async <R>(lifetime: number): Promise<R> => {
    await until(() => settled.length > lifetime);
    await until(async () => ["complete", "errored"].includes((await (await handleOf()).status()).status));
    const ended = settled[lifetime];
    if (ended === undefined || "error" in ended) throw ended?.error;
    return ended.value as R;
  };
  return {
    runId,
    result: () => outcome<T>(0),
    emit: (key, payload) => handle.sendEvent({ type: workflowEventType(key), payload }),
    replay: async <R = T>(other?: ContextTask<R>) => {
      current = other ?? task;
      const lifetime = settled.length;
      await handle.restart({ from: { name: "context/end" } });
      return outcome<R>(lifetime);
    },
  };
}

describeDurableContext("runOnWorkflowStep", {
  start,
  skip: {
    "with another intent than on record is refused":
      "Workflows know a step by its name, so that steps may be added, moved and dropped",
    "is tried again for as long as its function says": "Workflows keep no function that decides on a retry",
  },
});
