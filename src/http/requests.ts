/**
 * Schemas of what the API is asked: path, query and body.
 *
 * Lengths are the contract's. A name that is not listed is refused. What depends on more than one field, or on the
 * record, is left to those who know: the store, history, a task's own `parse`.
 */
import { z } from "zod";
import { checkText, LIMITS } from "../contract/limits.ts";
import { named, runStatus } from "./components.ts";

/** How many entries a map of a body may have. */
export const MAX_ENTRIES: ReadonlyMap<string, number> = new Map([
  ["tags", LIMITS.tags],
  ["edits", 1_000],
]);

/** The contract's rule for texts. */
function id(name: string, maxBytes: number, description: string) {
  return z
    .string()
    .refine((value) => fits(name, value, maxBytes), {
      error: `must be 1 to ${maxBytes} bytes of well-formed text without control characters`,
    })
    .meta({ description, minLength: 1, maxLength: maxBytes });
}

function fits(name: string, value: string, maxBytes: number): boolean {
  try {
    checkText(name, value, maxBytes);
    return true;
  } catch {
    return false;
  }
}

const digits = z.string().regex(/^\d{1,15}$/, { error: "must be a whole number" });

/** A whole number as text. */
function whole(min: number, max: number, description: string) {
  return digits.transform(Number).pipe(z.int().min(min).max(max)).meta({ description });
}

function decimal(description: string) {
  return z
    .string()
    .regex(/^-?\d{1,15}(\.\d{1,15})?$/, { error: "must be a number" })
    .transform(Number)
    .pipe(z.number())
    .meta({ description });
}

function yesOrNo(description: string) {
  return z
    .enum(["true", "false"])
    .transform((value) => value === "true")
    .pipe(z.boolean())
    .meta({ description });
}

/** A parameter that may be repeated. */
function repeated<S extends z.ZodType>(schema: S, max: number, description: string) {
  const list = z.array(schema).min(1).max(max);
  return z.preprocess((value) => (typeof value === "string" ? [value] : value), list).meta({ description });
}

const runId = id("runId", LIMITS.runIdBytes, "The run's id, percent-encoded.");
const key = id("key", LIMITS.eventKeyBytes, "The event's key, percent-encoded.");
const stepIndex = whole(0, LIMITS.steps - 1, "The step's position, from 0.");
const projectId = id("projectId", LIMITS.projectIdBytes, "Of this project alone.");
const scenarioId = id("scenarioId", LIMITS.projectIdBytes, "Of this scenario alone.");
const instant = (description: string) =>
  z
    .string()
    .min(1)
    .max(64)
    .meta({ description: `ISO 8601. ${description}` });

const page = {
  limit: whole(1, 200, "How long the page may be. Default 50.").optional(),
  cursor: z
    .string()
    .min(1)
    .max(4_096)
    .meta({ description: "Of an earlier page of the same question." })
    .optional(),
};

export const paths = {
  none: z.strictObject({}),
  run: z.strictObject({ runId }),
  step: z.strictObject({ runId, stepIndex }),
  event: z.strictObject({ runId, key }),
};

export const queries = {
  none: z.strictObject({}),
  list: z.strictObject({
    projectId: projectId.optional(),
    scenarioId: scenarioId.optional(),
    status: repeated(runStatus, 6, "Any of these.").optional(),
    tag: repeated(
      tag(),
      LIMITS.tags,
      "`key:value`; each of these. The key ends at the first colon.",
    ).optional(),
    taskId: id("taskId", LIMITS.projectIdBytes, "Of this task alone.").optional(),
    createdFrom: instant("Inclusive.").optional(),
    createdTo: instant("Exclusive.").optional(),
    completedFrom: instant("Inclusive. Pages are then in the order of completion.").optional(),
    completedTo: instant("Exclusive. Pages are then in the order of completion.").optional(),
    pass: yesOrNo("`outcome.pass`.").optional(),
    minScore: decimal("`outcome.score`, inclusive.").optional(),
    maxScore: decimal("`outcome.score`, inclusive.").optional(),
    heldBy: id("heldBy", LIMITS.workerIdBytes, "The worker that holds the lease.").optional(),
    takeoversOver: whole(0, Number.MAX_SAFE_INTEGER, "More takeovers than this.").optional(),
    ...page,
  }),
  steps: z.strictObject({
    results: yesOrNo("Whether results are answered. Default false.").optional(),
    ...page,
  }),
  page: z.strictObject(page),
  stats: z.strictObject({
    projectId: projectId.optional(),
    from: instant("Of completion. Default: 24 hours, or 30 days, before `to`.").optional(),
    to: instant("Exclusive. Default: now.").optional(),
    by: z.enum(["hour", "day"]).meta({ description: 'The steps of the series. Default "hour".' }).optional(),
  }),
  stuck: z.strictObject({
    projectId: projectId.optional(),
    graceMs: whole(0, LIMITS.timeoutMs, "How long something may be overdue. Default 60,000.").optional(),
    lagMs: whole(1_000, LIMITS.timeoutMs, "How long a change may wait for D1. Default 10,000.").optional(),
    ...page,
  }),
};

const position = z
  .int()
  .min(0)
  .max(LIMITS.steps - 1);

export const bodies = {
  start: named(
    "StartRun",
    z.strictObject({
      task: z.string().min(1).max(128).meta({ description: "The name of a registered task." }),
      input: z.unknown().meta({ description: "What the task takes." }),
      runId: runId
        .meta({ description: "Default: a new one. The same id again starts nothing new." })
        .optional(),
      scenarioId: scenarioId.meta({ description: "A scenario, persona or session." }).optional(),
      tags: z.record(z.string(), z.string()).optional(),
    }),
  ),
  cancel: named("CancelRun", z.strictObject({ reason: id("reason", LIMITS.reasonBytes, "Why.").optional() })),
  restart: named(
    "RestartRun",
    z.strictObject({
      fromStep: position.meta({ description: "The first step to be run again." }),
      dropLater: z
        .literal(true)
        .meta({ description: "Says that this step and all after it are to be forgotten." }),
    }),
  ),
  fork: named(
    "ForkRun",
    z.strictObject({
      throughStep: position.meta({ description: "The last step to be copied." }),
      newRunId: runId
        .refine((given) => given !== "." && given !== "..", {
          error: "must not be . or .., which no path can have",
        })
        .meta({ description: "Default: a new one." })
        .optional(),
      edits: z
        .record(z.string().regex(/^\d{1,6}$/, { error: "must be a position" }), z.unknown())
        .meta({ description: "Results to put in place of recorded ones, by position." })
        .optional(),
    }),
  ),
  resolve: named(
    "ResolveStep",
    z.union([z.strictObject({ result: z.unknown() }), z.strictObject({ rerun: z.literal(true) })], {
      error: "must be { result } or { rerun: true }",
    }),
  ),
  /** Any JSON. */
  payload: named("Payload", z.unknown().meta({ description: "Any JSON." })),
};

function tag() {
  return z
    .string()
    .max(2 * LIMITS.tagBytes + 1)
    .regex(/^[^:]+:/s, { error: "must be key:value" });
}
