/**
 * The plain declaration of the contract, as somebody else may have implemented it: its names, fields and codes, and
 * none of our additions. Imports nothing of ours, so that a change of ours cannot change it.
 */

export type StepKind = "logic" | "llm" | "tool" | "readiness" | "deterministic" | "event";
export type StepStatus = "pending" | "running" | "completed" | "failed";
export type RunStatus = "pending" | "running" | "completed" | "failed" | "suspended";
export type ErrorCode =
  | "lease_held"
  | "manifest_mismatch"
  | "step_divergence"
  | "step_input_mismatch"
  | "await_event_timeout"
  | "event_emit_race";

export interface StepError {
  message: string;
  code?: string;
  stack?: string;
}

export interface StepRecord<T = unknown> {
  runId: string;
  stepIndex: number;
  intent: string;
  kind: StepKind;
  inputHash: string;
  status: StepStatus;
  attempts: number;
  result?: T;
  error?: StepError;
  startedAt?: string;
  completedAt?: string;
}

export interface EventRecord {
  runId: string;
  key: string;
  payload: unknown;
  emittedAt: string;
}

export interface RunOutcome {
  pass?: boolean;
  score?: number;
  notes?: string;
  metadata?: Record<string, unknown>;
}

export interface AgentTaskSpec {
  id: string;
  intent: string;
  domain?: string;
  inputs?: Record<string, unknown>;
  requiredKnowledge?: readonly unknown[];
  budget?: Record<string, unknown>;
  metadata?: Record<string, unknown>;
}

export interface DurableRunManifest {
  projectId: string;
  scenarioId?: string;
  task: AgentTaskSpec;
  input: Record<string, unknown>;
  tags?: Record<string, string>;
}

export interface RunRecord {
  runId: string;
  manifestHash: string;
  projectId: string;
  scenarioId?: string;
  status: RunStatus;
  createdAt: string;
  updatedAt: string;
  completedAt?: string;
  leaseHolderId?: string;
  leaseExpiresAt?: string;
  outcome?: RunOutcome;
  stepCount: number;
}

export interface DurableRunStore {
  startOrResume(input: {
    runId: string;
    manifest: DurableRunManifest;
    workerId: string;
    leaseMs?: number;
  }): Promise<{ run: RunRecord; completedSteps: ReadonlyArray<StepRecord>; leaseExpiresAt: string }>;
  renewLease(input: {
    runId: string;
    workerId: string;
    leaseMs?: number;
  }): Promise<{ ok: boolean; leaseExpiresAt?: string }>;
  loadStep(runId: string, stepIndex: number): Promise<StepRecord | undefined>;
  beginStep(input: {
    runId: string;
    stepIndex: number;
    intent: string;
    kind: StepKind;
    inputHash: string;
  }): Promise<StepRecord>;
  completeStep(input: { runId: string; stepIndex: number; result: unknown }): Promise<StepRecord>;
  failStep(input: { runId: string; stepIndex: number; error: StepError }): Promise<StepRecord>;
  endRun(input: {
    runId: string;
    workerId: string;
    status: "completed" | "failed";
    outcome?: RunOutcome;
  }): Promise<RunRecord>;
  emitEvent(input: {
    runId: string;
    key: string;
    payload: unknown;
  }): Promise<{ accepted: boolean; record: EventRecord }>;
  loadEvent(runId: string, key: string): Promise<EventRecord | undefined>;
  close(): Promise<void>;
}

export interface DurableContext {
  readonly runId: string;
  readonly projectId: string;
  readonly scenarioId?: string;
  step<T>(
    intent: string,
    fn: () => Promise<T>,
    opts?: { kind?: StepKind; inputFingerprint?: unknown },
  ): Promise<T>;
  awaitEvent<T = unknown>(key: string, opts?: { timeoutMs?: number; pollMs?: number }): Promise<T>;
  emitEvent(key: string, payload: unknown): Promise<{ accepted: boolean }>;
  now(): Promise<Date>;
  uuid(): Promise<string>;
}

export interface RunDurableInput<TResult> {
  runId: string;
  manifest: DurableRunManifest;
  store: DurableRunStore;
  workerId?: string;
  leaseMs?: number;
  signal?: AbortSignal;
  taskFn: (ctx: DurableContext) => Promise<TResult>;
  defaultOutcome?: RunOutcome;
}

export interface RunDurableResult<TResult> {
  result: TResult;
  record: RunRecord;
  steps: ReadonlyArray<StepRecord>;
}

export interface DurableRunError extends Error {
  readonly code: ErrorCode;
}

export interface D1DatabaseLike {
  prepare(query: string): D1PreparedStatementLike;
  batch(statements: D1PreparedStatementLike[]): Promise<unknown[]>;
}

export interface D1PreparedStatementLike {
  bind(...values: unknown[]): D1PreparedStatementLike;
  first<T = unknown>(): Promise<T | null>;
  all<T = unknown>(): Promise<{ results: T[] }>;
  run(): Promise<{ success: boolean; meta?: { changes?: number } }>;
}

export interface WorkflowStepLike {
  do<T>(name: string, opts: WorkflowStepConfig, fn: () => Promise<T>): Promise<T>;
  do<T>(name: string, fn: () => Promise<T>): Promise<T>;
  sleep(name: string, duration: string | number): Promise<void>;
  waitForEvent<T = unknown>(
    name: string,
    opts: { type: string; timeout?: string },
  ): Promise<{ payload: T; timestamp: number; type: string }>;
}

export interface WorkflowStepConfig {
  retries?: { limit: number; delay: string | number; backoff?: "constant" | "linear" | "exponential" };
  timeout?: string | number;
}

export interface RunOnWorkflowStepInput<TResult> {
  workflowName: string;
  taskFn: (ctx: DurableContext) => Promise<TResult>;
  stepConfig?: WorkflowStepConfig;
  now?: () => number;
}
