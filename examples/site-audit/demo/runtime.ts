/**
 * The local Cloudflare runtime as the demo drives it: wrangler and workerd in a process group of their own, with
 * storage in a folder of their own.
 *
 * Owns every process it starts and every file those leave behind. `cleanUp` is synchronous, so that it can run
 * while the demo itself exits.
 */
import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { newToken } from "../../../src/http/tokens.ts";
import { groupIsGone, groupMembers, signalGroup } from "./processes.ts";

const START_TIMEOUT_MS = 45_000;
const GONE_TIMEOUT_MS = 5_000;
const MODEL_SETTINGS = ["OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_MODEL"];

export class Runtime {
  readonly origin: string;
  /** Lets its bearer in, and ends with the demo. */
  readonly token: string;
  readonly folder: string;
  readonly #root: string;
  readonly #port: number;
  readonly #log: string;
  #child: ChildProcess | undefined;
  /** What stood in wrangler's folder in the repository before it started: the rest is its, and a killed one cannot tidy up. */
  #bundlesBefore: ReadonlySet<string> | undefined;
  #bundles: readonly string[] = [];

  private constructor(root: string, port: number) {
    this.#root = root;
    this.#port = port;
    this.origin = `http://127.0.0.1:${port}`;
    this.folder = mkdtempSync(join(tmpdir(), "durable-runs-demo-"));
    this.#log = join(this.folder, "wrangler.log");
    mkdirSync(join(this.folder, "state"));
    mkdirSync(join(this.folder, "tmp"));
    const { token, entry } = newToken({ name: "demo", access: "write" });
    this.token = token;
    const settings = `${modelSettings()}\nAPI_TOKENS='${JSON.stringify([entry])}'\n`;
    writeFileSync(join(this.folder, "settings.env"), settings, { mode: 0o600 });
  }

  /** With fresh, empty storage and a free port. Nothing runs yet. */
  static async prepare(root: string): Promise<Runtime> {
    return new Runtime(root, await freePort());
  }

  async migrate(): Promise<void> {
    const child = this.#wrangler(["d1", "migrations", "apply", "DB", "--local", ...this.#storage()]);
    const code = await new Promise<number | null>((resolve) => child.once("exit", resolve));
    this.#child = undefined;
    if (code !== 0)
      throw new Error(`wrangler d1 migrations apply failed (exit ${code}):\n${this.#lastLines()}`);
  }

  /** Starts the Worker on the storage as it stands. Resolves when it answers. */
  async start(): Promise<void> {
    this.#bundlesBefore = new Set(this.#bundlesNow());
    const args = ["dev", "--ip", "127.0.0.1", "--port", String(this.#port), "--inspector-port", "0"];
    const settings = [
      "--env-file",
      join(this.folder, "settings.env"),
      "--show-interactive-dev-session=false",
    ];
    const child = this.#wrangler([...args, ...settings, ...this.#storage()]);
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (!(await this.#isHealthy())) {
      const dead = child.exitCode !== null || child.signalCode !== null;
      if (dead || Date.now() > deadline) throw new Error(`wrangler dev did not start:\n${this.#lastLines()}`);
      await sleep(50);
    }
    this.#noteBundles();
  }

  /** "workerd 4321, node 4310" */
  async processes(): Promise<string> {
    const members = this.#child?.pid === undefined ? [] : await groupMembers(this.#child.pid);
    return members.map(({ pid, command }) => `${command} ${pid}`).join(", ");
  }

  /** SIGKILL to the whole group at once; resolves when each process of it is gone and the port is closed. */
  async kill(): Promise<void> {
    const pgid = this.#child?.pid;
    if (pgid === undefined) throw new Error("the runtime is not running, so it cannot be killed");
    signalGroup(pgid, "SIGKILL");
    if (!(await groupIsGone(pgid, GONE_TIMEOUT_MS))) {
      throw new Error(`still alive after SIGKILL: ${await this.processes()}`);
    }
    if (await this.#isHealthy()) throw new Error(`something still answers at ${this.origin}`);
    this.#child = undefined;
    this.#removeBundles();
  }

  /** Asks the group to end, and kills what has not. */
  async stop(): Promise<void> {
    const pgid = this.#child?.pid;
    if (pgid === undefined) return;
    signalGroup(pgid, "SIGTERM");
    if (await groupIsGone(pgid, GONE_TIMEOUT_MS)) this.#child = undefined;
    else await this.kill();
  }

  /** Kills what still runs and removes every file. Safe to call at any time, and twice. */
  cleanUp(): void {
    if (this.#child?.pid !== undefined) signalGroup(this.#child.pid, "SIGKILL");
    this.#child = undefined;
    this.#removeBundles();
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
  }

  /** The end of what wrangler printed, for a failure. */
  #lastLines(): string {
    return readFileSync(this.#log, "utf8").trimEnd().split("\n").slice(-25).join("\n");
  }

  #wrangler(args: readonly string[]): ChildProcess {
    const log = openSync(this.#log, "a");
    const bin = join(this.#root, "node_modules", "wrangler", "bin", "wrangler.js");
    const child = spawn(process.execPath, [bin, ...args], {
      cwd: this.#root,
      detached: true,
      stdio: ["ignore", log, log],
      env: {
        ...environmentWithoutModel(),
        WRANGLER_SEND_METRICS: "false",
        WRANGLER_SEND_ERROR_REPORTS: "false",
        WRANGLER_HIDE_BANNER: "true",
        CLOUDFLARE_CF_FETCH_ENABLED: "false",
        WRANGLER_LOG_PATH: join(this.folder, "logs"),
        WRANGLER_REGISTRY_PATH: join(this.folder, "registry"),
        TMPDIR: join(this.folder, "tmp"),
        NO_COLOR: "1",
      },
    });
    child.once("error", () => {});
    this.#child = child;
    return child;
  }

  #storage(): string[] {
    return ["--persist-to", join(this.folder, "state")];
  }

  async #isHealthy(): Promise<boolean> {
    try {
      const response = await fetch(`${this.origin}/api/v1/health`, { signal: AbortSignal.timeout(1_000) });
      await response.body?.cancel();
      return response.ok;
    } catch {
      return false;
    }
  }

  #bundlesNow(): string[] {
    try {
      return readdirSync(this.#bundleFolder());
    } catch {
      return [];
    }
  }

  #bundleFolder(): string {
    return join(this.#root, ".wrangler", "tmp");
  }

  #noteBundles(): void {
    const before = this.#bundlesBefore;
    if (before !== undefined) this.#bundles = this.#bundlesNow().filter((name) => !before.has(name));
    this.#bundlesBefore = undefined;
  }

  #removeBundles(): void {
    this.#noteBundles();
    for (const name of this.#bundles)
      rmSync(join(this.#bundleFolder(), name), { recursive: true, force: true });
    this.#bundles = [];
  }
}

/** In a file that only the user can read: arguments of a process are seen by everybody on the machine. */
function modelSettings(): string {
  return MODEL_SETTINGS.flatMap((name) => {
    const value = process.env[name];
    return value ? [`${name}=${quoted(name, value)}\n`] : [];
  }).join("");
}

/** As dotenv reads it: no escapes but for "$", and quotes of a sort that the value does not have. */
function quoted(name: string, value: string): string {
  const quote = ["'", '"', "`"].find((mark) => !value.includes(mark));
  if (quote === undefined || /[\r\n]/.test(value))
    throw new Error(`${name} has quotes or line breaks that cannot be passed on`);
  return quote + value.replaceAll("$", "\\$") + quote;
}

function environmentWithoutModel(): NodeJS.ProcessEnv {
  const env = { ...process.env };
  for (const name of MODEL_SETTINGS) delete env[name];
  return env;
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
