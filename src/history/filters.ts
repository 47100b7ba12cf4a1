/** The filters of a list: checked, and as the epoch milliseconds and plain words that rows are compared with. */
import { DurableInvalidInputError } from "../contract/errors.ts";
import { checkInteger, checkText, LIMITS, RUN_STATUSES } from "../contract/limits.ts";
import type { RunStatus } from "../contract/types.ts";
import { instantOf } from "./instants.ts";
import { checkOwn, someOf } from "./options.ts";
import type { RunFilter } from "./types.ts";
import { EVER } from "./walk.ts";

export const FILTER_FIELDS = [
  "projectId",
  "scenarioId",
  "status",
  "tags",
  "taskId",
  "createdFrom",
  "createdTo",
  "completedFrom",
  "completedTo",
  "pass",
  "minScore",
  "maxScore",
  "heldBy",
  "takeoversOver",
] as const satisfies readonly (keyof RunFilter)[];

/** From inclusive, to exclusive. */
export interface Instants {
  readonly from: number;
  readonly to: number;
}

export interface Filter {
  readonly projectId: string | undefined;
  readonly scenarioId: string | undefined;
  readonly statuses: readonly RunStatus[] | undefined;
  /** In the order of their keys. */
  readonly tags: readonly (readonly [key: string, value: string])[];
  readonly taskId: string | undefined;
  readonly created: Instants | undefined;
  readonly completed: Instants | undefined;
  readonly pass: boolean | undefined;
  readonly minScore: number | undefined;
  readonly maxScore: number | undefined;
  readonly heldBy: string | undefined;
  readonly takeoversOver: number | undefined;
}

/** Throws `invalid_input` that names the field. */
export function filterOf(filter: RunFilter): Filter {
  const { projectId, scenarioId, taskId, heldBy, pass, takeoversOver } = filter;
  checkGiven("projectId", projectId, LIMITS.projectIdBytes);
  checkGiven("scenarioId", scenarioId, LIMITS.projectIdBytes);
  checkGiven("taskId", taskId, LIMITS.projectIdBytes);
  checkGiven("heldBy", heldBy, LIMITS.workerIdBytes);
  if (pass !== undefined && typeof pass !== "boolean") {
    throw new DurableInvalidInputError("pass", "must be true or false");
  }
  if (takeoversOver !== undefined) checkInteger("takeoversOver", takeoversOver, 0, Number.MAX_SAFE_INTEGER);
  return {
    projectId,
    scenarioId,
    statuses: statusesOf(filter.status),
    tags: tagsOf(filter.tags),
    taskId,
    created: instantsOf("created", filter.createdFrom, filter.createdTo),
    completed: instantsOf("completed", filter.completedFrom, filter.completedTo),
    pass,
    minScore: scoreOf("minScore", filter.minScore),
    maxScore: scoreOf("maxScore", filter.maxScore),
    heldBy,
    takeoversOver,
  };
}

export function checkGiven(field: string, value: unknown, maxBytes: number): void {
  if (value !== undefined) checkText(field, value, maxBytes);
}

/** All of them are no filter. D1 merges no more than five parts of an index. */
function statusesOf(status: RunFilter["status"]): Filter["statuses"] {
  const statuses = someOf("status", status, RUN_STATUSES);
  return statuses?.length === RUN_STATUSES.length ? undefined : statuses;
}

function tagsOf(tags: RunFilter["tags"]): Filter["tags"] {
  if (tags === undefined) return [];
  checkOwn("tags", tags);
  const entries = Object.entries(tags);
  if (entries.length > LIMITS.tags) {
    throw new DurableInvalidInputError(
      "tags",
      `has ${entries.length} tags; no run has more than ${LIMITS.tags}`,
    );
  }
  for (const [key, value] of entries) {
    checkText("tags key", key, LIMITS.tagBytes);
    if (value !== "") checkText(`tags.${key}`, value, LIMITS.tagBytes);
  }
  return entries.toSorted(([a], [b]) => (a < b ? -1 : 1));
}

function instantsOf(what: "created" | "completed", from: unknown, to: unknown): Instants | undefined {
  if (from === undefined && to === undefined) return undefined;
  return {
    from: from === undefined ? EVER.first : instantOf(`${what}From`, from),
    to: to === undefined ? EVER.last : instantOf(`${what}To`, to),
  };
}

function scoreOf(field: string, score: unknown): number | undefined {
  if (score === undefined) return undefined;
  if (typeof score !== "number" || !Number.isFinite(score)) {
    throw new DurableInvalidInputError(field, "must be a finite number");
  }
  return score;
}
