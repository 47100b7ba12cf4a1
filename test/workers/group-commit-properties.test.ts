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
import { EVENT_COLUMNS, RUN_COLUMNS, STEP_COLUMNS } from "../../src/stores/sql/rows.ts";
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
  incarnation: number;
  readonly steps: Map<number, Row>;
  /** By key, of which request. */
  readonly events: Map<string, string>;
}

const nothing = (): Held => ({ run: undefined, incarnation: 0, steps: new Map(), events: new Map() });

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

function guardRefuses(entry: RecordEntry, { run: row, incarnation: held }: Held): boolean {
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
    number,
  ];
  const [, fence, claim, latest, known, base, manifest, createdAt, isOnRecord, incarnation] = guard;
  if (row === undefined) return isOnRecord === 1;
  const [heldFence, revision] = [Number(row["fence"]), Number(row["revision"])];
  if (heldFence > fence || (heldFence === fence && row["claim_request_id"] !== claim)) return true;
  if (revision > latest || (revision > known && revision <= base)) return true;
  return row["manifest_hash"] !== manifest || row["created_at"] !== createdAt || held > incarnation;
}

/** Answers whether the entry is refused. */
function carryOut(entry: RecordEntry, held: Held): boolean {
  if (guardRefuses(entry, held)) return true;
  for (const row of rowsIn(entry.runs, RUN_COLUMNS)) if (isNewer(row, held.run)) held.run = row;
  for (const row of rowsIn(entry.steps, STEP_COLUMNS)) {
    const at = Number(row["step_index"]);
    if (isNewer(row, held.steps.get(at))) held.steps.set(at, row);
  }
  for (const { key, request_id: requestId } of rowsIn(entry.events, EVENT_COLUMNS)) {
    if (!held.events.has(String(key))) held.events.set(String(key), String(requestId));
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
      if (one) this.#held.set(one.runId, nothing());
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
    for (const { answer } of this.#sent.slice(this.#settled)) await answer;
    for (; this.#settled < this.#sent.length; this.#settled += 1) {
      const { instance, epoch, told, isRefused, answer } = this.#sent[this.#settled] as Sent;
      const answered = await answer;
      if (!answered.ok) throw new Error(answered.message);
      expect(answered.refused).toBe(isRefused);
      if (answered.refused) this.refused += 1;
      if (instance.cache.epoch !== epoch) continue;
      if (answered.refused) {
        this.#lookedAt(instance);
        await instance.discard();
      } else await instance.holds(told);
    }
  }

  async expectHeld(): Promise<void> {
    for (const [runId, { run, incarnation, steps, events }] of this.#held) {
      // D1 has columns of its own.
      expect(await rowsOf("runs", runId)).toEqual(
        run ? [expect.objectContaining({ ...run, incarnation })] : [],
      );
      expect(await rowsOf("steps", runId)).toEqual(
        [...steps].sort(([a], [b]) => a - b).map(([, row]) => row),
      );
      const told = (await rowsOf("events", runId)).map((row) => [row["key"], row["request_id"]]);
      expect(told).toEqual([...events].sort(([a], [b]) => (a < b ? -1 : 1)));
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
    const next = await RunInstance.of((lives[life] as RunInstance).runId, this.#now);
    this.#lookedAt(next);
    lives[life] = await next.rebuilt();
  }

  async #purge(runId: string): Promise<void> {
    await this.settle();
    for (const table of ["runs", "steps", "events", "tags"]) {
      await env.DB.prepare(`DELETE FROM durable_${table} WHERE run_id = ?1`).bind(runId).run();
    }
    this.#held.set(runId, nothing());
  }

  /** An object that looks at what D1 holds is the run's next incarnation. */
  #lookedAt({ runId }: RunInstance): void {
    const held = this.#held.get(runId);
    if (held?.run) held.incarnation += 1;
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
