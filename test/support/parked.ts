/** A run that is to be parked: its first worker has died in a payment. */
import type { DurableContext } from "../../src/runner/types.ts";
import type { World } from "./world.ts";
import { counted, crash, never } from "./world.ts";

export const PARK = { onInterrupted: "park" } as const;
/** What its record says then. */
export const DECISION = { status: "suspended", waitingFor: [{ stepIndex: 0, for: "decision" }] };

/** A payment whose first worker dies in it, beside whatever else the task does. */
export async function interrupted(
  world: World,
  beside: (ctx: DurableContext) => Promise<unknown> = async () => {},
) {
  const pay = counted((call) => (call === 1 ? never<string>() : "paid"));
  const alone = (ctx: DurableContext) => ctx.step("pay", pay, PARK);
  const task = async (ctx: DurableContext) => {
    const paying = alone(ctx);
    const [paid, other] = await Promise.all([paying, beside(ctx)]);
    return other === undefined ? paid : [paid, other];
  };
  await crash(world, alone, () => pay.calls === 1);
  return { pay, task, suspended: () => world.record().status === "suspended" };
}
