/** The Worker that the tests run in: the real coordinator and recorder, with the clock and the database of `faults`. */
import { WorkflowEntrypoint, type WorkflowEvent, type WorkflowStep } from "cloudflare:workers";
import type { Clock } from "../../src/contract/clock.ts";
import type { DurableRunStore } from "../../src/contract/types.ts";
import { RunCoordinator as RealCoordinator } from "../../src/coordinator/run-coordinator.ts";
import type { RunCoordinatorEnv } from "../../src/coordinator/run-coordinator.ts";
import { RunRecorder as RealRecorder } from "../../src/coordinator/run-recorder.ts";
import type { RunRecorderEnv } from "../../src/coordinator/run-recorder.ts";
import { CoordinatedDurableRunStore } from "../../src/stores/coordinated/store.ts";
import type { D1DatabaseLike } from "../../src/stores/d1/database.ts";
import { DurableRunWorkflow } from "../../src/workflows/run-workflow.ts";
import type { RegisteredTask, TaskRegistry } from "../../src/workflows/tasks.ts";
import { d1 } from "./d1.ts";
import type { Faults } from "./faults.ts";
import { faultsOf } from "./faults.ts";

export { RunService } from "../../src/service/run-service.ts";

export class RunCoordinator extends RealCoordinator {
  constructor(ctx: DurableObjectState, env: RunCoordinatorEnv) {
    const faults = faultsOf(ctx.id.name ?? "");
    const { recorders, recorderShards, times } = faults;
    super(ctx, env, { ...faulty(faults), recorders, recorderShards, ...times });
  }
}

export class RunRecorder extends RealRecorder {
  constructor(ctx: DurableObjectState, env: RunRecorderEnv) {
    const faults = faultsOf(ctx.id.name ?? "");
    const { d1DeadlineMs = 10_000 } = faults.times;
    super(ctx, env, { ...faulty(faults), d1DeadlineMs });
  }
}

/** A test may replace its clock and its wrapper at any time. */
function faulty(faults: Pick<Faults, "clock" | "wrap">) {
  const clock: Clock = {
    now: () => faults.clock.now(),
    sleep: (ms, signal) => faults.clock.sleep(ms, signal),
  };
  const database: D1DatabaseLike = {
    prepare: (query) => faults.wrap(d1).prepare(query),
    batch: (statements) => faults.wrap(d1).batch(statements),
  };
  return { clock, database };
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
