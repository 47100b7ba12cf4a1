/** A database whose batches a test can hold, before they are sent or after they were answered. */
import { systemClock } from "../../src/contract/clock.ts";
import type { D1DatabaseLike, D1PreparedStatementLike } from "../../src/stores/d1/database.ts";
import { asBatchOf, d1 } from "./d1.ts";

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
    return asBatchOf(this, d1.prepare(query), (one) => void this.#text.set(one, query));
  }
  batch(statements: D1PreparedStatementLike[]): Promise<unknown[]> {
    const answer = this.#send(statements);
    this.#underWay.add(answer);
    return answer;
  }
  /** Sends batches again, as a network might deliver duplicates late; a guard may refuse one. */
  async replay(batches: readonly D1PreparedStatementLike[][]): Promise<void> {
    for (const statements of batches) await d1.batch(statements).catch(() => {});
  }
  /** Resolves when every batch has settled. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#underWay);
  }
  async #send(statements: D1PreparedStatementLike[]): Promise<unknown[]> {
    const queries = statements.map((one) => this.#text.get(one) ?? "?");
    this.log.push(queries);
    await this.before(queries);
    const answer = await d1.batch(statements);
    this.sent.push(statements);
    await this.after(queries);
    return answer;
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
