/**
 * RunHistory.list: runs by what is known of them, newest first.
 *
 * One filter chooses the index that is walked: the first of those below that is given, which is the one that likely leaves
 * the fewest runs. All others are conditions on the rows of a bounded walk.
 */
import { DurableInvalidInputError } from "../contract/errors.ts";
import type { RunStatus } from "../contract/types.ts";
import type { Access } from "./access.ts";
import { fromCursor, toCursor } from "./cursor.ts";
import type { Filter } from "./filters.ts";
import { FILTER_FIELDS, filterOf } from "./filters.ts";
import { checkFields, limitOf } from "./options.ts";
import type { SummaryRow } from "./summaries.ts";
import { SUMMARY_BYTES, SUMMARY_COLUMNS, toSummary } from "./summaries.ts";
import type { ListRunsOptions, RunPage } from "./types.ts";
import type { Arm, RunKey } from "./walk.ts";
import { EVER, Params, walk } from "./walk.ts";

const ENDED: readonly RunStatus[] = ["completed", "failed", "cancelled"];

/** What the choice of an index has dealt with; of tags, the first one. */
type Dealt = keyof Filter;

interface Driver {
  /** None where the filters contradict each other. */
  readonly arms: readonly Arm[];
  readonly deals: readonly Dealt[];
}

export async function list(access: Access, options: ListRunsOptions = {}): Promise<RunPage> {
  checkFields("list", options, [...FILTER_FIELDS, "limit", "cursor"]);
  const asked = filterOf(options);
  const filter: Filter = { ...asked, projectId: access.project(asked.projectId) };
  const limit = limitOf(options.limit);
  const { completed, created } = filter;
  const { from, to } = completed ?? created ?? { from: EVER.first, to: EVER.last };
  const question = ["list", questionOf(filter)];
  const first: RunKey = [to, ""];
  const after = options.cursor === undefined ? first : fromCursor(question, options.cursor, first);
  if (options.cursor !== undefined && after[0] >= to) {
    throw new DurableInvalidInputError("cursor", "lies outside of the range that is asked for");
  }

  const params = new Params();
  const { arms, deals } = driverOf(filter, params);
  if (arms.length === 0) return { runs: [] };
  const conditions = conditionsOf(filter, deals, params);
  const { rows, next } = await walk<SummaryRow>(access, params, {
    arms,
    order: "descending",
    after,
    until: from,
    conditions,
    limit,
    bytes: SUMMARY_BYTES,
    columns: SUMMARY_COLUMNS,
  });
  return { runs: rows.map(toSummary), ...(next && { cursor: toCursor(question, next) }) };
}

/** JSON has no `undefined`, and a question is the same without it. */
function questionOf(filter: Filter): unknown {
  return JSON.parse(JSON.stringify(filter));
}

const NONE: Driver = { arms: [], deals: [] };

/** In the order of choice. */
function driverOf(filter: Filter, params: Params): Driver {
  const { completed, heldBy, takeoversOver, scenarioId, statuses, taskId, projectId, pass } = filter;
  const [tag] = filter.tags;
  if (completed) {
    const ended = ENDED.filter((status) => statuses?.includes(status) ?? true);
    return { arms: ended.map((status) => completedArm(status, params)), deals: ["completed", "statuses"] };
  }
  if (heldBy !== undefined) {
    // Only a running run is held. An index of its own would be written at each renewal.
    if (statuses && !statuses.includes("running")) return NONE;
    return byStatus(["running"], params);
  }
  if (takeoversOver !== undefined) {
    return { arms: [createdArm("taken_over", ["r.takeovers > 0"])], deals: ["created"] };
  }
  if (tag) {
    const where = [`t.key = ${params.add(tag[0])}`, `t.value = ${params.add(tag[1])}`];
    return { arms: [{ ...TAG_ARM, where }], deals: ["created", "tags"] };
  }
  if (scenarioId !== undefined) {
    const where = [`r.scenario_id = ${params.add(scenarioId)}`];
    return { arms: [createdArm("by_scenario", where)], deals: ["created", "scenarioId"] };
  }
  if (statuses && !statuses.includes("completed")) return byStatus(statuses, params);
  if (taskId !== undefined) {
    const where = [`r.task ->> '$.id' = ${params.add(taskId)}`];
    return { arms: [createdArm("by_task", where)], deals: ["created", "taskId"] };
  }
  if (pass === false) return byPass([0]);
  if (projectId !== undefined) {
    const where = [`r.project_id = ${params.add(projectId)}`];
    return { arms: [createdArm("by_project", where)], deals: ["created", "projectId"] };
  }
  if (pass === true) return byPass([1]);
  if (filter.minScore !== undefined || filter.maxScore !== undefined) return byPass([0, 1, null]);
  if (statuses) return byStatus(statuses, params);
  return { arms: [createdArm("by_created", [])], deals: ["created"] };
}

/** Rows with an outcome, by what it says of `pass`; `null` where it says nothing. */
function byPass(verdicts: readonly (0 | 1 | null)[]): Driver {
  const arms = verdicts.map((verdict) => {
    const is = verdict === null ? "IS NULL" : `= ${verdict}`;
    return createdArm("by_outcome", [`r.outcome_pass ${is}`, "r.outcome IS NOT NULL"]);
  });
  return { arms, deals: ["created", "pass"] };
}

function byStatus(statuses: readonly RunStatus[], params: Params): Driver {
  const arms = statuses.map((status) => createdArm("by_status", [`r.status = ${params.add(status)}`]));
  return { arms, deals: ["created", "statuses"] };
}

const TAG_ARM = {
  source: "durable_tags AS t INDEXED BY durable_tags_by_created",
  join: "CROSS JOIN durable_runs AS r ON r.run_id = t.run_id",
  at: "t.created_at",
  id: "t.run_id",
} as const;

function createdArm(index: string, where: readonly string[]): Arm {
  return {
    source: `durable_runs AS r INDEXED BY durable_runs_${index}`,
    at: "r.created_at",
    id: "r.run_id",
    where,
  };
}

export function completedArm(status: RunStatus, params: Params): Arm {
  return {
    source: "durable_runs AS r INDEXED BY durable_runs_by_completed",
    at: "r.completed_at",
    id: "r.run_id",
    where: [`r.status = ${params.add(status)}`, "r.completed_at IS NOT NULL"],
  };
}

/** Those that the driver has not dealt with. */
function conditionsOf(filter: Filter, deals: readonly Dealt[], params: Params): string[] {
  const conditions: string[] = [];
  const add = <K extends keyof Filter>(
    field: K,
    condition: (value: NonNullable<Filter[K]>) => string,
  ): void => {
    const value = filter[field];
    if (value !== undefined && !deals.includes(field)) conditions.push(condition(value));
  };
  // What stands early in a row comes first.
  add("projectId", (projectId) => `r.project_id = ${params.add(projectId)}`);
  add("scenarioId", (scenarioId) => `r.scenario_id = ${params.add(scenarioId)}`);
  add("statuses", (statuses) => `r.status IN (${statuses.map((status) => params.add(status)).join(", ")})`);
  add("takeoversOver", (times) => `r.takeovers > ${params.add(times)}`);
  add("heldBy", (heldBy) => `r.worker_id = ${params.add(heldBy)} AND r.lease_expires_at IS NOT NULL`);
  add(
    "created",
    ({ from, to }) => `r.created_at >= ${params.add(from)} AND r.created_at < ${params.add(to)}`,
  );
  const tags = filter.tags.slice(deals.includes("tags") ? 1 : 0);
  if (tags.length > 0) conditions.push(bearsAll(tags, params));
  add("taskId", (taskId) => `r.task_id = ${params.add(taskId)}`);
  add("pass", (pass) => `r.outcome_pass = ${params.add(pass ? 1 : 0)}`);
  add("minScore", (score) => `r.outcome_score >= ${params.add(score)}`);
  add("maxScore", (score) => `r.outcome_score <= ${params.add(score)}`);
  return conditions;
}

function bearsAll(tags: Filter["tags"], params: Params): string {
  const all = params.add(JSON.stringify(tags));
  return `NOT EXISTS (
    SELECT 1 FROM json_each(${all}) AS wanted WHERE NOT EXISTS (
      SELECT 1 FROM durable_tags AS borne
      WHERE borne.key = wanted.value ->> 0 AND borne.value = wanted.value ->> 1 AND borne.run_id = r.run_id
    )
  )`;
}
