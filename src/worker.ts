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
import type { DurableRunStore, StepRecord } from "./contract/types.ts";
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
  const [unknownField] = Object.keys(rest);
  if (unknownField !== undefined) {
    throw new DurableInvalidInputError(
      unknownField,
      "is not known; the fields are runId, workerId, leaseMs and input",
    );
  }
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

app.notFound((c) => {
  const message = `nothing at ${c.req.method} ${c.req.path}. There are POST /runs, GET /runs/:runId, POST /runs/:runId/events/:key and GET /health.`;
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
  step_divergence: 409,
  step_input_mismatch: 409,
  step_not_running: 409,
  event_emit_race: 409,
  await_event_timeout: 504,
  step_timeout: 504,
  store_unavailable: 503,
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

async function loadSteps(store: DurableRunStore, runId: string, count: number): Promise<StepRecord[]> {
  const steps: StepRecord[] = [];
  for (let from = 0; from < count; from += READ_TOGETHER) {
    const indexes = Array.from({ length: Math.min(READ_TOGETHER, count - from) }, (_, i) => from + i);
    const loaded = await Promise.all(indexes.map((stepIndex) => store.loadStep(runId, stepIndex)));
    steps.push(...loaded.filter((step) => step !== undefined));
  }
  return steps;
}
