/**
 * What run history is asked and what it answers. Shapes alone: the same in RunHistory, over the RPC binding and, as JSON,
 * over HTTP, so everything here is plain data. Instants are ISO-8601 strings in UTC, in filters and in answers.
 */
import type {
  AgentTaskSpec,
  EventRecord,
  RunRecord,
  RunStatus,
  StepKind,
  StepRecord,
} from "../contract/types.ts";

/** All that is given has to hold. */
export interface RunFilter {
  projectId?: string;
  scenarioId?: string;
  /** One, or any of several. */
  status?: RunStatus | readonly RunStatus[];
  /** Each of these tags. */
  tags?: Readonly<Record<string, string>>;
  /** `manifest.task.id`. */
  taskId?: string;
  /** Inclusive. */
  createdFrom?: string;
  /** Exclusive. */
  createdTo?: string;
  /** Inclusive. With either of the completion's bounds, pages are in the order of completion. */
  completedFrom?: string;
  /** Exclusive. */
  completedTo?: string;
  /** `outcome.pass`. */
  pass?: boolean;
  /** `outcome.score`, inclusive. */
  minScore?: number;
  maxScore?: number;
  /** The worker that holds the lease, as far as D1 knows. */
  heldBy?: string;
  /** More takeovers than this. */
  takeoversOver?: number;
}

/** Where a page begins, and how long it may be. */
export interface PageOptions {
  /** 1 to 200. Default 50. */
  limit?: number;
  /** What an earlier page of the same question answered. Opaque; `invalid_input` for any other text. */
  cursor?: string;
}

export interface ListRunsOptions extends RunFilter, PageOptions {}

/** A run as a list shows it: no body of any size. */
export interface RunSummary extends Omit<RunRecord, "result" | "stepCount" | "outcome"> {
  task: Pick<AgentTaskSpec, "id" | "intent" | "domain">;
  tags?: Record<string, string>;
  /** The highest position on record. Absent where no step has begun. */
  lastStepIndex?: number;
  /** From creation to completion. */
  durationMs?: number;
  pass?: boolean;
  score?: number;
  /**
   * How long the run's row had waited when it was last sent to D1, from the first change that D1 lacked; 0 again once
   * anything of the run arrived in time. Without the time of the sending itself. Absent where no coordinator stands between.
   */
  lagMs?: number;
}

export interface RunPage {
  /** Newest first. May be fewer than `limit`, even none, while there is a cursor: a page looks at a bounded number of rows. */
  runs: RunSummary[];
  /** Present unless this was the last page. */
  cursor?: string;
}

/** A run with its manifest. A body of more than 256 KiB is left out, and only its size is told. */
export interface RunDetails extends RunRecord {
  task: AgentTaskSpec;
  input?: Record<string, unknown>;
  inputBytes: number;
  resultBytes?: number;
  tags?: Record<string, string>;
  durationMs?: number;
  lagMs?: number;
}

export interface StepsOptions extends PageOptions {
  /** Whether results are answered, too: those of up to 256 KiB. Default true. */
  results?: boolean;
}

/** A step. `result` is left out above 256 KiB, or when not asked for; `resultBytes` then tells that there is one. */
export interface HistoryStep extends StepRecord {
  /** UTF-8 bytes of its JSON; 0 for `undefined`. Present once completed. */
  resultBytes?: number;
  /** Of the latest attempt. Present once it has ended. */
  durationMs?: number;
}

export interface StepPage {
  /** In order of position. */
  steps: HistoryStep[];
  cursor?: string;
}

export interface HistoryEvent extends Omit<EventRecord, "payload"> {
  /** Left out above 256 KiB. */
  payload?: unknown;
  payloadBytes: number;
}

export interface EventPage {
  /** In order of key. */
  events: HistoryEvent[];
  cursor?: string;
}

export interface StatsOptions {
  projectId?: string;
  /** Of completion. Taken down to the whole hour or day. Default: 24 hours, or 30 days, before `to`. */
  from?: string;
  /** Exclusive; taken up to the whole hour or day. Default: now. */
  to?: string;
  /** The steps of the time series; at most 31 days by the hour, 2 years by the day. Default "hour". */
  by?: "hour" | "day";
}

/** In milliseconds, within 5 %. */
export interface Percentiles {
  p50: number;
  p95: number;
  p99: number;
}

export interface StepStats {
  /** "" stands for those that had no room among the 500 rows that a project has for an hour, day or month. */
  intent: string;
  kind: StepKind;
  /** Steps that completed or failed, in runs that ended. */
  steps: number;
  failed: number;
  /** `failed / steps`. */
  failureRate: number;
  /** Attempts of these steps in all. */
  attempts: number;
  meanDurationMs: number;
}

export interface StatsPoint {
  /** When the hour or day began. */
  at: string;
  completed: number;
  failed: number;
  cancelled: number;
  durationMs?: Percentiles;
}

export interface RunStats {
  from: string;
  to: string;
  by: "hour" | "day";
  /**
   * Pending, running and suspended: as of now, among the 10,000 newest runs of that status. The others: ends between
   * `from` and `to`; a run that was restarted may end twice.
   */
  counts: Record<RunStatus, number>;
  /** Of the runs that completed. Absent when none did. */
  durationMs?: Percentiles;
  /** Those with the most steps first, at most 100. */
  steps: StepStats[];
  /** One for each hour or day of the range, also where nothing ended. */
  series: StatsPoint[];
  /** Whether runs have ended that are not in here yet: more than could be counted at once since the last `rollUp`. */
  isBehind: boolean;
}

export interface StuckOptions extends PageOptions {
  projectId?: string;
  /** How long something may be overdue. Default 60,000. */
  graceMs?: number;
  /** How long a change may have waited for D1. 1,000 or more. Default 10,000. */
  lagMs?: number;
}

/**
 * "lease_lapsed": its worker is gone. "wait_overdue": the end of a wait has passed, and nobody went on. "late_record": D1
 * heard of its latest change late, and of nothing in time since, and may be behind.
 */
export type StuckReason = "lease_lapsed" | "wait_overdue" | "late_record";

export interface StuckRun extends RunSummary {
  reasons: StuckReason[];
  /** When it should have gone on; of a late record, when it was made. */
  since: string;
}

export interface StuckPage {
  /** The longest overdue first. */
  runs: StuckRun[];
  cursor?: string;
}

export interface PurgeOptions {
  projectId?: string;
  /** Runs that ended before this. */
  before: string;
  /** Default: all three. */
  status?: EndedStatus | readonly EndedStatus[];
  /** Rows to delete in this call, about. 1 to 10,000. Default 1,000. */
  limit?: number;
  /**
   * Where an earlier call of the same question stopped. Without it, a call looks from the oldest run on again: it deletes the
   * same, but passes once more over runs of other projects.
   */
  cursor?: string;
}

export type EndedStatus = "completed" | "failed" | "cancelled";

export interface PurgeResult {
  /** Runs that are gone whole. */
  runs: number;
  /** Rows deleted, of all tables. */
  rows: number;
  /** Whether nothing is left that `before` and `status` name. Call again until it is. */
  done: boolean;
  /** Present until it is done. */
  cursor?: string;
}

export interface RollUpOptions {
  /** Runs to count in this call, at most; runs with many steps are fewer. 1 to 500. Default 200. */
  limit?: number;
}

export interface RollUpResult {
  /** Ends that this call has counted. */
  counted: number;
  /** Whether none is left. Call again until it is. */
  done: boolean;
}

/** The questions that a read-only caller may ask. RunHistory answers them over D1, and the RPC binding from there. */
export interface RunHistoryReads {
  list(options?: ListRunsOptions): Promise<RunPage>;
  get(runId: string): Promise<RunDetails | undefined>;
  /** Rejects with `run_not_found`. */
  steps(runId: string, options?: StepsOptions): Promise<StepPage>;
  /** With its whole result. */
  step(runId: string, stepIndex: number): Promise<HistoryStep | undefined>;
  /** Of a run that may not have begun yet. */
  events(runId: string, options?: PageOptions): Promise<EventPage>;
  /** With its whole payload. */
  event(runId: string, key: string): Promise<HistoryEvent | undefined>;
  stats(options?: StatsOptions): Promise<RunStats>;
  stuck(options?: StuckOptions): Promise<StuckPage>;
}
