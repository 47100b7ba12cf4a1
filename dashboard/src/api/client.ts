/**
 * The dashboard's one way to the API: same-origin JSON under /api/v1, with the session's cookie.
 *
 * Owns the mapping of what goes wrong to {@link ApiError}. A 401 means that the session is over, and leads to /login with
 * the place to come back to. Knows no view.
 */
import type {
  EventPage,
  HistoryEvent,
  HistoryStep,
  RunDetails,
  RunPage,
  RunStats,
  StepPage,
  StuckPage,
} from "../../../src/history/types.ts";
import type { RunRecord, StepRecord, StepResolution } from "../../../src/contract/types.ts";

export interface Me {
  name: string;
  projectId?: string;
  access: "read" | "write";
}

export interface TaskInfo {
  name: string;
  description?: string;
  projectId: string;
  intent: string;
}

/** `status` 0: there was no answer. `code` is the engine's, such as "run_not_found", or one of HTTP's. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const BASE = "/api/v1";

/** The path of a run. An id is any text, so each part is encoded. */
function runPath(runId: string, ...rest: readonly (string | number)[]): string {
  return ["/runs", ...[runId, ...rest].map((part) => encodeURIComponent(part))].join("/");
}

export const api = {
  me: () => get<Me>("/me"),
  tasks: () => get<{ tasks: TaskInfo[] }>("/tasks").then(({ tasks }) => tasks),
  runs: (query: URLSearchParams) => get<RunPage>(`/runs?${query}`),
  run: (runId: string) => get<{ run: RunDetails }>(runPath(runId)).then(({ run }) => run),
  lag: (runId: string) => get<{ rows: number }>(runPath(runId, "lag")),
  steps: (runId: string, limit: number, cursor: string | undefined) => {
    const query = new URLSearchParams({ results: "false", limit: String(limit) });
    if (cursor !== undefined) query.set("cursor", cursor);
    return get<StepPage>(`${runPath(runId, "steps")}?${query}`);
  },
  step: (runId: string, stepIndex: number) =>
    get<{ step: HistoryStep }>(runPath(runId, "steps", stepIndex)).then(({ step }) => step),
  events: (runId: string, cursor?: string) => {
    const query = new URLSearchParams({ limit: "100" });
    if (cursor !== undefined) query.set("cursor", cursor);
    return get<EventPage>(`${runPath(runId, "events")}?${query}`);
  },
  event: (runId: string, key: string) =>
    get<{ event: HistoryEvent }>(runPath(runId, "events", key)).then(({ event }) => event),
  stats: (query: URLSearchParams) => get<RunStats>(`/stats?${query}`),
  stuck: (query: URLSearchParams) => get<StuckPage>(`/stuck?${query}`),
  start: (body: StartRequest) => post<{ runId: string }>("/runs", body),
  emit: (runId: string, key: string, payload: unknown) =>
    post<{ accepted: boolean }>(runPath(runId, "events", key), payload),
  cancel: (runId: string, reason: string) =>
    post<{ run: RunRecord }>(runPath(runId, "cancel"), reason === "" ? {} : { reason }),
  resolve: (runId: string, stepIndex: number, resolution: StepResolution) =>
    post<{ step: StepRecord }>(runPath(runId, "steps", stepIndex, "resolve"), resolution),
};

/** Ends the session and leads to /login. */
export async function signOut(): Promise<void> {
  await fetch("/logout", { method: "POST", credentials: "same-origin" }).catch(() => undefined);
  location.assign("/login");
}

export interface StartRequest {
  task: string;
  input: unknown;
  runId?: string;
  scenarioId?: string;
  tags?: Record<string, string>;
}

function get<T>(path: string): Promise<T> {
  return send<T>(path, { method: "GET" });
}

function post<T>(path: string, body: unknown): Promise<T> {
  return send<T>(path, { method: "POST", body: JSON.stringify(body) });
}

async function send<T>(path: string, init: RequestInit): Promise<T> {
  let response: Response;
  try {
    response = await fetch(BASE + path, {
      ...init,
      credentials: "same-origin",
      redirect: "error",
      headers: {
        accept: "application/json",
        ...(init.body !== undefined && { "content-type": "application/json" }),
      },
    });
  } catch {
    throw new ApiError(0, "unreachable", "The server cannot be reached.");
  }
  if (response.status === 401) {
    location.assign(`/login${location.hash}`);
    throw new ApiError(401, "unauthorized", "The session is over. Sign in again.");
  }
  if (!response.ok) throw await problemOf(response);
  return (await response.json()) as T;
}

/** What is no problem document, such as a proxy's page, is told by its status alone. */
async function problemOf(response: Response): Promise<ApiError> {
  const body = (await response.json().catch(() => undefined)) as Problem | null | undefined;
  const message = body?.detail ?? body?.title ?? `The server answered ${response.status}.`;
  return new ApiError(response.status, body?.code ?? `http_${response.status}`, message);
}

interface Problem {
  title?: string;
  detail?: string;
  code?: string;
}

/** What to show of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
