/**
 * What stands between the contract and a home for runs: a journal loads the slice that a request is about, asks the
 * ledger, and commits the change atomically (R1). It knows no rules; the face in ledger-store.ts knows no storage.
 */
import type { ErrorData } from "../contract/errors.ts";
import type { RunStatus } from "../contract/types.ts";
import type { Op, Replies, Request, RequestOf } from "../ledger/requests.ts";
import type { EventState, KeptManifest, RunView, Slice, StepState } from "../ledger/state.ts";

/** Steps in order of position. `next`: where the following page begins, or `null` after the last. */
export interface StepPage {
  readonly steps: readonly StepState[];
  readonly next: number | null;
}

/** A run with what is counted rather than recorded. */
export interface CountedRun {
  readonly run: RunView;
  readonly stepCount: number;
}

export interface Answers extends Omit<Replies, "claim" | "end" | RunOp> {
  /** With the first page of its steps. */
  claim: CountedRun & { readonly page: StepPage };
  end: CountedRun & { readonly accepted: boolean };
  suspend: CountedRun;
  cancel: CountedRun;
  restart: CountedRun;
  fork: CountedRun;
  seal: CountedRun;
}

/** An event that was waited for, and what became of the step that was to be completed with it. */
export interface AwaitedState extends EventState {
  readonly completed?: Answers["complete"];
}

/** Requests that are answered with the run, and no more. */
type RunOp = "suspend" | "cancel" | "restart" | "fork" | "seal";

export type Answer<O extends Op = Op> =
  | { readonly ok: true; readonly value: Answers[O] }
  | { readonly ok: false; readonly error: ErrorData };

/**
 * `now` is the face's clock; a journal whose runs live elsewhere leaves it aside (R7).
 *
 * Every method may throw DurableStoreUnavailableError. `submit` may then have taken effect: the same request, sent
 * again, has one effect and one answer.
 */
export interface Journal {
  submit<O extends Op>(request: RequestOf<O>, now: () => number): Promise<Answer<O>>;
  /** `null` for an unknown run. */
  run(runId: string): Promise<CountedRun | null>;
  /** What a run keeps of its manifest. `null` for an unknown run. */
  manifest(runId: string): Promise<KeptManifest | null>;
  step(runId: string, stepIndex: number): Promise<StepState | null>;
  steps(runId: string, from: number): Promise<StepPage>;
  event(runId: string, key: string): Promise<EventState | null>;
  /** The text of a body that is not inline. */
  body(runId: string, ref: string): Promise<string>;
  close(): Promise<void>;
}

/** What a restart does to steps in a map. */
export function deleteFrom(steps: Map<number, StepState>, position: number): void {
  for (const stepIndex of steps.keys()) if (stepIndex >= position) steps.delete(stepIndex);
}

/** The steps of a run, in order of position; `first`: the first page, where that is known. */
export async function readSteps(journal: Journal, runId: string, first?: StepPage): Promise<StepState[]> {
  const page = first ?? (await journal.steps(runId, 0));
  const steps = [...page.steps];
  for (let { next } = page; next !== null;) {
    const more: StepPage = await journal.steps(runId, next);
    steps.push(...more.steps);
    ({ next } = more);
  }
  return steps;
}

/** Which step or event a request is about; its slice holds that one beside the run. */
export function subjectOf(request: Request): { stepIndex?: number; key?: string } {
  switch (request.op) {
    case "begin":
    case "complete":
    case "fail":
    case "resolve":
    case "restart":
    case "copy":
      return { stepIndex: request.stepIndex };
    case "emit":
      return { key: request.key };
    default:
      return {};
  }
}

/** What a watcher of a lease is told once the fence no longer holds the run; `undefined` while it does. */
export function lostLease(
  run: RunView | null,
  fence: number,
): { held: false; status?: RunStatus } | undefined {
  if (run === null) return { held: false };
  return run.fence === fence && run.status === "running" ? undefined : { held: false, status: run.status };
}

export const EMPTY_SLICE: Slice = { run: null, step: null, event: null };
