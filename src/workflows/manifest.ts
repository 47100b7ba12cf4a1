/** What a registered task is as a run: the same for whoever starts it, runs it or shows it. Pure. */
import { DurableInvalidInputError } from "../contract/errors.ts";
import { checkObject, checkText } from "../contract/limits.ts";
import type { DurableRunManifest } from "../contract/types.ts";
import type { RegisteredTask, RunWorkflowParams, TaskRegistry } from "./tasks.ts";

const TASK_NAME_BYTES = 128;

/** The task of that name. Throws `invalid_input`, listing the names, if there is none. */
export function taskNamed<Env>(registry: TaskRegistry<Env>, name: unknown): RegisteredTask<Env> {
  checkText("task", name, TASK_NAME_BYTES);
  const task = Object.hasOwn(registry, name) ? registry[name] : undefined;
  if (task !== undefined) return task;
  const names = Object.keys(registry).toSorted();
  throw new DurableInvalidInputError(
    "task",
    `${JSON.stringify(name)} is not registered; ${names.length === 0 ? "no task is" : `the tasks are ${names.join(", ")}`}`,
  );
}

/** The input of a run: what `parse` makes of what was given. Throws what `parse` throws, or `invalid_input`. */
export function inputOf<Env>(task: RegisteredTask<Env>, given: unknown): Record<string, unknown> {
  const input = task.parse(given);
  checkObject("input", input);
  return input as Record<string, unknown>;
}

/** The manifest of a run of a registered task. `input`: as {@link inputOf} answers it. Throws `invalid_input`. */
export function manifestOf(
  name: string,
  { projectId, intent, domain }: Pick<RegisteredTask, "projectId" | "intent" | "domain">,
  { input, scenarioId, tags, spec = {} }: Omit<RunWorkflowParams, "task">,
): DurableRunManifest {
  checkObject("spec", spec);
  if (tags !== undefined) checkObject("tags", tags);
  const { metadata, budget } = spec;
  return {
    projectId,
    ...(scenarioId !== undefined && { scenarioId }),
    task: {
      id: name,
      intent,
      ...(domain !== undefined && { domain }),
      ...(metadata !== undefined && { metadata }),
      ...(budget !== undefined && { budget }),
    },
    input,
    ...(tags !== undefined && { tags }),
  };
}
