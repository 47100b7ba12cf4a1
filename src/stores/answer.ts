/**
 * From a decision of the ledger to a journal's answer: what is counted is added to what was decided.
 */
import type { Decision, Op } from "../ledger/requests.ts";
import type { Answer, Answers, StepPage } from "./journal.ts";

/** What a run is answered with. `page`: the first of its steps, for a claim. */
export interface Counted {
  readonly stepCount: number;
  readonly page: StepPage;
}

export async function answer<O extends Op>(
  op: O,
  decision: Decision<O>,
  count: () => Counted | Promise<Counted>,
): Promise<Answer<O>> {
  if (!decision.ok) return decision;
  const reply: object = decision.reply;
  if (op === "claim") return { ok: true, value: { ...reply, ...(await count()) } as Answers[O] };
  if ("run" in reply)
    return { ok: true, value: { ...reply, stepCount: (await count()).stepCount } as Answers[O] };
  return { ok: true, value: reply as Answers[O] };
}
