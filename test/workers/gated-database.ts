/** A database whose batches a test can hold, before they are sent or after they were answered. */
import { env } from "cloudflare:workers";
import { systemClock } from "../../src/contract/clock.ts";
import type { D1DatabaseLike, D1PreparedStatementLike } from "../../src/stores/d1/database.ts";

/** A database whose batches can be held before they are sent, or after they were answered, by their queries. */
export class GatedDatabase implements D1DatabaseLike {
  before: (queries: string[]) => Promise<void> = async () => {};
  after: (queries: string[]) => Promise<void> = async () => {};
  log: string[][] = [];
  readonly #text = new WeakMap<object, string>();
  /** What D1 has got. */
  readonly sent: D1PreparedStatementLike[][] = [];
  readonly #underWay = new Set<Promise<unknown>>();
  prepare(query: string): D1PreparedStatementLike {
    return this.#note(env.DB.prepare(query) as unknown as D1PreparedStatementLike, query);
  }
  batch(statements: D1PreparedStatementLike[]): Promise<unknown[]> {
    const answer = this.#send(statements);
    this.#underWay.add(answer);
    return answer;
  }
  /** Sends batches again, as a network might deliver duplicates late; a guard may refuse one. */
  async replay(batches: readonly D1PreparedStatementLike[][]): Promise<void> {
    for (const statements of batches) await env.DB.batch(statements as never).catch(() => {});
  }
  /** Resolves when every batch has settled. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#underWay);
  }
  async #send(statements: D1PreparedStatementLike[]): Promise<unknown[]> {
    const queries = statements.map((one) => this.#text.get(one) ?? "?");
    this.log.push(queries);
    await this.before(queries);
    const answer = await env.DB.batch(statements as never);
    this.sent.push(statements);
    await this.after(queries);
    return answer;
  }
  #note(one: D1PreparedStatementLike, query: string): D1PreparedStatementLike {
    this.#text.set(one, query);
    const bind = one.bind.bind(one);
    one.bind = (...values) => this.#note(bind(...values), query);
    // A statement that is run by itself is a batch of one.
    const alone = async <T>(): Promise<T> => (await this.batch([one]))[0] as T;
    one.run = alone;
    one.all = alone;
    return one;
  }
}
/** Objects poll it: a promise of another request's context would not wake them. */
export const gate = () => {
  const state = {
    open: false,
    reached: 0,
    async pass() {
      state.reached += 1;
      while (!state.open) await systemClock.sleep(4);
    },
  };
  return state;
};
