/**
 * DBOS Transact on PostgreSQL, in the harness's process: a step is `runStep`, an event is `send` and `recv`.
 *
 * Not measured: a resume, which goes through its queue.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { DBOS } from "@dbos-inc/dbos-sdk";
import type { ClosableSubject } from "../lib/subjects.ts";
import { resultOf } from "../works/over-a-store.ts";
import type { OperationName, Operations } from "../works/protocol.ts";
import type { StartedPeer } from "./index.ts";
import { startPostgres } from "./postgres.ts";

let waits = Promise.withResolvers<void>();
let goesOn = Promise.withResolvers<void>();

async function manySteps(steps: number, bytes: number): Promise<number> {
  const value = resultOf(bytes);
  for (let i = 0; i < steps; i += 1) await DBOS.runStep(async () => value, { name: `step-${i}` });
  return steps;
}

async function waitForever(): Promise<void> {
  for (;;) {
    waits.resolve();
    const payload = await DBOS.recv<string>("events", { timeoutSeconds: 3_600 });
    goesOn.resolve();
    if (payload === "stop") return;
  }
}

export async function startDbos(): Promise<StartedPeer> {
  const postgres = await startPostgres();
  try {
    DBOS.setConfig({ name: "bench", systemDatabaseUrl: postgres.url, logLevel: "error" });
    const stepsOfDbos = DBOS.registerWorkflow(manySteps, { name: "steps" });
    const waiterOfDbos = DBOS.registerWorkflow(waitForever, { name: "waiter" });
    await DBOS.launch();
    const close = async (): Promise<void> => {
      await DBOS.shutdown();
      await postgres.stop();
    };
    const subject = new DbosSubject(stepsOfDbos, waiterOfDbos, close);
    return { subject, version: `${versionOfDbos()} on PostgreSQL ${postgres.version}` };
  } catch (error) {
    await postgres.stop();
    throw error;
  }
}

class DbosSubject implements ClosableSubject {
  readonly name = "DBOS";
  readonly lacks = ["prefix", "resume", "rest", "die", "takeover"] as const;
  readonly close: () => Promise<void>;
  readonly #steps: typeof manySteps;
  readonly #waiter: typeof waitForever;
  #waiting: { id: string; end: Promise<unknown> } | undefined;

  constructor(steps: typeof manySteps, waiter: typeof waitForever, close: () => Promise<void>) {
    this.#steps = steps;
    this.#waiter = waiter;
    this.close = close;
  }

  async call<O extends OperationName>(operation: O, params: Operations[O]): Promise<void> {
    switch (operation) {
      case "runs":
        return this.#runs(params as Operations["runs"]);
      case "waiter": {
        waits = Promise.withResolvers();
        goesOn = Promise.withResolvers();
        const handle = await DBOS.startWorkflow(this.#waiter)();
        this.#waiting = { id: handle.workflowID, end: handle.getResult() };
        return;
      }
      case "waiting":
        await waits.promise;
        await new Promise((resolve) => setTimeout(resolve, 10));
        return;
      case "emit":
        return this.#emit("go");
      case "unwait":
        await this.#emit("stop");
        await this.#waiting?.end;
        return;
      case "settle":
        return;
      default:
        throw new Error(`DBOS has no ${operation} here`);
    }
  }

  async #runs({ runs, steps, bytes, concurrent }: Operations["runs"]): Promise<void> {
    // Called on nothing: DBOS takes what a workflow is called on for an instance of its own.
    const workflow = this.#steps;
    const one = async (): Promise<void> => {
      const done = await workflow(steps, bytes);
      if (done !== steps) throw new Error(`${done} of ${steps} steps were done`);
    };
    if (concurrent) await Promise.all(Array.from({ length: runs }, one));
    else for (let run = 0; run < runs; run += 1) await one();
  }

  async #emit(payload: string): Promise<void> {
    if (this.#waiting === undefined) throw new Error("nothing waits");
    waits = Promise.withResolvers();
    await Promise.all([goesOn.promise, DBOS.send(this.#waiting.id, payload, "events")]);
    goesOn = Promise.withResolvers();
  }
}

function versionOfDbos(): string {
  const path = join(import.meta.dirname, "../node_modules/@dbos-inc/dbos-sdk/package.json");
  return (JSON.parse(readFileSync(path, "utf8")) as { version: string }).version;
}
