/**
 * The floors: what the platform itself takes for the parts that a step is made of, in the same process and run.
 */
import { DurableObject, RpcTarget } from "cloudflare:workers";
import type { BenchEnv, FloorCall, FloorMethods, FloorSession } from "./env.ts";

const AN_HOUR = 3_600_000;

/** About as long as the row of a small step. */
const ROW = "x".repeat(150);

export class Floor extends DurableObject<BenchEnv> implements FloorMethods {
  #writes = 0;
  readonly #gathered: string[] = [];
  #writing: Promise<unknown> | undefined;
  #next: Promise<void> | undefined;
  #shared: Promise<FloorSession> | undefined;
  #heard: PromiseWithResolvers<void> | undefined;

  /** As a claim: the first call brings the session for those that follow. */
  async begin(first: FloorCall): Promise<{ session: FloorSession & Disposable }> {
    await this[first]();
    return { session: new Session(this) as Session & Disposable };
  }

  async open(): Promise<FloorSession> {
    return new Session(this);
  }

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

  /** Answered by the next `tell`. */
  hear(): Promise<void> {
    this.#heard ??= Promise.withResolvers();
    return this.#heard.promise;
  }

  /** D1 is told of three rows, and then whoever waits. */
  async tell(): Promise<void> {
    await writeToD1(this.env.DB, 3);
    this.#heard?.resolve();
    this.#heard = undefined;
  }

  /** By way of one object that all share. */
  async writeToD1WithOthers(): Promise<void> {
    this.#shared ??= this.env.FLOORS.getByName("shared").open();
    await (await this.#shared).gather(crypto.randomUUID());
  }

  /** One call of D1 at a time, with the rows of all who have come meanwhile. */
  gather(id: string): Promise<void> {
    this.#gathered.push(id);
    this.#next ??= this.#writeGathered();
    return this.#next;
  }

  async #writeGathered(): Promise<void> {
    await this.#writing;
    this.#next = undefined;
    const rows = this.#gathered.splice(0).map((id) => [id, ROW]);
    this.#writing = this.env.DB.prepare(INSERT_ALL).bind(JSON.stringify(rows)).run();
    await this.#writing;
  }

  /** With the alarm for its storage, which has to go some day; D1, which has all runs, is told a tenth of a second later. */
  async writeLast(): Promise<number> {
    const written = await this.write();
    await this.ctx.storage.setAlarm(Date.now() + AN_HOUR);
    this.ctx.waitUntil(sleep(100).then(() => this.writeToD1()));
    return written;
  }

  override async alarm(): Promise<void> {
    await this.ctx.storage.deleteAll();
  }
}

class Session extends RpcTarget implements FloorSession {
  readonly #floor: Floor;

  constructor(floor: Floor) {
    super();
    this.#floor = floor;
  }

  call(method: FloorCall): Promise<unknown> {
    return this.#floor[method]();
  }

  gather(id: string): Promise<void> {
    return this.#floor.gather(id);
  }
}

const INSERT = "INSERT INTO bench_floor (id, row) VALUES (?1, ?2)";

const INSERT_ALL = "INSERT INTO bench_floor (id, row) SELECT value->>0, value->>1 FROM json_each(?1)";

async function writeToD1(db: D1Database, rows = 1): Promise<void> {
  const inserts = Array.from({ length: rows }, () => db.prepare(INSERT).bind(crypto.randomUUID(), ROW));
  const [only, ...more] = inserts;
  await (only && more.length === 0 ? only.run() : db.batch(inserts));
}

export interface FloorParams {
  /** How often, one after the other. */
  times: number;
  /** How many objects at once, each its own; for D1, how many writers. */
  atOnce: number;
  /** Which objects those are, for the floors that ask them again. */
  objects?: string;
}

/** `pause` is no floor: it lets 10 ms pass in the Worker, as a wait does before its event. */
export type FloorName =
  | "line"
  | "pause"
  | "noop"
  | "write"
  | "writeAgain"
  | "d1"
  | "d1ByObject"
  | "event"
  | "fresh"
  | "freshRun"
  | "freshRunWhole"
  | "freshRunInD1"
  | "freshSteps"
  | "freshRuns"
  | "freshRunsWhole"
  | "freshRunsInD1"
  | "freshRunsInGroups";

/** Carries one out, `times` in a row in each of `atOnce` lines. */
export async function runFloor(
  env: BenchEnv,
  name: FloorName,
  { times, atOnce, objects = "" }: FloorParams,
): Promise<void> {
  const line = async (which: number): Promise<void> => {
    for (let i = 0; i < times; i += 1) await once(env, name, `${name}-${objects}-${which}`);
  };
  await Promise.all(Array.from({ length: atOnce }, (_, which) => line(which)));
}

async function once(env: BenchEnv, name: FloorName, object: string): Promise<void> {
  const known = (): FloorMethods => env.FLOORS.getByName(object);
  const fresh = (): FloorMethods => env.FLOORS.getByName(crypto.randomUUID());
  switch (name) {
    case "line":
      return;
    case "pause":
      return sleep(10);
    case "noop":
      await known().noop();
      return;
    case "write":
    case "writeAgain":
      await known().write();
      return;
    case "d1":
      return writeToD1(env.DB);
    case "d1ByObject":
      return known().writeToD1();
    case "event": {
      // One stub keeps the order of its calls.
      const one = known();
      const heard = one.hear();
      await one.tell();
      return heard;
    }
    case "fresh":
      return inARow(fresh(), ["write", "write"]);
    case "freshRun":
      return aRun(fresh(), "writeToD1", repeated("write", 2));
    case "freshRunWhole":
      return aRun(fresh(), "writeToD1", ["write", "writeLast"]);
    case "freshRunInD1":
      return aRun(fresh(), "writeToD1", repeated("writeToD1", 2));
    case "freshSteps":
      return aRun(fresh(), "writeToD1", repeated("write", LONG_RUN));
    case "freshRuns":
      return aRun(fresh(), "writeToD1", repeated("write", STEPS_AND_END));
    case "freshRunsWhole":
      return aRun(fresh(), "writeToD1", [...repeated("write", STEPS_AND_END - 1), "writeLast"]);
    case "freshRunsInD1":
      return aRun(fresh(), "writeToD1", repeated("writeToD1", STEPS_AND_END));
    case "freshRunsInGroups":
      return aRun(fresh(), "writeToD1WithOthers", repeated("writeToD1WithOthers", STEPS_AND_END));
  }
}

/** 200 steps, and the end. */
const LONG_RUN = 201;

/** 20 steps, and the end. */
const STEPS_AND_END = 21;

function repeated(call: FloorCall, times: number): FloorCall[] {
  return Array.from({ length: times }, () => call);
}

/** The first is a request to the object, and brings a session for the others. */
async function aRun(object: FloorMethods, claim: FloorCall, others: readonly FloorCall[]): Promise<void> {
  const { session } = await object.begin(claim);
  for (const call of others) await session.call(call);
  session[Symbol.dispose]();
}

async function inARow(object: FloorMethods, calls: readonly FloorCall[]): Promise<void> {
  for (const call of calls) await object[call]();
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
