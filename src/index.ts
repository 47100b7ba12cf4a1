/**
 * durable-runs: the portable part. Stores that need a platform are in durable-runs/node and durable-runs/cloudflare.
 */
export type { Clock } from "./contract/clock.ts";
export {
  DurableAwaitEventTimeoutError,
  DurableBranchStoppedError,
  DurableForbiddenError,
  DurableInvalidInputError,
  DurableNestedStepError,
  DurablePayloadError,
  DurableRunCancelledError,
  DurableRunDivergenceError,
  DurableRunError,
  DurableRunInputMismatchError,
  DurableRunLeaseHeldError,
  DurableRunLeaseLostError,
  DurableRunNotFoundError,
  DurableRunSuspendedError,
  DurableStepInputMismatchError,
  DurableStepInterruptedError,
  DurableStepNotDueError,
  DurableStepTimeoutError,
  DurableStoreUnavailableError,
  NonRetryableError,
} from "./contract/errors.ts";
export type { DurableRunErrorCode } from "./contract/errors.ts";
export { DEFAULT_LEASE_MS, LIMITS } from "./contract/limits.ts";
export type {
  AgentTaskSpec,
  BeginStepInput,
  ClaimedRunRecord,
  CompleteStepInput,
  DeclaredRunStatus,
  DurableRunManifest,
  DurableRunStore,
  EmitEventInput,
  EndRunInput,
  AwaitedEvent,
  EventRecord,
  FailStepInput,
  ForkRunOptions,
  InterruptionPolicy,
  LateBegin,
  RenewLeaseInput,
  RequestOptions,
  RestartRunOptions,
  RunOutcome,
  RunRecord,
  RunStatus,
  RunWait,
  StartOrResumeInput,
  StartOrResumeResult,
  StepError,
  StepKind,
  StepRecord,
  StepResolution,
  StepStatus,
  SuspendRunInput,
  WaitForEventInput,
  WatchLeaseInput,
} from "./contract/types.ts";
export { RunHistory } from "./history/run-history.ts";
export type { RunHistoryOptions } from "./history/run-history.ts";
export type {
  EndedStatus,
  EventPage,
  HistoryEvent,
  HistoryStep,
  ListRunsOptions,
  PageOptions,
  Percentiles,
  PurgeOptions,
  PurgeResult,
  RollUpOptions,
  RollUpResult,
  RunDetails,
  RunFilter,
  RunHistoryReads,
  RunPage,
  RunStats,
  RunSummary,
  StatsOptions,
  StatsPoint,
  StepPage,
  StepsOptions,
  StepStats,
  StuckOptions,
  StuckPage,
  StuckReason,
  StuckRun,
} from "./history/types.ts";
export { canonicalHash, canonicalJson, deriveWorkerId, manifestHash, newRunId, stepId } from "./identity.ts";
export { runDurable } from "./runner/run-durable.ts";
export type {
  AwaitEventOptions,
  Branch,
  Branches,
  BranchResult,
  DurableContext,
  RetryFunction,
  RetryPolicy,
  RunDurableInput,
  RunDurableResult,
  StepInfo,
  StepOptions,
} from "./runner/types.ts";
export { RERUN } from "./runner/types.ts";
export type {
  D1DatabaseLike,
  D1PreparedStatementLike,
  D1ReplicatedLike,
  D1SessionLike,
} from "./stores/d1/database.ts";
export { D1DurableRunStore } from "./stores/d1/store.ts";
export type { D1StoreOptions } from "./stores/d1/store.ts";
export { InMemoryDurableRunStore } from "./stores/memory.ts";
export type { InMemoryStoreOptions } from "./stores/memory.ts";
export type { BeginOptions } from "./stores/ledger-store.ts";
export { eventKeyOf, workflowEventType } from "./workflows/event-type.ts";
export { runOnWorkflowStep } from "./workflows/run-on-workflow-step.ts";
export type {
  RunOnWorkflowStepInput,
  WorkflowInstanceLike,
  WorkflowStepConfig,
  WorkflowStepLike,
} from "./workflows/types.ts";
