/**
 * The Worker of wrangler.toml in workerd, with fresh storage: its objects, D1 with the tables of migrations/, Workflows,
 * the built dashboard as assets, and tokens of its own.
 *
 * Owns workerd and what it stores. Browsers talk to workerd itself: `wrangler dev` has a proxy in front of it, which
 * ends when a browser drops a connection (https://github.com/cloudflare/workers-sdk/issues/15451). Relies on wrangler to
 * read the configuration, so that the bindings are those of a deployment, and on Miniflare to delete what it stores and
 * to start workerd again, in the same place, if that crashes.
 */
import { join } from "node:path";
import { readD1Migrations } from "@cloudflare/vitest-pool-workers";
import { build } from "esbuild";
import type { V4MiniflareOptions } from "miniflare";
import { convertV4MiniflareOptions, Log, LogLevel, Miniflare } from "miniflare";
import { unstable_getMiniflareWorkerOptions, unstable_readConfig } from "wrangler";
import { newToken } from "../../src/http/tokens.ts";

const KEPT_LINES = 50;

export interface Tokens {
  writer: string;
  reader: string;
  newcomer: string;
}

export class WorkerServer {
  readonly origin: string;
  readonly tokens: Tokens;
  readonly #miniflare: Miniflare;
  readonly #log: WorkerLog;

  private constructor(miniflare: Miniflare, { origin }: URL, tokens: Tokens, log: WorkerLog) {
    this.#miniflare = miniflare;
    this.origin = origin;
    this.tokens = tokens;
    this.#log = log;
  }

  /**
   * Resolves when it answers.
   * @param root the folder of wrangler.toml.
   */
  static async start(root: string): Promise<WorkerServer> {
    const { tokens, settings } = newTokens();
    const log = new WorkerLog();
    const script = await bundle(join(root, "test/browser/worker.ts"));
    const miniflare = new Miniflare(convertV4MiniflareOptions(optionsOf(root, script, settings, log)));
    try {
      await migrate(miniflare, root);
      return new WorkerServer(miniflare, await miniflare.ready, tokens, log);
    } catch (error) {
      await miniflare.dispose();
      throw error;
    }
  }

  /** What the Worker and workerd said last. */
  get lastLines(): string {
    return this.#log.lines.join("\n");
  }

  /** Ends workerd, and deletes what it has stored. */
  async stop(): Promise<void> {
    await this.#miniflare.dispose();
  }
}

class WorkerLog {
  readonly lines: string[] = [];

  readonly add = (level: string, message: string): void => {
    this.lines.push(`[${level}] ${message}`);
    if (this.lines.length > KEPT_LINES) this.lines.shift();
  };
}

function newTokens(): { tokens: Tokens; settings: { API_TOKENS: string } } {
  const writer = newToken({ name: "ann", access: "write" });
  const reader = newToken({ name: "eve", access: "read" });
  const newcomer = newToken({ name: "new", access: "write", projectId: "nothing-yet" });
  const entries = [writer, reader, newcomer].map(({ entry }) => entry);
  return {
    tokens: { writer: writer.token, reader: reader.token, newcomer: newcomer.token },
    settings: { API_TOKENS: JSON.stringify(entries) },
  };
}

function optionsOf(
  root: string,
  script: string,
  settings: Record<string, string>,
  log: WorkerLog,
): V4MiniflareOptions {
  const config = unstable_readConfig({ config: join(root, "wrangler.toml") });
  const { workerOptions, externalWorkers } = unstable_getMiniflareWorkerOptions(config);
  // How modules are found is for a Worker that is not bundled.
  const { modulesRules: _, ...rest } = workerOptions;
  const worker = {
    ...rest,
    modules: true,
    script,
    // In place of what wrangler found: that has the secrets of a developer's own .dev.vars.
    bindings: { ...config.vars, ...settings },
  };
  return {
    host: "127.0.0.1",
    port: 0,
    cf: false,
    log: new Log(LogLevel.WARN),
    handleStructuredLogs: ({ level, message }) => log.add(level, message),
    // Miniflare says that workerd crashed; these lines say why.
    unsafeHandleRuntimeRestart: () => console.error(log.lines.join("\n")),
    workers: [worker, ...externalWorkers],
  };
}

/** As `wrangler deploy` resolves modules. */
async function bundle(entry: string): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    format: "esm",
    target: "es2024",
    conditions: ["workerd", "worker", "browser"],
    external: ["cloudflare:*", "node:*"],
    sourcemap: "inline",
    logLevel: "error",
  });
  const [output] = outputFiles;
  if (output === undefined) throw new Error("esbuild made no bundle");
  return output.text;
}

async function migrate(miniflare: Miniflare, root: string): Promise<void> {
  const db = (await miniflare.getD1Database("DB")) as unknown as {
    prepare(query: string): { run(): Promise<unknown> };
  };
  for (const { queries } of await readD1Migrations(join(root, "migrations"))) {
    for (const query of queries) await db.prepare(query).run();
  }
}
