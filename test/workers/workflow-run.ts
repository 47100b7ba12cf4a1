/** A run in one step of a real Workflow instance: what the platform was asked, and which attempt it said each call was. */
import { introspectWorkflowInstance, type WorkflowInstanceIntrospector } from "cloudflare:test";
import { env, type WorkflowStep } from "cloudflare:workers";
import type { DurableRunManifest } from "../../src/contract/types.ts";
import { newRunId } from "../../src/identity.ts";
import type { DurableContext } from "../../src/runner/types.ts";
import { CoordinatedDurableRunStore } from "../../src/stores/coordinated/store.ts";
import { MANIFEST } from "../../src/testing/harness.ts";
import {
  runDurableInWorkflow,
  type RunDurableInWorkflowInput,
} from "../../src/workflows/run-durable-in-workflow.ts";
import type { RunPointer } from "../../src/workflows/tasks.ts";
import type { WorkflowStepMethods } from "../../src/workflows/types.ts";
import { ScriptedWorkflow } from "./worker.ts";

/** A call of the step's function: which of the steps of its name, and the attempt, from 1, as the platform counts them. */
export interface StepCall {
  readonly count: number;
  readonly attempt: number;
  answer?: unknown;
}

export interface RunFlow extends AsyncDisposable {
  readonly instance: WorkflowInstanceIntrospector;
  readonly handle: WorkflowInstance;
  readonly calls: StepCall[];
  pointer(): Promise<RunPointer>;
  /** What the instance ended with, and of what `code` the error in its code was. */
  error(): Promise<{ message: string; code?: string }>;
}

export type Settings<T> = Partial<Omit<RunDurableInWorkflowInput<T>, "taskFn">>;

export const storeOfRuns = (): CoordinatedDurableRunStore => new CoordinatedDurableRunStore(env.RUNS);

/** No waiting between attempts, and enough of them: of the platform, and of a task that has failed. */
export const AT_ONCE = { retries: { limit: 5, delay: 0 } } as const;
const TRIED_AT_ONCE = { limit: 5, delayMs: 0 } as const;
/** None of the platform's attempts may be used up. */
export const ONE_ATTEMPT = { retries: { limit: 0, delay: 0 } } as const;

/** An instance of that id, which is the run's. `prepare`: called before it begins. */
export async function startInWorkflow<T>(
  id: string,
  taskFn: (ctx: DurableContext) => Promise<T>,
  settings: Settings<T> = {},
  prepare: (instance: WorkflowInstanceIntrospector) => Promise<unknown> = async () => {},
): Promise<RunFlow> {
  const calls: StepCall[] = [];
  const codes: (string | undefined)[] = [];
  const instance = await introspectWorkflowInstance(env.SCRIPTED, id);
  ScriptedWorkflow.scripts.set(id, async (step, event) => {
    const defaults = { manifest: MANIFEST, stepConfig: AT_ONCE, taskRetries: TRIED_AT_ONCE };
    const run = { store: storeOfRuns(), ...defaults, ...settings, taskFn };
    try {
      return await runDurableInWorkflow(recording(step, calls), event, run);
    } catch (error) {
      codes.push((error as { code?: string }).code);
      throw error;
    }
  });
  await prepare(instance);
  const handle = await env.SCRIPTED.create({ id, params: id });
  return {
    instance,
    handle,
    calls,
    pointer: async () => {
      await instance.waitForStatus("complete");
      return (await instance.getOutput()) as RunPointer;
    },
    error: async () => {
      await instance.waitForStatus("errored");
      const { message } = await instance.getError();
      const code = codes.at(-1);
      return { message, ...(code !== undefined && { code }) };
    },
    [Symbol.asyncDispose]: () => instance.dispose(),
  };
}

/** A run that another worker has claimed. */
export async function claimedByAnother(leaseMs: number, manifest: DurableRunManifest = MANIFEST) {
  const runId = newRunId();
  const store = storeOfRuns();
  const { fence = 0 } = await store.startOrResume({ runId, manifest, workerId: "another", leaseMs });
  return { runId, store, fence };
}

/** Resolves once it holds. Asks again and again: nothing may resolve what another request waits for. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 5));
}

function recording(step: WorkflowStep, calls: StepCall[]): WorkflowStepMethods {
  return {
    do: async <T>(name: string, ...rest: unknown[]): Promise<T> => {
      const config = rest[0] as { retries: { limit: number; delay: number } };
      const work = rest[1] as () => Promise<Rpc.Serializable<unknown>>;
      return (await step.do(name, config, async (ctx) => {
        const call: StepCall = { count: ctx.step.count, attempt: ctx.attempt };
        calls.push(call);
        call.answer = await work();
        return call.answer as Rpc.Serializable<unknown>;
      })) as T;
    },
    sleep: (name, ms) => step.sleep(name, ms),
    waitForEvent: (name, options) => step.waitForEvent(name, options),
  };
}
