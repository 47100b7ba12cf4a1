/**
 * What the Workflows step adapter takes. Structural: nothing here needs `cloudflare:workers`.
 */
import type { DurableContext } from "../runner/types.ts";

/** Retries and time limit of a step, as the platform takes them. A bare number is milliseconds. */
export interface WorkflowStepConfig {
  retries?: {
    /** How often a failed step is tried again. */
    limit: number;
    delay: string | number;
    backoff?: "constant" | "linear" | "exponential";
  };
  /** For each attempt. The platform does not stop an attempt that is out of time: it goes on, and its result is dropped. */
  timeout?: string | number;
}

/** The part of a Workflow's step that `DurableContext` has use for. */
export interface WorkflowStepLike {
  do<T>(name: string, opts: WorkflowStepConfig, fn: () => Promise<T>): Promise<T>;
  do<T>(name: string, fn: () => Promise<T>): Promise<T>;
  sleep(name: string, duration: string | number): Promise<void>;
  waitForEvent<T = unknown>(
    name: string,
    opts: { type: string; timeout?: string },
  ): Promise<{ payload: T; timestamp: number; type: string }>;
}

/**
 * What the adapter calls, and no more. {@link WorkflowStepLike} fits it, and so does the platform's own `WorkflowStep`,
 * whose types take fewer timeouts and give another timestamp than {@link WorkflowStepLike} says.
 */
export interface WorkflowStepMethods extends Pick<WorkflowStepLike, "do"> {
  /** `duration`: milliseconds. */
  sleep(name: string, duration: number): Promise<void>;
  waitForEvent(
    name: string,
    opts: { type: string; timeout?: `${number} seconds` },
  ): Promise<{ payload: unknown }>;
}

export interface RunOnWorkflowStepInput<TResult> {
  /**
   * Begins the name of every step, before a slash, a colon and the path of a branch, or a "#". 1 to 128 bytes; a whole step
   * name has at most 256 characters.
   */
  workflowName: string;
  /** As for `runDurable`, but for this: it awaits its steps, as the platform drops those in flight once it settles. */
  taskFn: (ctx: DurableContext) => Promise<TResult>;
  /**
   * For the steps of `ctx.step`, but for the retries of those that have their own. Default: the platform's, which is 5
   * retries with growing delays.
   */
  stepConfig?: WorkflowStepConfig;
  /** Epoch milliseconds, for `ctx.now` and `ctx.sleepUntil`. Default `Date.now`. */
  now?: () => number;
  /** Pass `event.instanceId`. Default: a new id, recorded as a step, so that it is the instance's own at each replay. */
  runId?: string;
  /** Default: `workflowName`. */
  projectId?: string;
  scenarioId?: string;
  /** Where `ctx.emitEvent` sends to: this instance. `await env.MY_WORKFLOW.get(event.instanceId)` */
  instance?: WorkflowInstanceLike;
}

/** What of an instance's handle is used. Cloudflare's `WorkflowInstance` fits. */
export interface WorkflowInstanceLike {
  sendEvent(event: { type: string; payload: unknown }): Promise<void>;
}
