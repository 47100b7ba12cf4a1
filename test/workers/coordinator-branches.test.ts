/** The random tasks of runner-branches-properties.test.ts, over coordinators, which may lose their memory. */
import { env } from "cloudflare:workers";
import fc from "fast-check";
import { afterEach, test } from "vitest";
import { newRunId } from "../../src/identity.ts";
import { CoordinatedDurableRunStore } from "../../src/stores/coordinated/store.ts";
import { TestClock } from "../../src/testing/clock.ts";
import { play, type Stage } from "../helpers/branch-play.ts";
import { accidents, tree } from "../helpers/branch-trees.ts";
import { wait } from "./coordinator-world.ts";
import { abort } from "./disasters.ts";
import { faults, resetFaults } from "./faults.ts";

afterEach(resetFaults);

test.each(["record", "coordinator"] as const)(
  "whatever the timing, the failures and the deaths, a task comes to what it may come to, with ack: %s",
  async (ack) => {
    const stage = (isReset: boolean): Stage => {
      const clock = new TestClock();
      faults.clock = clock;
      const runId = newRunId();
      return {
        runId,
        clock,
        open: () => new CoordinatedDurableRunStore(env.RUNS, { ack }),
        letTimePass: () => wait(4),
        ...(isReset && { disaster: () => abort(runId) }),
      };
    };
    await fc.assert(
      fc.asyncProperty(tree, accidents, fc.boolean(), (nodes, what, isReset) =>
        play(nodes, what, stage(isReset)),
      ),
      { numRuns: 10 },
    );
  },
  240_000,
);
