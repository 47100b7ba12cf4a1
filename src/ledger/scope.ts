/**
 * What a caller that is bound to one project may ask of a run (docs/decisions/0021-three-faces.md).
 *
 * Pure. `scope` is the project; `undefined` stands for all. Until a run exists nobody knows whose it will be: it can only
 * be begun.
 */
import type { Refusal, Request } from "./requests.ts";
import { refuse } from "./requests.ts";
import type { RunView } from "./state.ts";

/** The refusal of a caller who is bound to another project than the run's, or `null`. */
export function outOfScope(run: RunView | null, scope: string | undefined): Refusal | null {
  if (scope === undefined || run === null || run.projectId === scope) return null;
  return refuse(
    "forbidden",
    `run "${run.runId}" is of another project than "${scope}", which this caller is bound to.`,
  );
}

/** The refusal of a change that the scope forbids, or `null`. To be asked in the block that decides the request. */
export function changeOutOfScope(
  run: RunView | null,
  request: Request,
  scope: string | undefined,
): Refusal | null {
  const refused = outOfScope(run, scope);
  if (refused || scope === undefined) return refused;
  const { op, runId } = request;
  if ((op === "claim" || op === "fork") && request.projectId !== scope) {
    return refuse(
      "forbidden",
      `projectId is "${request.projectId}", but this caller is bound to project "${scope}".`,
    );
  }
  if (run === null && op === "emit") {
    return refuse(
      "forbidden",
      `run "${runId}" has not begun, so it is not of project "${scope}", which this caller is bound to. Begin it first.`,
    );
  }
  return null;
}
