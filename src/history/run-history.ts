/**
 * RunHistory: what is on record in D1, asked across runs. It wakes no coordinator, and changes nothing but by `rollUp` and
 * `purge`.
 *
 * What it answers is what D1 holds: of a run that a coordinator owns, the latest changes may still be on their way.
 */
import type { Clock } from "../contract/clock.ts";
import { systemClock } from "../contract/clock.ts";
import { checkText, LIMITS } from "../contract/limits.ts";
import type { D1DatabaseLike, D1ReplicatedLike, D1SessionLike } from "../stores/d1/database.ts";
import { Access } from "./access.ts";
import * as details from "./details.ts";
import { list } from "./list.ts";
import { purge } from "./purge.ts";
import { rollUp } from "./roll-up.ts";
import { stats } from "./stats.ts";
import { stuck } from "./stuck.ts";
import type {
  EventPage,
  HistoryEvent,
  HistoryStep,
  ListRunsOptions,
  PageOptions,
  PurgeOptions,
  PurgeResult,
  RollUpOptions,
  RollUpResult,
  RunDetails,
  RunHistoryReads,
  RunPage,
  RunStats,
  StatsOptions,
  StepPage,
  StepsOptions,
  StuckOptions,
  StuckPage,
} from "./types.ts";

export interface RunHistoryOptions {
  /** All that is to be seen and touched; anything else is `forbidden`. Default: every project. */
  projectId?: string;
  /**
   * How fresh reads are: "first-unconstrained" takes any replica, "first-primary" what is newest at the first read, a
   * bookmark what that session had seen. After its first read a RunHistory never goes back in time. Default
   * "first-unconstrained".
   */
  session?: string;
  /** How long one call to D1 may take. Default 10,000. */
  deadlineMs?: number;
  /** For tests: what is overdue, what may be purged, and deadlines are measured by it. */
  clock?: Clock;
}

/**
 * Each method may reject with `invalid_input` (its `field` says which), `forbidden` or `store_unavailable`, after which a
 * read may be repeated, and so may `rollUp` and `purge`.
 */
export class RunHistory implements RunHistoryReads {
  readonly #session: D1SessionLike | undefined;
  readonly #reads: Access;
  readonly #writes: Access;

  /** The tables must be there: see migrations/. Make one for each request: a session is for one reader. */
  constructor(db: D1ReplicatedLike, options: RunHistoryOptions = {}) {
    const { projectId, session = "first-unconstrained", deadlineMs = 10_000, clock = systemClock } = options;
    if (projectId !== undefined) checkText("projectId", projectId, LIMITS.projectIdBytes);
    this.#session = db.withSession?.(session);
    const access = (to: D1DatabaseLike): Access => new Access({ db: to, clock, deadlineMs, projectId });
    this.#reads = access(this.#session ?? db);
    this.#writes = access(db);
  }

  /** For a later RunHistory that is to have seen as much as this one. Absent before the first read, and without sessions. */
  get bookmark(): string | undefined {
    return this.#session?.getBookmark() ?? undefined;
  }

  /** Runs that all filters hold for, newest first, or the latest ended first where a bound of completion is given. */
  list(options?: ListRunsOptions): Promise<RunPage> {
    return list(this.#reads, options);
  }

  /** The run with its manifest, or `undefined`. */
  get(runId: string): Promise<RunDetails | undefined> {
    return details.get(this.#reads, runId);
  }

  /** A page of a run's steps, in order. Rejects with `run_not_found`. */
  steps(runId: string, options?: StepsOptions): Promise<StepPage> {
    return details.steps(this.#reads, runId, options);
  }

  /** The step at a position, with its whole result; `undefined` when it is not on record, or the run is not. */
  step(runId: string, stepIndex: number): Promise<HistoryStep | undefined> {
    return details.step(this.#reads, runId, stepIndex);
  }

  /** A page of a run's events, in order of key. The run may not have begun; then only a RunHistory of all projects sees any. */
  events(runId: string, options?: PageOptions): Promise<EventPage> {
    return details.events(this.#reads, runId, options);
  }

  /** The event under a key, with its whole payload, or `undefined`. */
  event(runId: string, key: string): Promise<HistoryEvent | undefined> {
    return details.event(this.#reads, runId, key);
  }

  /** How many runs there are of each status, and how those that ended fared. */
  stats(options?: StatsOptions): Promise<RunStats> {
    return stats(this.#reads, options);
  }

  /** Runs that have not ended and with which something is the matter, the longest overdue first. */
  stuck(options?: StuckOptions): Promise<StuckPage> {
    return stuck(this.#reads, options);
  }

  /** Counts runs that have ended into the statistics. Call it every few minutes. Safe to repeat, and to run twice at once. */
  rollUp(options?: RollUpOptions): Promise<RollUpResult> {
    return rollUp(this.#writes, options);
  }

  /**
   * Deletes runs that ended before an instant at least two hours ago, with all that belongs to them. Call it until it is
   * done. Safe to repeat, and to run twice at once.
   */
  purge(options: PurgeOptions): Promise<PurgeResult> {
    return purge(this.#writes, options);
  }
}
