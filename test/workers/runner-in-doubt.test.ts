/** R31 over real objects and D1: a worker that dies in a step, at every store call, has its effect happen once. */
import { afterEach, describe, expect, test } from "vitest";
import { codeOf } from "../../src/contract/errors.ts";
import type { RunDurableResult } from "../../src/runner/types.ts";
import type { KillPoint } from "../../src/testing/kill-points.ts";
import { abort, wipe } from "./disasters.ts";
import { resetFaults } from "./faults.ts";
import type { Policy, Where } from "./runner-payment.ts";
import { coordinated, die, inD1, payment, policyOf } from "./runner-payment.ts";

afterEach(resetFaults);

type Disaster = (runId: string) => Promise<void>;

/** Claim, the begin of the payment, for the others come with their ends, three completions, the end. */
const CALLS = 6;
const points = (calls: number): KillPoint[] =>
  Array.from({ length: calls }, (_, i) => [
    { call: i + 1, when: "before" as const },
    { call: i + 1, when: "after" as const },
  ]).flat();

/** Somebody who looks at what has happened, decides, and sees the run through. Answers how often that was asked for. */
async function seeThrough(world: Where, policy: Policy, paid: string[]) {
  const { runId } = world;
  for (let decisions = 0; ; decisions += 1) {
    const store = world.opened();
    let outcome: RunDurableResult<string>;
    try {
      outcome = await world.resume(payment(policy, paid), { store, workerId: `helper-${decisions}` });
      return { outcome, decisions };
    } catch (error) {
      const expected = policy === "park" ? "run_suspended" : "step_interrupted";
      expect([codeOf(error), policy]).toEqual([expected, policy]);
      expect(decisions).toBeLessThan(3);
    }
    const known = paid.length > 0;
    await store.resolveStep?.(runId, 1, known ? { result: "paid" } : { rerun: true });
  }
}

describe.each<[string, () => Where, Disaster]>([
  ["an object that is wiped, ack: record", coordinated("record"), wipe],
  ["an object that is reset, ack: coordinator", coordinated("coordinator"), abort],
  ["D1", inD1, async () => {}],
])("over %s", (_where, newWorld, disaster) => {
  test.each(["fail", "park", "reconcile"])(
    "a worker that dies at any store call has it paid once, by policy: %s",
    async (name) => {
      for (const point of points(CALLS)) {
        const world = newWorld();
        const paid: string[] = [];
        const policy = policyOf(name, paid);
        await die(world, point, policy, paid);
        await disaster(world.runId);
        const { outcome, decisions } = await seeThrough(world, policy, paid);
        expect(outcome.result).toBe("paid");
        // In doubt is what was begun, and is not known to have ended.
        const at = `${point.when} call ${point.call}`;
        const inDoubt = at === "after call 3" || at === "before call 4";
        const asked = inDoubt && name !== "reconcile" ? 1 : 0;
        expect({ at, paid, decisions }).toEqual({ at, paid: ["once"], decisions: asked });
      }
    },
    120_000,
  );
});

test.each(["fail", "park", "reconcile"])(
  "over an object that is wiped twice, a second worker that dies while it deals with that has it paid once too, by policy: %s",
  async (name) => {
    // Its claim, the begin that finds out, and what it does then: with reconcile, it goes on from there.
    for (const point of points(name === "reconcile" ? 4 : 3)) {
      const world = coordinated("record")();
      const paid: string[] = [];
      const policy = policyOf(name, paid);
      await die(world, { call: 4, when: "before" }, policy, paid);
      await wipe(world.runId);
      await die(world, point, policy, paid);
      await wipe(world.runId);
      const { outcome } = await seeThrough(world, policy, paid);
      expect(outcome.result).toBe("paid");
      expect({ ...point, paid }).toEqual({ ...point, paid: ["once"] });
    }
  },
  120_000,
);
