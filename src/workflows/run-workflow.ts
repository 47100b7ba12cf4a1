/**
 * The Workflow whose instances are runs of registered tasks. Owns how an instance's params become a run; what becomes of
 * the run is for {@link runDurableInWorkflow}.
 */
import type { WorkflowEvent, WorkflowStep } from "cloudflare:workers";
import { WorkflowEntrypoint } from "cloudflare:workers";
import { checkObject } from "../contract/limits.ts";
import type { DurableRunManifest, DurableRunStore } from "../contract/types.ts";
import { pointerOf } from "./attempt.ts";
import { refused } from "./failures.ts";
import { inputOf, manifestOf, taskNamed } from "./manifest.ts";
import { released } from "./platform.ts";
import { runDurableInWorkflow } from "./run-durable-in-workflow.ts";
import type { RegisteredTask, RunPointer, RunWorkflowParams, TaskRegistry } from "./tasks.ts";

/**
 * Extend it, say which tasks there are and where runs are kept, export the class from the Worker and bind it under
 * `[[workflows]]`. `startRun` makes instances; the run's id is the instance's.
 *
 * An instance ends with a {@link RunPointer}, or as {@link runDurableInWorkflow} says; at once, with `[invalid_input]`,
 * for a task that is not registered, or params that its `parse` refuses, unless the run has completed already.
 */
export abstract class DurableRunWorkflow<Env> extends WorkflowEntrypoint<Env, RunWorkflowParams> {
  protected abstract tasks(): TaskRegistry<Env>;
  protected abstract store(): DurableRunStore;

  override async run(
    event: Readonly<WorkflowEvent<RunWorkflowParams>>,
    step: WorkflowStep,
  ): Promise<RunPointer> {
    const run = this.#runOf(event.payload);
    if ("error" in run) return this.#recorded(event.instanceId, step, run.error);
    const { task, input, manifest } = run;
    return runDurableInWorkflow(step, event, {
      store: this.store(),
      manifest,
      taskFn: (ctx) => task.run(ctx, input, this.env),
      ...(task.outcome !== undefined && { outcome: (result: unknown) => task.outcome?.(result) }),
      ...(task.leaseMs !== undefined && { leaseMs: task.leaseMs }),
      ...(task.retries !== undefined && { taskRetries: task.retries }),
    });
  }

  /** The run of the params. Its manifest is theirs as they are, so that a deploy with another `parse` changes no run. */
  #runOf(
    params: Readonly<RunWorkflowParams>,
  ): { task: RegisteredTask<Env>; input: unknown; manifest: DurableRunManifest } | { error: Error } {
    try {
      checkObject("params", params);
      const task: RegisteredTask<Env> = taskNamed(this.tasks(), params.task);
      checkObject("input", params.input);
      const manifest = manifestOf(params.task, task, params);
      return { task, input: inputOf(task, structuredClone(params.input)), manifest };
    } catch (error) {
      return { error: refused(error) };
    }
  }

  /** A run that has completed is there, though its task may be no longer. Rejects with `error` if it has not. */
  async #recorded(runId: string, step: WorkflowStep, error: Error): Promise<RunPointer> {
    const pointer = await step.do("look for the result", async () => {
      const record = await this.store().loadRun?.(runId);
      return record?.status === "completed" ? pointerOf(record, record.result) : null;
    });
    if (pointer === null) throw error;
    return released(pointer);
  }
}
