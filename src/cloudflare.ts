/**
 * durable-runs/cloudflare: the coordinator, the store that talks to it, the same over a service binding, and
 * Workflows.
 */
export type { CoordinatorTimes } from "./coordinator/coordinated-run.ts";
export { RunCoordinator } from "./coordinator/run-coordinator.ts";
export type { RunCoordinatorEnv, RunCoordinatorOptions } from "./coordinator/run-coordinator.ts";
export type { RecorderNamespaceLike } from "./coordinator/record-entry.ts";
export { RunRecorder } from "./coordinator/run-recorder.ts";
export type { RunRecorderEnv, RunRecorderOptions } from "./coordinator/run-recorder.ts";
export { connectRuns } from "./service/connect-runs.ts";
export type { ConnectedRuns, ConnectOptions } from "./service/connect-runs.ts";
export type { RunServiceAccess, RunServiceProps } from "./service/props.ts";
export { RunService } from "./service/run-service.ts";
export type { RunServiceEnv, RunSession } from "./service/run-session.ts";
export type { RunServiceMethods, RunSessionMethods, ServiceEnvelope } from "./service/wire.ts";
export type { RetryOptions } from "./stores/coordinated/retry.ts";
export { CoordinatedDurableRunStore } from "./stores/coordinated/store.ts";
export type { CoordinatedStoreOptions } from "./stores/coordinated/store.ts";
export type { AckPolicy, CoordinatorNamespaceLike } from "./stores/coordinated/wire.ts";
export { manifestOf } from "./workflows/manifest.ts";
export { RUN_STEP_CONFIG, runDurableInWorkflow, TASK_RETRIES } from "./workflows/run-durable-in-workflow.ts";
export type { RunDurableInWorkflowInput } from "./workflows/run-durable-in-workflow.ts";
export { DurableRunWorkflow } from "./workflows/run-workflow.ts";
export { startRun, wakeRun } from "./workflows/start-run.ts";
export type { RunWorkflowBinding, StartRunInput, StartRunOptions } from "./workflows/start-run.ts";
export { RUN_DECISION_EVENT } from "./workflows/tasks.ts";
export type { RegisteredTask, RunPointer, RunWorkflowParams, TaskRegistry } from "./workflows/tasks.ts";
