/**
 * Registered tasks: what a Workflow instance, and so a caller who does not stay, can be asked to run by name.
 *
 * Shapes, and the name of one event. The code of a task is deployed with the Worker; an instance carries its name and its
 * input.
 */
import type { AgentTaskSpec, RunOutcome } from "../contract/types.ts";
import type { RetryFunction, RetryPolicy } from "../runner/retries.ts";
import type { DurableContext } from "../runner/types.ts";

/** A task under a name. `Env`: the Worker's bindings. */
export interface RegisteredTask<Env = unknown, Input = unknown, Result = unknown> {
  /** For people who choose one. */
  readonly description: string;
  readonly projectId: string;
  /** Part of the run's identity, as is the name under which the task is registered, which is its `id`. */
  readonly intent: string;
  readonly domain?: string;
  /**
   * Checks what the caller gave and fills in defaults; what it answers at the start becomes the run's input. Throws
   * `invalid_input`. The instance gives it that input again, as JSON has it, for `run`; so it takes its own answer, also of
   * the version before a deploy.
   */
  parse(input: unknown): Input;
  /** What `runDurable` runs. */
  run(ctx: DurableContext, input: Input, env: Env): Promise<Result>;
  /** What to record of a result. Default: nothing. */
  outcome?(result: Result): RunOutcome;
  /** For holding the run. Default {@link DEFAULT_LEASE_MS}. */
  readonly leaseMs?: number;
  /** Whether it is tried again once it has failed. Default `TASK_RETRIES`. */
  readonly retries?: RetryPolicy | RetryFunction;
}

/** By name: 1 to 128 bytes. */
export type TaskRegistry<Env = unknown> = Readonly<Record<string, RegisteredTask<Env>>>;

/** What a Workflow instance is created with: `env.RUN_WORKFLOW.create({ id: runId, params })`. */
export interface RunWorkflowParams {
  /** The name of a registered task. */
  task: string;
  /** As `parse` answered it. */
  input: Record<string, unknown>;
  scenarioId?: string;
  tags?: Record<string, string>;
  /** Merged into the manifest's task. */
  spec?: Pick<AgentTaskSpec, "metadata" | "budget">;
}

/** What an instance answers: where to find the run. Its result stays in the store, as an instance may hold 1 MiB. */
export interface RunPointer {
  runId: string;
  projectId: string;
  status: "completed";
  completedAt: string;
  stepCount: number;
  resultBytes: number;
}

/**
 * The type of the event that has an instance look at once whether its run can go on: send it when a step in doubt is
 * resolved, or a run is cancelled, that waits for a decision. Its payload does not matter. Nothing is lost without it: the
 * instance looks by itself, first after a minute, at last every hour.
 */
export const RUN_DECISION_EVENT = "durable-runs-decision";
