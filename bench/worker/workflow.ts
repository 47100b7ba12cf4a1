/**
 * The peer in the same process: Cloudflare Workflows on its local engine.
 *
 * How far an instance has come, its own code tells an object, and whoever waits hears it from there: no polling, and a
 * no-op RPC more than the stores are charged with. The end that is measured is the last line of `run`; what the engine
 * writes after it is not.
 */
import { DurableObject, WorkflowEntrypoint, type WorkflowEvent, type WorkflowStep } from "cloudflare:workers";
import type { Operations } from "../works/protocol.ts";
import { resultOf } from "../works/over-a-store.ts";
import type { BenchEnv, MarksMethods, WorkflowParams } from "./env.ts";

/** Says when a mark was reached. */
export class Marks extends DurableObject implements MarksMethods {
  readonly #marks = new Map<string, PromiseWithResolvers<void>>();

  async reach(mark: string): Promise<void> {
    this.#of(mark).resolve();
  }

  async reached(mark: string): Promise<void> {
    await this.#of(mark).promise;
  }

  async forget(mark: string): Promise<void> {
    this.#marks.delete(mark);
  }

  #of(mark: string): PromiseWithResolvers<void> {
    const known = this.#marks.get(mark) ?? Promise.withResolvers<void>();
    this.#marks.set(mark, known);
    return known;
  }
}

export class BenchWorkflow extends WorkflowEntrypoint<BenchEnv, WorkflowParams> {
  override async run(event: Readonly<WorkflowEvent<WorkflowParams>>, step: WorkflowStep): Promise<void> {
    const { payload, instanceId } = event;
    const reach = (mark: string): Promise<void> => marksOf(this.env).reach(`${instanceId} ${mark}`);
    if (payload.kind === "waiter") return waitForever(step, reach);
    const value = resultOf(payload.kind === "steps" ? payload.bytes : 20);
    for (let i = 0; i < payload.steps; i += 1) await step.do(`step-${i}`, async () => value);
    await reach("end");
    // Stays, to be paused and resumed.
    if (payload.kind === "prefix") await step.waitForEvent("stays", { type: "never", timeout: "1 hour" });
  }
}

async function waitForever(step: WorkflowStep, reach: (mark: string) => Promise<void>): Promise<void> {
  for (let i = 0; ; i += 1) {
    await reach(`waits ${i}`);
    const { payload } = await step.waitForEvent<string>(`wait-${i}`, {
      type: `event-${i}`,
      timeout: "1 hour",
    });
    await reach(`goes on ${i}`);
    if (payload === "stop") return;
  }
}

function marksOf(env: BenchEnv): MarksMethods {
  return env.MARKS.getByName("marks");
}

/** The operations, as Workflows does them. */
export class WorksOnWorkflows {
  readonly #env: BenchEnv;
  #waiter: WorkflowInstance | undefined;
  #event = 0;
  readonly #prefixes = new Map<number, WorkflowInstance>();

  constructor(env: BenchEnv) {
    this.#env = env;
  }

  async runs({ runs, steps, bytes, concurrent }: Operations["runs"]): Promise<void> {
    const one = async (): Promise<void> => {
      const { id } = await this.#create({ kind: "steps", steps, bytes });
      await this.#reached(`${id} end`);
    };
    if (concurrent) await Promise.all(Array.from({ length: runs }, one));
    else for (let run = 0; run < runs; run += 1) await one();
  }

  async waiter(): Promise<void> {
    this.#waiter = await this.#create({ kind: "waiter" });
    this.#event = 0;
  }

  async waiting(): Promise<void> {
    await this.#reached(`${this.#waiting.id} waits ${this.#event}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }

  async emit(): Promise<void> {
    await this.#send("go");
    this.#event += 1;
  }

  async unwait(): Promise<void> {
    await this.#send("stop");
    this.#waiter = undefined;
  }

  async prefix({ steps }: Operations["prefix"]): Promise<void> {
    const instance = await this.#create({ kind: "prefix", steps });
    await this.#reached(`${instance.id} end`);
    this.#prefixes.set(steps, instance);
    await this.#pause(instance);
  }

  /** From `resume()` on, after a pause, which stops the engine. The instance runs again from its top. */
  async resume({ steps }: Operations["resume"]): Promise<void> {
    const instance = this.#prefixes.get(steps);
    if (instance === undefined) throw new Error(`no instance of ${steps} steps was made`);
    const marks = marksOf(this.#env);
    await marks.forget(`${instance.id} end`);
    await instance.resume();
    await this.#reached(`${instance.id} end`);
    this.#resumed = instance;
  }

  #resumed: WorkflowInstance | undefined;

  async rest(): Promise<void> {
    if (this.#resumed) await this.#pause(this.#resumed);
    this.#resumed = undefined;
  }

  die(): Promise<void> {
    return Promise.reject(new Error("the local engine cannot be killed without all of workerd"));
  }

  takeover(): Promise<void> {
    return this.die();
  }

  async settle(): Promise<void> {}

  async #pause(instance: WorkflowInstance): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 20));
    await instance.pause();
    for (;;) {
      const { status } = await instance.status();
      if (status === "paused") return;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  #create(params: WorkflowParams): Promise<WorkflowInstance> {
    return this.#env.WORKFLOW.create({ id: crypto.randomUUID(), params });
  }

  async #reached(mark: string): Promise<void> {
    await marksOf(this.#env).reached(mark);
  }

  async #send(payload: string): Promise<void> {
    const { id } = this.#waiting;
    const sent = this.#waiting.sendEvent({ type: `event-${this.#event}`, payload });
    await Promise.all([sent, this.#reached(`${id} goes on ${this.#event}`)]);
  }

  get #waiting(): WorkflowInstance {
    if (this.#waiter === undefined) throw new Error("nothing waits");
    return this.#waiter;
  }
}
