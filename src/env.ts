/**
 * The Worker's bindings, and the one place where they become a store.
 *
 * Relies on wrangler.toml for the names. The model's settings are optional: without them the example says so and
 * summarises by itself.
 */
import type { RunCoordinator } from "./coordinator/run-coordinator.ts";
import { CoordinatedDurableRunStore } from "./stores/coordinated/store.ts";

export interface Env {
  /** The system of record. */
  DB: D1Database;
  /** One coordinator a run. */
  RUNS: DurableObjectNamespace<RunCoordinator>;
  OPENAI_BASE_URL?: string;
  OPENAI_API_KEY?: string;
  OPENAI_MODEL?: string;
}

/** Runs held by their coordinators, acknowledged once D1 has them. */
export function storeOf(env: Env): CoordinatedDurableRunStore {
  return new CoordinatedDurableRunStore(env.RUNS, { ack: "record" });
}
