/**
 * RunCoordinator: the Durable Object that owns one run, addressed by `namespace.getByName(runId)`.
 *
 * Only the platform's shape is here: RPC methods, the alarm, the constructor. Everything else is CoordinatedRun. Bind
 * the class with SQLite storage, and a D1 database with the tables of migrations/ as `DB` (or override it in a
 * subclass, through the options).
 */
import { DurableObject, RpcTarget } from "cloudflare:workers";
import type { Clock } from "../contract/clock.ts";
import { systemClock } from "../contract/clock.ts";
import type { RunStatus } from "../contract/types.ts";
import { checkInteger } from "../contract/limits.ts";
import { sha256Hex } from "../identity.ts";
import type { Op } from "../ledger/requests.ts";
import type { EventState, KeptManifest, StepState } from "../ledger/state.ts";
import type {
  CompletionMessage,
  CoordinatorReads,
  CoordinatorSession,
  Envelope,
  OpeningAnswer,
  WireMessage,
} from "../stores/coordinated/wire.ts";
import { OPENING_OPS } from "../stores/coordinated/wire.ts";
import type { D1DatabaseLike } from "../stores/d1/database.ts";
import type { Answers, AwaitedState, CountedRun, StepPage } from "../stores/journal.ts";
import type { CoordinatorTimes } from "./coordinated-run.ts";
import { CoordinatedRun } from "./coordinated-run.ts";
import type { RecorderLike, RecorderNamespaceLike } from "./record-entry.ts";

export interface RunCoordinatorEnv {
  DB: D1DatabaseLike;
  /** A namespace of RunRecorder, where many runs are to share their batches to D1. */
  RECORDERS?: RecorderNamespaceLike;
}

export interface RunCoordinatorOptions extends Partial<CoordinatorTimes> {
  /** Default `env.DB`. */
  database?: D1DatabaseLike;
  /** Default `env.RECORDERS`, and none where that is not bound; `null` for none. */
  recorders?: RecorderNamespaceLike | null;
  /** How many recorder objects there are. The same for all runs of a database, whose load they share. Default 1. */
  recorderShards?: number;
  /** For tests. */
  clock?: Clock;
}

const TIMES: CoordinatorTimes = {
  d1DeadlineMs: 10_000,
  recordDeadlineMs: 15_000,
  gatherMs: 100,
  deferMs: 1_000,
  retainMs: 3_600_000,
};

export class RunCoordinator<Env extends object = RunCoordinatorEnv>
  extends DurableObject<Env>
  implements CoordinatorReads
{
  readonly #run: CoordinatedRun;
  /** Epoch milliseconds of the alarm that stands, as far as this instance knows. */
  #armedAt = Number.POSITIVE_INFINITY;

  constructor(ctx: DurableObjectState, env: Env, options: RunCoordinatorOptions = {}) {
    super(ctx, env);
    const { database, recorders, recorderShards = 1, clock = systemClock, ...times } = options;
    const runId = ctx.id.name;
    if (runId === undefined)
      throw new Error("a RunCoordinator is addressed by name: namespace.getByName(runId)");
    const { storage } = ctx;
    this.#run = new CoordinatedRun({
      runId,
      storage: {
        sql: storage.sql,
        transactionSync: (closure) => storage.transactionSync(closure),
        deleteAll: () => {
          // The alarm goes with the rest.
          this.#armedAt = Number.POSITIVE_INFINITY;
          return storage.deleteAll();
        },
      },
      db: database ?? (env as RunCoordinatorEnv).DB,
      recorder: recorderOf(recorders === undefined ? (env as RunCoordinatorEnv).RECORDERS : recorders, {
        runId,
        shards: recorderShards,
      }),
      clock,
      times: { ...TIMES, ...times },
      arm: (delayMs) => this.#arm(delayMs),
    });
  }

  async submit(message: WireMessage): Promise<OpeningAnswer> {
    const answer = await this.#run.submit(message);
    // What was accepted is a message.
    const opens = answer.ok && message.opens === true && OPENING_OPS.has(message.request.op);
    return opens ? { ...answer, session: new Session(this.#run) } : answer;
  }

  readRun(scope?: string): Promise<Envelope<CountedRun | null>> {
    return this.#run.readRun(scope);
  }

  readStep(stepIndex: number, scope?: string): Promise<Envelope<StepState | null>> {
    return this.#run.readStep(stepIndex, scope);
  }

  readSteps(from: number, scope?: string): Promise<Envelope<StepPage>> {
    return this.#run.readSteps(from, scope);
  }

  readEvent(key: string, scope?: string): Promise<Envelope<EventState | null>> {
    return this.#run.readEvent(key, scope);
  }

  readManifest(scope?: string): Promise<Envelope<KeptManifest | null>> {
    return this.#run.readManifest(scope);
  }

  waitForEvent(
    key: string,
    timeoutMs: number,
    scope?: string,
    completion?: CompletionMessage,
  ): Promise<Envelope<AwaitedState | null>> {
    return this.#run.waitForEvent(key, timeoutMs, scope, completion);
  }

  watchLease(
    fence: number,
    timeoutMs: number,
    scope?: string,
  ): Promise<Envelope<{ held: boolean; status?: RunStatus }>> {
    return this.#run.watchLease(fence, timeoutMs, scope);
  }

  readBody(
    ref: string,
    first: number,
    scope?: string,
  ): Promise<Envelope<{ text: string; next: number | null }>> {
    return this.#run.readBody(ref, first, scope);
  }

  lag(scope?: string): Promise<Envelope<{ rows: number }>> {
    return this.#run.lag(scope);
  }

  override async alarm(): Promise<void> {
    this.#armedAt = Number.POSITIVE_INFINITY;
    await this.#run.onAlarm();
  }

  /** R18: arming costs a row written, so it is skipped when an earlier alarm stands. */
  #arm(delayMs: number): void {
    const at = Date.now() + delayMs;
    if (at >= this.#armedAt) return;
    this.#armedAt = at;
    // A put that fails breaks the object, which is reset; nothing is left to handle here.
    void this.ctx.storage.setAlarm(at);
  }
}

/** Calls of it wait for the object's storage as calls of the object do, and end with this instance of the object. */
class Session extends RpcTarget implements CoordinatorSession {
  readonly #run: CoordinatedRun;

  constructor(run: CoordinatedRun) {
    super();
    this.#run = run;
  }

  submit(message: WireMessage): Promise<Envelope<Answers[Op]>> {
    return this.#run.submit(message);
  }
}

/** A fresh stub each time: one that saw a reset stays broken. */
function recorderOf(
  recorders: RecorderNamespaceLike | null | undefined,
  { runId, shards }: { runId: string; shards: number },
): (() => RecorderLike) | undefined {
  checkInteger("recorderShards", shards, 1, Number.MAX_SAFE_INTEGER);
  if (!recorders) return undefined;
  const shard = Number.parseInt(sha256Hex(runId).slice(0, 8), 16) % shards;
  return () => recorders.getByName(`recorder-${shard}`) as RecorderLike;
}
