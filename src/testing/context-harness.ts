/** What the suite of `DurableContext` needs of whatever runs tasks. */
import type { DurableContext } from "../runner/types.ts";

export type ContextTask<T> = (ctx: DurableContext) => Promise<T>;

/** Begins a new run of a task, under an id of its own. */
export type StartContext = <T>(task: ContextTask<T>) => Promise<ContextRun<T>>;

export interface ContextRun<T> {
  readonly runId: string;
  /** What the task returned, as it is, or rejects with what it threw. */
  result(): Promise<T>;
  /** Sends an event to the run, from outside. */
  emit(key: string, payload: unknown): Promise<void>;
  /**
   * Called once, when there is a result: runs the task, or another in its place, once more over what is on record, and
   * answers as `result` does.
   */
  replay<R = T>(task?: ContextTask<R>): Promise<R>;
}

export interface ContextSuiteOptions {
  start: StartContext;
  /** Names of tests to leave out, with the reason. */
  skip?: Record<string, string>;
}

/** Registers a test, which is given a way to begin runs. */
export type ContextIt = (title: string, body: (start: StartContext) => Promise<void>) => void;

/** Real time: what a step may take, whatever clock runs the task. */
export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** What a promise rejects with; "resolved" when it does not. */
export async function caught(work: Promise<unknown>): Promise<Error & { code?: string }> {
  return work.then(
    () => new Error("resolved"),
    (error: unknown) => error as Error,
  );
}
