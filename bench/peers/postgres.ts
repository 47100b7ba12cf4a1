/**
 * PostgreSQL for the peers that live in one: a cluster of its own, in a folder of its own, on a free port, with fsync
 * on.
 *
 * It refuses to run as root; where this process is root's, it runs as the user "postgres", which Debian's package
 * makes.
 */
import { execFileSync, spawn } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../lib/ports.ts";

const DEBIAN = "/usr/lib/postgresql";

export interface Postgres {
  readonly url: string;
  readonly version: string;
  stop(): Promise<void>;
}

/** Throws when it is not installed. */
export async function startPostgres(): Promise<Postgres> {
  const bin = binFolder();
  const ids = idsOfServer();
  // Not in the harness's own folder, which another user may not enter.
  const folder = mkdtempSync(join(tmpdir(), "durable-runs-bench-pg-"));
  if (ids) execFileSync("chown", [`${ids.uid}:${ids.gid}`, folder]);
  chmodSync(folder, 0o700);
  const data = join(folder, "data");
  const as = { cwd: tmpdir(), stdio: "ignore", ...ids } as const;
  execFileSync(join(bin, "initdb"), ["-D", data, "-U", "bench", "-A", "trust", "-E", "UTF8"], as);
  const port = await freePort();
  const settings = ["-c", "fsync=on", "-c", "synchronous_commit=on", "-c", "max_connections=200"];
  const args = ["-D", data, "-p", String(port), "-h", "127.0.0.1", "-k", folder, ...settings];
  const server = spawn(join(bin, "postgres"), args, as);
  const ended = new Promise<void>((resolve) => server.once("exit", () => resolve()));
  const stop = async (): Promise<void> => {
    // Fast shutdown: who is connected is sent away.
    server.kill("SIGINT");
    await ended;
    rmSync(folder, { recursive: true, force: true });
  };
  const url = `postgresql://bench@127.0.0.1:${port}/postgres`;
  for (let tries = 0; !accepts(bin, port); tries += 1) {
    if (tries >= 100) {
      await stop();
      throw new Error("PostgreSQL did not start");
    }
    await sleep(100);
  }
  const version =
    execFileSync(join(bin, "postgres"), ["--version"], { encoding: "utf8" }).split(" ")[2] ?? "";
  return { url, version: version.trim(), stop };
}

function binFolder(): string {
  const versions = existsSync(DEBIAN) ? readdirSync(DEBIAN).toSorted((a, b) => Number(b) - Number(a)) : [];
  const [newest] = versions;
  if (newest === undefined) throw new Error(`PostgreSQL is not installed in ${DEBIAN}`);
  return join(DEBIAN, newest, "bin");
}

function idsOfServer(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const id = (flag: string): number => Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8" }));
  return { uid: id("-u"), gid: id("-g") };
}

function accepts(bin: string, port: number): boolean {
  try {
    execFileSync(join(bin, "pg_isready"), ["-q", "-h", "127.0.0.1", "-p", String(port)]);
    return true;
  } catch {
    return false;
  }
}
