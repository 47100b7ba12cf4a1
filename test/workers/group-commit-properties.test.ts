/**
 * Group commit against a model: whatever two lives of each of several runs send, in whatever order, late and again,
 * D1 ends with the newest version of each row that a guard let through. The model knows the rules of ADR 0026, and no
 * SQL.
 */
import { env } from "cloudflare:workers";
import fc from "fast-check";
import { expect, it } from "vitest";
import { GroupCommit } from "../../src/coordinator/group-commit.ts";
import type { RecordAnswer, RecordEntry, Told } from "../../src/coordinator/record-entry.ts";
import { newRunId } from "../../src/identity.ts";
import { RUN_COLUMNS, STEP_COLUMNS } from "../../src/stores/sql/rows.ts";
import { LIMITS_OF_TESTS, rowsOf, RunInstance } from "./recorder-world.ts";

const RUNS = 3;
const ACTIONS = [
  "claim",
  "claim",
  "step",
  "step",
  "end",
  "emit",
  "send",
  "send",
  "send",
  "again",
  "settle",
  "restart",
  "purge",
] as const;

interface Action {
  readonly op: (typeof ACTIONS)[number];
  readonly run: number;
  readonly life: number;
  /** Which step, or which of the entries that were sent before. */
  readonly at: number;
}

type Row = Record<string, unknown>;

/** What D1 is to hold of a run. */
interface Held {
  run: Row | undefined;
  readonly steps: Map<number, Row>;
  readonly events: Set<string>;
}

interface Sent {
  readonly instance: RunInstance;
  readonly epoch: number;
  readonly told: Told;
  readonly isRefused: boolean;
  readonly answer: Promise<RecordAnswer>;
}

function rowsIn(text: string, columns: readonly string[]): Row[] {
  return (JSON.parse(`[${text}]`) as unknown[][]).map((cells) =>
    Object.fromEntries(columns.map((column, i) => [column, cells[i]])),
  );
}

function isNewer(row: Row, than: Row | undefined): boolean {
  if (than === undefined) return true;
  const [fence, revision] = [Number(row["fence"]), Number(row["revision"])];
  return fence > Number(than["fence"]) || (fence === than["fence"] && revision > Number(than["revision"]));
}

function guardRefuses(entry: RecordEntry, row: Row | undefined): boolean {
  if (entry.guard === null) return false;
  const guard = JSON.parse(entry.guard) as [
    string,
    number,
    string,
    number,
    number,
    number,
    string,
    number,
    0 | 1,
  ];
  const [, fence, claim, latest, known, base, manifest, createdAt, isOnRecord] = guard;
  if (row === undefined) return isOnRecord === 1;
  const [heldFence, revision] = [Number(row["fence"]), Number(row["revision"])];
  if (heldFence > fence || (heldFence === fence && row["claim_request_id"] !== claim)) return true;
  if (revision > latest || (revision > known && revision <= base)) return true;
  return row["manifest_hash"] !== manifest || row["created_at"] !== createdAt;
}

/** Answers whether the entry is refused. */
function carryOut(entry: RecordEntry, held: Held): boolean {
  for (const [, key] of JSON.parse(`[${entry.events}]`) as string[][]) held.events.add(String(key));
  if (guardRefuses(entry, held.run)) return true;
  for (const row of rowsIn(entry.runs, RUN_COLUMNS)) if (isNewer(row, held.run)) held.run = row;
  for (const row of rowsIn(entry.steps, STEP_COLUMNS)) {
    const at = Number(row["step_index"]);
    if (isNewer(row, held.steps.get(at))) held.steps.set(at, row);
  }
  return false;
}

class World {
  readonly #group = new GroupCommit({ db: env.DB, ...LIMITS_OF_TESTS });
  readonly #lives: RunInstance[][];
  readonly #held = new Map<string, Held>();
  readonly #sent: Sent[] = [];
  #settled = 0;
  #now = Date.now();
  refused = 0;

  private constructor(lives: RunInstance[][]) {
    this.#lives = lives;
    for (const [one] of lives) {
      if (one) this.#held.set(one.runId, { run: undefined, steps: new Map(), events: new Set() });
    }
  }

  static async make(): Promise<World> {
    const pair = (runId: string) => Promise.all([0, 1].map((i) => RunInstance.of(runId, Date.now() + i)));
    return new World(await Promise.all(Array.from({ length: RUNS }, () => pair(newRunId()))));
  }

  async act({ op, run, life, at }: Action): Promise<void> {
    const instance = this.#lives[run]?.[life] as RunInstance;
    if (op === "send") return this.#send(instance);
    if (op === "again") return this.#sendAgain(at);
    if (op === "settle") return this.settle();
    if (op === "restart") return this.#restart(run, life);
    if (op === "purge") return this.#purge(instance.runId);
    // The ledger refuses what makes no sense, such as a step of a run that has ended.
    await this.#change(instance, op, at % 4).catch(() => {});
  }

  /** Waits for all answers, which are those of the model, and has each life act on its own. */
  async settle(): Promise<void> {
    for (; this.#settled < this.#sent.length; this.#settled += 1) {
      const { instance, epoch, told, isRefused, answer } = this.#sent[this.#settled] as Sent;
      const answered = await answer;
      if (!answered.ok) throw new Error(answered.message);
      if (told.entry.rows > 0) expect(answered.refused).toBe(isRefused);
      if (answered.refused) this.refused += 1;
      if (instance.cache.epoch !== epoch) continue;
      if (answered.refused) await instance.discard();
      else await instance.holds(told);
    }
  }

  async expectHeld(): Promise<void> {
    for (const [runId, { run, steps, events }] of this.#held) {
      // D1 has columns of its own.
      expect(await rowsOf("runs", runId)).toEqual(run ? [expect.objectContaining(run)] : []);
      expect(await rowsOf("steps", runId)).toEqual(
        [...steps].sort(([a], [b]) => a - b).map(([, row]) => row),
      );
      expect((await rowsOf("events", runId)).map(({ key }) => key)).toEqual([...events].sort());
    }
  }

  #change(instance: RunInstance, op: "claim" | "step" | "end" | "emit", at: number): Promise<unknown> {
    if (op === "claim") return instance.claim();
    if (op === "step") return instance.complete(at, newRunId());
    return op === "end" ? instance.end() : instance.emit(`event ${at}`);
  }

  async #send(instance: RunInstance): Promise<void> {
    if (!instance.cache.isDirty) return;
    this.#submit(instance, await instance.told());
  }

  #sendAgain(at: number): void {
    const sent = this.#sent[at % Math.max(1, this.#sent.length)];
    if (sent) this.#submit(sent.instance, sent.told);
  }

  /** Entries of one run are carried out in the order in which they came. */
  #submit(instance: RunInstance, told: Told): void {
    const isRefused = carryOut(told.entry, this.#held.get(instance.runId) as Held);
    const answer = this.#group.record(told.entry);
    this.#sent.push({ instance, epoch: instance.cache.epoch, told, isRefused, answer });
  }

  /** The object dies, and its next life finds no storage. */
  async #restart(run: number, life: number): Promise<void> {
    await this.settle();
    const lives = this.#lives[run] as RunInstance[];
    this.#now += 10_000;
    lives[life] = await (await RunInstance.of((lives[life] as RunInstance).runId, this.#now)).rebuilt();
  }

  async #purge(runId: string): Promise<void> {
    await this.settle();
    for (const table of ["runs", "steps", "events", "tags"]) {
      await env.DB.prepare(`DELETE FROM durable_${table} WHERE run_id = ?1`).bind(runId).run();
    }
    this.#held.set(runId, { run: undefined, steps: new Map(), events: new Set() });
  }
}

const actions = fc.array(
  fc.record<Action>({
    op: fc.constantFrom(...ACTIONS),
    run: fc.nat(RUNS - 1),
    life: fc.nat(1),
    at: fc.nat(40),
  }),
  { minLength: 20, maxLength: 80 },
);

/** Two lives claim the run at once: D1 refuses the second. */
const BOTH_CLAIM: Action[] = [0, 1].flatMap((life) =>
  (["claim", "send"] as const).map((op) => ({ op, run: 0, life, at: 0 })),
);

it("leaves D1 with the newest of each row that a guard let through", async () => {
  let refused = 0;
  await fc.assert(
    fc.asyncProperty(actions, async (script) => {
      const world = await World.make();
      for (const action of script) await world.act(action);
      await world.settle();
      await world.expectHeld();
      refused += world.refused;
    }),
    { numRuns: 25, endOnFailure: true, examples: [[BOTH_CLAIM]] },
  );
  // Else nothing was put to the proof.
  expect(refused).toBeGreaterThan(0);
}, 120_000);
