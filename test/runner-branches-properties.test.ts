/** R32 over random tasks: branches, groups in groups, failures that are caught or not, and workers that die. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { InMemoryDurableRunStore } from "../src/stores/memory.ts";
import { play, type Stage } from "./helpers/branch-play.ts";
import { accidents, type Node, tree } from "./helpers/branch-trees.ts";
import { ManualClock } from "./support/manual-clock.ts";

function stage(): Stage {
  const clock = new ManualClock();
  const memory = new InMemoryDurableRunStore({ clock });
  const letTimePass = async (): Promise<void> => {
    // All that happens over this store happens in microtasks, but for what waits for the clock.
    for (let i = 0; i < 40; i += 1) await Promise.resolve();
    clock.advance(1);
  };
  return { runId: "run-1", clock, open: () => memory, letTimePass };
}

test("whatever the timing, the failures and the deaths, a task comes to what it may come to, and repeats nothing", async () => {
  await fc.assert(
    fc.asyncProperty(tree, accidents, (nodes, what) => play(nodes, what, stage())),
    { numRuns: 300 },
  );
}, 120_000);

test("the random tasks have nodes of every kind, and groups in groups in groups", () => {
  const kinds = new Set<string>();
  let deepest = 0;
  const look = (nodes: readonly Node[], depth: number): void => {
    deepest = Math.max(deepest, depth);
    for (const node of nodes) {
      kinds.add(node.kind);
      if (node.kind === "try") look(node.body, depth);
      if (node.kind === "all") for (const branch of node.branches) look(branch, depth + 1);
      if (node.kind === "race") for (const branch of node.branches) look(branch.nodes, depth + 1);
    }
  };
  for (const nodes of fc.sample(tree, { numRuns: 300, seed: 1 })) look(nodes, 0);
  expect(deepest).toBe(4);
  expect([...kinds].sort()).toEqual([
    "all",
    "emit",
    "event",
    "fails",
    "flaky",
    "fragile",
    "now",
    "race",
    "sleep",
    "step",
    "try",
    "uuid",
  ]);
});
