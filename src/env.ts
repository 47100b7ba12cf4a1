/**
 * The Worker's bindings.
 *
 * Relies on wrangler.toml for the names. The secrets are optional: without any that says whom to let in, the Worker lets
 * nobody in; without the model's, the example says so and summarises by itself.
 */
import type { RunCoordinator } from "./coordinator/run-coordinator.ts";
import type { CredentialSettings } from "./http/credentials.ts";
import { CoordinatedDurableRunStore } from "./stores/coordinated/store.ts";
import type { RunWorkflowParams } from "./workflows/tasks.ts";

export interface Env extends CredentialSettings {
  /** The system of record. */
  DB: D1Database;
  /** One coordinator a run. */
  RUNS: DurableObjectNamespace<RunCoordinator>;
  /** Runs registered tasks. */
  RUN_WORKFLOW: Workflow<RunWorkflowParams>;
  /** The dashboard's files. */
  ASSETS?: Fetcher;
  OPENAI_BASE_URL?: string;
  OPENAI_API_KEY?: string;
  OPENAI_MODEL?: string;
}

/** Runs held by their coordinators, acknowledged once D1 has them. */
export function storeOf(env: Env): CoordinatedDurableRunStore {
  return new CoordinatedDurableRunStore(env.RUNS, { ack: "record" });
}
