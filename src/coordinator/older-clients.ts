/**
 * Requests of clients that are older than this coordinator: what such a client leaves out is filled in, as it was meant
 * then. Goes when no such client can be left.
 */
import type { BeginFacts, Request } from "../ledger/requests.ts";

export function filledIn(request: Request): Request {
  switch (request.op) {
    case "begin":
      return fillIn(request, { attempt: null, ...firstFacts(request.stepIndex) });
    case "complete":
    case "fail": {
      const begun =
        request.begun && fillIn(request.begun, { ...firstFacts(request.stepIndex), elapsedMs: 0 });
      const filled = begun === request.begun ? request : { ...request, begun };
      return filled.op === "complete" ? filled : fillIn(filled, { retryAfterMs: null, inDoubt: false });
    }
    default:
      return request;
  }
}

/** In the first version there were no branches, waits or policies. */
function firstFacts(stepIndex: number): Pick<BeginFacts, "path" | "waitFor" | "onInterrupted"> {
  return { path: String(stepIndex), waitFor: null, onInterrupted: "rerun" };
}

/** What leaves nothing out is taken as it is, and so is what is no object: that is for checkRequest. */
function fillIn<T extends object>(given: T, defaults: Partial<T>): T {
  const value: unknown = given;
  if (typeof value !== "object" || value === null) return given;
  for (const key in defaults) if (!(key in given)) return { ...defaults, ...given };
  return given;
}
