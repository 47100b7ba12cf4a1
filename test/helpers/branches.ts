/** What tests of branches share. */
import type { World } from "../support/world.ts";
import { until } from "../support/world.ts";

/** Every step on record, by path: what it is, and how often it was begun. */
export async function recorded(world: World): Promise<Record<string, string>> {
  const steps: Record<string, string> = {};
  const { stepCount } = world.record();
  for (let at = 0; Object.keys(steps).length < stepCount; at += 1) {
    const step = await world.step(at);
    if (step) steps[step.path ?? String(at)] = `${step.intent}: ${step.status}, ${step.attempts}`;
  }
  return steps;
}

/** Functions of steps that end when they are told to, in the order that a test likes. */
export class Turns {
  /** Whose functions have been called, in order, the ended ones included. */
  readonly called: string[] = [];
  readonly #waiting = new Map<string, { resolve: (value: string) => void; reject: (error: Error) => void }>();

  /** A step's function. It answers its own name. */
  of(name: string): () => Promise<string> {
    return () => {
      this.called.push(name);
      return new Promise((resolve, reject) => this.#waiting.set(name, { resolve, reject }));
    };
  }

  /** Ends the functions of these names, one after the other, as each is called. */
  async end(...names: string[]): Promise<void> {
    for (const name of names) (await this.#take(name)).resolve(name);
  }

  async fail(name: string, error: Error): Promise<void> {
    (await this.#take(name)).reject(error);
  }

  /** The worker has died: its functions never end. */
  forget(): void {
    this.#waiting.clear();
  }

  async #take(name: string) {
    await until(() => this.#waiting.has(name));
    const turn = this.#waiting.get(name);
    this.#waiting.delete(name);
    if (turn === undefined) throw new Error("unreachable");
    return turn;
  }
}
