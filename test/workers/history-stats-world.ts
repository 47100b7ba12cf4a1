/**
 * For tests of statistics: runs that are played over a real store under a clock that tests move, and runs that
 * are seeded as rows.
 */
import { env } from "cloudflare:workers";
import { expect } from "vitest";
import { Access } from "../../src/history/access.ts";
import { rollUp } from "../../src/history/roll-up.ts";
import { stats } from "../../src/history/stats.ts";
import type { EndedStatus, RollUpOptions, RunStats, StatsOptions } from "../../src/history/types.ts";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import type { D1DatabaseLike } from "../../src/stores/d1/database.ts";
import { MANIFEST } from "../../src/testing/harness.ts";
import { type Ending, expectStats, INTENT_OF, KIND_OF, type ModelStep } from "./history-stats-expected.ts";

const DAY_MS = 86_400_000;

export const NOW = "2026-05-04T10:20:30.000Z";
export const STRIDES = [
  { ms: 20, fails: false },
  { ms: 300, fails: true },
];

/** A clock that stands still unless it is moved. */
export class StandingClock {
  #now: number;
  constructor(now: string) {
    this.#now = Date.parse(now);
  }
  now(): number {
    return this.#now;
  }
  advance(ms: number): void {
    this.#now += ms;
  }
  /** For deadlines, which are not what these tests are about. */
  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      signal?.addEventListener("abort", () => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
}

export function access(
  clock: StandingClock,
  { db = env.DB, projectId }: { db?: D1DatabaseLike; projectId?: string } = {},
): Access {
  return new Access({ db: db as never, clock, deadlineMs: 30_000, projectId });
}

/** Empties all that statistics are made of. */
export async function clear(): Promise<void> {
  const tables = ["runs", "steps", "tags", "run_stats", "step_stats"];
  await env.DB.batch(tables.map((table) => env.DB.prepare(`DELETE FROM durable_${table}`)));
}

/** One step of a run: how long it takes, and whether it fails. */
export interface Stride {
  readonly ms: number;
  readonly fails: boolean;
}

/** A run as the model knows it. `fresh`: steps that ended since its last end was counted. */
interface ModelRun {
  readonly projectId: string;
  readonly createdAt: number;
  readonly steps: Map<number, ModelStep>;
  readonly fresh: Set<number>;
  ended: Ending | undefined;
}

/** Plays runs, and remembers their ends. */
export class StatsWorld {
  readonly clock: StandingClock;
  readonly #store: D1DurableRunStore;
  readonly #runs = new Map<string, ModelRun>();
  readonly #counted: Ending[] = [];

  constructor(now: string) {
    this.clock = new StandingClock(now);
    this.#store = new D1DurableRunStore(env.DB, { clock: this.clock });
    this.#store.now = () => this.clock.now();
  }

  /** Begins a run, or goes on with it, restarted from the given position if it has completed or was cancelled. */
  async play(
    runId: string,
    {
      projectId = "p",
      strides,
      status,
      restartFrom = 0,
    }: { projectId?: string; strides: readonly Stride[]; status: EndedStatus; restartFrom?: number },
  ): Promise<void> {
    // Two ends of a run that is counted in between are never at the same millisecond.
    this.clock.advance(1);
    const run = this.#run(runId, projectId);
    if (run.ended && run.ended.status !== "failed" && !(await this.#restart(runId, run, restartFrom))) return;
    const manifest = { ...MANIFEST, projectId: run.projectId };
    const workerId = "worker-1";
    const { fence = 0 } = await this.#store.startOrResume({ runId, manifest, workerId, leaseMs: DAY_MS });
    run.ended = undefined;
    const failed = [...run.steps].filter(([, step]) => step.failed).map(([stepIndex]) => stepIndex);
    const next = Math.max(-1, ...run.steps.keys()) + 1;
    for (const [i, stride] of strides.entries()) {
      await this.#step(runId, run, failed[i] ?? next + Math.max(0, i - failed.length), stride, fence);
    }
    if (status === "cancelled") await this.#store.cancelRun(runId);
    else await this.#store.endRun({ runId, workerId, status, fence });
    this.#end(runId, run, status);
  }

  /** Those that ended first, as the roll-up should choose them. */
  async rollUp(options: RollUpOptions & { db?: D1DatabaseLike } = {}): Promise<void> {
    const { db, ...rest } = options;
    const left = this.markCounted(rest.limit);
    const answer = await rollUp(access(this.clock, { ...(db && { db }) }), rest);
    expect(answer).toEqual({ counted: left.counted, done: left.left === 0 });
  }

  /** What a roll-up with this limit should do. */
  markCounted(limit = 200): { counted: number; left: number } {
    const uncounted = this.#current().filter((end) => !this.#counted.includes(end));
    uncounted.sort((a, b) => a.at - b.at || (a.runId < b.runId ? -1 : 1));
    for (const end of uncounted.slice(0, limit)) {
      this.#counted.push(end);
      this.#runs.get(end.runId)?.fresh.clear();
    }
    const counted = Math.min(limit, uncounted.length);
    return { counted, left: uncounted.length - counted };
  }

  stats(options: StatsOptions = {}): Promise<RunStats> {
    return stats(access(this.clock), options);
  }

  /** Asks for statistics, and holds them against the ends. */
  async check(options: StatsOptions = {}): Promise<RunStats> {
    const answered = await this.stats(options);
    const all = new Set([...this.#counted, ...this.#current()]);
    const [from, to] = [Date.parse(answered.from), Date.parse(answered.to)];
    const ends = [...all].filter(
      (end) =>
        end.at >= from &&
        end.at < to &&
        (options.projectId === undefined || end.projectId === options.projectId),
    );
    expectStats(answered, ends);
    return answered;
  }

  #run(runId: string, projectId: string): ModelRun {
    const known = this.#runs.get(runId);
    if (known) return known;
    const createdAt = this.clock.now();
    const run: ModelRun = { projectId, createdAt, steps: new Map(), fresh: new Set(), ended: undefined };
    this.#runs.set(runId, run);
    return run;
  }

  async #restart(runId: string, run: ModelRun, restartFrom: number): Promise<boolean> {
    if (!run.steps.has(restartFrom)) return false;
    await this.#store.restartRun(runId, { fromStep: restartFrom, dropLater: true });
    for (const stepIndex of run.steps.keys()) {
      if (stepIndex < restartFrom) continue;
      run.steps.delete(stepIndex);
      run.fresh.delete(stepIndex);
    }
    return true;
  }

  async #step(
    runId: string,
    run: ModelRun,
    stepIndex: number,
    { ms, fails }: Stride,
    fence: number,
  ): Promise<void> {
    const begin = {
      runId,
      stepIndex,
      intent: INTENT_OF(stepIndex),
      kind: KIND_OF(stepIndex),
      inputHash: "",
      fence,
    };
    const { attempts } = await this.#store.beginStep(begin);
    this.clock.advance(ms);
    if (fails) await this.#store.failStep({ runId, stepIndex, fence, error: { message: "no" } });
    else await this.#store.completeStep({ runId, stepIndex, fence, result: stepIndex });
    run.steps.set(stepIndex, { attempts, failed: fails, durationMs: ms });
    run.fresh.add(stepIndex);
  }

  #end(runId: string, run: ModelRun, status: EndedStatus): void {
    const at = this.clock.now();
    const steps = [...run.fresh].flatMap((stepIndex) => {
      const step = run.steps.get(stepIndex);
      return step ? [{ ...step, stepIndex }] : [];
    });
    run.ended = { runId, projectId: run.projectId, status, at, durationMs: at - run.createdAt, steps };
  }

  #current(): Ending[] {
    return [...this.#runs.values()].flatMap((run) => (run.ended ? [run.ended] : []));
  }
}

/** Four runs, an hour and a half apart in all, one of them of another project. */
export async function aFewRuns(): Promise<StatsWorld> {
  const world = new StatsWorld(NOW);
  for (const [i, status] of (["completed", "failed", "cancelled", "completed"] as const).entries()) {
    await world.play(`run-${i}`, { projectId: i === 0 ? "other" : "p", strides: STRIDES, status });
    world.clock.advance(1_800_000);
  }
  return world;
}

/** Completed runs of project "p" as rows, with that many steps each, in the order of their ids. */
export async function seedEnds(
  runs: number,
  { at, steps, intent = () => "work" }: { at: number; steps: number; intent?: (stepIndex: number) => string },
): Promise<void> {
  const prefix = crypto.randomUUID();
  const intents = JSON.stringify(Array.from({ length: steps }, (_none, stepIndex) => intent(stepIndex)));
  const ids = JSON.stringify(
    Array.from({ length: runs }, (_none, i) => `${prefix}-${String(i).padStart(6, "0")}`),
  );
  await env.DB.batch([
    env.DB.prepare(
      `INSERT INTO durable_runs (run_id, manifest_hash, project_id, status, fence, takeovers, revision, worker_id,
         claim_request_id, lease_ms, created_at, updated_at, completed_at, task)
       SELECT value, 'h', 'p', 'completed', 1, 0, 1, 'w', 'c', 1, ?2 - 100, ?2, ?2, '{"id":"t"}' FROM json_each(?1)`,
    ).bind(ids, at),
    env.DB.prepare(
      `INSERT INTO durable_steps (run_id, step_index, intent, kind, input_hash, status, attempts, fence, revision,
         worker_id, begin_request_id, started_at, completed_at)
       SELECT run.value, step.key, step.value, 'logic', '', 'completed', 1, 1, 1, 'w', 'b', ?3 - 10, ?3
       FROM json_each(?1) AS run, json_each(?2) AS step`,
    ).bind(ids, intents, at),
  ]);
}
