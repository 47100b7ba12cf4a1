/** A coordinator whose deployment has recorder objects. */
import { RunCoordinator } from "../../src/coordinator/run-coordinator.ts";
import type { BenchEnv } from "./env.ts";

export class GroupedCoordinator extends RunCoordinator<BenchEnv> {
  constructor(ctx: DurableObjectState, env: BenchEnv) {
    super(ctx, env, { recorders: env.RECORDER_OBJECTS });
  }
}
