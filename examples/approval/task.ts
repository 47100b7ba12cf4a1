/** A small registered task that needs no network: a few steps, then a person. For whoever tries the API or the dashboard. */
import { codeOf, DurableInvalidInputError } from "../../src/contract/errors.ts";
import { checkInteger, checkObject, checkText, cutText } from "../../src/contract/limits.ts";
import type { RegisteredTask } from "../../src/workflows/tasks.ts";

export interface ApprovalInput {
  /** What is to be approved. Default "a small change". */
  subject: string;
  /** How many steps of work come first, 1 to 20. Default 3. */
  steps: number;
  /** How long each pauses, 0 to 3,600. Default 2. */
  seconds: number;
  /** How long it waits for the event "approve", in minutes: 0 to 43,200, which is 30 days. Default 60. */
  waitMinutes: number;
}

export interface ApprovalResult {
  approved: boolean;
  /** Who said so, at most 256 bytes of it; "nobody" when no event came in time. */
  by: string;
  finishedAt: string;
}

const MAX_NAME_BYTES = 256;

const DEFAULTS: ApprovalInput = { subject: "a small change", steps: 3, seconds: 2, waitMinutes: 60 };

export const approvalTask: RegisteredTask<unknown, ApprovalInput, ApprovalResult> = {
  description:
    'Does a few small steps, then waits for the event "approve", such as { "by": "Ada", "approved": true }.',
  projectId: "approval",
  intent: "Get something approved",
  parse,
  run: async (ctx, { subject, steps, seconds, waitMinutes }) => {
    const inputFingerprint = { subject };
    const plan = await ctx.step("plan the work", async () => ({ subject, parts: steps }), {
      inputFingerprint,
    });
    for (let part = 1; part <= plan.parts; part += 1) {
      await ctx.step(`do part ${part} of ${plan.parts}`, async () => ({ done: part }), { kind: "tool" });
      await ctx.sleep(seconds * 1_000);
    }
    const answer = await ctx
      .awaitEvent("approve", { timeoutMs: waitMinutes * 60_000 })
      .catch((error: unknown) => {
        if (codeOf(error) !== "await_event_timeout") throw error;
        return { approved: false, by: "nobody" };
      });
    const decision = decisionOf(answer);
    const finishedAt = (await ctx.now()).toISOString();
    return ctx.step("record the decision", async () => ({ ...decision, finishedAt }));
  },
  outcome: ({ approved, by }) => ({
    pass: approved,
    notes: `${approved ? "approved" : "not approved"} by ${by}`,
  }),
};

/** Throws `invalid_input`, naming the field and the limit. */
function parse(given: unknown): ApprovalInput {
  checkObject("input", given ?? {});
  const input = { ...DEFAULTS, ...(given as Partial<ApprovalInput> | undefined) };
  const unknownField = Object.keys(input).find((field) => !Object.hasOwn(DEFAULTS, field));
  if (unknownField !== undefined) {
    const fields = Object.keys(DEFAULTS).join(", ");
    throw new DurableInvalidInputError(`input.${unknownField}`, `is not known; the fields are ${fields}`);
  }
  checkText("input.subject", input.subject, 256);
  checkInteger("input.steps", input.steps, 1, 20);
  checkInteger("input.seconds", input.seconds, 0, 3_600);
  checkInteger("input.waitMinutes", input.waitMinutes, 0, 43_200);
  return input;
}

/** An event approves that has no payload, or an object whose `approved` is `true` or left out. Whatever else it says, it does not. */
function decisionOf(payload: unknown): Pick<ApprovalResult, "approved" | "by"> {
  const { approved = true, by }: { approved?: unknown; by?: unknown } = isObject(payload ?? {})
    ? { ...(payload as object) }
    : { approved: false };
  return {
    approved: approved === true,
    by: typeof by === "string" && by !== "" ? cutText(by, MAX_NAME_BYTES) : "somebody who gave no name",
  };
}

function isObject(value: unknown): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
