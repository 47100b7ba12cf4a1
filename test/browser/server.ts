/**
 * The Worker under `wrangler dev`, with storage of its own, in a process group of its own.
 *
 * Owns every process it starts and every file those leave behind.
 */
import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { groupIsGone, signalGroup } from "../../examples/site-audit/demo/processes.ts";
import { newToken } from "../../src/http/tokens.ts";
import { PatientProxy } from "./patient-proxy.ts";

const START_TIMEOUT_MS = 60_000;
const GONE_TIMEOUT_MS = 5_000;

export interface Tokens {
  writer: string;
  reader: string;
  newcomer: string;
}

export class DevServer {
  readonly tokens: Tokens;
  readonly #root: string;
  readonly #port: number;
  readonly #folder: string;
  #child: ChildProcess | undefined;
  #proxy: PatientProxy | undefined;

  private constructor(root: string, port: number) {
    this.#root = root;
    this.#port = port;
    this.#folder = mkdtempSync(join(tmpdir(), "durable-runs-browser-"));
    mkdirSync(join(this.#folder, "tmp"));
    const writer = newToken({ name: "ann", access: "write" });
    const reader = newToken({ name: "eve", access: "read" });
    const newcomer = newToken({ name: "new", access: "write", projectId: "nothing-yet" });
    const entries = [writer, reader, newcomer].map(({ entry }) => entry);
    this.tokens = { writer: writer.token, reader: reader.token, newcomer: newcomer.token };
    writeFileSync(this.#settings, `API_TOKENS='${JSON.stringify(entries)}'\n`, { mode: 0o600 });
    process.once("exit", () => this.#cleanUp());
  }

  get origin(): string {
    return this.#proxy?.origin ?? this.#direct;
  }

  get #direct(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Resolves when it answers. */
  static async start(root: string): Promise<DevServer> {
    const server = new DevServer(root, await freePort());
    try {
      await server.#migrate();
      await server.#serve();
      server.#proxy = await PatientProxy.start(server.#port);
      return server;
    } catch (error) {
      server.#cleanUp();
      throw error;
    }
  }

  async stop(): Promise<void> {
    if (!(await this.#isHealthy())) console.error(`the server has died:\n${this.#lastLines()}`);
    const pgid = this.#child?.pid;
    if (pgid !== undefined) {
      signalGroup(pgid, "SIGTERM");
      await groupIsGone(pgid, GONE_TIMEOUT_MS);
    }
    this.#cleanUp();
  }

  get #settings(): string {
    return join(this.#folder, "settings.env");
  }

  async #migrate(): Promise<void> {
    const child = this.#wrangler("d1", "migrations", "apply", "DB", "--local");
    const code = await new Promise<number | null>((resolve) => child.once("exit", resolve));
    if (code !== 0)
      throw new Error(`wrangler d1 migrations apply failed (exit ${code}):\n${this.#lastLines()}`);
  }

  async #serve(): Promise<void> {
    const place = ["--ip", "127.0.0.1", "--port", String(this.#port), "--inspector-port", "0"];
    const settings = ["--env-file", this.#settings, "--show-interactive-dev-session=false"];
    const child = this.#wrangler("dev", "test/browser/worker.ts", ...place, ...settings);
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (!(await this.#isHealthy())) {
      const isDead = child.exitCode !== null || child.signalCode !== null;
      if (isDead || Date.now() > deadline)
        throw new Error(`wrangler dev did not start:\n${this.#lastLines()}`);
      await sleep(100);
    }
  }

  async #isHealthy(): Promise<boolean> {
    return fetch(`${this.#direct}/api/v1/health`, { signal: AbortSignal.timeout(2_000) }).then(
      ({ ok }) => ok,
      () => false,
    );
  }

  #wrangler(...args: readonly string[]): ChildProcess {
    const log = openSync(join(this.#folder, "wrangler.log"), "a");
    const bin = join(this.#root, "node_modules", "wrangler", "bin", "wrangler.js");
    const config = ["--config", "wrangler.toml", "--persist-to", join(this.#folder, "state")];
    const child = spawn(process.execPath, [bin, ...args, ...config], {
      cwd: this.#root,
      detached: true,
      stdio: ["ignore", log, log],
      env: {
        ...process.env,
        WRANGLER_SEND_METRICS: "false",
        WRANGLER_SEND_ERROR_REPORTS: "false",
        WRANGLER_HIDE_BANNER: "true",
        CLOUDFLARE_CF_FETCH_ENABLED: "false",
        WRANGLER_LOG_PATH: join(this.#folder, "logs"),
        WRANGLER_REGISTRY_PATH: join(this.#folder, "registry"),
        TMPDIR: join(this.#folder, "tmp"),
        NO_COLOR: "1",
      },
    });
    child.once("error", () => {});
    this.#child = child;
    return child;
  }

  #lastLines(): string {
    return readFileSync(join(this.#folder, "wrangler.log"), "utf8")
      .trimEnd()
      .split("\n")
      .slice(-30)
      .join("\n");
  }

  #cleanUp(): void {
    this.#proxy?.stop();
    this.#proxy = undefined;
    if (this.#child?.pid !== undefined) signalGroup(this.#child.pid, "SIGKILL");
    this.#child = undefined;
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
