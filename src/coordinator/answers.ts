/**
 * What a coordinator answers: the ledger's reply, with what is counted, and without what the caller has just sent or
 * does not need.
 */
import type { Op, Replies } from "../ledger/requests.ts";
import type { RunState, RunView } from "../ledger/state.ts";
import type { Answers } from "../stores/journal.ts";
import type { RunCache } from "./cache.ts";

export function answerOf(cache: RunCache, op: Op, reply: Replies[Op]): Answers[Op] {
  switch (op) {
    case "claim": {
      const { run } = reply as Replies["claim"];
      const page = cache.page(0);
      return { run: viewOf(run), stepCount: cache.stepCount(), page };
    }
    case "end": {
      const { run, accepted } = reply as Replies["end"];
      const result = accepted ? null : run.result;
      return { run: { ...viewOf(run), result }, stepCount: cache.stepCount(), accepted };
    }
    case "complete": {
      const { step, accepted } = reply as Replies["complete"];
      return { step: accepted ? { ...step, result: null } : step, accepted };
    }
    case "emit": {
      const { event, accepted, isNew } = reply as Replies["emit"];
      return { event: isNew ? { ...event, payload: { text: "" } } : event, accepted, isNew };
    }
    case "suspend":
    case "cancel":
    case "restart":
    case "fork":
    case "seal":
      return { run: viewOf((reply as Replies["cancel"]).run), stepCount: cache.stepCount() };
    default:
      return reply as Answers[Op];
  }
}

/** A run without what is only kept. */
export function viewOf(run: RunState): RunView {
  const { task: _task, input: _input, tags: _tags, ...rest } = run;
  return rest;
}
