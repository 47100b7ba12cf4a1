/**
 * The other Worker of the RPC tests: it holds the runs, and exports the service that the tests' own Worker binds to. Bundled
 * by second-workers.ts; it shares nothing with the tests but D1.
 */
import { DurableObject, env, exports, WorkerEntrypoint } from "cloudflare:workers";
import type { ConnectedRuns } from "../../src/service/connect-runs.ts";
import { connectRuns } from "../../src/service/connect-runs.ts";
import type { RunServiceEnv } from "../../src/service/run-session.ts";
import { RunSession } from "../../src/service/run-session.ts";
import { TestClock } from "../../src/testing/clock.ts";
import { faults } from "./faults.ts";
import { RunService } from "./worker.ts";

export { RunCoordinator, RunService } from "./worker.ts";

const clock = new TestClock();
faults.clock = clock;

/** What CountedService has seen: calls of the entrypoint, each a Worker invocation, and sessions that were given back. */
const counts = { opened: 0, disposed: 0 };
/** How many of its invocations were told to die. */
let doomed = 0;
let failures = 0;

class CountedSession extends RunSession {
  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    counts.disposed += 1;
  }
}

export class CountedService extends RunService {
  override open(): RunSession {
    counts.opened += 1;
    const number = counts.opened;
    if (failures > 0) {
      failures -= 1;
      throw Object.assign(new Error("as the runtime would say it: Network connection lost."));
    }
    this.ctx.waitUntil(this.#untilDoomed(number));
    return new CountedSession(this.env, this.ctx.props);
  }

  /** Only an invocation itself can abort itself. */
  async #untilDoomed(number: number): Promise<void> {
    while (counts.opened - counts.disposed > 0) {
      await new Promise((resolve) => setTimeout(resolve, 10));
      if (number <= doomed) abort(this.ctx, "the service was aborted");
    }
  }
}

/** The runtime has it, the types do not. */
function abort(ctx: object, why: string): void {
  (ctx as { abort(reason: Error): void }).abort(new Error(why));
}

/** How the tests move the time that decides leases over there, and see and disturb the service. */
export class World extends WorkerEntrypoint {
  advance(ms: number): void {
    clock.advance(ms);
  }

  counts(): { opened: number; disposed: number } {
    return { ...counts };
  }

  /** Aborts the invocations whose sessions are open. */
  abortSessions(): void {
    doomed = counts.opened;
  }

  failNextOpens(times: number): void {
    failures = times;
  }
}

function countedRuns(): ConnectedRuns {
  const { CountedService: service } = exports as unknown as { CountedService: object };
  return connectRuns(service);
}

let shared: ConnectedRuns | undefined;

/** One store at module level, and each call of this a request of its own. */
export class SharedStore extends WorkerEntrypoint {
  async emit(runId: string, key: string): Promise<boolean> {
    shared ??= countedRuns();
    const { accepted } = await shared.emitEvent({ runId, key, payload: key });
    return accepted;
  }

  async wait(runId: string, key: string): Promise<boolean> {
    shared ??= countedRuns();
    return (await shared.waitForEvent({ runId, key, timeoutMs: 20_000 })) !== undefined;
  }

  /** Five at once. */
  async read(runId: string): Promise<number> {
    const store = (shared ??= countedRuns());
    const read = await Promise.all(Array.from({ length: 5 }, () => store.loadRun(runId)));
    return read.length;
  }

  /** By a Durable Object, whose requests share what they open. */
  async emitFromObject(runId: string, key: string): Promise<boolean> {
    const { OBJECTS_WITH_A_STORE: namespace } = env as unknown as {
      OBJECTS_WITH_A_STORE: DurableObjectNamespace<ObjectWithAStore>;
    };
    return namespace.getByName("one").emit(runId, key);
  }
}

export class ObjectWithAStore extends DurableObject<RunServiceEnv> {
  readonly #runs = countedRuns();

  async emit(runId: string, key: string): Promise<boolean> {
    const { accepted } = await this.#runs.emitEvent({ runId, key, payload: key });
    return accepted;
  }
}

export default { fetch: () => new Response("ok") };
