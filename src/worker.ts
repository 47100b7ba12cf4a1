/**
 * The deployed Worker: the coordinator, the binding for other Workers, the Workflow that runs the example tasks, and
 * over HTTP the API, the dashboard and one example.
 *
 * Owns which part gets which binding. Knows nothing of how runs are stored or run.
 */
import { exports } from "cloudflare:workers";
import { Hono } from "hono";
import { approvalTask } from "../examples/approval/task.ts";
import { audit } from "../examples/site-audit/route.ts";
import { siteAuditTask } from "../examples/site-audit/task.ts";
import type { DurableRunStore } from "./contract/types.ts";
import type { Env } from "./env.ts";
import { storeOf } from "./env.ts";
import { RunHistory } from "./history/run-history.ts";
import { createRunsApi } from "./http/api.ts";
import { checkMayWrite, identify, scopeOf } from "./http/caller.ts";
import { credentialsFrom } from "./http/credentials.ts";
import { createDashboard } from "./http/dashboard.ts";
import { withSecurityHeaders } from "./http/headers.ts";
import { problemResponse } from "./http/problems.ts";
import type { Scope } from "./http/scope.ts";
import type { ConnectedRuns } from "./service/connect-runs.ts";
import { connectRuns } from "./service/connect-runs.ts";
import type { RunServiceProps } from "./service/props.ts";
import { DurableRunWorkflow } from "./workflows/run-workflow.ts";
import type { TaskRegistry } from "./workflows/tasks.ts";

export { RunCoordinator } from "./coordinator/run-coordinator.ts";
export { RunRecorder } from "./coordinator/run-recorder.ts";
export { RunService } from "./service/run-service.ts";

/** What can be started by name. */
const TASKS: TaskRegistry<Env> = { "site-audit": siteAuditTask, approval: approvalTask };

/** Calls of `rollUp` in one go: each counts a bounded number of runs. */
const ROLL_UPS = 20;

export class RunWorkflow extends DurableRunWorkflow<Env> {
  protected override tasks(): TaskRegistry<Env> {
    return TASKS;
  }

  protected override store(): DurableRunStore {
    return storeOf(this.env);
  }
}

const app = new Hono<{ Bindings: Env }>();

app.route(
  "/",
  createRunsApi<Env>({
    storeFor: (_env, scope) => runsWithin(scope),
    historyFor: (env, { projectId }) =>
      new RunHistory(env.DB, { ...(projectId !== undefined && { projectId }) }),
    credentials: credentialsFrom,
    tasks: TASKS,
    workflow: (env) => env.RUN_WORKFLOW,
    afterStats: (env) => new RunHistory(env.DB).rollUp(),
  }),
);

/**
 * The site audit within one request: what the demo kills. Starting it by name, as a Workflow, needs no caller to
 * stay.
 */
app.post("/examples/site-audit", async (c) => {
  const { raw } = c.req;
  try {
    const identified = await identify(raw, credentialsFrom(c.env));
    checkMayWrite(identified, raw);
    const store = runsWithin(scopeOf(identified.caller));
    const response = await audit(raw, {
      env: c.env,
      store,
      waitUntil: (work) => c.executionCtx.waitUntil(thenClose(store, work)),
    });
    return withSecurityHeaders(response, raw, "no-store");
  } catch (error) {
    return withSecurityHeaders(
      problemResponse(error, (unknown) => console.error(unknown)),
      raw,
      "no-store",
    );
  }
});

app.route("/", createDashboard<Env>({ credentials: credentialsFrom, assets: (env) => env.ASSETS }));

export default {
  fetch: app.fetch,
  /** Counts the runs that have ended since the last time. */
  async scheduled(_controller: ScheduledController, env: Env): Promise<void> {
    const history = new RunHistory(env.DB);
    for (let calls = 0; calls < ROLL_UPS; calls += 1) {
      const { done } = await history.rollUp();
      if (done) return;
    }
  },
};

async function thenClose(store: ConnectedRuns, work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } finally {
    await store.close();
  }
}

/** The runs that a caller may see and touch: through the same binding that other Workers use, so by the same rules. */
function runsWithin(scope: Scope): ConnectedRuns {
  const { RunService } = exports as unknown as {
    RunService: (options: { props: RunServiceProps }) => object;
  };
  return connectRuns(RunService({ props: { ...scope } }));
}
