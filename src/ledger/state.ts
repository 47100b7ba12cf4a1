/**
 * What the ledger knows of a run: plain, flat records, the same in memory, in a row and on the wire.
 *
 * Instants are epoch milliseconds; absent is `null`; payloads are bodies, which no rule looks into.
 */
import type { RunStatus, StepKind, StepStatus } from "../contract/types.ts";

/** A payload as JSON text (NO_VALUE for `undefined`), or where a large one lies in its store. */
export type Body = { readonly text: string } | { readonly ref: string };

/** The parts of a manifest that are only kept, for people who look at the run later. */
export interface KeptManifest {
  /** JSON text. */
  readonly task: string;
  readonly input: Body;
  /** JSON text of a flat object of strings. */
  readonly tags: string | null;
}

/** What a run waits for, at one of its steps. */
export interface Wait {
  readonly stepIndex: number;
  readonly path: string;
  readonly for: "event" | "time" | "retry" | "decision";
  readonly key: string | null;
  readonly until: number | null;
}

/** Where a forked run comes from. `copying`: its steps are not all there yet, and nobody may claim it. */
export interface ForkOrigin {
  readonly runId: string;
  readonly throughStep: number;
  readonly copying: boolean;
}

/** All that rules and callers need of a run. */
export interface RunView {
  readonly runId: string;
  readonly manifestHash: string;
  readonly projectId: string;
  readonly scenarioId: string | null;
  readonly status: RunStatus;
  /** R5: grows by one at each claim, and at whatever else fences a worker out. */
  readonly fence: number;
  readonly takeovers: number;
  /** Who claimed last. It holds the lease while `leaseExpiresAt` is set and ahead. */
  readonly workerId: string;
  /** The request that minted the fence. */
  readonly claimRequestId: string;
  readonly leaseMs: number;
  /** `null` once the run has ended. */
  readonly leaseExpiresAt: number | null;
  readonly createdAt: number;
  readonly updatedAt: number;
  readonly completedAt: number | null;
  /** JSON text. */
  readonly outcome: string | null;
  readonly result: Body | null;
  /** JSON text of a StepError. */
  readonly error: string | null;
  readonly waits: readonly Wait[];
  /** The requests of the latest cancels, restarts and decisions: repeated late, they change nothing again. */
  readonly interventions: readonly string[];
  readonly forkedFrom: ForkOrigin | null;
}

export interface RunState extends RunView, KeptManifest {}

export interface StepState {
  readonly stepIndex: number;
  /** The step's place in the tree of branches; outside of any, the position as text. */
  readonly path: string;
  readonly intent: string;
  readonly kind: StepKind;
  readonly inputHash: string;
  readonly status: StepStatus;
  readonly attempts: number;
  /** Attempts since the step last failed for good. */
  readonly tries: number;
  /** While pending after a failed attempt. */
  readonly nextAttemptAt: number | null;
  /** A worker died in it, and what it did is not known. */
  readonly inDoubt: boolean;
  readonly result: Body | null;
  /** JSON text of a StepError: of the latest attempt that failed. */
  readonly error: string | null;
  /** R24: positions of the failed steps that the task had seen when it began this one. */
  readonly caught: readonly number[];
  readonly deadlineAt: number | null;
  readonly startedAt: number;
  readonly completedAt: number | null;
  readonly workerId: string;
  /** The fence under which this step last changed. */
  readonly fence: number;
  readonly beginRequestId: string;
}

export interface EventState {
  readonly key: string;
  readonly payload: Body;
  readonly emittedAt: number;
  readonly requestId: string;
}

/** What a rule is shown: the run's own row, and the one step or event that the request is about. */
export interface Slice {
  readonly run: RunState | null;
  readonly step: StepState | null;
  readonly event: EventState | null;
}

/** What a decision writes: whole new records. Empty when nothing changes. */
export interface Change {
  readonly run?: RunState;
  /** Steps from this position on are deleted. */
  readonly dropFrom?: number;
  readonly step?: StepState;
  /** Further steps: those that end with the event. Only a journal that holds waits is given any. */
  readonly steps?: readonly StepState[];
  readonly event?: EventState;
}

/** A lease that still counts. */
export function leaseIsLive(run: RunState, now: number): boolean {
  return leaseLeftMs(run, now) > 0;
}

/** How long the lease still counts; 0 once it has lapsed or was released. */
export function leaseLeftMs(run: RunState, now: number): number {
  if (run.status !== "running" || run.leaseExpiresAt === null) return 0;
  return Math.max(0, run.leaseExpiresAt - now);
}
