/**
 * workerd as it is measured: raw, through Miniflare, with storage on disk in a temporary folder, and the Worker bundled
 * as a deployment would be (wrangler.toml). No test pool, which adds about 2 ms to each call of an object.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readD1Migrations } from "@cloudflare/vitest-pool-workers";
import { build } from "esbuild";
import type { V4MiniflareOptions, WebSocket } from "miniflare";
import { convertV4MiniflareOptions, Log, LogLevel, Miniflare } from "miniflare";
import type { LineAnswer } from "../works/protocol.ts";

const ROOT = join(import.meta.dirname, "../..");

/** The date that wrangler.toml deploys with. */
const COMPATIBILITY_DATE = "2026-08-15";

export class Runtime {
  /** Where storage lies. */
  readonly folder: string;
  readonly #miniflare: Miniflare;
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #sent = 0;

  private constructor(folder: string, miniflare: Miniflare, socket: WebSocket) {
    this.folder = folder;
    this.#miniflare = miniflare;
    this.#socket = socket;
    socket.addEventListener("message", ({ data }) => {
      if (typeof data === "string") this.#heard(JSON.parse(data) as LineAnswer);
    });
    socket.addEventListener("close", () => {
      for (const { reject } of this.#waiting.values()) reject(new Error("workerd closed the line"));
    });
    socket.accept();
  }

  /** With fresh storage and the tables of migrations/. */
  static async start({ inspectorPort }: { inspectorPort?: number } = {}): Promise<Runtime> {
    const folder = mkdtempSync(join(tmpdir(), "durable-runs-bench-"));
    const options = { ...optionsOf(folder, await bundled()), ...(inspectorPort && { inspectorPort }) };
    const miniflare = new Miniflare(convertV4MiniflareOptions(options));
    await migrate(miniflare);
    const { webSocket } = await miniflare.dispatchFetch("http://bench/", {
      headers: { Upgrade: "websocket" },
    });
    if (!webSocket) throw new Error("the Worker did not open the line");
    return new Runtime(folder, miniflare, webSocket);
  }

  /** Resolves with the Worker's answer, as soon as it is here. */
  call(subject: string, operation: string, params: unknown): Promise<unknown> {
    this.#sent += 1;
    const id = this.#sent;
    const waiting = Promise.withResolvers<unknown>();
    this.#waiting.set(id, waiting);
    this.#socket.send(JSON.stringify({ id, subject, operation, params }));
    return waiting.promise;
  }

  async database(): Promise<D1Like> {
    return (await this.#miniflare.getD1Database("DB", "bench")) as unknown as D1Like;
  }

  /** Ends workerd and deletes its storage. */
  async stop(): Promise<void> {
    await this.#miniflare.dispose();
    rmSync(this.folder, { recursive: true, force: true });
  }

  #heard({ id, value, error }: LineAnswer): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error === undefined) waiting?.resolve(value);
    else waiting?.reject(new Error(error));
  }
}

/** The part of D1 that seeding needs. */
export interface D1Like {
  prepare(query: string): { bind(...values: unknown[]): { run(): Promise<unknown> } };
  batch(statements: unknown[]): Promise<unknown>;
}

function optionsOf(folder: string, script: string): V4MiniflareOptions {
  const worker = {
    modules: true,
    script,
    compatibilityDate: COMPATIBILITY_DATE,
    d1Databases: { DB: { id: "bench" } },
  };
  const own = (className: string) => ({ className, useSQLite: true });
  return {
    log: new Log(LogLevel.ERROR),
    resourcePersistencePath: folder,
    cf: false,
    workers: [
      {
        ...worker,
        name: "bench",
        durableObjects: {
          RUNS: own("RunCoordinator"),
          COUNTED_RUNS: own("CountedCoordinator"),
          GROUPED_RUNS: own("GroupedCoordinator"),
          RECORDER_OBJECTS: own("RunRecorder"),
          COUNTED_GROUPED_RUNS: own("CountedGroupedCoordinator"),
          COUNTED_RECORDERS: own("CountedRecorder"),
          FLOORS: own("Floor"),
          MARKS: own("Marks"),
        },
        serviceBindings: {
          RUNS_SERVICE: { name: "service", entrypoint: "RunService" },
          // Counts in the isolate of the objects that it calls.
          COUNTED_SERVICE: { name: "bench", entrypoint: "CountedService" },
        },
        workflows: { WORKFLOW: { name: "bench", className: "BenchWorkflow" } },
      },
      {
        ...worker,
        name: "service",
        durableObjects: { RUNS: { className: "RunCoordinator", scriptName: "bench", useSQLite: true } },
      },
    ],
  };
}

/** The Worker, as one script. */
export async function bundled(): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [join(ROOT, "bench/worker/index.ts")],
    bundle: true,
    write: false,
    format: "esm",
    target: "es2024",
    minify: false,
    external: ["cloudflare:*", "node:*"],
    logLevel: "error",
  });
  const [output] = outputFiles;
  if (output === undefined) throw new Error("esbuild made no bundle");
  return output.text;
}

async function migrate(miniflare: Miniflare): Promise<void> {
  const db = (await miniflare.getD1Database("DB", "bench")) as unknown as {
    prepare(query: string): { run(): Promise<unknown> };
  };
  for (const { queries } of await readD1Migrations(join(ROOT, "migrations"))) {
    for (const query of queries) await db.prepare(query).run();
  }
  await db.prepare("CREATE TABLE bench_floor (id TEXT PRIMARY KEY, row TEXT) STRICT, WITHOUT ROWID").run();
}
