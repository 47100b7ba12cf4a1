/**
 * The rules of events: the first emit of a key wins, for good, whether or not the run has begun or has ended; and steps
 * that wait for it may end with it.
 */
import type { Decision, EmitRequest, EventCompletion } from "./requests.ts";
import { accept } from "./requests.ts";
import type { Change, EventState, RunState, StepState } from "./state.ts";
import { complete } from "./steps.ts";

export function emit(event: EventState | null, request: EmitRequest, now: number): Decision<"emit"> {
  if (event !== null) {
    return accept({ accepted: event.requestId === request.requestId, isNew: false, event });
  }
  const next: EventState = {
    key: request.key,
    payload: request.payload,
    emittedAt: now,
    requestId: request.requestId,
  };
  return accept({ accepted: true, isNew: true, event: next }, { event: next });
}

/** What a completion is decided over. */
export interface Standing {
  readonly run: RunState | null;
  readonly step: (stepIndex: number) => StepState | null;
}

/** Whoever holds a completion, and what became of it. */
export interface Ended<H> {
  readonly held: H;
  readonly decision: Decision<"complete">;
}

/**
 * The completions that come with an event, each decided as if it came by itself after those before it. `change`: of all
 * that were accepted. A refused one changes nothing, neither for the others nor for the event.
 */
export function completeWith<H extends { readonly request: EventCompletion }>(
  { payload }: EventState,
  { run, step }: Standing,
  completions: readonly H[],
  now: number,
): { ends: Ended<H>[]; change: Pick<Change, "run" | "steps"> } {
  const steps = new Map<number, StepState>();
  let current = run;
  const ends = completions.map((held) => {
    const { stepIndex } = held.request;
    const slice = { run: current, step: steps.get(stepIndex) ?? step(stepIndex), event: null };
    const decision = complete(slice, { ...held.request, result: payload }, now);
    if (decision.ok && decision.change.step) steps.set(stepIndex, decision.change.step);
    if (decision.ok) current = decision.change.run ?? current;
    return { held, decision };
  });
  const change = {
    ...(current !== null && current !== run && { run: current }),
    ...(steps.size > 0 && { steps: [...steps.values()] }),
  };
  return { ends, change };
}
