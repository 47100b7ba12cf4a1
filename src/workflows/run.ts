/** What all branches of a task on Workflows share: the platform behind it, its events, and whether it has gone astray. */
import { DurableStepInputMismatchError } from "../contract/errors.ts";
import { Branch } from "../runner/branch.ts";
import { WorkflowEvents } from "./events.ts";
import { Line } from "./line.ts";
import { Platform } from "./platform.ts";
import type { RunOnWorkflowStepInput, WorkflowStepMethods } from "./types.ts";

export type WorkflowRunInput = Omit<RunOnWorkflowStepInput<unknown>, "taskFn"> & {
  readonly runId: string;
  readonly projectId: string;
};

export class WorkflowRun {
  readonly input: WorkflowRunInput;
  readonly platform: Platform;
  readonly events: WorkflowEvents;
  /** The task itself. */
  readonly root: Line;
  /** Whether the task has had a group: then others may await an event, or emit one, at the same time. */
  hasBranched = false;
  #divergence: Error | undefined;

  constructor(steps: WorkflowStepMethods, input: WorkflowRunInput) {
    this.input = input;
    this.platform = new Platform(steps);
    // The task's own signal never aborts: the platform tells it nothing before it stops it.
    this.root = new Line(input.workflowName, Branch.root(new AbortController().signal, this.platform.ended));
    this.events = new WorkflowEvents(this.platform, this.root, input.runId);
  }

  /** Throws why a line of code takes no further step, if it does not. */
  assertOpen(line: Line): void {
    this.assertNotDiverged();
    line.branch.halted.throwIfAborted();
  }

  /** Throws the divergence that the task met, though it should have caught it (R23). */
  assertNotDiverged(): void {
    if (this.#divergence) throw this.#divergence;
  }

  diverge(intent: string, recorded: string, asked: string): Error {
    this.#divergence ??= new DurableStepInputMismatchError(
      `step "${intent}" of run "${this.input.runId}" was recorded with input hash ${recorded}, but now has ${asked}: ` +
        "its input is not that of the earlier attempt.",
    );
    return this.#divergence;
  }
}
