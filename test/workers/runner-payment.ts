/** A payment that must not be made twice, in runs over objects and over D1, and a worker that dies in it. */
import { env } from "cloudflare:workers";
import { systemClock } from "../../src/contract/clock.ts";
import type { DurableRunStore } from "../../src/contract/types.ts";
import type { DurableContext, StepOptions } from "../../src/runner/types.ts";
import { RERUN } from "../../src/runner/types.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import type { KillPoint } from "../../src/testing/kill-points.ts";
import { killable } from "../../src/testing/kill-points.ts";
import type { RunnerWorld } from "./runner-world.ts";
import { newRunnerWorld } from "./runner-world.ts";

export type Policy = StepOptions["onInterrupted"] & {};
/** `opened`: another store over the same run, of whatever kind. */
export type Where = RunnerWorld & { opened: () => DurableRunStore };

export const coordinated = (ack: "record" | "coordinator") => (): Where => {
  const world = newRunnerWorld(ack);
  return { ...world, opened: () => world.open() };
};

export const inD1 = (): Where => {
  const world = newRunnerWorld("record");
  return { ...world, opened: () => new D1DurableRunStore(env.DB, { clock: world.time }) };
};

/** A payment between two steps that may be run twice. */
export function payment(policy: Policy, paid: string[]) {
  return async (ctx: DurableContext): Promise<string> => {
    await ctx.step("prepare", async () => 1);
    const pay = async () => (paid.push("once"), "paid");
    const receipt = await ctx.step("pay", pay, { kind: "tool", onInterrupted: policy });
    await ctx.step("send", async () => 1);
    return receipt;
  };
}

/** `reconcile` finds out from the effects themselves. */
export function policyOf(name: string, paid: string[]): Policy {
  if (name === "fail" || name === "park") return name;
  return { reconcile: async () => (paid.length > 0 ? "paid" : RERUN) };
}

/** A worker that dies at a store call. Resolves when it has; its own promise may never settle. */
export async function die(world: Where, point: KillPoint, policy: Policy, paid: string[]): Promise<void> {
  const victim = killable(world.opened(), point);
  const workerId = `victim-${point.call}-${point.when}`;
  // Its timers are its own: nobody is left to stop them.
  const options = { store: victim.store, workerId, clock: systemClock };
  const run = world.resume(payment(policy, paid), options);
  // Should it end before it dies, so be it.
  await Promise.race([victim.died, run.catch(() => {})]);
}
