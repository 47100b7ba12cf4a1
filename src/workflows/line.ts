/**
 * One line of a task's code on Workflows, the task itself or a branch of it: what its steps are called.
 *
 * A step is known to the platform by its name and by how often that came before. A group is known by the names of its
 * branches and not by where it stands, so that another may be put before it.
 *
 *     workflow/intent           a step of the task
 *     workflow:path//intent     a step of a branch; the path is of groups and branches in turn: "card,cash/card"
 *     workflow#/label           what is not named by an intent: a clock, a sleep, an event, what a group came to
 *     workflow#path//label      the same in a branch
 *
 * What stands there for the second time has "2:" before it. No part of a path is empty or has a slash, so no two lines share
 * a name; and each is counted in the order of its own calls, since a replay may leave out others.
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
  readonly #labels = new Map<string, number>();
  #steps = 0;
  #isDecided = false;

  constructor(workflowName: string, branch: Branch, outer?: Line) {
    this.#workflowName = workflowName;
    this.branch = branch;
    this.#outer = outer;
  }

  /** A branch of that group. Throws `invalid_input` for names that leave no room for a step's name. */
  inside(group: string, name: string): Line {
    const branch = this.branch.inside(`${this.branch.prefix}${group}`, name);
    const line = new Line(this.#workflowName, branch, this);
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

  /** The label, with its number if the line had one of that kind before. */
  numbered(kind: string, label: string): string {
    const number = takeNext(this.#labels, `${kind} ${label}`) + 1;
    return number > 1 || /^\d+:/.test(label) ? `${number}:${label}` : label;
  }

  /** The name of a step of this line. Throws `invalid_input` for the field that makes it too long. */
  stepName(field: string, intent: string): string {
    const { prefix } = this.branch;
    const begin = prefix === "" ? "/" : `:${prefix}/`;
    return this.#checked(field, `${this.#workflowName}${begin}`, intent);
  }

  /** The name of what no intent names. Throws the same. */
  labelName(field: string, label: string): string {
    return this.#checked(field, `${this.#workflowName}#${this.branch.prefix}/`, label);
  }

  #checked(field: string, begin: string, label: string): string {
    const name = begin + label;
    if (name.length <= MAX_STEP_NAME_LENGTH) return name;
    throw new DurableInvalidInputError(
      field,
      `makes a step name of ${name.length} characters; Workflows allow at most ${MAX_STEP_NAME_LENGTH}, "${begin}" ` +
        "included",
    );
  }
}

function takeNext(counts: Map<string, number>, label: string): number {
  const next = counts.get(label) ?? 0;
  counts.set(label, next + 1);
  return next;
}
