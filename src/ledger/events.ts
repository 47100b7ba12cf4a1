/**
 * The rule of events: the first emit of a key wins, for good, whether or not the run has begun or has ended.
 */
import type { Decision, EmitRequest } from "./requests.ts";
import { accept } from "./requests.ts";
import type { EventState } from "./state.ts";

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
