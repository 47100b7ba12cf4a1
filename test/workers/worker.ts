/** The Worker that the tests run in: the real coordinator, with the clock and the database of `faults`. */
import { WorkflowEntrypoint, type WorkflowEvent, type WorkflowStep } from "cloudflare:workers";
import { RunCoordinator as RealCoordinator } from "../../src/coordinator/run-coordinator.ts";
import type { RunCoordinatorEnv } from "../../src/coordinator/run-coordinator.ts";
import { faultsOf } from "./faults.ts";

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
    return script(step);
  }
}

type WorkflowScript = (step: WorkflowStep) => Promise<unknown>;

export default { fetch: () => new Response("ok") };
