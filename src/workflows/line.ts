/**
 * One line of a task's code on Workflows, the task itself or a branch of it: what its steps are called.
 *
 * A step is known to the platform by its name and by how often that came before. The task's own steps are called
 * `workflow/intent`; those of a branch `workflow:path//intent`, where the path is of ordinals of groups and names of
 * branches in turn; and what a group or a wait leaves has an ordinal of its own at the end of the path. No branch's name
 * is empty or has a slash, so no two lines share a name, and each is counted in the order of its own calls.
 */
import { DurableInvalidInputError } from "../contract/errors.ts";
import type { Branch } from "../runner/branch.ts";

/** https://developers.cloudflare.com/workflows/reference/limits/ */
const MAX_STEP_NAME_LENGTH = 256;

export class Line {
  readonly branch: Branch;
  readonly #workflowName: string;
  readonly #outer: Line | undefined;
  readonly #intents = new Map<string, number>();
  readonly #keys = new Map<string, number>();
  #steps = 0;
  #isDecided = false;

  constructor(workflowName: string, branch: Branch, outer?: Line) {
    this.#workflowName = workflowName;
    this.branch = branch;
    this.#outer = outer;
  }

  /** A branch of a group that begins now. Throws `invalid_input` for a path that leaves no room for a step's name. */
  inside(groupPath: string, name: string): Line {
    const line = new Line(this.#workflowName, this.branch.inside(groupPath, name), this);
    line.stepName(`branch "${name}"`, "…");
    return line;
  }

  /** Whether the outcome of a group that the line is in is on record, so that its steps will not be asked for again. */
  get isDecided(): boolean {
    return this.#isDecided || (this.#outer?.isDecided ?? false);
  }

  decided(): void {
    this.#isDecided = true;
  }

  nextStepIndex(): number {
    return this.#steps++;
  }

  /** How often the line had a step of that intent before. */
  nthOf(intent: string): number {
    return takeNext(this.#intents, intent);
  }

  /** The path of the group that begins now. */
  nextGroupPath(): string {
    return `${this.branch.prefix}${this.branch.nextOrdinal()}`;
  }

  /** The path of a wait for an event that begins now: of those for its key. */
  nextWaitPath(key: string): string {
    return `${this.branch.prefix}${takeNext(this.#keys, key)}`;
  }

  /** The name of a step of this line. Throws `invalid_input` for the field that makes it too long. */
  stepName(field: string, label: string): string {
    return stepName(this.#workflowName, this.branch.prefix, { field, label });
  }

  /** The name of what a group or a wait of this line leaves. */
  placeName(field: string, path: string, label: string): string {
    return stepName(this.#workflowName, `${path}/`, { field, label });
  }
}

function takeNext(counts: Map<string, number>, label: string): number {
  const next = counts.get(label) ?? 0;
  counts.set(label, next + 1);
  return next;
}

function stepName(
  workflowName: string,
  prefix: string,
  { field, label }: { field: string; label: string },
): string {
  const begin = prefix === "" ? `${workflowName}/` : `${workflowName}:${prefix}/`;
  const name = begin + label;
  if (name.length <= MAX_STEP_NAME_LENGTH) return name;
  throw new DurableInvalidInputError(
    field,
    `makes a step name of ${name.length} characters; Workflows allow at most ${MAX_STEP_NAME_LENGTH}, "${begin}" ` +
      "included",
  );
}
