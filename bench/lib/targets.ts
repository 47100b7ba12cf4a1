/** The table "To reach": each target, what it was measured to be, and whether it is reached. */
import type { CountedCost } from "../counts/counters.ts";
import type { Figure } from "./figures.ts";
import { differenceOf, figureOf, ratioOf, sumOf } from "./figures.ts";
import type { MeasuredMemory } from "./memory.ts";
import type { MeasuredWork } from "./rounds.ts";
import { FLOORS, MEMORY_SUBJECTS } from "./works.ts";

export interface Target {
  readonly what: string;
  readonly toReach: string;
  /** `undefined`: not measured in this sitting. */
  readonly measured: Figure | undefined;
  readonly reached: boolean | undefined;
}

const COORDINATOR = "coordinated, ack coordinator";
const RECORD = "coordinated, ack record";
const GROUPED = "recorder objects, ack record";
const WORKFLOWS = "Workflows, local engine";
const RESTATE = "Restate";

export interface MeasuredAll {
  readonly works: readonly MeasuredWork[];
  readonly memory: readonly MeasuredMemory[];
  readonly counts: readonly CountedCost[];
}

export function targetsOf({ works, memory, counts }: MeasuredAll): Target[] {
  const all = new Samples(works);
  return [...ratios(all), ...besideTheirFloors(all), ...memories(memory), ...counted(counts)];
}

class Samples {
  readonly #works: readonly MeasuredWork[];

  constructor(works: readonly MeasuredWork[]) {
    this.#works = works;
  }

  of(work: string, subject: string, variant = ""): readonly number[] | undefined {
    const { rows = [] } = this.#works.find(({ id }) => id === work) ?? {};
    return rows.find((row) => row.subject === subject && row.variant === variant)?.samples;
  }
}

type List = readonly number[] | undefined;

function ratios(all: Samples): Target[] {
  const w1 = (subject: string): List => all.of("W1", subject);
  const noop = w1(FLOORS.noop);
  const line = all.of("W4", FLOORS.line);
  return [
    atMost(
      "W1 ack coordinator ÷ (no-op RPC + RPC with a write)",
      1.4,
      w1(COORDINATOR),
      plus(noop, w1(FLOORS.write)),
    ),
    atMost(
      "W1 ack record ÷ (no-op RPC + RPC with a D1 write)",
      1.4,
      w1(RECORD),
      plus(noop, w1(FLOORS.d1ByObject)),
    ),
    atLeast("W1 Workflows ÷ ack coordinator", 2, w1(WORKFLOWS), w1(COORDINATOR)),
    atLeast("W1 Workflows ÷ ack record", 1, w1(WORKFLOWS), w1(RECORD)),
    atLeast("W2 Workflows ÷ ack coordinator", 3, all.of("W2", WORKFLOWS), all.of("W2", COORDINATOR)),
    atLeast(
      "W2 Workflows ÷ ack record (with recorder objects)",
      4,
      all.of("W2", WORKFLOWS),
      all.of("W2", GROUPED),
    ),
    atLeast(
      "W2 ack record without recorder objects ÷ with them",
      3,
      all.of("W2", RECORD),
      all.of("W2", GROUPED),
    ),
    atMost(
      "W2 ack record ÷ Restate (with recorder objects)",
      1.3,
      all.of("W2", GROUPED),
      all.of("W2", RESTATE),
    ),
    ...[COORDINATOR, RECORD].map((subject) =>
      atMost(
        `W3 ${subject} ÷ a fresh object's first two commits`,
        1.5,
        all.of("W3", subject),
        all.of("W3", FLOORS.fresh),
      ),
    ),
    ...[COORDINATOR, RECORD].map((subject) =>
      atMost(
        `W4 ${subject} ÷ RPC with a write (both less a message's way)`,
        3,
        minus(all.of("W4", subject), line),
        minus(all.of("W4", FLOORS.write), line),
      ),
    ),
    ...[COORDINATOR, RECORD, "D1 store", "files"].map((subject) =>
      atMost(
        `W5 ${subject}: 10,000 steps ÷ 1,000 steps`,
        12,
        all.of("W5", subject, "10,000 steps"),
        all.of("W5", subject, "1,000 steps"),
      ),
    ),
  ];
}

/**
 * The same works beside what this design cannot do without, which says how near to the other ratios it can come: each
 * run has a new object, whose storage grows with each commit, and whose first claim is a write of D1 (R17, 0030); step and end are a commit each; storage that was made
 * has to go some day, and D1 to be told; and under `record`, an event is a write of D1.
 */
function besideTheirFloors(all: Samples): Target[] {
  const beside = (work: string, subject: string, floor: string, line?: List): Target => {
    const [above, below] = [all.of(work, subject), all.of(work, floor)];
    const what = `${work} ${subject} ÷ ${floor.replace("floor: ", "")}`;
    return line === undefined
      ? shownOnly(what, above, below)
      : shownOnly(`${what} (both less a message's way)`, minus(above, line), minus(below, line));
  };
  const line = all.of("W4", FLOORS.line);
  const workflowsBeside = (floor: string): Target =>
    shownOnly(`W2 Workflows ÷ ${floor.replace("floor: ", "")}`, all.of("W2", WORKFLOWS), all.of("W2", floor));
  /** The runner over memory sends nothing and keeps nothing. */
  const theLeast = (work: string, floor: string): List => plus(all.of(work, floor), all.of(work, "memory"));
  const leastOfW3 = (policy: string, floor: string): Target =>
    shownOnly(
      `W3 the floor of ${policy} and the runner over memory ÷ a fresh object's first two commits`,
      theLeast("W3", floor),
      all.of("W3", FLOORS.fresh),
    );
  return [
    beside("W1", COORDINATOR, FLOORS.freshSteps),
    shownOnly(
      "W1 ack coordinator ÷ (no-op RPC + RPC with a write to an object that has had thousands)",
      all.of("W1", COORDINATOR),
      plus(all.of("W1", FLOORS.noop), all.of("W1", FLOORS.writeAgain)),
    ),
    shownOnly(
      "W1 the floor of ack coordinator and the runner over memory ÷ the same",
      theLeast("W1", FLOORS.freshSteps),
      plus(all.of("W1", FLOORS.noop), all.of("W1", FLOORS.writeAgain)),
    ),
    beside("W2", COORDINATOR, FLOORS.freshRuns),
    beside("W2", COORDINATOR, FLOORS.freshRunsWhole),
    beside("W2", GROUPED, FLOORS.freshRunsInGroups),
    workflowsBeside(FLOORS.freshRuns),
    shownOnly(
      "W2 Workflows ÷ the floor of ack coordinator, with the alarm and the later D1 write, and the runner over memory",
      all.of("W2", WORKFLOWS),
      theLeast("W2", FLOORS.freshRunsWhole),
    ),
    workflowsBeside(FLOORS.freshRunsInGroups),
    shownOnly(
      "W2 the floor of ack record without recorder objects ÷ that with them",
      all.of("W2", FLOORS.freshRunsInD1),
      all.of("W2", FLOORS.freshRunsInGroups),
    ),
    shownOnly(
      "W2 the floor of ack record with recorder objects and the runner over memory ÷ Restate",
      theLeast("W2", FLOORS.freshRunsInGroups),
      all.of("W2", RESTATE),
    ),
    beside("W3", COORDINATOR, FLOORS.freshRun),
    beside("W3", COORDINATOR, FLOORS.freshRunWhole),
    beside("W3", RECORD, FLOORS.freshRunInD1),
    leastOfW3("ack coordinator", FLOORS.freshRunWhole),
    leastOfW3("ack record", FLOORS.freshRunInD1),
    beside("W4", RECORD, FLOORS.d1ByObject, line),
    beside("W4", RECORD, FLOORS.event, line),
    shownOnly(
      "W4 the floor of ack record and the runner over memory ÷ RPC with a write (all less a message's way)",
      minus(plus(all.of("W4", FLOORS.event), minus(all.of("W4", "memory"), line)), line),
      minus(all.of("W4", FLOORS.write), line),
    ),
  ];
}

/** By the highest of all resumes, and by all of workerd: the isolate has less. */
function memories(memory: readonly MeasuredMemory[]): Target[] {
  return MEMORY_SUBJECTS.map((name) => {
    const all = memory.filter(({ subject }) => subject === name).flatMap(({ resident }) => resident);
    const measured = all.length === 0 || all.includes(Number.NaN) ? undefined : figureOf(all);
    return {
      what: `W5 ${name}, 10,000 steps: memory in MB`,
      toReach: "≤ 128",
      measured,
      reached: measured && measured.max <= 128,
    };
  });
}

function counted(costs: readonly CountedCost[]): Target[] {
  const of = (store: string): CountedCost | undefined => costs.find((cost) => cost.store === store);
  const record = of(RECORD);
  const d1 = of("D1 store");
  const exactly = (what: string, most: number, value: number | undefined): Target => ({
    what,
    toReach: `≤ ${most}`,
    measured: value === undefined ? undefined : figureOf([value]),
    reached: value === undefined ? undefined : value <= most,
  });
  return [
    exactly("D1 round trips a step, ack record", 1, record?.step.d1RoundTrips),
    exactly("D1 round trips a step, D1 store", 2, d1?.step.d1RoundTrips),
    exactly("D1 rows written a step, ack record", 1, record?.step.d1RowsWritten),
    exactly("D1 rows written a step, D1 store", 1, d1?.step.d1RowsWritten),
    exactly("object rows written a short step, ack coordinator", 1, of(COORDINATOR)?.step.objectRowsWritten),
    exactly(
      "object rows written a short step, ack record, of a run that is over within a second",
      1,
      record?.step.objectRowsWritten,
    ),
    exactly("D1 round trips a heartbeat, coordinated", 0, record?.heartbeat.d1RoundTrips),
  ];
}

function atMost(what: string, limit: number, above: List, below: List): Target {
  const measured = above && below ? ratioOf(above, below) : undefined;
  return { what, toReach: `≤ ${limit}`, measured, reached: measured && measured.median <= limit };
}

function atLeast(what: string, limit: number, above: List, below: List): Target {
  const measured = above && below ? ratioOf(above, below) : undefined;
  return { what, toReach: `≥ ${limit}`, measured, reached: measured && measured.median >= limit };
}

/** A ratio that has nothing to reach: it explains another. */
function shownOnly(what: string, above: List, below: List): Target {
  return { what, toReach: "", measured: above && below && ratioOf(above, below), reached: undefined };
}

function plus(a: List, b: List): List {
  return a && b ? sumOf(a, b) : undefined;
}

function minus(a: List, b: List): List {
  return a && b ? differenceOf(a, b) : undefined;
}
