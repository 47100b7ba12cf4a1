/** Runs to look at, made by the runner and the stores as any other run is. */
import type { Clock } from "../../src/contract/clock.ts";
import type { DurableRunManifest } from "../../src/contract/types.ts";
import type { Env } from "../../src/env.ts";
import { storeOf } from "../../src/env.ts";
import { runDurable } from "../../src/runner/run-durable.ts";
import type { DurableContext } from "../../src/runner/types.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { HOSTILE } from "./hostile-text.ts";

/** Made in parts, each a request of its own. Resolves to true while there are more: a long one would starve the others. */
type Scene = (env: Env, runId: string, ctx: ExecutionContext, part: number) => Promise<boolean>;

export const SCENES: Readonly<Record<string, Scene>> = {
  hostile,
  audit,
  parked,
  lost,
  found,
  long,
  past,
  rare,
};

const HOUR_MS = 3_600_000;
/** Steps of a long run, and runs of a past day. */
const LONG = 250;
const PAST = 60;
/** More runs than a page of the API looks at, which is 500. */
const RARE = 520;

/** Every text that a task has a say in is markup. It fails; `<run id>-ok` completes, with markup as its result. */
async function hostile(env: Env, runId: string): Promise<boolean> {
  const manifest: DurableRunManifest = {
    projectId: "hostile",
    scenarioId: HOSTILE,
    task: { id: HOSTILE, intent: HOSTILE },
    input: { [HOSTILE]: HOSTILE },
    tags: { note: HOSTILE },
  };
  const store = storeOf(env);
  const steps = async (ctx: DurableContext): Promise<void> => {
    await ctx.step(HOSTILE, async () => ({ [HOSTILE]: [HOSTILE] }), { kind: "llm" });
    await ctx.emitEvent(HOSTILE, { [HOSTILE]: HOSTILE });
  };
  const defaultOutcome = { pass: true, notes: HOSTILE, metadata: { [HOSTILE]: HOSTILE } };
  await runDurable({
    runId: `${runId}-ok`,
    manifest,
    store,
    defaultOutcome,
    taskFn: async (ctx) => {
      await steps(ctx);
      return HOSTILE;
    },
  });
  const failing = runDurable({
    runId,
    manifest,
    store,
    taskFn: async (ctx) => {
      await steps(ctx);
      await ctx.step("fails", () => Promise.reject(new Error(HOSTILE)));
    },
  });
  await failing.catch(() => {});
  return false;
}

/** A run with branches, retries and each kind of step. It waits for the event "approve". */
async function audit(env: Env, runId: string, ctx: ExecutionContext): Promise<boolean> {
  const running = runDurable({
    runId,
    manifest: {
      projectId: "site-audit",
      scenarioId: "weekly",
      task: { id: "audit", intent: "Audit docs.example.org and publish the report" },
      input: { url: "https://docs.example.org/", maxPages: 60, sections: ["guides", "reference"] },
      tags: { customer: "example", region: "eu" },
    },
    store: storeOf(env),
    taskFn: auditTask,
  });
  ctx.waitUntil(running.catch(() => {}));
  return false;
}

async function auditTask(ctx: DurableContext): Promise<{ pages: number }> {
  await ctx.step("wait for the site", work(150, "up"), { kind: "readiness" });
  const pages = await ctx.step("read the sitemap", work(320, 42), {
    kind: "tool",
    inputFingerprint: { url: "https://docs.example.org/" },
  });
  await ctx.step("plan the audit", work(700, { sections: 2, model: "local" }), { kind: "llm" });
  await ctx.all({
    guides: (branch) => section(branch, "guides", 500),
    reference: (branch) => section(branch, "reference", 900),
  });
  await ctx.step("score the pages", work(60, { score: 0.93 }));
  await ctx.now();
  await ctx.awaitEvent("approve", { timeoutMs: HOUR_MS });
  await ctx.step("publish the report", work(400, { url: "https://docs.example.org/report" }), {
    kind: "tool",
  });
  return { pages };
}

async function section(ctx: DurableContext, name: string, ms: number): Promise<void> {
  let calls = 0;
  const fetchPages = async (): Promise<object> => {
    await scheduler.wait(ms / 2);
    calls += 1;
    if (name === "reference" && calls === 1) throw new Error("503 from docs.example.org");
    return { section: name, pages: 21 };
  };
  await ctx.step(`fetch ${name}`, fetchPages, { kind: "tool", retries: { limit: 2, delayMs: 300 } });
  await ctx.step(`summarise ${name}`, work(ms, `All of ${name} in a paragraph.`), { kind: "llm" });
}

function work<T>(ms: number, result: T): () => Promise<T> {
  return async () => {
    await scheduler.wait(ms);
    return result;
  };
}

/** A worker dies in a step that may not be run twice, and the next one parks the run. */
async function parked(env: Env, runId: string): Promise<boolean> {
  const store = storeOf(env);
  const manifest: DurableRunManifest = {
    projectId: "payments",
    task: { id: "pay", intent: "Pay the invoice" },
    input: { amount: 120 },
  };
  const died = await store.startOrResume({ runId, manifest, workerId: "worker-1", leaseMs: 1 });
  const fence = died.run.fence ?? 0;
  const step = { runId, stepIndex: 0, intent: "pay", kind: "tool", inputHash: "", fence } as const;
  await store.beginStep({ ...step, onInterrupted: "park" });
  const next = runDurable({
    runId,
    manifest,
    store,
    taskFn: (ctx) => ctx.step("pay", async () => "paid", { kind: "tool", onInterrupted: "park" }),
  });
  await next.catch(() => {});
  return false;
}

const LOST: DurableRunManifest = {
  projectId: "lost",
  task: { id: "wander", intent: "Find the way" },
  input: {},
};

/** A worker took it one and a half hours ago, and was not heard of again. */
async function lost(env: Env, runId: string): Promise<boolean> {
  const store = new D1DurableRunStore(env.DB, { clock: new PastClock(Date.now() - 1.5 * HOUR_MS) });
  await store.startOrResume({ runId, manifest: LOST, workerId: "worker-1", leaseMs: 30_000 });
  return false;
}

/** Another worker takes that run over. */
async function found(env: Env, runId: string): Promise<boolean> {
  const taskFn = (ctx: DurableContext): Promise<string> => ctx.step("look around", async () => "here");
  await runDurable({ runId, manifest: LOST, store: new D1DurableRunStore(env.DB), taskFn });
  return false;
}

/** More steps than a page of the API has, and the last one still under way. */
async function long(env: Env, runId: string, _ctx: ExecutionContext, part: number): Promise<boolean> {
  const store = new D1DurableRunStore(env.DB);
  const manifest: DurableRunManifest = {
    projectId: "long",
    task: { id: "crawl", intent: "Crawl everything" },
    input: {},
  };
  const { run } = await store.startOrResume({ runId, manifest, workerId: "worker-1", leaseMs: HOUR_MS });
  const fence = run.fence ?? 0;
  for (let stepIndex = part * 50; stepIndex < (part + 1) * 50; stepIndex += 1) {
    await store.beginStep({
      runId,
      stepIndex,
      intent: `page ${stepIndex}`,
      kind: "tool",
      inputHash: "",
      fence,
    });
    if (stepIndex < LONG - 1) await store.completeStep({ runId, stepIndex, result: stepIndex, fence });
  }
  return (part + 1) * 50 < LONG;
}

/** A day of runs that have ended, so that there is something to count. */
async function past(env: Env, runId: string, _ctx: ExecutionContext, part: number): Promise<boolean> {
  const began = Date.now() - 24 * HOUR_MS;
  for (let i = part * 10; i < (part + 1) * 10; i += 1) {
    const clock = new PastClock(began + (i + Math.sin(i)) * ((24 * HOUR_MS) / (PAST + 3)));
    const store = new D1DurableRunStore(env.DB, { clock });
    const running = runDurable({
      runId: `${runId}-${String(i).padStart(2, "0")}`,
      manifest: {
        projectId: i % 4 === 0 ? "letters" : "site-audit",
        scenarioId: runId,
        task:
          i % 4 === 0 ? { id: "letter", intent: "Answer a letter" } : { id: "audit", intent: "Audit a site" },
        input: { number: i },
      },
      store,
      clock,
      defaultOutcome: { pass: i % 5 !== 0, score: 0.5 + (i % 5) / 10 },
      taskFn: (ctx) => pastTask(ctx, clock, i),
    });
    await running.catch(() => {});
    if (i % 17 === 16) await store.cancelRun(`${runId}-${String(i).padStart(2, "0")}`, "nobody needs it");
  }
  return (part + 1) * 10 < PAST;
}

async function pastTask(ctx: DurableContext, clock: PastClock, i: number): Promise<{ pages: number }> {
  const takes = (ms: number) => async () => {
    clock.pass(ms);
    return { took: ms };
  };
  await ctx.step("read the sitemap", takes(200 + i * 11), { kind: "tool" });
  await ctx.step("plan the audit", takes(1_500 + ((i * 37) % 900)), { kind: "llm" });
  let calls = 0;
  const fetchPages = async (): Promise<number> => {
    clock.pass(2_000 + ((i * 531) % 6_000));
    calls += 1;
    if (i % 6 === 5 && (calls === 1 || i % 12 === 11)) throw new Error("503 from docs.example.org");
    return 42;
  };
  const pages = await ctx.step("fetch the pages", fetchPages, {
    kind: "tool",
    retries: { limit: 2, delayMs: 1_000 },
  });
  await ctx.step("summarise", takes(3_000 + ((i * 97) % 2_500)), { kind: "llm" });
  return { pages };
}

/** Many runs of a scenario, and few of two of its tasks: "early" has only the oldest, "both" some of either end. */
async function rare(env: Env, scenarioId: string, _ctx: ExecutionContext, part: number): Promise<boolean> {
  for (let i = part * 65; i < (part + 1) * 65; i += 1) {
    const clock = new PastClock(Date.now() - 48 * HOUR_MS + i * 1_000);
    const id = i < 3 ? "early" : i < 6 || i >= RARE - 2 ? "both" : "usual";
    await runDurable({
      runId: `${scenarioId}-${i}`,
      manifest: { projectId: "rare", scenarioId, task: { id, intent: "Be counted" }, input: {} },
      store: new D1DurableRunStore(env.DB, { clock }),
      clock,
      taskFn: async () => i,
    });
  }
  return (part + 1) * 65 < RARE;
}

/** Stands where it is put. A delay passes at once; a timer never fires. */
class PastClock implements Clock {
  #now: number;

  constructor(now: number) {
    this.#now = Math.floor(now);
  }

  now(): number {
    return this.#now;
  }

  pass(ms: number): void {
    this.#now += ms;
  }

  async delay(ms: number): Promise<void> {
    this.#now += ms;
  }

  sleep(_ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((_, reject) => {
      signal?.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
    });
  }
}
