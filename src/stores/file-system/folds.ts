/**
 * What the lines of a run's two logs add up to, and which lines count. Pure: knows no files and no rules of runs.
 *
 * A line of steps.jsonl counts when its `seq` follows the last one that counted; a line of events.jsonl when it is the
 * first of its key. All readers see the same lines in the same order, so they agree on which count: of two writers who
 * append to the same state, the first one wins and the other one sees it. That makes an append a compare-and-set.
 */
import type { Request } from "../../ledger/requests.ts";
import type { Change, EventState, RunState, Slice, StepState } from "../../ledger/state.ts";
import { deleteFrom, EMPTY_SLICE, subjectOf } from "../journal.ts";
import type { StepPage } from "../journal.ts";
import {
  eventLine,
  parseEventLine,
  parseRunLogLine,
  runFields,
  stepFields,
  toEventState,
  toRunState,
  toStepState,
} from "./lines.ts";
import type { Fold } from "./log-file.ts";
import type { Place } from "./read-lines.ts";

/** A log that changes are decided over. */
export interface SliceFold extends Fold {
  /** The run whose log this is, by its first line. Another one only where two ids share a directory name. */
  readonly owner: string | null;
  slice(request: Request): Slice;
  /** The line that records a change to the state as it stands, or `null` when nothing changes. */
  line(change: Change, nonce: string): string | null;
}

export class RunFold implements SliceFold {
  readonly #runId: string;
  readonly #steps = new Map<number, StepState>();
  #owner: string | null = null;
  #run: RunState | null = null;
  #seq = 0;

  constructor(runId: string) {
    this.#runId = runId;
  }

  get owner(): string | null {
    return this.#owner;
  }

  get run(): RunState | null {
    return this.#run;
  }

  get stepCount(): number {
    return this.#steps.size;
  }

  step(stepIndex: number): StepState | null {
    return this.#steps.get(stepIndex) ?? null;
  }

  steps(from: number): StepPage {
    const steps = [...this.#steps.values()].filter((step) => step.stepIndex >= from);
    return { steps: steps.sort((a, b) => a.stepIndex - b.stepIndex), next: null };
  }

  clear(): void {
    this.#steps.clear();
    this.#owner = null;
    this.#run = null;
    this.#seq = 0;
  }

  take(text: string, place: Place): string | null {
    const line = parseRunLogLine(text);
    if (line === null || line.seq !== this.#seq + 1) return null;
    const runId = "run" in line ? line.run.runId : line.runId;
    this.#owner ??= runId;
    if (this.#owner !== this.#runId || runId !== this.#runId) return null;
    if ("run" in line) {
      this.#run = toRunState(line, this.#run, place);
      if (line.dropFrom !== undefined) deleteFrom(this.#steps, line.dropFrom);
    }
    if ("stepIndex" in line) this.#steps.set(line.stepIndex, toStepState(line, place));
    this.#seq = line.seq;
    return line.nonce;
  }

  slice(request: Request): Slice {
    const { stepIndex } = subjectOf(request);
    return { ...EMPTY_SLICE, run: this.#run, step: stepIndex === undefined ? null : this.step(stepIndex) };
  }

  line(change: Change, nonce: string): string | null {
    const { run, step, dropFrom } = change;
    if (run === undefined && step === undefined) return null;
    return JSON.stringify({
      seq: this.#seq + 1,
      ...(step && stepFields(this.#runId, step)),
      ...(run && runFields(run, this.#countAfter(change), this.#run)),
      ...(dropFrom !== undefined && { dropFrom }),
      nonce,
    });
  }

  #countAfter({ step, dropFrom }: Change): number {
    if (dropFrom !== undefined) return [...this.#steps.keys()].filter((at) => at < dropFrom).length;
    return this.stepCount + (step === undefined || this.#steps.has(step.stepIndex) ? 0 : 1);
  }
}

export class EventFold implements SliceFold {
  readonly #runId: string;
  readonly #events = new Map<string, EventState>();
  #owner: string | null = null;

  constructor(runId: string) {
    this.#runId = runId;
  }

  get owner(): string | null {
    return this.#owner;
  }

  event(key: string): EventState | null {
    return this.#events.get(key) ?? null;
  }

  clear(): void {
    this.#events.clear();
    this.#owner = null;
  }

  take(text: string, place: Place): string | null {
    const line = parseEventLine(text);
    if (line === null || this.#events.has(line.key)) return null;
    this.#owner ??= line.runId;
    if (this.#owner !== this.#runId || line.runId !== this.#runId) return null;
    this.#events.set(line.key, toEventState(line, place));
    return line.nonce;
  }

  slice(request: Request): Slice {
    const { key } = subjectOf(request);
    return { ...EMPTY_SLICE, event: key === undefined ? null : this.event(key) };
  }

  line({ event }: Change, nonce: string): string | null {
    return event === undefined ? null : eventLine(this.#runId, event, nonce);
  }
}
