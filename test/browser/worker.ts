/**
 * The Worker as it is deployed, with one more route, by which a test makes runs that no registered task makes:
 * `POST /scenes/<name>/<run id>/<part>`. 206 asks for the next part.
 */
import type { Env } from "../../src/env.ts";
import worker from "../../src/worker.ts";
import { SCENES } from "./scenes.ts";

export { RunCoordinator, RunService, RunWorkflow } from "../../src/worker.ts";

export default {
  ...worker,
  async fetch(request: Request, env: Env, ctx: ExecutionContext): Promise<Response> {
    const [, place, name = "", runId = "", part = "0"] = new URL(request.url).pathname
      .split("/")
      .map(decodeURIComponent);
    const scene = place === "scenes" ? SCENES[name] : undefined;
    if (scene === undefined) return worker.fetch(request, env, ctx);
    const hasMore = await scene(env, runId, ctx, Number(part));
    return new Response(null, { status: hasMore ? 206 : 204 });
  },
};
