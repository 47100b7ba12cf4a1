/**
 * The deployed Worker: the coordinator class, and a small HTTP surface over the example agent.
 *
 * Owns routes, the shape of requests and of errors. Knows nothing of how runs are stored or run. It asks for no
 * credentials, so it is for a local machine, or for behind something that does.
 */
import type { Context } from "hono";
import { Hono } from "hono";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { serveAudit } from "../examples/site-audit/serve.ts";
import { summariser } from "../examples/site-audit/summarise.ts";
import { parseSiteAuditInput } from "../examples/site-audit/types.ts";
import type { DurableRunErrorCode, DurableRunLeaseHeldError } from "./contract/errors.ts";
import {
  codeOf,
  DurableInvalidInputError,
  DurablePayloadError,
  DurableRunNotFoundError,
} from "./contract/errors.ts";
import {
  byteLength,
  checkLeaseMs,
  checkRunId,
  checkText,
  DEFAULT_LEASE_MS,
  LIMITS,
} from "./contract/limits.ts";
import type {
  DurableRunStore,
  ForkRunOptions,
  RestartRunOptions,
  StepRecord,
  StepResolution,
} from "./contract/types.ts";
import type { Env } from "./env.ts";
import { storeOf } from "./env.ts";
import { deriveWorkerId, newRunId } from "./identity.ts";

export { RunCoordinator } from "./coordinator/run-coordinator.ts";

const MAX_BODY_BYTES = 1_024 * 1_024;
/** How many steps are read at once. */
const READ_TOGETHER = 20;

const app = new Hono<{ Bindings: Env }>();

app.get("/health", (c) => c.json({ ok: true }));

/** Starts the run, or goes on with it, within this request. */
app.post("/runs", async (c) => {
  const body = await jsonObject(c);
  const {
    runId = newRunId(),
    workerId = deriveWorkerId(),
    leaseMs = DEFAULT_LEASE_MS,
    input,
    ...rest
  } = body;
  refuseOthers(rest, ["runId", "workerId", "leaseMs", "input"]);
  checkRunId(runId);
  checkText("workerId", workerId, LIMITS.workerIdBytes);
  checkLeaseMs(leaseMs);
  const fetcher = (url: string, init?: RequestInit): Promise<Response> => fetch(url, init);
  return serveAudit({
    runId,
    workerId,
    leaseMs,
    input: parseSiteAuditInput(input),
    store: storeOf(c.env),
    tools: { fetch: fetcher, summarise: summariser(c.env, fetcher) },
    waitUntil: (work) => c.executionCtx.waitUntil(work),
  });
});

/** The run and its steps, without what the steps returned. */
app.get("/runs/:runId", async (c) => {
  const runId = c.req.param("runId");
  const store = storeOf(c.env);
  const run = await store.loadRun?.(runId);
  if (run === undefined) throw new DurableRunNotFoundError(`no run "${runId}". POST /runs starts one.`);
  const steps = await loadSteps(store, runId, run.stepCount);
  return c.json({ run, steps: steps.map(({ result: _, ...step }) => step) });
});

/** Emits an event; the body is its payload. The first emit of a key wins. */
app.post("/runs/:runId/events/:key", async (c) => {
  const { runId, key } = c.req.param();
  const { accepted, record } = await storeOf(c.env).emitEvent({ runId, key, payload: await jsonBody(c) });
  return c.json({ accepted, event: record }, accepted ? 201 : 200);
});

/** Cancels the run; the body may give a `reason`. */
app.post("/runs/:runId/cancel", async (c) => {
  const { reason, ...rest } = await optionalJsonObject(c);
  refuseOthers(rest, ["reason"]);
  return c.json({ run: await storeOf(c.env).cancelRun(c.req.param("runId"), reason as string | undefined) });
});

/** Forgets the steps from `fromStep` on, if `dropLater` is true. POST /runs goes on from there. */
app.post("/runs/:runId/restart", async (c) => {
  const { fromStep, dropLater, ...rest } = await jsonObject(c);
  refuseOthers(rest, ["fromStep", "dropLater"]);
  const options = { fromStep, dropLater } as RestartRunOptions;
  return c.json({ run: await storeOf(c.env).restartRun(c.req.param("runId"), options) });
});

/** Copies the steps through `throughStep` into a new run, with `edits` in place of their results. */
app.post("/runs/:runId/fork", async (c) => {
  const { newRunId: target = newRunId(), throughStep, edits, ...rest } = await jsonObject(c);
  refuseOthers(rest, ["newRunId", "throughStep", "edits"]);
  const options = { throughStep, ...(edits !== undefined && { edits }) } as ForkRunOptions;
  return c.json({ run: await storeOf(c.env).forkRun(c.req.param("runId"), target as string, options) }, 201);
});

/** Resolves a step in doubt, with a `result` or for a `rerun`. */
app.post("/runs/:runId/steps/:stepIndex/resolve", async (c) => {
  const { runId, stepIndex } = c.req.param();
  const resolution = (await jsonObject(c)) as StepResolution;
  return c.json({ step: await storeOf(c.env).resolveStep(runId, Number(stepIndex), resolution) });
});

app.notFound((c) => {
  const message =
    `nothing at ${c.req.method} ${c.req.path}. There are POST /runs, GET /runs/:runId, POST /runs/:runId/events/:key, ` +
    "POST /runs/:runId/cancel, /restart, /fork and /steps/:stepIndex/resolve, and GET /health.";
  return c.json({ error: { code: "not_found", message } }, 404);
});

app.onError((error, c) => {
  const code = codeOf(error);
  if (!isKnown(code)) {
    console.error(error);
    return c.json(
      { error: { code: "internal", message: "something went wrong here; the Worker's log says what" } },
      500,
    );
  }
  const { message, retryAfterMs } = error as DurableRunLeaseHeldError;
  if (retryAfterMs === undefined) return c.json({ error: { code, message } }, STATUS[code]);
  c.header("retry-after", String(Math.max(1, Math.ceil(retryAfterMs / 1_000))));
  return c.json({ error: { code, message, retryAfterMs } }, STATUS[code]);
});

export default app;

const STATUS = {
  invalid_input: 400,
  payload_not_json: 400,
  payload_too_large: 413,
  run_not_found: 404,
  lease_held: 409,
  lease_lost: 409,
  manifest_mismatch: 409,
  run_cancelled: 409,
  run_suspended: 409,
  run_exists: 409,
  step_interrupted: 409,
  step_not_due: 409,
  step_not_in_doubt: 409,
  nested_step: 409,
  branch_stopped: 409,
  step_divergence: 409,
  step_input_mismatch: 409,
  step_not_running: 409,
  event_emit_race: 409,
  await_event_timeout: 504,
  step_timeout: 504,
  store_unavailable: 503,
  forbidden: 403,
} as const satisfies Record<DurableRunErrorCode, ContentfulStatusCode>;

function isKnown(code: string | undefined): code is DurableRunErrorCode {
  return code !== undefined && Object.hasOwn(STATUS, code);
}

async function jsonBody(c: Context): Promise<unknown> {
  const declared = Number(c.req.header("content-length") ?? 0);
  const text = declared > MAX_BODY_BYTES ? "" : await c.req.text();
  const bytes = Math.max(declared, byteLength(text));
  if (bytes > MAX_BODY_BYTES) {
    throw new DurablePayloadError(
      `body has ${bytes} bytes; at most ${MAX_BODY_BYTES} are allowed`,
      "payload_too_large",
    );
  }
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new DurableInvalidInputError(
      "body",
      `must be JSON: ${error instanceof Error ? error.message : "not parsed"}`,
    );
  }
}

async function jsonObject(c: Context): Promise<Record<string, unknown>> {
  const body = await jsonBody(c);
  if (typeof body === "object" && body !== null && !Array.isArray(body))
    return body as Record<string, unknown>;
  throw new DurableInvalidInputError("body", "must be a JSON object");
}

async function optionalJsonObject(c: Context): Promise<Record<string, unknown>> {
  return c.req.header("content-length") === "0" || c.req.raw.body === null ? {} : jsonObject(c);
}

function refuseOthers(rest: Record<string, unknown>, fields: readonly string[]): void {
  const [unknownField] = Object.keys(rest);
  if (unknownField === undefined) return;
  throw new DurableInvalidInputError(unknownField, `is not known; the fields are ${fields.join(", ")}`);
}

/** A position may be missing: one that a worker took, and died before the store had heard of it. */
async function loadSteps(store: DurableRunStore, runId: string, count: number): Promise<StepRecord[]> {
  const steps: StepRecord[] = [];
  for (let from = 0; steps.length < count && from < LIMITS.steps; from += READ_TOGETHER) {
    const indexes = Array.from({ length: READ_TOGETHER }, (_, i) => from + i);
    const loaded = await Promise.all(indexes.map((stepIndex) => store.loadStep(runId, stepIndex)));
    steps.push(...loaded.filter((step) => step !== undefined));
  }
  return steps;
}
