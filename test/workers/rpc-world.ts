/** What the RPC tests share: the store over the binding, and the clock of the Worker behind it. */
import { env } from "cloudflare:workers";
import type { ConnectedRuns, ConnectOptions } from "../../src/service/connect-runs.ts";
import { connectRuns } from "../../src/service/connect-runs.ts";
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

type Methods = Record<string | symbol, (...args: unknown[]) => Promise<unknown>>;

export function connected(binding: object, options?: ConnectOptions): ConnectedRuns {
  const inTime = new Proxy(binding as Methods, {
    get:
      (service, method) =>
      async (...args: unknown[]) => {
        await clockOfRuns.arrived();
        return service[method]?.(...args);
      },
  });
  return connectRuns(inTime, options);
}
