/**
 * The ledger's one entry: what a request does to a run, decided over the slice that it is about (R1).
 *
 * Pure and synchronous: no I/O, no clock, no randomness. A store loads the slice, asks here, and commits the change
 * atomically, provided that the slice still stands.
 */
import { emit } from "./events.ts";
import { copy, fork, seal } from "./forks.ts";
import { cancel, restart, suspend } from "./interventions.ts";
import type { Decision, Op, Request, RequestOf } from "./requests.ts";
import { claim, end, renew } from "./runs.ts";
import type { Slice } from "./state.ts";
import { begin, complete, fail, resolve } from "./steps.ts";

export function decide<O extends Op>(slice: Slice, request: RequestOf<O>, now: number): Decision<O> {
  return decideAny(slice, request, now) as Decision<O>;
}

function decideAny(slice: Slice, request: Request, now: number): Decision {
  switch (request.op) {
    case "claim":
      return claim(slice.run, request, now);
    case "renew":
      return renew(slice.run, request, now);
    case "begin":
      return begin(slice, request, now);
    case "complete":
      return complete(slice, request, now);
    case "fail":
      return fail(slice, request, now);
    case "end":
      return end(slice.run, request, now);
    case "emit":
      return emit(slice.event, request, now);
    case "suspend":
      return suspend(slice.run, request, now);
    case "cancel":
      return cancel(slice.run, request, now);
    case "resolve":
      return resolve(slice, request, now);
    case "restart":
      return restart(slice, request, now);
    case "fork":
      return fork(slice.run, request, now);
    case "copy":
      return copy(slice.run, request);
    case "seal":
      return seal(slice.run, request, now);
  }
}
