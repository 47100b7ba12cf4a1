/** The Worker that the tests run in: the real coordinator, with the clock and the database of `faults`. */
import { RunCoordinator as RealCoordinator } from "../../src/coordinator/run-coordinator.ts";
import type { RunCoordinatorEnv } from "../../src/coordinator/run-coordinator.ts";
import { faults } from "./faults.ts";

export class RunCoordinator extends RealCoordinator {
  constructor(ctx: DurableObjectState, env: RunCoordinatorEnv) {
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

export default { fetch: () => new Response("ok") };
