/** durable-runs/testing: for tests of tasks, and of stores. */
export { TestClock } from "./testing/clock.ts";
