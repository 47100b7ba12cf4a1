/** durable-runs/cloudflare: the coordinator, and the store that talks to it. */
export type { CoordinatorTimes } from "./coordinator/coordinated-run.ts";
export { RunCoordinator } from "./coordinator/run-coordinator.ts";
export type { RunCoordinatorEnv, RunCoordinatorOptions } from "./coordinator/run-coordinator.ts";
export type { RetryOptions } from "./stores/coordinated/retry.ts";
export { CoordinatedDurableRunStore } from "./stores/coordinated/store.ts";
export type { CoordinatedStoreOptions } from "./stores/coordinated/store.ts";
export type { AckPolicy, CoordinatorNamespaceLike } from "./stores/coordinated/wire.ts";
