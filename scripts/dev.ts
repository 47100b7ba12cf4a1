/**
 * `npm run dev`: the dashboard is built, the local tables are made, and the example Worker is served, with a token of
 * its own, until it is interrupted.
 *
 * Options: `--port <n>` (default 8787); `--open` and `--no-open` (whether the link is opened in a browser; default: where
 * somebody sits at a terminal); whatever else goes to `wrangler dev`.
 */
import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { newToken } from "../src/http/tokens.ts";
import { forgetSession, readSession, ROOT, SETTINGS, writeSession } from "./dev-session.ts";

const START_TIMEOUT_MS = 60_000;
const WRANGLER = join(ROOT, "node_modules", "wrangler", "bin", "wrangler.js");
const VITE = join(ROOT, "node_modules", "vite", "bin", "vite.js");

async function main(args: readonly string[]): Promise<number> {
  const { port, isOpened, rest } = parseOptions(args);
  const origin = `http://localhost:${port}`;
  await refuseSecond();
  await refuseTaken(port);
  await finish(node(VITE, "build", "--logLevel", "warn"), "the dashboard could not be built");
  await finish(
    node(WRANGLER, "d1", "migrations", "apply", "DB", "--local"),
    "the local tables could not be made",
  );
  const { token, entry } = newToken({ name: "npm run dev", access: "write" });
  writeSession({ origin, token }, entry);
  process.once("exit", () => forgetSession({ origin, token }));
  // With any of these named, wrangler looks for none by itself.
  const settings = [".env", ".dev.vars"].map((name) => join(ROOT, name)).filter((path) => existsSync(path));
  const files = [...settings, SETTINGS].flatMap((path) => ["--env-file", path]);
  const server = node(WRANGLER, "dev", "--port", String(port), ...files, ...rest);
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.once(signal, () => server.kill(signal));
  const ended = exitOf(server);
  if (await answers(origin, token, server)) {
    const link = `${origin}/login#token=${token}`;
    console.log(`\nThe dashboard, signed in:  ${link}`);
    console.log(`The API:                   ${origin}/api/v1, with "Authorization: Bearer ${token}"`);
    console.log("Example runs:              npm run example:runs, in another terminal\n");
    if (isOpened) open(link);
  }
  return ended;
}

function parseOptions(args: readonly string[]): { port: number; isOpened: boolean; rest: string[] } {
  const rest = [...args];
  const take = (option: string): boolean => {
    const at = rest.indexOf(option);
    if (at >= 0) rest.splice(at, 1);
    return at >= 0;
  };
  const isAttended = process.stdout.isTTY && process.env["CI"] === undefined;
  const isOpened = !take("--no-open") && (take("--open") || isAttended);
  const portAt = rest.indexOf("--port");
  const [, port = "8787"] = portAt < 0 ? [] : rest.splice(portAt, 2);
  if (!/^\d{1,5}$/.test(port)) throw new Error("--port must be a number");
  return { port: Number(port), isOpened, rest };
}

/** One server at a time: a second would take the settings and the storage of the first. */
async function refuseSecond(): Promise<void> {
  const { origin } = readSession() ?? {};
  if (origin === undefined || !(await isHealthy(origin))) return;
  throw new Error(`npm run dev is running here already, at ${origin}: stop it first`);
}

async function refuseTaken(port: number): Promise<void> {
  const probe = createServer();
  const isFree = await new Promise<boolean>((resolve) => {
    probe.once("error", () => resolve(false));
    probe.listen(port, "localhost", () => resolve(true));
  });
  await new Promise((resolve) => probe.close(resolve));
  if (!isFree) throw new Error(`port ${port} is taken: choose another one with npm run dev -- --port <n>`);
}

function isHealthy(origin: string): Promise<boolean> {
  return fetch(`${origin}/api/v1/health`, { signal: AbortSignal.timeout(2_000) }).then(
    ({ ok }) => ok,
    () => false,
  );
}

function node(script: string, ...args: readonly string[]): ChildProcess {
  return spawn(process.execPath, [script, ...args], { cwd: ROOT, stdio: "inherit" });
}

async function finish(child: ChildProcess, failure: string): Promise<void> {
  if ((await exitOf(child)) !== 0) throw new Error(failure);
}

function exitOf(child: ChildProcess): Promise<number> {
  return new Promise((resolve) => child.once("exit", (code) => resolve(code ?? 1)));
}

/** Whether the server answers to this very token: something else may be at the port. */
async function answers(origin: string, token: string, server: ChildProcess): Promise<boolean> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (server.exitCode === null && server.signalCode === null && Date.now() < deadline) {
    const isOurs = await fetch(`${origin}/api/v1/me`, {
      headers: { authorization: `Bearer ${token}` },
      signal: AbortSignal.timeout(15_000),
    }).then(
      ({ ok }) => ok,
      () => false,
    );
    if (isOurs) return true;
    await sleep(100);
  }
  return false;
}

function open(link: string): void {
  const [command, ...args] =
    process.platform === "darwin"
      ? ["open"]
      : process.platform === "win32"
        ? ["cmd", "/c", "start", ""]
        : ["xdg-open"];
  const child = spawn(command ?? "", [...args, link], { stdio: "ignore", detached: true });
  child.once("error", () => console.error("no browser could be opened: use the link"));
  child.unref();
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
