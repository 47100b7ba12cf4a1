/** durable-runs/testing: for tests of tasks, and of stores. */
export { TestClock } from "./testing/clock.ts";
export { SkippingClock } from "./testing/skipping-clock.ts";
export type { MockedTask, StepMock, StepMockFunction, StepMocks } from "./testing/mock-steps.ts";
export { mockSteps } from "./testing/mock-steps.ts";
export type { StoreCall, StoreFault } from "./testing/faulty-store.ts";
export { FaultyStore } from "./testing/faulty-store.ts";
export type { Killable, KillPoint } from "./testing/kill-points.ts";
export { killable } from "./testing/kill-points.ts";
export type {
  ContextRun,
  ContextSuiteOptions,
  ContextTask,
  StartContext,
} from "./testing/context-harness.ts";
export { describeDurableContext } from "./testing/describe-durable-context.ts";
export { describeRunStore } from "./testing/describe-run-store.ts";
export type { StoreHarness, SuiteOptions } from "./testing/harness.ts";
export { describeRecovery } from "./testing/describe-recovery.ts";
export type { BatchInfo, DatabaseFault } from "./testing/faulty-database.ts";
export { FaultyDatabase } from "./testing/faulty-database.ts";
