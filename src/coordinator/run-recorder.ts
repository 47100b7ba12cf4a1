/**
 * RunRecorder: the Durable Object in which coordinators of many runs share their batches to D1. Optional: bind the
 * class as `RECORDERS` beside RunCoordinator, with a D1 database as `DB`, and coordinators find it (0026).
 *
 * It has no storage of its own. Only the platform's shape is here.
 */
import { DurableObject, RpcTarget } from "cloudflare:workers";
import type { Clock } from "../contract/clock.ts";
import { systemClock } from "../contract/clock.ts";
import type { D1DatabaseLike } from "../stores/d1/database.ts";
import { withCoarseTimers } from "./coarse-timers.ts";
import { GroupCommit } from "./group-commit.ts";
import type { RecordAnswer, RecordEntry, RecorderLike, RecorderSession } from "./record-entry.ts";
import { ENTRY_VERSIONS } from "./record-entry.ts";

export interface RunRecorderEnv {
  DB: D1DatabaseLike;
}

export interface RunRecorderOptions {
  /** Default `env.DB`. */
  database?: D1DatabaseLike;
  /** How long one call to D1 may take. Default 4,000: with one that goes before it, less than a coordinator waits. */
  d1DeadlineMs?: number;
  /** For tests. */
  clock?: Clock;
}

export class RunRecorder<Env extends object = RunRecorderEnv>
  extends DurableObject<Env>
  implements RecorderLike
{
  readonly #session: Session;

  constructor(ctx: DurableObjectState, env: Env, options: RunRecorderOptions = {}) {
    super(ctx, env);
    const { database, d1DeadlineMs = 4_000, clock = systemClock } = options;
    const db = database ?? (env as RunRecorderEnv).DB;
    this.#session = new Session(
      new GroupCommit({ db, clock: withCoarseTimers(clock), deadlineMs: d1DeadlineMs }),
    );
  }

  open(): RecorderSession {
    return this.#session;
  }

  record(entry: RecordEntry): Promise<RecordAnswer> {
    return this.#session.record(entry);
  }

  isKnown(runId: string): Promise<boolean | null> {
    return this.#session.isKnown(runId);
  }
}

/** What each of its sessions is, and what its own methods do. */
class Session extends RpcTarget implements RecorderSession {
  readonly #group: GroupCommit;

  constructor(group: GroupCommit) {
    super();
    this.#group = group;
  }

  /** Idempotent: a newer row is never replaced by an older one. */
  async record(entry: RecordEntry): Promise<RecordAnswer> {
    const versions: readonly number[] = ENTRY_VERSIONS;
    if (versions.includes(entry.v)) return this.#group.record(entry);
    throw new Error(`v is ${String(entry.v)}: this recorder object speaks versions ${versions.join(", ")}`);
  }

  isKnown(runId: string): Promise<boolean | null> {
    return this.#group.isKnown(runId);
  }
}
