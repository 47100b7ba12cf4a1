/**
 * A platform that keeps what the Workflows engine keeps, under the same names and counts, answers in an order of chance,
 * and dies in the middle of a call when it is told to.
 */
import type { WorkflowStepConfig, WorkflowStepLike } from "../../src/workflows/types.ts";

/** What outlives a lifetime. */
export class Journal {
  readonly answers = new Map<string, { value: unknown } | { error: Error }>();
  readonly #events = new Map<string, unknown[]>();
  readonly #waiters = new Map<string, ((payload: unknown) => void)[]>();

  send(type: string, payload: unknown): void {
    const waiter = this.#waiters.get(type)?.shift();
    if (waiter) waiter(payload);
    else this.#events.set(type, [...(this.#events.get(type) ?? []), payload]);
  }

  /** Calls back with an event: with one that is there, or else, in order of the calls, with one that comes. */
  receive(type: string, take: (payload: unknown) => void): void {
    const [event, ...rest] = this.#events.get(type) ?? [];
    if (event === undefined) this.#waiters.set(type, [...(this.#waiters.get(type) ?? []), take]);
    else {
      this.#events.set(type, rest);
      take(event);
    }
  }

  /** Waits live in the engine's memory. */
  forgetWaits(): void {
    this.#waiters.clear();
  }
}

export class Lifetime implements WorkflowStepLike {
  /** Resolves when it has died. */
  readonly death = Promise.withResolvers<void>();
  readonly #journal: Journal;
  readonly #random: () => number;
  readonly #diesAt: number;
  readonly #counts = new Map<string, number>();
  #sleepers: { at: number; wake: () => void }[] = [];
  #now = 0;
  #points = 0;

  /** `diesAt`: at which of its points, of which each call has two or more. */
  constructor(journal: Journal, random: () => number, diesAt: number) {
    this.#journal = journal;
    this.#random = random;
    this.#diesAt = diesAt;
    journal.forgetWaits();
  }

  async do<T>(
    name: string,
    ...rest: [WorkflowStepConfig, () => Promise<T>] | [() => Promise<T>]
  ): Promise<T> {
    const fn = rest.length === 1 ? rest[0] : rest[1];
    const key = this.#key(`do ${name}`);
    await this.#point();
    if (!this.#journal.answers.has(key)) {
      const answer = await fn().then(
        (value) => ({ value }),
        (error: Error) => ({ error: new Error(error.message) }),
      );
      await this.#point();
      this.#journal.answers.set(key, answer);
    }
    await this.#point();
    return this.#answer<T>(key);
  }

  async sleep(name: string, duration: string | number): Promise<void> {
    const key = this.#key(`sleep ${name} ${duration}`);
    await this.#point();
    if (!this.#journal.answers.has(key)) await this.pass(Number(duration));
    await this.#point();
    this.#journal.answers.set(key, { value: undefined });
    await this.#point();
  }

  async waitForEvent<T>(name: string, options: { type: string; timeout?: string }) {
    const key = this.#key(`wait ${name}`);
    await this.#point();
    const { answers } = this.#journal;
    if (!answers.has(key)) {
      await new Promise<void>((resolve) => {
        this.#journal.receive(options.type, (payload) => {
          if (!answers.has(key)) answers.set(key, { value: { payload } });
          resolve();
        });
      });
    }
    await this.#point();
    return { ...this.#answer<{ payload: T }>(key), timestamp: 0, type: options.type };
  }

  /** Lets a unit of time pass. */
  async advance(): Promise<void> {
    this.#now += 1;
    const due = this.#sleepers.filter(({ at }) => at <= this.#now);
    this.#sleepers = this.#sleepers.filter(({ at }) => at > this.#now);
    for (const { wake } of due) wake();
    for (let i = 0; i < 10; i += 1) await new Promise<void>((resolve) => queueMicrotask(resolve));
  }

  /** Resolves after so much time of this platform. */
  pass(units: number): Promise<void> {
    return new Promise((wake) => this.#sleepers.push({ at: this.#now + units, wake }));
  }

  #key(name: string): string {
    const count = (this.#counts.get(name) ?? 0) + 1;
    this.#counts.set(name, count);
    return `${name} ${count}`;
  }

  #answer<T>(key: string): T {
    const answer = this.#journal.answers.get(key);
    if (answer && "error" in answer) throw answer.error;
    return structuredClone(answer?.value) as T;
  }

  /** Lets time pass. Nothing comes after the point at which it dies. */
  async #point(): Promise<void> {
    this.#points += 1;
    if (this.#points === this.#diesAt) this.death.resolve();
    await this.pass(Math.floor(this.#random() * 5));
    if (this.#points >= this.#diesAt) await new Promise<never>(() => {});
  }
}

/** Numbers from 0 to 1, always the same for a seed: splitmix32, https://prng.di.unimi.it/splitmix64.c in 32 bits. */
export function randomOf(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32;
  };
}
