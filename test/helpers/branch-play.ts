/**
 * Plays a random task over a store, with calls and steps that take random times and workers that die at random calls,
 * until it completes; and then checks all that must hold of what happened and of what is on record.
 */
import { expect } from "vitest";
import type { Clock } from "../../src/contract/clock.ts";
import { codeOf } from "../../src/contract/errors.ts";
import type { DurableRunManifest, DurableRunStore, StepRecord } from "../../src/contract/types.ts";
import { runDurable } from "../../src/runner/run-durable.ts";
import type { RunDurableResult } from "../../src/runner/types.ts";
import type { Killable, KillPoint } from "../../src/testing/kill-points.ts";
import { killable } from "../../src/testing/kill-points.ts";
import { BranchTask } from "./branch-task.ts";
import type { Node } from "./branch-trees.ts";
import { mayReturn } from "./branch-trees.ts";

/** Where a task is played. */
export interface Stage {
  readonly runId: string;
  readonly clock: Clock & { advance(ms: number): void };
  /** A store as another worker has it. */
  readonly open: () => DurableRunStore;
  /** Lets what is ready run, and a little time pass. */
  readonly letTimePass: () => Promise<void>;
  /** What befalls the store when a worker has died. */
  readonly disaster?: () => Promise<void>;
}

export interface Accidents {
  /** Of all that is random in the play. */
  readonly seed: number;
  /** Where the first workers die. */
  readonly kills: readonly KillPoint[];
  /** What is done once the run has completed, from which part of the record on. */
  readonly afterwards: { readonly what: "nothing" | "restart" | "fork"; readonly part: number };
}

const LEASE_MS = 30_000;
const MANIFEST: DurableRunManifest = { projectId: "p", task: { id: "t", intent: "play" }, input: {} };
const MOST_ATTEMPTS = 60;
const MOST_TURNS = 20_000;

/** Plays the task to its end. Rejects with whatever does not hold. */
export async function play(tree: readonly Node[], accidents: Accidents, stage: Stage): Promise<void> {
  const { seed, kills, afterwards } = accidents;
  const { runId } = stage;
  const task = new BranchTask(tree, stage.clock, randomFrom(seed));
  await emitAll(stage.open(), runId, tree);
  await new Play(tree, task, stage, runId).toItsEnd(kills);
  const steps = await onRecord(stage.open(), runId);
  const at = steps[Math.min(steps.length - 1, Math.floor(afterwards.part * steps.length))]?.stepIndex;
  if (afterwards.what === "nothing" || at === undefined) return;
  task.startAnew();
  if (afterwards.what === "restart") {
    await stage.open().restartRun?.(runId, { fromStep: at, dropLater: true });
    return new Play(tree, task, stage, runId).toItsEnd([]);
  }
  const forkId = `${runId}-fork`;
  await stage.open().forkRun?.(runId, forkId, { throughStep: at });
  await emitAll(stage.open(), forkId, tree);
  return new Play(tree, task, stage, forkId).toItsEnd([]);
}

class Play {
  readonly #tree: readonly Node[];
  readonly #task: BranchTask;
  readonly #stage: Stage;
  readonly #runId: string;
  readonly #workers: Killable[] = [];
  #ended: RunDurableResult<unknown> | undefined;

  constructor(tree: readonly Node[], task: BranchTask, stage: Stage, runId: string) {
    this.#tree = tree;
    this.#task = task;
    this.#stage = stage;
    this.#runId = runId;
  }

  async toItsEnd(kills: readonly KillPoint[]): Promise<void> {
    const task = this.#task;
    // What is completed already is not to be run again either.
    const standing = new Set<number>();
    for (const { stepIndex, status } of await onRecord(this.#stage.open(), this.#runId)) {
      if (status === "completed") standing.add(stepIndex);
    }
    task.isAcknowledged = (stepIndex) =>
      standing.has(stepIndex) || this.#workers.some(({ acknowledged }) => acknowledged.has(stepIndex));
    for (let attempt = 0; this.#ended === undefined; attempt += 1) {
      if (attempt === MOST_ATTEMPTS) throw new Error(`not completed after ${MOST_ATTEMPTS} attempts`);
      await this.#attempt(kills[attempt]);
      if (task.wrong.length > 0) throw new Error(task.wrong.join("\n"));
    }
    await this.#check(this.#ended);
  }

  /** One worker's attempt, until it completes, fails as the task may, or dies. */
  async #attempt(point: KillPoint | undefined): Promise<void> {
    const { clock, open, disaster } = this.#stage;
    const worker = killable(this.#slow(open()), point);
    this.#workers.push(worker);
    const run = runDurable({
      runId: this.#runId,
      manifest: MANIFEST,
      store: worker.store,
      workerId: `worker-${this.#workers.length}`,
      leaseMs: LEASE_MS,
      clock,
      taskFn: this.#task.run,
    }).then(
      (result) => void (this.#ended = result),
      (error: unknown) => error,
    );
    const end = await this.#waitFor(Promise.race([run, worker.died.then(() => "died")]));
    if (this.#ended) return;
    if (end === "died") {
      await disaster?.();
      return clock.advance(LEASE_MS + 1);
    }
    if (codeOf(end) === "run_suspended") return this.#resolveAll();
    // A store that had to rebuild itself gives the dead worker one more lease.
    if (codeOf(end) === "lease_held") return clock.advance(LEASE_MS + 1);
    if (!(end as Error).message.startsWith("flaky ")) throw end;
  }

  async #waitFor<T>(work: Promise<T>): Promise<T> {
    let settled = false;
    const settle = (): void => void (settled = true);
    work.then(settle, settle);
    for (let turn = 0; !settled; turn += 1) {
      if (turn === MOST_TURNS) throw new Error("the attempt hangs");
      await this.#stage.letTimePass();
    }
    return work;
  }

  /** Somebody decides that what was parked is to run again. */
  async #resolveAll(): Promise<void> {
    const store = this.#stage.open();
    const { waitingFor = [] } = (await store.loadRun?.(this.#runId)) ?? {};
    for (const { for: what, stepIndex } of waitingFor) {
      if (what === "decision") await store.resolveStep?.(this.#runId, stepIndex, { rerun: true });
    }
  }

  /** Calls take their time, on the way there and back. */
  #slow(inner: DurableRunStore): DurableRunStore {
    const pause = (): Promise<void> => this.#task.pause(3);
    return new Proxy(inner, {
      get(target, property) {
        const method: unknown = Reflect.get(target, property);
        if (typeof method !== "function") return method;
        return async (...args: unknown[]) => {
          await pause();
          try {
            return (await method.apply(target, args)) as unknown;
          } finally {
            await pause();
          }
        };
      },
    });
  }

  async #check({ result, record, steps }: RunDurableResult<unknown>): Promise<void> {
    expect(mayReturn(this.#tree, result), `the task may not return ${JSON.stringify(result)}`).toBe(true);
    expect(record).toMatchObject({ status: "completed", result });
    expect(record.waitingFor).toBeUndefined();
    const all = await onRecord(this.#stage.open(), this.#runId);
    const paths = all.map(pathOf);
    expect(new Set(paths).size, "no path has two steps").toBe(paths.length);
    const visited = new Set(steps.map(({ stepIndex }) => stepIndex));
    const decided = all.filter(isDecision).map(pathOf);
    const ids: unknown[] = [];
    for (const step of all) {
      if (step.status !== "completed") continue;
      const path = pathOf(step);
      const isReached = visited.has(step.stepIndex) || decided.some((group) => path.startsWith(`${group}/`));
      expect(isReached, `step ${step.stepIndex} at ${path} is completed, and not reached`).toBe(true);
      const { id } = (step.result ?? {}) as { id?: string };
      if (id === undefined) continue;
      expect(this.#task.paths.get(path), `what was called at ${path}`).toContain(id);
      ids.push(id);
    }
    expect(new Set(ids).size, "no node has completed twice").toBe(ids.length);
  }
}

async function onRecord(store: DurableRunStore, runId: string): Promise<StepRecord[]> {
  const { stepCount = 0 } = (await store.loadRun?.(runId)) ?? {};
  const steps: StepRecord[] = [];
  // A begin that never came to be leaves a gap.
  for (let at = 0; steps.length < stepCount; at += 1) {
    const step = await store.loadStep(runId, at);
    if (step) steps.push(step);
  }
  return steps;
}

/** Every event that the task waits for is there already. */
async function emitAll(store: DurableRunStore, runId: string, nodes: readonly Node[]): Promise<void> {
  for (const node of nodes) {
    if (node.kind === "event") await store.emitEvent({ runId, key: node.id, payload: node.id });
    if (node.kind === "try") await emitAll(store, runId, node.body);
    if (node.kind === "all") for (const branch of node.branches) await emitAll(store, runId, branch);
    if (node.kind === "race") for (const branch of node.branches) await emitAll(store, runId, branch.nodes);
  }
}

function isDecision({ intent, status }: StepRecord): boolean {
  return intent === "ctx.race" || (intent === "ctx.all" && status === "failed");
}

function pathOf({ path, stepIndex }: StepRecord): string {
  return path ?? String(stepIndex);
}

/** mulberry32: the same numbers for the same seed. */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
