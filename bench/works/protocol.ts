/**
 * What the harness asks of a subject, and what crosses the line between the harness and the Worker. Plain data alone.
 *
 * A subject carries out operations; the harness times them from outside, because the clock inside workerd ticks in
 * whole milliseconds.
 */

/** Each takes one object of numbers and flags, and answers when the work is done. */
export interface Operations {
  /** Whole runs, one after the other or all at once. `bytes`: the size of each step's result, about. */
  runs: { runs: number; steps: number; bytes: number; concurrent: boolean };
  /** Begins a run that waits for one event after the other. Answers at once. */
  waiter: object;
  /** Answers when the run waits for its next event, and whoever holds that wait has settled down. */
  waiting: object;
  /** Sends the event. Answers when the task goes on. */
  emit: object;
  /** Ends the run that waits. */
  unwait: object;
  /** Makes a run of so many completed steps that is open to be resumed. */
  prefix: { steps: number };
  /** Resumes it. Answers when the first step begins that is not on record. */
  resume: { steps: number };
  /** Answers when what `resume` or `takeover` left behind has ended. */
  rest: object;
  /**
   * A worker claims a run, completes three steps, and is not heard of again. Answers at its last acknowledgement.
   * `killed`: it is a process of its own, which `takeover` begins by killing.
   */
  die: { leaseMs: number; killed: boolean };
  /**
   * Another worker, or the same one restarted, claims the run as soon as it may. Answers when its first step begins.
   */
  takeover: { leaseMs: number; restarted: boolean };
  /** Answers when nothing is left to do behind the scenes. */
  settle: object;
}

export type OperationName = keyof Operations;

/** What the harness measures. `call` resolves when the operation is over. */
export interface Subject {
  readonly name: string;
  /** Operations that it has no like of. */
  readonly lacks?: readonly OperationName[];
  /** Whether its workers may be processes of their own. */
  readonly canBeKilled?: boolean;
  call<O extends OperationName>(operation: O, params: Operations[O]): Promise<void>;
}

/** From the harness to the Worker. */
export interface LineRequest {
  readonly id: number;
  readonly subject: string;
  readonly operation: string;
  readonly params: unknown;
}

/** And back. */
export interface LineAnswer {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: string;
}
