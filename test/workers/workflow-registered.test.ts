/** Runs of registered tasks, started by name as instances of a real Workflow. */
import { introspectWorkflowInstance } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { approvalTask } from "../../examples/approval/task.ts";
import { toApproval } from "../../examples/site-audit/report.ts";
import { siteAuditTask } from "../../examples/site-audit/task.ts";
import { codeOf } from "../../src/contract/errors.ts";
import { manifestHash, newRunId } from "../../src/identity.ts";
import { MANIFEST } from "../../src/testing/harness.ts";
import { runDurable } from "../../src/runner/run-durable.ts";
import { InMemoryDurableRunStore } from "../../src/stores/memory.ts";
import { manifestOf } from "../../src/workflows/manifest.ts";
import { runDurableInWorkflow } from "../../src/workflows/run-durable-in-workflow.ts";
import {
  startRun,
  type StartRunInput,
  type StartRunOptions,
  wakeRun,
} from "../../src/workflows/start-run.ts";
import type { RegisteredTask } from "../../src/workflows/tasks.ts";
import { RunWorkflow, ScriptedWorkflow } from "./worker.ts";
import { AT_ONCE, storeOfRuns, until } from "./workflow-run.ts";

const REGISTRY = RunWorkflow.registry;

const greet: RegisteredTask<Cloudflare.Env, { name: string }, string> = {
  description: "Greets somebody.",
  projectId: "greetings",
  intent: "greet",
  domain: "manners",
  parse: (input) => ({ name: "whoever", ...(input as object) }),
  run: (ctx, { name }, { DB }) => ctx.step("greet", async () => `hello ${name}, ${typeof DB}`),
  outcome: (greeting) => ({ notes: greeting }),
  leaseMs: 60_000,
};

beforeAll(() => {
  Object.assign(REGISTRY, { greet, approval: approvalTask, "site-audit": siteAuditTask });
});

const start = (input: StartRunInput, options?: StartRunOptions) =>
  startRun(env.RUN_WORKFLOW, REGISTRY, input, options);

const status = async (runId: string) => (await env.RUN_WORKFLOW.get(runId)).status();

async function ended(runId: string): Promise<InstanceStatus> {
  await until(async () => ["complete", "errored"].includes((await status(runId)).status));
  return status(runId);
}

/** The code and message that a call rejects with. */
async function refusal(call: () => Promise<unknown>): Promise<string> {
  try {
    return JSON.stringify(await call());
  } catch (error) {
    return `${codeOf(error)}: ${(error as Error).message}`;
  }
}

describe("a registered task", () => {
  it("is started by name, and its run has its manifest, its outcome and the bindings", async () => {
    const tags = { team: "red" };
    const { runId } = await start({ task: "greet", input: { name: "Ada" }, scenarioId: "s-1", tags });
    expect(await ended(runId)).toMatchObject({
      status: "complete",
      output: { runId, projectId: "greetings", status: "completed", stepCount: 1 },
    });
    expect(await storeOfRuns().loadRun(runId)).toMatchObject({
      projectId: "greetings",
      scenarioId: "s-1",
      result: "hello Ada, object",
      outcome: { notes: "hello Ada, object" },
      manifestHash: manifestHash({
        projectId: "greetings",
        scenarioId: "s-1",
        task: { id: "greet", intent: "greet", domain: "manners" },
        input: { name: "Ada" },
      }),
    });
  });

  it("may be started again under the same id: one run", async () => {
    const runId = newRunId();
    const input = { task: "greet", input: {}, runId };
    const answers = await Promise.all([start(input), start(input), start(input)]);
    await ended(runId);
    answers.push(await start(input, { store: storeOfRuns() }));
    expect(answers).toEqual([1, 2, 3, 4].map(() => ({ runId })));
    expect(await storeOfRuns().loadRun(runId)).toMatchObject({ status: "completed", takeovers: 0 });
  });

  it("is not started where the id stands for another run", async () => {
    const { runId } = await start({ task: "greet", input: {} });
    await ended(runId);
    const other = { task: "greet", input: { name: "Bob" }, runId };
    const message = await refusal(() => start(other, { store: storeOfRuns() }));
    expect(message).toContain(`manifest_mismatch: run "${runId}" is of another task or input`);
    // Without the store, the instance that is there keeps its own.
    expect(await start(other)).toEqual({ runId });
    expect(await storeOfRuns().loadRun(runId)).toMatchObject({ result: "hello whoever, object" });
  });

  it("is not started by a caller of another project", async () => {
    const input = { task: "greet", input: {} };
    const message = await refusal(() => start(input, { projectId: "other" }));
    expect(message).toContain('forbidden: task "greet" is not of project "other"');
    expect(await start(input, { projectId: "greetings" })).toEqual({ runId: expect.any(String) as string });
  });

  it.each<[string, StartRunInput, string]>([
    [
      "a name that is not registered",
      { task: "audit", input: {} },
      'invalid_input: task "audit" is not registered; the tasks are approval, greet, site-audit',
    ],
    ["a name that every object has", { task: "toString", input: {} }, "invalid_input: task"],
    [
      "an input that the task refuses",
      { task: "approval", input: { steps: 0 } },
      "invalid_input: input.steps must be",
    ],
    [
      "an id with a slash",
      { task: "greet", input: {}, runId: "a/b" },
      "invalid_input: runId must be of letters",
    ],
    [
      "an id that begins with a hyphen",
      { task: "greet", input: {}, runId: "-a" },
      "invalid_input: runId must be",
    ],
    [
      "an id of 101 characters",
      { task: "greet", input: {}, runId: "x".repeat(101) },
      "invalid_input: runId has 101 bytes of UTF-8; at most 100",
    ],
    ["an empty id", { task: "greet", input: {}, runId: "" }, "invalid_input: runId must not be empty"],
    [
      "too many tags",
      {
        task: "greet",
        input: {},
        tags: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`t${i}`, ""])),
      },
      "invalid_input: manifest.tags",
    ],
    [
      "a spec of null",
      { task: "greet", input: {}, spec: null } as never,
      "invalid_input: spec must be an object",
    ],
    ["a spec of 5", { task: "greet", input: {}, spec: 5 } as never, "invalid_input: spec must be an object"],
    [
      "tags of null",
      { task: "greet", input: {}, tags: null } as never,
      "invalid_input: tags must be an object",
    ],
    [
      "an input over 1 MiB",
      { task: "greet", input: { name: "x".repeat(1_048_576) } },
      "payload_too_large: params has",
    ],
    [
      "an input that JSON cannot carry",
      { task: "greet", input: { name: 1n } },
      "payload_not_json: params.input.name",
    ],
  ])("is refused before an instance is made: %s", async (_what, input, message) => {
    expect(await refusal(() => start(input))).toContain(message);
  });

  it("is told when the platform takes no instance, and may be started again", async () => {
    const binding = {
      create: () => Promise.reject(new Error("too many instances")),
      get: (id: string) => env.RUN_WORKFLOW.get(id),
    };
    const message = await refusal(() => startRun(binding, REGISTRY, { task: "greet", input: {} }));
    expect(message).toMatch(
      /^store_unavailable: Workflow instance "\w+" could not be created: too many instances/,
    );
  });

  it("that another caller has just started is the same run, though the platform refuses its id", async () => {
    const runId = newRunId();
    const binding = {
      create: async (options: Parameters<typeof env.RUN_WORKFLOW.create>[0]) => {
        await env.RUN_WORKFLOW.create(options);
        throw new Error("instance.already_exists");
      },
      get: (id: string) => env.RUN_WORKFLOW.get(id),
    };
    expect(await startRun(binding, REGISTRY, { task: "greet", input: {}, runId })).toEqual({ runId });
  });
});

describe("a deploy while a run is under way", () => {
  const waiting: RegisteredTask<Cloudflare.Env, { depth?: number }> = {
    description: "Waits.",
    projectId: "p",
    intent: "wait",
    parse: (input) => ({ ...(input as object) }),
    run: async (ctx, { depth }) => [depth, await ctx.awaitEvent("go")],
  };

  it("may change how an input is parsed: the run goes on, and its task is given what is parsed now", async () => {
    const store = storeOfRuns();
    REGISTRY["changing"] = waiting;
    const { runId } = await start({ task: "changing", input: {} });
    await until(async () => (await store.loadRun(runId))?.waitingFor !== undefined);
    REGISTRY["changing"] = { ...waiting, parse: (input) => ({ depth: 3, ...(input as object) }) };
    await (await env.RUN_WORKFLOW.get(runId)).terminate();
    expect(await wakeRun(env.RUN_WORKFLOW, runId)).toBe("restarted");
    await store.emitEvent({ runId, key: "go", payload: "on" });
    expect(await ended(runId)).toMatchObject({ status: "complete" });
    expect(await store.loadRun(runId)).toMatchObject({ result: [3, "on"] });
    expect((await store.loadRun(runId))?.manifestHash).toBe(
      manifestHash({ projectId: "p", task: { id: "changing", intent: "wait" }, input: {} }),
    );
  });

  it("may take away the task: a run that has completed answers, another does not", async () => {
    REGISTRY["gone"] = { ...waiting, run: async () => "done" };
    const { runId } = await start({ task: "gone", input: {} });
    const { output } = await ended(runId);
    const other = newRunId();
    delete REGISTRY["gone"];
    await env.RUN_WORKFLOW.create({ id: other, params: { task: "gone", input: {} } });
    await wakeRun(env.RUN_WORKFLOW, runId);
    expect(await ended(runId)).toMatchObject({ status: "complete", output });
    expect(await ended(other)).toMatchObject({ status: "errored" });
  });
});

describe("waking a run", () => {
  it("answers what it did", async () => {
    const runId = newRunId();
    const gate = { isOpen: false };
    ScriptedWorkflow.scripts.set(runId, async (step, event) => {
      const input = {
        store: storeOfRuns(),
        manifest: MANIFEST,
        stepConfig: AT_ONCE,
        taskFn: async () => null,
      };
      await runDurableInWorkflow(step, event, input);
      await step.do("more", () => until(() => gate.isOpen));
    });
    expect(await wakeRun(env.SCRIPTED, runId)).toBe("absent");
    expect(await wakeRun(env.SCRIPTED, "no/instance's id")).toBe("absent");
    await env.SCRIPTED.create({ id: runId, params: runId });
    await until(async () => (await storeOfRuns().loadRun(runId))?.status === "completed");
    expect(await wakeRun(env.SCRIPTED, runId)).toBe("told");
    gate.isOpen = true;
    await until(async () => (await (await env.SCRIPTED.get(runId)).status()).status === "complete");
    expect(await wakeRun(env.SCRIPTED, runId)).toBe("restarted");
  });

  it("rejects when the platform does not answer, whatever it was asked", async () => {
    const lost = () => Promise.reject(new Error("Network connection lost."));
    const running = { status: async () => ({ status: "running" }), sendEvent: lost, restart: lost };
    for (const get of [lost, async () => ({ ...running, status: lost }), async () => running]) {
      expect(await refusal(() => wakeRun({ get }, "r"))).toMatch(
        /^store_unavailable: Workflow instance "r" could not be .*: Network connection lost\.$/,
      );
    }
  });
});

describe("an instance whose params stand for no run", () => {
  it.each<[string, unknown, string]>([
    ["another task", { task: "audit", input: {} }, "[invalid_input] task"],
    ["an input that is refused", { task: "approval", input: { steps: 99 } }, "[invalid_input] input.steps"],
    ["nothing", null, "[invalid_input] params must be an object"],
  ])("ends at once: %s", async (_what, params, message) => {
    const id = newRunId();
    await using instance = await introspectWorkflowInstance(env.RUN_WORKFLOW, id);
    await env.RUN_WORKFLOW.create({ id, params: params as never });
    await instance.waitForStatus("errored");
    expect((await instance.getError()).message).toContain(message);
  });
});

describe("the examples", () => {
  it("approval: works, waits for a person, and says who it was", async () => {
    const { runId } = await start({ task: "approval", input: { steps: 2, seconds: 0 } });
    const store = storeOfRuns();
    await until(async () => (await store.loadRun(runId))?.waitingFor?.[0]?.key === "approve");
    await store.emitEvent({ runId, key: "approve", payload: { by: "Ada" } });
    expect(await ended(runId)).toMatchObject({ status: "complete" });
    expect(await store.loadRun(runId)).toMatchObject({
      result: { approved: true, by: "Ada" },
      outcome: { pass: true, notes: "approved by Ada" },
    });
  });

  it.each<[unknown, boolean]>([
    [null, true],
    [{}, true],
    [{ approved: true }, true],
    [{ approved: false }, false],
    [{ approved: "no" }, false],
    [{ approved: null }, false],
    ["no", false],
    [[], false],
  ])("approval: of an event %j, %j", async (payload, approved) => {
    const store = new InMemoryDurableRunStore();
    const runId = newRunId();
    const input = approvalTask.parse({ steps: 1, seconds: 0 });
    const run = runDurable({
      runId,
      store,
      manifest: MANIFEST,
      taskFn: (ctx) => approvalTask.run(ctx, input, {}),
    });
    await until(async () => (await store.loadRun(runId))?.waitingFor !== undefined);
    await store.emitEvent({ runId, key: "approve", payload });
    expect((await run).result).toMatchObject({ approved });
    expect(toApproval(payload)).toMatchObject({ approved });
  });

  it("have an outcome, however long the name of whoever approves", async () => {
    const by = "x".repeat(300_000);
    const { runId } = await start({ task: "approval", input: { steps: 1, seconds: 0 } });
    const store = storeOfRuns();
    await until(async () => (await store.loadRun(runId))?.waitingFor?.[0]?.key === "approve");
    await store.emitEvent({ runId, key: "approve", payload: { by } });
    expect(await ended(runId)).toMatchObject({ status: "complete" });
    const report = { approved: true, approvedBy: by, links: { targets: 0, ok: 0, broken: [] }, pages: [] };
    expect(JSON.stringify(siteAuditTask.outcome?.(report as never)).length).toBeLessThan(1_000);
  });

  it("approval: is over without one when nobody comes", async () => {
    const { runId } = await start({ task: "approval", input: { steps: 1, seconds: 0, waitMinutes: 0 } });
    await ended(runId);
    expect(await storeOfRuns().loadRun(runId)).toMatchObject({
      result: { approved: false, by: "nobody" },
      outcome: { pass: false },
    });
  });

  it("site audit: crawls, waits for approval, and has an outcome", async () => {
    const html = '<title>Home</title><h1>Home</h1><p>Words.</p><a href="/gone">gone</a>';
    const fetched = vi.spyOn(globalThis, "fetch").mockImplementation(async (target) => {
      const isHome = new URL(new Request(target).url).pathname === "/";
      return new Response(isHome ? html : "not found", {
        status: isHome ? 200 : 404,
        headers: { "content-type": "text/html" },
      });
    });
    try {
      const store = storeOfRuns();
      const { runId } = await start({ task: "site-audit", input: { startUrl: "http://site.test/" } });
      await until(async () => (await store.loadRun(runId))?.waitingFor?.[0]?.for === "event");
      await store.emitEvent({ runId, key: "approve", payload: { approved: false, approvedBy: "Bob" } });
      expect(await ended(runId)).toMatchObject({ status: "complete" });
      expect(await store.loadRun(runId)).toMatchObject({
        projectId: "site-audit",
        result: { approved: false, approvedBy: "Bob" },
        outcome: { pass: false, score: 0, metadata: { brokenLinks: 1 } },
      });
    } finally {
      fetched.mockRestore();
    }
  });

  it("have a manifest that is theirs alone, and only of what is known", () => {
    const spec = { budget: { usd: 1 }, id: "other" } as object;
    expect(manifestOf("approval", approvalTask, { input: {}, spec })).toEqual({
      projectId: "approval",
      task: { id: "approval", intent: "Get something approved", budget: { usd: 1 } },
      input: {},
    });
  });
});
