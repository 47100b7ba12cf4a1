/**
 * The other Worker of the RPC tests: it holds the runs, and exports the service that the tests' own Worker binds to. Bundled
 * by second-workers.ts; it shares nothing with the tests but D1.
 */
import { WorkerEntrypoint } from "cloudflare:workers";
import { TestClock } from "../../src/testing/clock.ts";
import { faults } from "./faults.ts";

export { RunCoordinator, RunService } from "./worker.ts";

const clock = new TestClock();
faults.clock = clock;

/** How the tests move the time that decides leases over there. */
export class World extends WorkerEntrypoint {
  advance(ms: number): void {
    clock.advance(ms);
  }
}

export default { fetch: () => new Response("ok") };
