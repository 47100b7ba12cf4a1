/**
 * Workers on the local runtime, as demos and their tests drive them: wrangler and workerd in a process group of their own,
 * with storage in a folder that several such groups may share.
 *
 * Owns every process it starts and every file those leave behind, but for the folder. `cleanUp` is synchronous, so that it
 * can run while the demo itself exits.
 */
import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { groupIsGone, groupMembers, signalGroup } from "./processes.ts";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const START_TIMEOUT_MS = 60_000;
const GONE_TIMEOUT_MS = 5_000;

/** A fresh folder, for storage and for how Workers in different groups find each other. */
export function newFolder(prefix: string): string {
  const folder = mkdtempSync(join(tmpdir(), prefix));
  mkdirSync(join(folder, "tmp"));
  return folder;
}

export function removeFolder(folder: string): void {
  rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
}

export interface LocalWorkersOptions {
  /** Paths of their wrangler.toml, from the root of the repository. The first one answers HTTP. */
  readonly configs: readonly string[];
  /** Made by {@link newFolder}. */
  readonly folder: string;
  /** A path that the first one answers, whatever it answers, once it runs. Default "/health". */
  readonly healthPath?: string;
  /** A file of variables for the Workers. */
  readonly settings?: string;
  /** For wrangler. Default: that of this process. */
  readonly env?: NodeJS.ProcessEnv;
}

export class LocalWorkers {
  /** Where the first of them answers HTTP. */
  readonly origin: string;
  readonly #options: LocalWorkersOptions;
  readonly #port: number;
  #child: ChildProcess | undefined;
  /** What stood where wrangler bundles before it started: the rest is its, and a killed one cannot tidy up. */
  #before: ReadonlySet<string> | undefined;
  #bundles: readonly string[] = [];

  private constructor(options: LocalWorkersOptions, port: number) {
    this.#options = options;
    this.#port = port;
    this.origin = `http://127.0.0.1:${port}`;
    // The dashboard's files may not have been built, but wrangler wants their folder.
    mkdirSync(join(ROOT, "dist", "dashboard"), { recursive: true });
  }

  /** With a free port. Nothing runs yet. */
  static async prepare(options: LocalWorkersOptions): Promise<LocalWorkers> {
    return new LocalWorkers(options, await freePort());
  }

  /** Makes the tables of the Worker of this repository. */
  async migrate(): Promise<void> {
    const child = this.#wrangler(["d1", "migrations", "apply", "DB", "--local", "-c", "wrangler.toml"]);
    const code = await new Promise<number | null>((resolve) => child.once("exit", resolve));
    this.#child = undefined;
    if (code !== 0)
      throw new Error(`wrangler d1 migrations apply failed (exit ${code}):\n${this.#lastLines()}`);
  }

  /** Starts on the storage as it stands. Resolves when the first Worker answers. */
  async start(): Promise<void> {
    this.#before = new Set(this.#bundlesNow());
    const { configs, settings } = this.#options;
    const which = configs.flatMap((config) => ["-c", config]);
    const where = ["--ip", "127.0.0.1", "--port", String(this.#port), "--inspector-port", "0"];
    const variables = settings === undefined ? [] : ["--env-file", settings];
    const quiet = "--show-interactive-dev-session=false";
    const child = this.#wrangler(["dev", ...which, ...where, ...variables, quiet]);
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (!(await this.#answers())) {
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
    if (pgid === undefined) throw new Error("nothing is running, so nothing can be killed");
    signalGroup(pgid, "SIGKILL");
    if (!(await groupIsGone(pgid, GONE_TIMEOUT_MS))) {
      throw new Error(`still alive after SIGKILL: ${await this.processes()}`);
    }
    if (await this.#answers()) throw new Error(`something still answers at ${this.origin}`);
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

  /** Kills what still runs, and removes what it left but for the folder. Safe to call at any time, and twice. */
  cleanUp(): void {
    if (this.#child?.pid !== undefined) signalGroup(this.#child.pid, "SIGKILL");
    this.#child = undefined;
    this.#removeBundles();
  }

  #wrangler(args: readonly string[]): ChildProcess {
    const log = openSync(this.#log(), "a");
    const bin = join(ROOT, "node_modules", "wrangler", "bin", "wrangler.js");
    const { folder, env = process.env } = this.#options;
    const child = spawn(process.execPath, [bin, ...args, "--persist-to", join(folder, "state")], {
      cwd: ROOT,
      detached: true,
      stdio: ["ignore", log, log],
      env: {
        ...env,
        WRANGLER_SEND_METRICS: "false",
        WRANGLER_SEND_ERROR_REPORTS: "false",
        WRANGLER_HIDE_BANNER: "true",
        CLOUDFLARE_CF_FETCH_ENABLED: "false",
        WRANGLER_LOG_PATH: join(folder, "logs"),
        WRANGLER_REGISTRY_PATH: join(folder, "registry"),
        TMPDIR: join(folder, "tmp"),
        NO_COLOR: "1",
      },
    });
    child.once("error", () => {});
    this.#child = child;
    return child;
  }

  #log(): string {
    return join(this.#options.folder, `wrangler-${this.#port}.log`);
  }

  /** The end of what wrangler printed, for a failure. */
  #lastLines(): string {
    return readFileSync(this.#log(), "utf8").trimEnd().split("\n").slice(-25).join("\n");
  }

  /** Whatever it answers. */
  async #answers(): Promise<boolean> {
    try {
      const { healthPath = "/health" } = this.#options;
      const response = await fetch(this.origin + healthPath, { signal: AbortSignal.timeout(1_000) });
      await response.body?.cancel();
      return true;
    } catch {
      return false;
    }
  }

  #bundlesNow(): string[] {
    return this.#options.configs.flatMap((config) => {
      const folder = join(ROOT, dirname(config), ".wrangler", "tmp");
      return existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [];
    });
  }

  #noteBundles(): void {
    const before = this.#before;
    if (before !== undefined) this.#bundles = this.#bundlesNow().filter((path) => !before.has(path));
    this.#before = undefined;
  }

  #removeBundles(): void {
    this.#noteBundles();
    for (const path of this.#bundles) rmSync(path, { recursive: true, force: true });
    this.#bundles = [];
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
