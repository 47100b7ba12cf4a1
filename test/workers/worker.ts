/** The Worker that the tests run in: the real coordinator, with the clock and the database of `faults`. */
import { WorkflowEntrypoint, type WorkflowEvent, type WorkflowStep } from "cloudflare:workers";
import type { DurableRunStore } from "../../src/contract/types.ts";
import { RunCoordinator as RealCoordinator } from "../../src/coordinator/run-coordinator.ts";
import type { RunCoordinatorEnv } from "../../src/coordinator/run-coordinator.ts";
import { CoordinatedDurableRunStore } from "../../src/stores/coordinated/store.ts";
import { DurableRunWorkflow } from "../../src/workflows/run-workflow.ts";
import type { RegisteredTask, TaskRegistry } from "../../src/workflows/tasks.ts";
import { faultsOf } from "./faults.ts";

export { RunService } from "../../src/service/run-service.ts";

export class RunCoordinator extends RealCoordinator {
  constructor(ctx: DurableObjectState, env: RunCoordinatorEnv) {
    const faults = faultsOf(ctx.id.name ?? "");
    super(ctx, env, {
      clock: {
        now: () => faults.clock.now(),
        sleep: (ms, signal) => faults.clock.sleep(ms, signal),
      },
      database: {
        prepare: (query) => faults.wrap(env.DB).prepare(query),
        batch: (statements) => faults.wrap(env.DB).batch(statements),
      },
      ...faults.times,
    });
  }
}

/** A Workflow that runs the script that its test has put under the name in its params. */
export class ScriptedWorkflow extends WorkflowEntrypoint<Cloudflare.Env, string> {
  static readonly scripts = new Map<string, WorkflowScript>();

  override run(event: Readonly<WorkflowEvent<string>>, step: WorkflowStep): Promise<unknown> {
    const script = ScriptedWorkflow.scripts.get(event.payload);
    if (script === undefined) throw new Error(`no script "${event.payload}"`);
    return script(step, event);
  }
}

type WorkflowScript = (step: WorkflowStep, event: Readonly<WorkflowEvent<string>>) => Promise<unknown>;

/** Runs of the tasks that tests have registered. */
export class RunWorkflow extends DurableRunWorkflow<Cloudflare.Env> {
  static readonly registry: Record<string, RegisteredTask<Cloudflare.Env>> = {};

  protected override tasks(): TaskRegistry<Cloudflare.Env> {
    return RunWorkflow.registry;
  }

  protected override store(): DurableRunStore {
    return new CoordinatedDurableRunStore(this.env.RUNS);
  }
}

export default { fetch: () => new Response("ok") };
