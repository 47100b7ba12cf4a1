/**
 * The floors: what the platform itself takes for the parts that a step is made of, in the same process and run.
 */
import { DurableObject } from "cloudflare:workers";
import type { BenchEnv, FloorMethods } from "./env.ts";

/** About as long as the row of a small step. */
const ROW = "x".repeat(150);

export class Floor extends DurableObject<BenchEnv> implements FloorMethods {
  #writes = 0;

  async noop(): Promise<number> {
    return 1;
  }

  /** One committed row: the answer waits for it at the output gate. */
  async write(): Promise<number> {
    const { sql } = this.ctx.storage;
    if (this.#writes === 0)
      sql.exec("CREATE TABLE IF NOT EXISTS floor (n INTEGER PRIMARY KEY, row TEXT) STRICT");
    this.#writes += 1;
    sql.exec("INSERT OR REPLACE INTO floor VALUES (?1, ?2)", this.#writes, ROW);
    return this.#writes;
  }

  async writeToD1(): Promise<void> {
    await writeToD1(this.env.DB);
  }
}

const INSERT = "INSERT INTO bench_floor (id, row) VALUES (?1, ?2)";

async function writeToD1(db: D1Database): Promise<void> {
  await db.prepare(INSERT).bind(crypto.randomUUID(), ROW).run();
}

export interface FloorParams {
  /** How often, one after the other. */
  times: number;
  /** How many objects at once, each its own; for D1, how many writers. */
  atOnce: number;
}

export type FloorName = "line" | "noop" | "write" | "d1" | "d1ByObject" | "fresh";

/** Carries one out, `times` in a row in each of `atOnce` lines. */
export async function runFloor(
  env: BenchEnv,
  name: FloorName,
  { times, atOnce }: FloorParams,
): Promise<void> {
  const line = async (which: number): Promise<void> => {
    for (let i = 0; i < times; i += 1) await once(env, name, `${name}-${which}`);
  };
  await Promise.all(Array.from({ length: atOnce }, (_, which) => line(which)));
}

async function once(env: BenchEnv, name: FloorName, object: string): Promise<void> {
  switch (name) {
    case "line":
      return;
    case "noop":
      await env.FLOORS.getByName(object).noop();
      return;
    case "write":
      await env.FLOORS.getByName(object).write();
      return;
    case "d1":
      return writeToD1(env.DB);
    case "d1ByObject":
      await env.FLOORS.getByName(object).writeToD1();
      return;
    case "fresh": {
      const fresh = env.FLOORS.getByName(crypto.randomUUID());
      await fresh.write();
      await fresh.write();
    }
  }
}
