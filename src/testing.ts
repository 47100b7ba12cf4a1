/** durable-runs/testing: for tests of tasks, and of stores. */
export { TestClock } from "./testing/clock.ts";
export { describeRunStore } from "./testing/describe-run-store.ts";
export type { StoreHarness, SuiteOptions } from "./testing/harness.ts";
