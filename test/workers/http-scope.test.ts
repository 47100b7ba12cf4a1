/** A token of one project, at every endpoint there is: it sees and touches nothing of another one. */
import { describe, expect, it } from "vitest";
import { approvalTask } from "../../examples/approval/task.ts";
import { ENDPOINTS } from "../../src/http/endpoints.ts";
import { call, completedRun, parkedRun, store } from "./http-world.ts";
import { RunWorkflow } from "./worker.ts";

Object.assign(RunWorkflow.registry, { approval: approvalTask });

/** How one of project "alpha" tries to get at run "secret" of project "beta". `refused`: what has to come. */
interface Attempt {
  path: string;
  body?: unknown;
  /** Codes of refusal; otherwise the answer has to be there, without anything of the other project. */
  refused?: readonly string[];
}

const RUN = "/runs/secret";

/** By `operationId`: an endpoint that is not here fails. */
const ATTEMPTS: Readonly<Record<string, readonly Attempt[]>> = {
  health: [{ path: "/health" }],
  openApi: [{ path: "/openapi.json" }],
  me: [{ path: "/me" }],
  listTasks: [{ path: "/tasks" }],
  listRuns: [
    { path: "/runs" },
    { path: "/runs?scenarioId=s&tag=kind:test&taskId=greet" },
    { path: "/runs?projectId=beta", refused: ["forbidden"] },
    { path: "/runs?projectId=alpha&projectId=beta", refused: ["invalid_input"] },
  ],
  startRun: [
    { path: "/runs", body: { task: "approval", input: {} }, refused: ["forbidden"] },
    { path: "/runs", body: { task: "approval", input: {}, runId: "secret" }, refused: ["forbidden"] },
  ],
  getRun: [{ path: RUN, refused: ["forbidden", "run_not_found"] }],
  getLag: [{ path: `${RUN}/lag`, refused: ["forbidden"] }],
  listSteps: [{ path: `${RUN}/steps?results=true`, refused: ["forbidden", "run_not_found"] }],
  getStep: [{ path: `${RUN}/steps/0`, refused: ["forbidden", "run_not_found", "not_found"] }],
  resolveStep: [
    { path: `${RUN}/steps/0/resolve`, body: { rerun: true }, refused: ["forbidden"] },
    { path: "/runs/secret-parked/steps/0/resolve", body: { result: 1 }, refused: ["forbidden"] },
  ],
  listEvents: [
    { path: `${RUN}/events`, refused: ["forbidden", "run_not_found"] },
    { path: "/runs/unborn/events" },
  ],
  getEvent: [
    { path: `${RUN}/events/news`, refused: ["forbidden", "run_not_found", "not_found"] },
    { path: "/runs/unborn/events/early", refused: ["forbidden", "run_not_found", "not_found"] },
  ],
  emitEvent: [
    { path: `${RUN}/events/other`, body: 1, refused: ["forbidden"] },
    { path: "/runs/nobody/events/other", body: 1, refused: ["forbidden", "run_not_found"] },
  ],
  cancelRun: [{ path: `${RUN}/cancel`, body: {}, refused: ["forbidden"] }],
  restartRun: [{ path: `${RUN}/restart`, body: { fromStep: 0, dropLater: true }, refused: ["forbidden"] }],
  forkRun: [
    { path: `${RUN}/fork`, body: { throughStep: 0 }, refused: ["forbidden"] },
    {
      path: "/runs/own/fork",
      body: { throughStep: 0, newRunId: "secret" },
      refused: ["forbidden", "run_exists"],
    },
  ],
  getStats: [{ path: "/stats" }, { path: "/stats?projectId=beta", refused: ["forbidden"] }],
  listStuck: [{ path: "/stuck?graceMs=0" }, { path: "/stuck?projectId=beta", refused: ["forbidden"] }],
};

/** Made once; the attempts must leave them as they are. */
const prepared = (async () => {
  await completedRun("own", "alpha");
  await completedRun("secret", "beta", { hidden: "marzipan" });
  await parkedRun("secret-parked", "beta");
  await store().emitEvent({ runId: "unborn", key: "early", payload: "marzipan" });
  const manifest = { projectId: "beta", task: { id: "t", intent: "t" }, input: {} };
  await store().startOrResume({ runId: "secret-stuck", manifest, workerId: "dead", leaseMs: 1 });
  // Its coordinator frees the lease by itself.
  await expect.poll(async () => (await store().loadRun("secret-stuck"))?.leaseHolderId).toBeUndefined();
})();

describe("a token of one project", () => {
  it.each(ENDPOINTS.map(({ id, method }) => ({ id, method })))(
    "gets nothing of another by $id",
    async ({ id, method }) => {
      await prepared;
      const before = await everythingOfBeta();
      const attempts = ATTEMPTS[id];
      if (attempts === undefined) throw new Error(`no attempt is written for ${id}: add one`);
      for (const { path, body, refused } of attempts) {
        const response = await call(`/api/v1${path}`, {
          as: "alpha",
          method: method.toUpperCase(),
          ...(body !== undefined && { body }),
        });
        const text = await response.text();
        if (refused === undefined) expect([path, response.status]).toEqual([path, 200]);
        else
          expect([path, refused]).toEqual([
            path,
            expect.arrayContaining([(JSON.parse(text) as { code: string }).code]),
          ]);
        if (id === "openApi") continue;
        expect(text).not.toMatch(/beta|secret|marzipan|unborn/);
      }
      expect(await everythingOfBeta()).toEqual(before);
    },
  );

  it("does what it may to its own", async () => {
    await prepared;
    const as = "alpha";
    for (const path of [
      "/runs/own",
      "/runs/own/lag",
      "/runs/own/steps",
      "/runs/own/steps/0",
      "/runs/own/events",
      "/runs/own/events/news",
    ])
      expect([path, (await call(`/api/v1${path}`, { as })).status]).toEqual([path, 200]);
    expect((await call("/api/v1/runs/own/events/more", { as, body: 1 })).status).toBe(201);
    expect(
      (await call("/api/v1/runs/own/fork", { as, body: { throughStep: 0, newRunId: "own-fork" } })).status,
    ).toBe(201);
    expect(
      (await call("/api/v1/runs/own-fork/restart", { as, body: { fromStep: 0, dropLater: true } })).status,
    ).toBe(200);
    expect((await call("/api/v1/runs/own-fork/cancel", { as, body: {} })).status).toBe(200);
  });

  it("is not moved by the administrator's answers: the scope is the token's, asked one after the other", async () => {
    await prepared;
    for (const as of ["admin", "alpha", "reader", "alphaReader"] as const) {
      const { status } = await call("/api/v1/runs/secret", { as });
      expect([as, status === 200]).toEqual([as, as === "admin" || as === "reader"]);
    }
  });
});

async function everythingOfBeta(): Promise<unknown> {
  const runs = ["secret", "secret-parked", "secret-stuck", "unborn", "nobody"];
  return Promise.all(
    runs.map(async (runId) => [
      await store().loadRun(runId),
      await store().loadStep(runId, 0),
      await store().loadEvent(runId, "news"),
      await store().loadEvent(runId, "other"),
      await store().loadEvent(runId, "early"),
    ]),
  );
}
