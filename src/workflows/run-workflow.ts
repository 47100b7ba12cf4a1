/**
 * The Workflow whose instances are runs of registered tasks. Owns how an instance's params become a run; what becomes of
 * the run is for {@link runDurableInWorkflow}.
 */
import type { WorkflowEvent, WorkflowStep } from "cloudflare:workers";
import { WorkflowEntrypoint } from "cloudflare:workers";
import { codeOf } from "../contract/errors.ts";
import { checkObject } from "../contract/limits.ts";
import type { DurableRunStore } from "../contract/types.ts";
import { inputOf, manifestOf, taskNamed } from "./manifest.ts";
import { runDurableInWorkflow } from "./run-durable-in-workflow.ts";
import type { RegisteredTask, RunPointer, RunWorkflowParams, TaskRegistry } from "./tasks.ts";

/**
 * Extend it, say which tasks there are and where runs are kept, export the class from the Worker and bind it under
 * `[[workflows]]`. `startRun` makes instances; the run's id is the instance's.
 *
 * An instance ends with a {@link RunPointer}, or as {@link runDurableInWorkflow} says; at once, with `[invalid_input]`,
 * for a task that is not registered, or params that its `parse` refuses.
 */
export abstract class DurableRunWorkflow<Env> extends WorkflowEntrypoint<Env, RunWorkflowParams> {
  protected abstract tasks(): TaskRegistry<Env>;
  protected abstract store(): DurableRunStore;

  override async run(
    event: Readonly<WorkflowEvent<RunWorkflowParams>>,
    step: WorkflowStep,
  ): Promise<RunPointer> {
    const { task, input, manifest } = this.#runOf(event.payload);
    return runDurableInWorkflow(step, event, {
      store: this.store(),
      manifest,
      taskFn: (ctx) => task.run(ctx, input, this.env),
      ...(task.outcome !== undefined && { outcome: (result: unknown) => task.outcome?.(result) }),
      ...(task.leaseMs !== undefined && { leaseMs: task.leaseMs }),
    });
  }

  #runOf(params: Readonly<RunWorkflowParams>) {
    try {
      checkObject("params", params);
      const task: RegisteredTask<Env> = taskNamed(this.tasks(), params.task);
      const input = inputOf(task, params.input);
      return { task, input, manifest: manifestOf(params.task, task, { ...params, input }) };
    } catch (error) {
      // What is thrown outside a step ends the instance; of a NonRetryableError, it may not keep the message.
      const { message } = error instanceof Error ? error : { message: String(error) };
      throw new Error(`[${codeOf(error) ?? "invalid_input"}] ${message}`, { cause: error });
    }
  }
}
