/**
 * The works W1 to W7 over any durable run store: the same code in workerd and in Node.
 *
 * Knows the public contract and runDurable alone. Times nothing. Each operation checks that the work was done, so that
 * nothing is measured that did not happen.
 */
import { codeOf } from "../../src/contract/errors.ts";
import type { DurableRunManifest, DurableRunStore } from "../../src/contract/types.ts";
import { newRunId } from "../../src/identity.ts";
import { runDurable } from "../../src/runner/run-durable.ts";
import type { Operations } from "./protocol.ts";

export const MANIFEST: DurableRunManifest = {
  projectId: "bench",
  task: { id: "bench", intent: "measure" },
  input: {},
};

/** How long a held wait is given to arrive where it is held. */
const SETTLE_MS = 10;

/** How often a claim is made while another worker's lease stands. */
const CLAIM_EVERY_MS = 10;

/** What a step returns: so many bytes of JSON, about. */
export function resultOf(bytes: number): string {
  return "x".repeat(Math.max(0, bytes - 2));
}

interface Waiter {
  readonly runId: string;
  readonly finished: Promise<unknown>;
  next: number;
  /** Resolves when the task is about to wait for event `next`, and when it has had it. */
  waits: Promise<void>;
  goesOn: Promise<void>;
}

export interface BehindTheScenes {
  /** Resolves when a run has no work left that nobody waits for. */
  settled?: (runId: string) => Promise<void>;
  /** A quicker way to a failed run of so many completed steps, `MANIFEST` and intents "step-0", "step-1", …: its id. */
  copiedPrefix?: (steps: number) => Promise<string>;
  /** A worker in a process of its own, which does what `completeThree` does. Resolves at its last acknowledgement. */
  startWorker?: (runId: string, leaseMs: number) => Promise<KillableWorker>;
}

export interface KillableWorker {
  /** Resolves when the process is gone. */
  kill(): Promise<void>;
}

export class WorksOverAStore {
  readonly #store: DurableRunStore;
  readonly #settled: (runId: string) => Promise<void>;
  readonly #copiedPrefix: ((steps: number) => Promise<string>) | undefined;
  #touched: string[] = [];
  #waiter: Waiter | undefined;
  #rest: Promise<unknown> = Promise.resolve();
  /** Runs that can be resumed, by the number of their completed steps. */
  readonly #prefixes = new Map<number, string>();
  #dead = "";
  readonly #startWorker: BehindTheScenes["startWorker"];
  #killable: KillableWorker | undefined;

  constructor(store: DurableRunStore, behind: BehindTheScenes = {}) {
    const { settled = async () => {}, copiedPrefix, startWorker } = behind;
    this.#startWorker = startWorker;
    this.#store = store;
    this.#settled = settled;
    this.#copiedPrefix = copiedPrefix;
  }

  async runs({ runs, steps, bytes, concurrent }: Operations["runs"]): Promise<void> {
    if (concurrent) {
      await Promise.all(Array.from({ length: runs }, () => this.#run(steps, bytes)));
      return;
    }
    for (let run = 0; run < runs; run += 1) await this.#run(steps, bytes);
  }

  async waiter(): Promise<void> {
    const runId = this.#touch(newRunId());
    const waits = signals();
    const goesOn = signals();
    const taskFn = async (ctx: Parameters<Parameters<typeof runDurable>[0]["taskFn"]>[0]): Promise<void> => {
      for (let event = 0; ; event += 1) {
        waits.resolve(event);
        const payload = await ctx.awaitEvent<string>(`event-${event}`);
        goesOn.resolve(event);
        if (payload === "stop") return;
      }
    };
    const finished = runDurable({ runId, manifest: MANIFEST, store: this.#store, taskFn });
    this.#waiter = { runId, finished, next: 0, waits: waits.of(0), goesOn: goesOn.of(0) };
    this.#following = () => [waits, goesOn];
  }

  #following: () => [Signals, Signals] = () => {
    throw new Error("nothing waits");
  };

  async waiting(): Promise<void> {
    await this.#waiting.waits;
    await sleep(SETTLE_MS);
  }

  async emit(): Promise<void> {
    await this.#send("go");
    const waiter = this.#waiting;
    waiter.next += 1;
    const [waits, goesOn] = this.#following();
    waiter.waits = waits.of(waiter.next);
    waiter.goesOn = goesOn.of(waiter.next);
  }

  async unwait(): Promise<void> {
    await this.#waiting.waits;
    await this.#send("stop");
    await this.#waiting.finished;
    this.#waiter = undefined;
  }

  async prefix({ steps }: Operations["prefix"]): Promise<void> {
    this.#prefixes.set(steps, await (this.#copiedPrefix?.(steps) ?? this.#prefix(steps)));
  }

  async #prefix(steps: number): Promise<string> {
    const runId = this.#touch(newRunId());
    const { fence } = await this.#store.startOrResume({ runId, manifest: MANIFEST, workerId: "seed" });
    const held = fence === undefined ? { runId } : { runId, fence };
    for (let first = 0; first < steps; first += 100) {
      const positions = Array.from({ length: Math.min(100, steps - first) }, (_, i) => first + i);
      await Promise.all(positions.map((stepIndex) => complete(this.#store, held, stepIndex)));
    }
    await this.#store.endRun({
      ...held,
      workerId: "seed",
      status: "failed",
      error: { message: "to be resumed" },
    });
    return runId;
  }

  /** The step after the prefix fails, and so begins anew at the next resume. */
  async resume({ steps }: Operations["resume"]): Promise<void> {
    const runId = this.#prefixes.get(steps);
    if (runId === undefined) throw new Error(`no run of ${steps} steps was made`);
    await this.#firstNewStep(this.#touch(runId), steps, "resumer");
  }

  async rest(): Promise<void> {
    await this.#rest;
  }

  async die({ leaseMs, killed }: Operations["die"]): Promise<void> {
    const runId = this.#touch(newRunId());
    if (!killed) await completeThree(this.#store, runId, leaseMs);
    else if (this.#startWorker) this.#killable = await this.#startWorker(runId, leaseMs);
    else throw new Error("a worker of this store has no process of its own");
    this.#dead = runId;
  }

  async takeover({ leaseMs, restarted }: Operations["takeover"]): Promise<void> {
    await this.#killable?.kill();
    this.#killable = undefined;
    for (;;) {
      try {
        return await this.#firstNewStep(this.#dead, 3, restarted ? "dies" : "lives", leaseMs);
      } catch (error) {
        if (codeOf(error) !== "lease_held") throw error;
        await sleep(CLAIM_EVERY_MS);
      }
    }
  }

  async settle(): Promise<void> {
    for (const runId of new Set(this.#touched)) await this.#settled(runId);
    this.#touched = [];
  }

  async #run(steps: number, bytes: number): Promise<void> {
    const runId = this.#touch(newRunId());
    const value = resultOf(bytes);
    const { steps: done } = await runDurable({
      runId,
      manifest: MANIFEST,
      store: this.#store,
      taskFn: async (ctx) => {
        for (let step = 0; step < steps; step += 1) await ctx.step(`step-${step}`, async () => value);
      },
    });
    if (done.length !== steps) throw new Error(`${done.length} of ${steps} steps were done`);
  }

  /** Resolves when the step after `recorded` steps begins. The rest goes on. */
  #firstNewStep(runId: string, recorded: number, workerId: string, leaseMs = 30_000): Promise<void> {
    return new Promise((resolve, reject) => {
      const taskFn = async (
        ctx: Parameters<Parameters<typeof runDurable>[0]["taskFn"]>[0],
      ): Promise<void> => {
        for (let step = 0; step < recorded; step += 1) {
          await ctx.step(`step-${step}`, () => Promise.reject(new Error(`step ${step} was not on record`)));
        }
        await ctx.step(`step-${recorded}`, () => {
          resolve();
          return Promise.reject(new Error("to be resumed"));
        });
      };
      const attempt = runDurable({
        runId,
        manifest: MANIFEST,
        store: this.#store,
        taskFn,
        workerId,
        leaseMs,
      });
      // After `resolve`, a rejection is what the task was made for.
      this.#rest = attempt.catch(reject);
    });
  }

  async #send(payload: string): Promise<void> {
    const { runId, next, goesOn } = this.#waiting;
    const emitted = this.#store.emitEvent({ runId, key: `event-${next}`, payload });
    await Promise.all([goesOn, emitted]);
  }

  get #waiting(): Waiter {
    if (this.#waiter === undefined) throw new Error("nothing waits");
    return this.#waiter;
  }

  #touch(runId: string): string {
    this.#touched.push(runId);
    return runId;
  }
}

/** What a worker does that then falls silent, or is killed. */
export async function completeThree(store: DurableRunStore, runId: string, leaseMs: number): Promise<void> {
  const input = { runId, manifest: MANIFEST, workerId: "dies", leaseMs };
  const { fence } = await store.startOrResume(input);
  const held = fence === undefined ? { runId } : { runId, fence };
  for (const stepIndex of [0, 1, 2]) await complete(store, held, stepIndex);
}

async function complete(
  store: DurableRunStore,
  held: { runId: string; fence?: number },
  stepIndex: number,
): Promise<void> {
  const begin = { ...held, stepIndex, intent: `step-${stepIndex}`, kind: "logic", inputHash: "" } as const;
  await store.beginStep(begin);
  await store.completeStep({ ...held, stepIndex, result: resultOf(20) });
}

interface Signals {
  of(n: number): Promise<void>;
  resolve(n: number): void;
}

/** Promises by number, each resolved from elsewhere. */
function signals(): Signals {
  const all = new Map<number, PromiseWithResolvers<void>>();
  const at = (n: number): PromiseWithResolvers<void> => {
    const signal = all.get(n) ?? Promise.withResolvers<void>();
    all.set(n, signal);
    return signal;
  };
  return { of: (n) => at(n).promise, resolve: (n) => at(n).resolve() };
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
