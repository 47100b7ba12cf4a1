/**
 * The example's own route: what a request for an audit says, checked, and the audit's progress as the answer.
 *
 * Owns the shape of the request. Who may ask is the Worker's business.
 */
import { DurableInvalidInputError } from "../../src/contract/errors.ts";
import { checkLeaseMs, checkRunId, checkText, DEFAULT_LEASE_MS, LIMITS } from "../../src/contract/limits.ts";
import type { DurableRunStore } from "../../src/contract/types.ts";
import { readJson } from "../../src/http/body.ts";
import { deriveWorkerId, newRunId } from "../../src/identity.ts";
import { serveAudit } from "./serve.ts";
import type { ModelConfig } from "./summarise.ts";
import { summariser } from "./summarise.ts";
import { parseSiteAuditInput } from "./types.ts";

export interface AuditWorld {
  env: ModelConfig;
  store: DurableRunStore;
  waitUntil: (work: Promise<unknown>) => void;
}

const MAX_BODY_BYTES = 1_024 * 1_024;
const FIELDS: readonly string[] = ["runId", "workerId", "leaseMs", "input"];

/** `{ runId?, workerId?, leaseMs?, input }`: starts the run or goes on with it. Rejects with what refuses the claim. */
export async function audit(request: Request, { env, store, waitUntil }: AuditWorld): Promise<Response> {
  const body = await readJson(request, MAX_BODY_BYTES);
  if (typeof body !== "object" || body === null || Array.isArray(body))
    throw new DurableInvalidInputError("body", "must be a JSON object");
  const given = body as Record<string, unknown>;
  const { runId = newRunId(), workerId = deriveWorkerId(), leaseMs = DEFAULT_LEASE_MS, input } = given;
  const unknownField = Object.keys(given).find((field) => !FIELDS.includes(field));
  if (unknownField !== undefined)
    throw new DurableInvalidInputError(unknownField, `is not known; the fields are ${FIELDS.join(", ")}`);
  checkRunId(runId);
  checkText("workerId", workerId, LIMITS.workerIdBytes);
  checkLeaseMs(leaseMs);
  const fetcher = (url: string, init?: RequestInit): Promise<Response> => fetch(url, init);
  return serveAudit({
    runId,
    workerId,
    leaseMs,
    input: parseSiteAuditInput(input),
    store,
    tools: { fetch: fetcher, summarise: summariser(env, fetcher) },
    waitUntil,
  });
}
