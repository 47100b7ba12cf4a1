/**
 * Absurd on PostgreSQL, in the harness's process: a step is `ctx.step`, an event is `emitEvent` and `awaitEvent`.
 *
 * Its tables do not come with its npm package: the environment variable ABSURD_SQL says where they are. A run is over
 * when its end is on record, which the SDK's hook around a task tells without a poll. A task that may go on is found by
 * the worker's poll, every 10 ms, as in the SDK's own tests; its docs have the default alone, 250 ms. The worker polls
 * while Absurd is measured, and not beside the rows of others. Not measured: a resume, which goes through its queue.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Absurd, SuspendTask } from "absurd-sdk";
import type { TaskContext } from "absurd-sdk";
import { Pool } from "pg";
import type { ClosableSubject } from "../lib/subjects.ts";
import { resultOf } from "../works/over-a-store.ts";
import type { OperationName, Operations } from "../works/protocol.ts";
import type { StartedPeer } from "./index.ts";
import { startPostgres } from "./postgres.ts";

/** As many as W2 has runs at once. */
const WORKER = { concurrency: 50, pollInterval: 0.01 };

interface Run {
  steps: number;
  readonly ended: PromiseWithResolvers<void>;
}

/** By task id. Either the worker or who spawned the task is the first to know it. */
const runs = new Map<string, Run>();

function runOf(taskId: string): Run {
  const run = runs.get(taskId) ?? { steps: 0, ended: Promise.withResolvers<void>() };
  runs.set(taskId, run);
  return run;
}

/** The event that is emitted next: the first of a name is kept for good, so each has a name of its own. */
let next = 0;
let goesOn = Promise.withResolvers<void>();

async function manySteps(
  { steps, bytes }: { steps: number; bytes: number },
  ctx: TaskContext,
): Promise<void> {
  const run = runOf(ctx.taskID);
  const value = resultOf(bytes);
  for (let i = 0; i < steps; i += 1) {
    await ctx.step(`step-${i}`, async () => value);
    run.steps += 1;
  }
}

/** Begins anew with each event: those before `next` are on record. */
async function waitForever({ first }: { first: number }, ctx: TaskContext): Promise<void> {
  for (let event = first; ; event += 1) {
    const payload = await ctx.awaitEvent(`event-${event}`);
    if (event === next) goesOn.resolve();
    if (payload === "stop") return;
  }
}

async function wrapTaskExecution<T>(ctx: TaskContext, execute: () => Promise<T>): Promise<T> {
  try {
    const value = await execute();
    runOf(ctx.taskID).ended.resolve();
    return value;
  } catch (error) {
    // One that waits is called again.
    if (!(error instanceof SuspendTask)) runOf(ctx.taskID).ended.reject(error);
    throw error;
  }
}

export async function startAbsurd(): Promise<StartedPeer> {
  const tables = tablesOfAbsurd();
  const postgres = await startPostgres();
  // Connections stay, so that no row pays for new ones.
  const pool = new Pool({ connectionString: postgres.url, idleTimeoutMillis: 0 });
  const app = new Absurd({ db: pool, defaultMaxAttempts: 1, hooks: { wrapTaskExecution } });
  const close = async (): Promise<void> => {
    await app.close();
    // A connection that is ending may yet be sent away by the server.
    pool.on("error", () => {});
    await pool.end();
    await postgres.stop();
  };
  try {
    await pool.query(tables);
    await app.createQueue();
    app.registerTask({ name: "steps" }, manySteps);
    app.registerTask({ name: "waiter" }, waitForever);
    const { rows } = await pool.query<{ version: string }>("SELECT absurd.get_schema_version() AS version");
    const version = `${versionOfAbsurd()} over absurd.sql ${rows[0]?.version} on PostgreSQL ${postgres.version}`;
    return { subject: new AbsurdSubject(app, close), version };
  } catch (error) {
    await close();
    throw error;
  }
}

class AbsurdSubject implements ClosableSubject {
  readonly name = "Absurd";
  readonly lacks = ["prefix", "resume", "rest", "die", "takeover"] as const;
  readonly close: () => Promise<void>;
  readonly #app: Absurd;
  #worker: { close(): Promise<void> } | undefined;
  #waiter = "";

  constructor(app: Absurd, close: () => Promise<void>) {
    this.#app = app;
    this.close = close;
  }

  async call<O extends OperationName>(operation: O, params: Operations[O]): Promise<void> {
    switch (operation) {
      case "runs":
        this.#worker = await this.#app.startWorker(WORKER);
        return this.#runs(params as Operations["runs"]);
      case "waiter":
        this.#worker = await this.#app.startWorker(WORKER);
        this.#waiter = (await this.#app.spawn("waiter", { first: next })).taskID;
        return;
      case "waiting":
        return this.#waiting();
      case "emit":
        return this.#emit("go");
      case "unwait":
        await this.#waiting();
        await this.#emit("stop");
        await runOf(this.#waiter).ended.promise;
        return;
      case "settle":
        await this.#worker?.close();
        this.#worker = undefined;
        runs.clear();
        return;
      default:
        throw new Error(`Absurd has no ${operation} here`);
    }
  }

  async #runs({ runs: times, steps, bytes, concurrent }: Operations["runs"]): Promise<void> {
    const one = async (): Promise<void> => {
      const { taskID } = await this.#app.spawn("steps", { steps, bytes });
      const run = runOf(taskID);
      await run.ended.promise;
      if (run.steps !== steps) throw new Error(`${run.steps} of ${steps} steps were done`);
    };
    if (concurrent) await Promise.all(Array.from({ length: times }, one));
    else for (let run = 0; run < times; run += 1) await one();
  }

  /** A task that waits has left its worker, which is on record. */
  async #waiting(): Promise<void> {
    for (;;) {
      const state = (await this.#app.fetchTaskResult(this.#waiter))?.state;
      if (state === "sleeping") break;
      if (state !== "pending" && state !== "running") throw new Error(`what should wait is ${state}`);
      await sleep(1);
    }
    await sleep(10);
  }

  async #emit(payload: string): Promise<void> {
    goesOn = Promise.withResolvers();
    await Promise.all([goesOn.promise, this.#app.emitEvent(`event-${next}`, payload)]);
    next += 1;
  }
}

function tablesOfAbsurd(): string {
  const path = process.env["ABSURD_SQL"];
  if (!path) {
    throw new Error("its tables are not in its npm package: set ABSURD_SQL to the absurd.sql of its release");
  }
  return readFileSync(path, "utf8");
}

function versionOfAbsurd(): string {
  const path = join(import.meta.dirname, "../node_modules/absurd-sdk/package.json");
  return (JSON.parse(readFileSync(path, "utf8")) as { version: string }).version;
}
