/** The random tasks of runner-branches-properties.test.ts, over files. */
import fc from "fast-check";
import { test } from "vitest";
import { FileSystemDurableRunStore } from "../../src/node.ts";
import { play, type Stage } from "../helpers/branch-play.ts";
import { accidents, tree } from "../helpers/branch-trees.ts";
import { ManualClock } from "../support/manual-clock.ts";
import { tick } from "../support/world.ts";
import { temporaryRoot } from "./helpers/file-system.ts";

test("whatever the timing, the failures and the deaths, a task over files comes to what it may come to", async () => {
  const root = await temporaryRoot();
  let runs = 0;
  const stage = (): Stage => {
    const clock = new ManualClock();
    const open = (): FileSystemDurableRunStore => {
      const store = new FileSystemDurableRunStore(root);
      store.now = () => clock.now();
      return store;
    };
    const letTimePass = async (): Promise<void> => {
      await tick();
      clock.advance(2);
    };
    return { runId: `run-${(runs += 1)}`, clock, open, letTimePass };
  };
  await fc.assert(
    fc.asyncProperty(tree, accidents, (nodes, what) => play(nodes, what, stage())),
    { numRuns: 20 },
  );
}, 120_000);
