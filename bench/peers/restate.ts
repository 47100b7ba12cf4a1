/**
 * Restate: its server as one process on this machine, with its log on disk; the service lives in the harness's process.
 *
 * A step is `ctx.run`; an event is an awakeable, completed over HTTP. How far a handler has come is heard in the same
 * process, without a call. Not measured: a resume, which waits for Restate's own retry timer.
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer as createHttp2Server } from "node:http2";
import { createRequire } from "node:module";
import { join } from "node:path";
import * as restate from "@restatedev/restate-sdk";
import type { ClosableSubject } from "../lib/subjects.ts";
import { resultOf } from "../works/over-a-store.ts";
import type { OperationName, Operations } from "../works/protocol.ts";
import type { StartedPeer } from "./index.ts";
import { freePort } from "../lib/ports.ts";

interface Waiting {
  /** The awakeable that the handler waits for. */
  id: PromiseWithResolvers<string>;
  goesOn: PromiseWithResolvers<void>;
}

let waiting: Waiting = fresh();

function fresh(): Waiting {
  return { id: Promise.withResolvers(), goesOn: Promise.withResolvers() };
}

const bench = restate.service({
  name: "bench",
  handlers: {
    steps: async (ctx: restate.Context, { steps, bytes }: { steps: number; bytes: number }) => {
      const value = resultOf(bytes);
      for (let i = 0; i < steps; i += 1) await ctx.run(`step-${i}`, async () => value);
      return steps;
    },
    waiter: async (ctx: restate.Context) => {
      for (;;) {
        const { id, promise } = ctx.awakeable<string>();
        waiting.id.resolve(id);
        const payload = await promise;
        waiting.goesOn.resolve();
        if (payload === "stop") return;
      }
    },
  },
});

export async function startRestate(folder: string): Promise<StartedPeer> {
  const [ingress, admin, node, service] = await Promise.all([freePort(), freePort(), freePort(), freePort()]);
  const server = spawn(serverPath(), ["--base-dir", join(folder, "restate")], {
    env: {
      ...process.env,
      DO_NOT_TRACK: "1",
      RESTATE_LOG_FILTER: "error",
      RESTATE_BIND_ADDRESS: `127.0.0.1:${node}`,
      RESTATE_ADVERTISED_ADDRESS: `http://127.0.0.1:${node}`,
      RESTATE_INGRESS__BIND_ADDRESS: `127.0.0.1:${ingress}`,
      RESTATE_ADMIN__BIND_ADDRESS: `127.0.0.1:${admin}`,
    },
    stdio: "ignore",
  });
  const ended = new Promise<void>((resolve) => server.once("exit", () => resolve()));
  const handlers = createHttp2Server(
    restate
      .endpoint()
      .bind(bench)
      .setLogger(() => {})
      .http2Handler(),
  );
  const close = async (): Promise<void> => {
    server.kill("SIGKILL");
    await ended;
    handlers.close();
  };
  try {
    await new Promise<void>((resolve) => handlers.listen(service, "127.0.0.1", resolve));
    await untilUp(`http://127.0.0.1:${admin}/health`);
    await post(`http://127.0.0.1:${admin}/deployments`, { uri: `http://127.0.0.1:${service}` });
    await untilUp(`http://127.0.0.1:${ingress}/restate/health`);
  } catch (error) {
    await close();
    throw error;
  }
  return { subject: new RestateSubject(`http://127.0.0.1:${ingress}`, close), version: versionOfServer() };
}

class RestateSubject implements ClosableSubject {
  readonly name = "Restate";
  readonly lacks = ["prefix", "resume", "rest", "die", "takeover"] as const;
  readonly close: () => Promise<void>;
  readonly #ingress: string;
  #waiter: Promise<unknown> = Promise.resolve();

  constructor(ingress: string, close: () => Promise<void>) {
    this.#ingress = ingress;
    this.close = close;
  }

  async call<O extends OperationName>(operation: O, params: Operations[O]): Promise<void> {
    switch (operation) {
      case "runs":
        return this.#runs(params as Operations["runs"]);
      case "waiter":
        waiting = fresh();
        this.#waiter = post(`${this.#ingress}/bench/waiter`, undefined);
        return;
      case "waiting":
        await waiting.id.promise;
        await new Promise((resolve) => setTimeout(resolve, 10));
        return;
      case "emit":
        return this.#emit("go");
      case "unwait":
        await this.#emit("stop");
        await this.#waiter;
        return;
      case "settle":
        return;
      default:
        throw new Error(`Restate has no ${operation} here`);
    }
  }

  async #runs({ runs, steps, bytes, concurrent }: Operations["runs"]): Promise<void> {
    const one = async (): Promise<void> => {
      const done = await post(`${this.#ingress}/bench/steps`, { steps, bytes });
      if (done !== steps) throw new Error(`${String(done)} of ${steps} steps were done`);
    };
    if (concurrent) await Promise.all(Array.from({ length: runs }, one));
    else for (let run = 0; run < runs; run += 1) await one();
  }

  /** The next awakeable may be there before the handler's going on was heard. */
  async #emit(payload: string): Promise<void> {
    const { id, goesOn } = waiting;
    const awakeable = await id.promise;
    waiting = { id: Promise.withResolvers(), goesOn };
    await Promise.all([
      goesOn.promise,
      post(`${this.#ingress}/restate/awakeables/${awakeable}/resolve`, payload),
    ]);
    waiting.goesOn = Promise.withResolvers();
  }
}

async function post(url: string, body: unknown): Promise<unknown> {
  const init: RequestInit = { method: "POST" };
  if (body !== undefined) {
    init.headers = { "content-type": "application/json" };
    init.body = JSON.stringify(body);
  }
  const response = await fetch(url, init);
  const text = await response.text();
  if (!response.ok) throw new Error(`${url} answered ${response.status}: ${text}`);
  return text === "" ? undefined : (JSON.parse(text) as unknown);
}

async function untilUp(url: string): Promise<void> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const up = await fetch(url).then(
      ({ ok }) => ok,
      () => false,
    );
    if (up) return;
    if (Date.now() > deadline) throw new Error(`${url} did not answer`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const require = createRequire(import.meta.url);

/** The binary itself, rather than the script that starts it: so that it can be ended. */
function serverPath(): string {
  return require.resolve(`@restatedev/restate-server-${process.platform}-${process.arch}/bin/restate-server`);
}

function versionOfServer(): string {
  const path = require.resolve("@restatedev/restate-server/package.json");
  return (JSON.parse(readFileSync(path, "utf8")) as { version: string }).version;
}
