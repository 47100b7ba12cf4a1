/**
 * R23: when does a step of the code match the step on record? One rule, asked by the ledger for steps that begin and
 * by the runner for steps that replay.
 */
import type { ErrorData } from "./errors.ts";
import type { StepKind } from "./types.ts";

interface StepIdentity {
  readonly intent: string;
  readonly kind: StepKind;
  readonly inputHash: string;
  /** The position itself, when absent. */
  readonly path?: string | null;
}

/** What is wrong, naming both sides; `null` when they match. Input hashes are compared when both sides have one. */
export function mismatch(
  runId: string,
  stepIndex: number,
  recorded: StepIdentity,
  asked: StepIdentity,
): ErrorData | null {
  const where = `step ${stepIndex} of run "${runId}"`;
  const there = recorded.path ?? String(stepIndex);
  const here = asked.path ?? String(stepIndex);
  if (there !== here) {
    return {
      code: "step_divergence",
      message: `${where} was recorded at path ${there}, but the code now comes there from path ${here}.`,
    };
  }
  if (recorded.intent !== asked.intent || recorded.kind !== asked.kind) {
    return {
      code: "step_divergence",
      message:
        `${where} was recorded as ${recorded.kind} "${recorded.intent}", but the code now comes with ` +
        `${asked.kind} "${asked.intent}". Restore the order and the intents of the steps, or start a new run.`,
    };
  }
  if (recorded.inputHash !== "" && asked.inputHash !== "" && recorded.inputHash !== asked.inputHash) {
    return {
      code: "step_input_mismatch",
      message:
        `${where} ("${recorded.intent}") was recorded with input hash ${recorded.inputHash}, but now has ` +
        `${asked.inputHash}: its input is not that of the earlier attempt.`,
    };
  }
  return null;
}
