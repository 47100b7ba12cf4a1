/** The Worker's HTTP surface, as the demo uses it. */
import type { RunRecord, StepRecord } from "../../../src/contract/types.ts";
import type { Progress } from "../progress.ts";

export interface RunRequest {
  runId: string;
  workerId: string;
  leaseMs: number;
  input: Record<string, unknown>;
}

export interface RunView {
  run: RunRecord;
  steps: StepRecord[];
}

/** An answer of the Worker that is an error. */
export class WorkerError extends Error {
  readonly code: string;
  readonly retryAfterMs: number | undefined;
  constructor(code: string, message: string, retryAfterMs?: number) {
    super(`${code}: ${message}`);
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Where the Worker is, and what lets one in. */
export interface Target {
  readonly origin: string;
  readonly token: string;
}

const API = "/api/v1";

/** Starts a run or goes on with it. Yields its progress until it ends, or until the connection breaks, which throws. */
export async function* runAudit(target: Target, request: RunRequest): AsyncGenerator<Progress> {
  const response = await call(target, "/examples/site-audit", {
    method: "POST",
    body: JSON.stringify(request),
  });
  let rest = "";
  for await (const text of (response.body ?? new ReadableStream()).pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) yield JSON.parse(line) as Progress;
  }
}

/** The run with all of its steps, as D1 has them. */
export async function readRun(target: Target, runId: string): Promise<RunView> {
  const path = `${API}/runs/${encodeURIComponent(runId)}`;
  const { run } = await read<{ run: RunRecord }>(target, path);
  const steps: StepRecord[] = [];
  let cursor: string | undefined;
  do {
    const query = new URLSearchParams({ limit: "200", ...(cursor !== undefined && { cursor }) });
    const page = await read<{ steps: StepRecord[]; cursor?: string }>(
      target,
      `${path}/steps?${query.toString()}`,
    );
    steps.push(...page.steps);
    cursor = page.cursor;
  } while (cursor !== undefined);
  return { run, steps };
}

export async function sendEvent(
  target: Target,
  runId: string,
  key: string,
  payload: unknown,
): Promise<boolean> {
  const path = `${API}/runs/${encodeURIComponent(runId)}/events/${encodeURIComponent(key)}`;
  const response = await call(target, path, { method: "POST", body: JSON.stringify(payload) });
  return ((await response.json()) as { accepted: boolean }).accepted;
}

async function read<T>(target: Target, path: string): Promise<T> {
  return (await (await call(target, path, {})).json()) as T;
}

async function call({ origin, token }: Target, path: string, init: RequestInit): Promise<Response> {
  const headers = { "content-type": "application/json", authorization: `Bearer ${token}` };
  const response = await fetch(origin + path, { ...init, headers });
  if (response.ok) return response;
  const text = await response.text();
  let problem: { code?: string; detail?: string; retryAfterMs?: number } | undefined;
  try {
    problem = JSON.parse(text) as typeof problem;
  } catch {
    problem = undefined;
  }
  throw new WorkerError(
    problem?.code ?? `http_${response.status}`,
    problem?.detail ?? text.slice(0, 500),
    problem?.retryAfterMs,
  );
}
