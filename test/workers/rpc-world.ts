/** What the RPC tests share: the store over the binding, and the clock of the Worker behind it. */
import { env } from "cloudflare:workers";
import { afterAll } from "vitest";
import type { ConnectedRuns, ConnectOptions } from "../../src/service/connect-runs.ts";
import { connectRuns } from "../../src/service/connect-runs.ts";
import type { RunServiceMethods, RunSessionMethods } from "../../src/service/wire.ts";
import { TestClock } from "../../src/testing/clock.ts";

/** Time over there: each call of a store waits until it has arrived. */
class ClockOfRuns extends TestClock {
  #arrived: Promise<unknown> = Promise.resolve();

  override advance(ms: number): void {
    super.advance(ms);
    this.#arrived = Promise.all([this.#arrived, env.RUNS_WORLD.advance(ms)]);
  }

  async arrived(): Promise<void> {
    await this.#arrived;
  }
}

/** One, as there is one Worker with runs. */
export const clockOfRuns = new ClockOfRuns();

const opened: (Partial<Disposable> & { close?(): Promise<void> })[] = [];

afterAll(async () => {
  for (const one of opened.splice(0)) await (one.close?.() ?? one[Symbol.dispose]?.());
});

/** Closed after the last test of the file. */
export function runsOver(binding: object, options?: ConnectOptions): ConnectedRuns {
  const store = connectRuns(binding, options);
  opened.push(store);
  return store;
}

/** A session by itself, disposed of after the last test of the file. */
export function sessionOf(binding: object): RunSessionMethods {
  const session = (binding as RunServiceMethods).open();
  opened.push({ [Symbol.dispose]: () => (session as Partial<Disposable>)[Symbol.dispose]?.() });
  return session;
}

export function connected(binding: object, options?: ConnectOptions): ConnectedRuns {
  const inTime = around(binding, async (call) => {
    await clockOfRuns.arrived();
    return call();
  });
  return runsOver(inTime, options);
}

type Methods = Record<string, (...args: unknown[]) => Promise<unknown>>;

/** A binding whose sessions do something around each call, and when they are disposed of. */
export function around(
  binding: object,
  wrap: (call: () => Promise<unknown>) => Promise<unknown>,
  onDispose = () => {},
): RunServiceMethods {
  const open = (): RunSessionMethods => {
    const session = (binding as RunServiceMethods).open() as unknown as Methods & Disposable;
    return new Proxy(session, {
      get: (_session, method) => {
        if (method === Symbol.dispose) {
          return () => {
            onDispose();
            session[Symbol.dispose]();
          };
        }
        // What it opens is no promise: calls go through here first.
        if (typeof method === "symbol" || method === "then") return undefined;
        return (...args: unknown[]) => wrap(async () => session[method]?.(...args));
      },
    }) as unknown as RunSessionMethods;
  };
  return { open };
}
