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

/** Starts a run or goes on with it. Yields its progress until it ends, or until the connection breaks, which throws. */
export async function* runAudit(origin: string, request: RunRequest): AsyncGenerator<Progress> {
  const response = await call(origin, "/runs", { method: "POST", body: JSON.stringify(request) });
  let rest = "";
  for await (const text of (response.body ?? new ReadableStream()).pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) yield JSON.parse(line) as Progress;
  }
}

export async function readRun(origin: string, runId: string): Promise<RunView> {
  const response = await call(origin, `/runs/${encodeURIComponent(runId)}`, {});
  return (await response.json()) as RunView;
}

export async function sendEvent(
  origin: string,
  runId: string,
  key: string,
  payload: unknown,
): Promise<boolean> {
  const path = `/runs/${encodeURIComponent(runId)}/events/${encodeURIComponent(key)}`;
  const response = await call(origin, path, { method: "POST", body: JSON.stringify(payload) });
  return ((await response.json()) as { accepted: boolean }).accepted;
}

async function call(origin: string, path: string, init: RequestInit): Promise<Response> {
  const response = await fetch(origin + path, { ...init, headers: { "content-type": "application/json" } });
  if (response.ok) return response;
  const text = await response.text();
  let error: { code?: string; message?: string; retryAfterMs?: number } | undefined;
  try {
    error = (JSON.parse(text) as { error?: typeof error }).error;
  } catch {
    error = undefined;
  }
  throw new WorkerError(
    error?.code ?? `http_${response.status}`,
    error?.message ?? text.slice(0, 500),
    error?.retryAfterMs,
  );
}
