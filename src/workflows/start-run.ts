/**
 * Runs of registered tasks, begun and woken through the Workflow's binding by whoever does not stay for them. Structural:
 * nothing here needs a `cloudflare:` module.
 */
import {
  DurableForbiddenError,
  DurableInvalidInputError,
  DurableRunInputMismatchError,
  DurableStoreUnavailableError,
} from "../contract/errors.ts";
import { checkText } from "../contract/limits.ts";
import { toJsonText } from "../contract/payload.ts";
import type { DurableRunStore } from "../contract/types.ts";
import { newRunId } from "../identity.ts";
import { isInstanceNotFound } from "./failures.ts";
import { claimRequest } from "../stores/to-request.ts";
import { inputOf, manifestOf, taskNamed } from "./manifest.ts";
import { MAX_PAYLOAD_BYTES } from "./platform.ts";
import { RUN_DECISION_EVENT, type RunWorkflowParams, type TaskRegistry } from "./tasks.ts";
import type { WorkflowInstanceLike } from "./types.ts";

/** The platform's: https://developers.cloudflare.com/workflows/reference/limits/ */
const MAX_INSTANCE_ID_LENGTH = 100;
const INSTANCE_ID = /^[a-zA-Z0-9_][a-zA-Z0-9_-]*$/;

/** What of a Workflow's binding is used. `Workflow<RunWorkflowParams>` fits it. */
export interface RunWorkflowBinding {
  create(options: { id: string; params: RunWorkflowParams }): Promise<unknown>;
  get(id: string): Promise<RunWorkflowInstance>;
}

interface RunWorkflowInstance extends WorkflowInstanceLike {
  status(): Promise<{ status: string }>;
  restart(): Promise<void>;
}

export interface StartRunInput extends Omit<RunWorkflowParams, "input"> {
  /** What the task's `parse` takes. At most 1 MiB as JSON, with the rest of the params. */
  input: unknown;
  /** 1 to 100 letters, digits, "_" and "-", the first no "-": it is the instance's id, too. Default: a new one. */
  runId?: string;
}

export interface StartRunOptions {
  /** The caller's project: a task of any other is refused with `forbidden`. Default: no limit. */
  projectId?: string;
  /** Where runs are kept. With it, a run id that stands for another run already is refused at once. */
  store?: Pick<DurableRunStore, "loadRun">;
}

/**
 * Has a registered task run, as a Workflow instance of the run's id. Answers as soon as the platform has taken it.
 *
 * Starting the same run again is the same run: one instance, one answer. The id with another task or input is refused with
 * `manifest_mismatch`, where `options.store` knows of the run; otherwise the instance that is there keeps its own.
 * A run whose instance has ended is not begun again: see {@link wakeRun}.
 *
 * Rejects with `invalid_input` (of the name, the id, the tags, or what `parse` throws), `payload_not_json`,
 * `payload_too_large`, `forbidden`, `manifest_mismatch`; or `store_unavailable` when the platform takes no instance: call
 * again, with the same run id.
 */
export async function startRun<Env>(
  workflow: RunWorkflowBinding,
  registry: TaskRegistry<Env>,
  given: StartRunInput,
  { projectId, store }: StartRunOptions = {},
): Promise<{ runId: string }> {
  const { task: name, runId = newRunId() } = given;
  const task = taskNamed(registry, name);
  if (projectId !== undefined && task.projectId !== projectId) {
    throw new DurableForbiddenError(`task "${name}" is not of project "${projectId}".`);
  }
  checkInstanceId(runId);
  const params = paramsOf(given, inputOf(task, given.input));
  const { manifestHash } = claimRequest({
    runId,
    workerId: "start",
    manifest: manifestOf(name, task, params),
  });
  const isNew = given.runId === undefined;
  const recorded = isNew ? undefined : await store?.loadRun?.(runId);
  if (recorded !== undefined && recorded.manifestHash !== manifestHash) {
    throw new DurableRunInputMismatchError(`run "${runId}" is of another task or input. Use another run id.`);
  }
  if (isNew || (await found(workflow, runId)) === undefined) await create(workflow, runId, params);
  return { runId };
}

/**
 * Has the instance of a run look again: at once, if it waits for a decision; from the record on, if it has ended, as after
 * `restartRun`. Call it after the store was told, and again should it reject.
 *
 * Answers what was done. "restarted": the instance begins anew. "told": it was sent an event, which it heeds where it waits
 * for a decision; it does not if it is past the run already, and in steps that come after. "absent": there is no such
 * instance. Rejects with `store_unavailable` when the platform fails.
 */
export async function wakeRun(
  workflow: Pick<RunWorkflowBinding, "get">,
  runId: string,
): Promise<"restarted" | "told" | "absent"> {
  const there = await found(workflow, runId);
  if (there === undefined) return "absent";
  try {
    if (ENDED.has(there.status)) {
      await there.instance.restart();
      return "restarted";
    }
    await there.instance.sendEvent({ type: RUN_DECISION_EVENT, payload: null });
    return "told";
  } catch (error) {
    throw unavailable(runId, "could not be woken", error);
  }
}

const ENDED: ReadonlySet<string> = new Set(["complete", "errored", "terminated"]);

function checkInstanceId(runId: unknown): asserts runId is string {
  checkText("runId", runId, MAX_INSTANCE_ID_LENGTH);
  if (isInstanceId(runId)) return;
  throw new DurableInvalidInputError(
    "runId",
    `must be of letters, digits, "_" and "-", the first no "-", as it is a Workflow instance's id, but is ${JSON.stringify(runId)}`,
  );
}

function isInstanceId(id: string): boolean {
  return id.length <= MAX_INSTANCE_ID_LENGTH && INSTANCE_ID.test(id);
}

/** What the instance is made with: JSON that fits. */
function paramsOf(
  { task, scenarioId, tags, spec }: StartRunInput,
  input: Record<string, unknown>,
): RunWorkflowParams {
  const params = {
    task,
    input,
    ...(scenarioId !== undefined && { scenarioId }),
    ...(tags !== undefined && { tags }),
    ...(spec !== undefined && { spec }),
  };
  return JSON.parse(toJsonText("params", params, MAX_PAYLOAD_BYTES)) as RunWorkflowParams;
}

/** In production, an id that is taken is refused; the local engine may run it again with the new params. */
async function create(workflow: RunWorkflowBinding, id: string, params: RunWorkflowParams): Promise<void> {
  try {
    await workflow.create({ id, params });
  } catch (error) {
    const there = await found(workflow, id).catch(() => undefined);
    if (there === undefined) throw unavailable(id, "could not be created", error);
  }
}

/** Rejects with `store_unavailable` if the platform does not say whether there is one. */
async function found(
  workflow: Pick<RunWorkflowBinding, "get">,
  id: string,
): Promise<{ instance: RunWorkflowInstance; status: string } | undefined> {
  if (!isInstanceId(id)) return undefined;
  try {
    const instance = await workflow.get(id);
    return { instance, status: (await instance.status()).status };
  } catch (error) {
    if (isInstanceNotFound(error)) return undefined;
    throw unavailable(id, "could not be looked for", error);
  }
}

function unavailable(id: string, what: string, cause: unknown): Error {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new DurableStoreUnavailableError(`Workflow instance "${id}" ${what}: ${why}`, { cause });
}
