/**
 * RunService: the entrypoint that another Worker binds to, to use runs that live here (docs/rpc-binding.md).
 *
 * It only opens sessions. Each call of an entrypoint is a Worker invocation, of which a request has few; calls of what it
 * has answered are none.
 */
import { WorkerEntrypoint } from "cloudflare:workers";
import type { RunServiceProps } from "./props.ts";
import type { RunServiceEnv } from "./run-session.ts";
import { RunSession } from "./run-session.ts";
import type { RunServiceMethods } from "./wire.ts";

export class RunService<Env extends object = RunServiceEnv>
  extends WorkerEntrypoint<Env, RunServiceProps>
  implements RunServiceMethods
{
  open(): RunSession {
    return new RunSession(this.env as unknown as RunServiceEnv, this.ctx.props);
  }
}
