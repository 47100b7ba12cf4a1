/** A task on a real Workflow instance of the local engine, and ways to have it replayed. */
import { introspectWorkflowInstance, type WorkflowInstanceIntrospector } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect } from "vitest";
import { codeOf } from "../../src/contract/errors.ts";
import type { DurableContext } from "../../src/runner/types.ts";
import { workflowEventType } from "../../src/workflows/event-type.ts";
import { runOnWorkflowStep } from "../../src/workflows/run-on-workflow-step.ts";
import type { RunOnWorkflowStepInput } from "../../src/workflows/types.ts";
import { ScriptedWorkflow } from "./worker.ts";

export type Task<T> = (ctx: DurableContext) => Promise<T>;
export type Settings = Partial<Omit<RunOnWorkflowStepInput<unknown>, "taskFn">>;

/** Step policies: no retry, and two of them. */
export const ONCE = { retries: { limit: 0, delay: 0 } } as const;
export const THRICE = { retries: { limit: 2, delay: 0 } } as const;

export interface Flow<T> extends AsyncDisposable {
  readonly instance: WorkflowInstanceIntrospector;
  readonly handle: WorkflowInstance;
  /** What the task returned, at each run. */
  readonly outputs: T[];
  output(): Promise<T>;
  send(key: string, payload: unknown): Promise<void>;
  /** Runs the task once more over the record of its steps, or another task in its place. */
  restart(task?: Task<T>): Promise<void>;
  replay(task?: Task<T>): Promise<T>;
}

/**
 * A new Workflow instance that runs the task. The step "end" comes after it, as something to restart from. `prepare`:
 * called before it begins.
 */
export async function start<T>(
  task: Task<T>,
  given: Settings | ((id: string) => Settings) = {},
  prepare: (instance: WorkflowInstanceIntrospector) => Promise<unknown> = async () => {},
): Promise<Flow<T>> {
  const id = crypto.randomUUID();
  const settings = typeof given === "function" ? given(id) : given;
  const outputs: T[] = [];
  const instance = await introspectWorkflowInstance(env.SCRIPTED, id);
  let current = task;
  ScriptedWorkflow.scripts.set(id, (step) =>
    runOnWorkflowStep(step, {
      workflowName: "test",
      ...settings,
      taskFn: async (ctx) => {
        outputs.push(await current(ctx));
        await ctx.step("end", async () => null).catch(() => {});
      },
    }),
  );
  await prepare(instance);
  const handle = await env.SCRIPTED.create({ id, params: id });
  const flow: Flow<T> = {
    instance,
    handle,
    outputs,
    output: async () => {
      await instance.waitForStatus("complete");
      return outputs.at(-1) as T;
    },
    send: (key, payload) => handle.sendEvent({ type: workflowEventType(key), payload }),
    restart: async (next = task) => {
      current = next;
      await handle.restart({ from: { name: "test/end" } });
    },
    replay: async (next) => {
      const runs = outputs.length;
      await flow.restart(next);
      const output = await flow.output();
      expect(outputs.length).toBe(runs + 1);
      return output;
    },
    [Symbol.asyncDispose]: () => instance.dispose(),
  };
  return flow;
}

export async function failureOf(work: Promise<unknown>): Promise<unknown> {
  try {
    await work;
  } catch (error) {
    return error;
  }
  return undefined;
}

export function describeError(error: unknown): { name: string; message: string; code?: string } {
  const { name, message } = error as Error;
  const code = codeOf(error);
  return { name, message, ...(code !== undefined && { code }) };
}
