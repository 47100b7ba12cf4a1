/**
 * Named schemas of what the API answers, as the OpenAPI document shows them.
 *
 * Relies on the contract and on history/types.ts for what is answered: a type that no longer fits its schema does not
 * compile. Nothing is parsed with these; the schemas of what is asked are in requests.ts.
 */
import { z } from "zod";
import { RUN_STATUSES, STEP_KINDS } from "../contract/limits.ts";
import type { EventRecord, RunRecord, RunWait, StepError, StepRecord } from "../contract/types.ts";
import type {
  EventPage,
  HistoryEvent,
  HistoryStep,
  Percentiles,
  RunDetails,
  RunPage,
  RunStats,
  RunSummary,
  StatsPoint,
  StepPage,
  StepStats,
  StuckPage,
  StuckRun,
} from "../history/types.ts";
import type { Problem } from "./problems.ts";
import { PROBLEMS } from "./problems.ts";

/** What has a name in the document, under `#/components/schemas/`. */
export const components = z.registry<{ id: string }>();

/** Names a schema. */
export function named<S extends z.ZodType>(id: string, schema: S): S {
  components.add(schema, { id });
  return schema;
}

/** Names a schema that everything of type `T` fits. */
function shapeOf<T>() {
  return <S extends z.ZodType>(id: string, schema: S & (T extends z.input<S> ? unknown : never)): S =>
    named<S>(id, schema);
}

const instant = z.string().meta({ format: "date-time" });
const count = z.int().min(0);
const text = z.string();
const strings = z.record(z.string(), z.string());
const json = z.unknown();
const object = z.record(z.string(), z.unknown());
export const runStatus = z.enum(RUN_STATUSES);
const stepKind = z.enum(STEP_KINDS);
const cursor = text.optional().meta({ description: "Of the next page; absent on the last one." });

const stepError = shapeOf<StepError>()(
  "StepError",
  z.object({ message: text, code: text.optional(), stack: text.optional(), name: text.optional() }),
);

const runWait = shapeOf<RunWait>()(
  "RunWait",
  z.object({
    stepIndex: count,
    for: z.enum(["event", "time", "retry", "decision"]),
    key: text.optional(),
    until: instant.optional(),
  }),
);

const taskFields = { id: text, intent: text, domain: text.optional() };
const taskHead = named("TaskHead", z.object(taskFields));
const taskSpec = named(
  "TaskSpec",
  z.object({
    ...taskFields,
    inputs: object.optional(),
    requiredKnowledge: z.array(json).readonly().optional(),
    budget: object.optional(),
    metadata: object.optional(),
  }),
);

/** Of a run in a list, too. */
const runHeadFields = {
  runId: text,
  manifestHash: text,
  projectId: text,
  scenarioId: text.optional(),
  status: runStatus,
  createdAt: instant,
  updatedAt: instant,
  completedAt: instant.optional(),
  leaseHolderId: text.optional(),
  leaseExpiresAt: instant.optional(),
  fence: count.optional(),
  takeovers: count.optional(),
  error: stepError.optional(),
  waitingFor: z.array(runWait).readonly().optional(),
  forkedFrom: z.object({ runId: text, throughStep: count }).optional(),
};

const outcome = z.object({
  pass: z.boolean().optional(),
  score: z.number().optional(),
  notes: text.optional(),
  metadata: object.optional(),
});

const runFields = {
  ...runHeadFields,
  outcome: outcome.optional(),
  stepCount: count,
  result: json.optional(),
};

const runRecord = shapeOf<RunRecord>()("Run", z.object(runFields));

const summaryFields = {
  ...runHeadFields,
  task: taskHead,
  tags: strings.optional(),
  lastStepIndex: count.optional(),
  durationMs: count.optional(),
  pass: z.boolean().optional(),
  score: z.number().optional(),
  lagMs: count.optional(),
};

const runSummary = shapeOf<RunSummary>()("RunSummary", z.object(summaryFields));

const runDetails = shapeOf<RunDetails>()(
  "RunDetails",
  z.object({
    ...runFields,
    task: taskSpec,
    input: object.optional(),
    inputBytes: count,
    resultBytes: count.optional(),
    tags: strings.optional(),
    durationMs: count.optional(),
    lagMs: count.optional(),
  }),
);

const stepFields = {
  runId: text,
  stepIndex: count,
  intent: text,
  kind: stepKind,
  inputHash: text,
  status: z.enum(["pending", "running", "completed", "failed"]),
  attempts: count,
  result: json.optional(),
  error: stepError.optional(),
  lastError: stepError.optional(),
  tries: count.optional(),
  nextAttemptAt: instant.optional(),
  inDoubt: z.boolean().optional(),
  path: text.optional(),
  startedAt: instant.optional(),
  completedAt: instant.optional(),
  workerId: text.optional(),
  deadlineAt: instant.optional(),
};

const stepRecord = shapeOf<StepRecord>()("Step", z.object(stepFields));
const historyStep = shapeOf<HistoryStep>()(
  "HistoryStep",
  z.object({ ...stepFields, resultBytes: count.optional(), durationMs: count.optional() }),
);

const eventFields = { runId: text, key: text, emittedAt: instant };
const eventRecord = shapeOf<EventRecord>()("Event", z.object({ ...eventFields, payload: json.optional() }));
const historyEvent = shapeOf<HistoryEvent>()(
  "HistoryEvent",
  z.object({ ...eventFields, payload: json.optional(), payloadBytes: count }),
);

const percentiles = shapeOf<Percentiles>()(
  "Percentiles",
  z.object({ p50: z.number(), p95: z.number(), p99: z.number() }),
);

const stepStats = shapeOf<StepStats>()(
  "StepStats",
  z.object({
    intent: text,
    kind: stepKind,
    steps: count,
    failed: count,
    failureRate: z.number(),
    attempts: count,
    meanDurationMs: z.number(),
  }),
);

const statsPoint = shapeOf<StatsPoint>()(
  "StatsPoint",
  z.object({
    at: instant,
    completed: count,
    failed: count,
    cancelled: count,
    durationMs: percentiles.optional(),
  }),
);

const stuckRun = shapeOf<StuckRun>()(
  "StuckRun",
  z.object({
    ...summaryFields,
    reasons: z.array(z.enum(["lease_lapsed", "wait_overdue", "late_record"])),
    since: instant,
  }),
);

/** The bodies of answers. */
export const answers = {
  health: named("Health", z.object({ ok: z.literal(true) })),
  document: named(
    "OpenApi",
    z.looseObject({ openapi: text, info: object, paths: object, components: object }),
  ),
  me: named("Me", z.object({ name: text, projectId: text.optional(), access: z.enum(["read", "write"]) })),
  tasks: named(
    "Tasks",
    z.object({
      tasks: z.array(z.object({ name: text, description: text, projectId: text, intent: text })),
    }),
  ),
  started: named("Started", z.object({ runId: text })),
  lag: named("Lag", z.object({ rows: count })),
  run: named("RunAnswer", z.object({ run: runRecord })),
  details: named("RunDetailsAnswer", z.object({ run: runDetails })),
  step: named("StepAnswer", z.object({ step: stepRecord })),
  historyStep: named("HistoryStepAnswer", z.object({ step: historyStep })),
  event: named("EventAnswer", z.object({ event: historyEvent })),
  emitted: named("Emitted", z.object({ accepted: z.boolean(), event: eventRecord })),
  runs: shapeOf<RunPage>()("RunPage", z.object({ runs: z.array(runSummary), cursor })),
  steps: shapeOf<StepPage>()("StepPage", z.object({ steps: z.array(historyStep), cursor })),
  events: shapeOf<EventPage>()("EventPage", z.object({ events: z.array(historyEvent), cursor })),
  stats: shapeOf<RunStats>()(
    "RunStats",
    z.object({
      from: instant,
      to: instant,
      by: z.enum(["hour", "day"]),
      counts: z.record(runStatus, count),
      durationMs: percentiles.optional(),
      steps: z.array(stepStats),
      series: z.array(statsPoint),
      isBehind: z.boolean(),
    }),
  ),
  stuck: shapeOf<StuckPage>()("StuckPage", z.object({ runs: z.array(stuckRun), cursor })),
  problem: shapeOf<Problem>()(
    "Problem",
    z.object({
      type: z.literal("about:blank"),
      title: text,
      status: z.int(),
      detail: text,
      code: z.enum(Object.keys(PROBLEMS) as (keyof typeof PROBLEMS)[]),
      field: text.optional(),
      retryAfterMs: z.number().optional(),
    }),
  ),
};
