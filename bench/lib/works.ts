/**
 * The works: what is measured, of which subject, in which unit. A row is one number a round.
 *
 * Knows subjects and floors by name, and times each operation from outside.
 */
import type { OperationName, Operations, Subject } from "../works/protocol.ts";
import { figureOf } from "./figures.ts";

/** Carries out an operation in the Worker: a floor's, or one of history. */
export type CallWorker = (subject: string, operation: string, params: unknown) => Promise<unknown>;

export interface Row {
  readonly subject: string;
  readonly variant: string;
  /** Once, before the rounds. */
  readonly prepare?: () => Promise<void>;
  /** Answers one number, in the work's unit. */
  readonly measure: () => Promise<number>;
}

export interface Work {
  readonly id: string;
  readonly title: string;
  readonly unit: string;
  readonly rows: readonly Row[];
}

export const FLOORS = {
  line: "floor: a message to the Worker and back",
  noop: "floor: no-op RPC to an object",
  write: "floor: RPC + one committed write",
  writeAgain: "floor: RPC + one committed write, to an object that has had thousands",
  d1: "floor: one D1 write from a Worker",
  d1ByObject: "floor: RPC + one D1 write",
  event:
    "floor: an RPC that waits, and one that writes three rows to D1 in a batch and then has both answered",
  fresh: "floor: a fresh object's first two commits",
  freshRun: "floor: a fresh object's D1 write, and then its first two commits",
  freshRunWhole:
    "floor: a fresh object's D1 write, and then its first two commits, an alarm with the last, and a D1 write 100 ms later",
  freshRunInD1: "floor: a fresh object's first three D1 writes",
  freshSteps: "floor: a fresh object's D1 write, and then 201 commits in a row",
  freshRuns: "floor: 50 fresh objects, each with one D1 write and then 21 commits in a row",
  freshRunsWhole:
    "floor: 50 fresh objects, each with one D1 write and then 21 commits in a row, an alarm with the last, and a D1 write 100 ms later",
  freshRunsInD1: "floor: 50 fresh objects, each with 22 D1 writes in a row",
  freshRunsInGroups:
    "floor: 50 fresh objects, each with 22 D1 writes in a row, by way of one object that gathers them",
} as const;

/** Whose memory is measured over a resume. */
export const MEMORY_SUBJECTS = [
  "coordinated, ack coordinator",
  "coordinated, ack record",
  "D1 store",
] as const;

type FloorName = keyof typeof FLOORS;

/** Commits after which an object's log is written over from its beginning: SQLite lets it grow to 1,000 pages. */
const THOUSANDS = 2_000;

export interface WorksInput {
  readonly subjects: readonly Subject[];
  readonly callWorker: CallWorker;
}

export function worksOf({ subjects, callWorker }: WorksInput): Work[] {
  const own = subjects.filter(({ name }) => !isPeer(name));
  const local = subjects.filter(({ name }) => !isPeer(name) || name.startsWith("Workflows"));
  return [
    ...stepWorks(subjects, callWorker),
    eventWork(able(subjects, "waiter"), callWorker),
    {
      id: "W5",
      title: "from a resume to the first new step, over a finished prefix",
      unit: "ms",
      rows: [200, 1_000, 10_000].flatMap((steps) =>
        able(steps === 200 ? subjects : own, "resume").map((subject) => resumeRow(subject, steps)),
      ),
    },
    {
      id: "W6",
      title: "takeover: from the last commit of a worker that died to the first new step of the next",
      unit: "ms",
      rows: able(subjects, "takeover").flatMap(takeoverRows),
    },
    {
      id: "W7",
      title: "results of a size",
      unit: "ms a step",
      rows: [
        ...runsRows(local, { runs: 1, steps: 50, bytes: 1_000, concurrent: false }, "1 KB"),
        ...runsRows(local, { runs: 1, steps: 20, bytes: 100_000, concurrent: false }, "100 KB"),
        ...runsRows(own, { runs: 1, steps: 2, bytes: 10_000_000, concurrent: false }, "10 MB"),
      ],
    },
    historyWork(callWorker),
  ];
}

/** W1 to W3. */
function stepWorks(subjects: readonly Subject[], callWorker: CallWorker): Work[] {
  const timed = (ask: Ask, times: number, atOnce = 1): Promise<number> =>
    msOf(() => ask(times, atOnce)).then((ms) => ms / (times * atOnce));
  const parts = (names: readonly FloorName[], times: number, atOnce?: number): Row[] =>
    names.map((name) => partRow(callWorker, name, (ask) => timed(ask, times, atOnce), atOnce));
  const runsOfOneStep = (names: readonly FloorName[], times: number): Row[] =>
    names.map((name) => ({
      subject: FLOORS[name],
      variant: "",
      measure: () => timed(askOf(callWorker, name), times),
    }));
  /** By the step, so many of which each run has. */
  const wholeRuns = (name: FloorName, atOnce: number, steps: number): Row => ({
    subject: FLOORS[name],
    variant: "",
    measure: async () =>
      (await msOf(() => callWorker("floors", name, { times: 1, atOnce }))) / (atOnce * steps),
  });
  const small = { bytes: 20, concurrent: false };
  return [
    {
      id: "W1",
      title: "one run of 200 small steps in a row",
      unit: "ms a step",
      rows: [
        ...parts(["noop", "write", "writeAgain", "d1", "d1ByObject"], 200),
        wholeRuns("freshSteps", 1, 200),
        ...runsRows(subjects, { ...small, runs: 1, steps: 200 }),
      ],
    },
    {
      id: "W2",
      title: "50 runs at once, of 20 steps each",
      unit: "ms a step",
      rows: [
        ...parts(["noop", "write", "d1", "d1ByObject"], 20, 50),
        ...(["freshRuns", "freshRunsWhole", "freshRunsInD1", "freshRunsInGroups"] as const).map((name) =>
          wholeRuns(name, 50, 20),
        ),
        ...runsRows(subjects, { ...small, runs: 50, steps: 20, concurrent: true }),
      ],
    },
    {
      id: "W3",
      title: "a run of one step, from start to finish",
      unit: "ms a run",
      rows: [
        ...runsOfOneStep(["fresh", "freshRun", "freshRunWhole", "freshRunInD1"], 20),
        ...runsRows(subjects, { ...small, runs: 20, steps: 1 }),
      ],
    },
  ];
}

function eventWork(subjects: readonly Subject[], callWorker: CallWorker): Work {
  const pause = (): Promise<unknown> => callWorker("floors", "pause", { times: 1, atOnce: 1 });
  const floors = (["line", "write", "d1ByObject", "event"] as const).map((name) =>
    partRow(callWorker, name, (ask) => medianOfTwenty(pause, () => ask(1))),
  );
  return {
    id: "W4",
    title: "from an emit to the next line of the task that waits (median of 20 events)",
    unit: "ms",
    rows: [...floors, ...subjects.map(waiterRow)],
  };
}

/** Carries a floor out, so often in a row, and so often at once. */
type Ask = (times: number, atOnce?: number) => Promise<unknown>;

function askOf(callWorker: CallWorker, name: FloorName, objects?: string): Ask {
  return (times, atOnce = 1) => callWorker("floors", name, { times, atOnce, objects });
}

/**
 * A floor of objects that are new in each round, as those of runs are. They are made, with their storage, before the time
 * begins. Only "again" are they the same in all rounds, and their files as long as they will ever be.
 */
function partRow(
  callWorker: CallWorker,
  name: FloorName,
  measure: (ask: Ask) => Promise<number>,
  atOnce = 1,
): Row {
  const again = name === "writeAgain";
  return {
    subject: FLOORS[name],
    variant: "",
    ...(again && { prepare: async () => void (await askOf(callWorker, name)(THOUSANDS)) }),
    measure: async () => {
      const ask = askOf(callWorker, name, again ? undefined : crypto.randomUUID());
      await ask(1, atOnce);
      return measure(ask);
    },
  };
}

function able(subjects: readonly Subject[], operation: OperationName): Subject[] {
  return subjects.filter(({ lacks }) => !lacks?.includes(operation));
}

/** Whatever is not one of our stores. */
function isPeer(name: string): boolean {
  return !/^(coordinated|recorder objects|RPC binding|D1 store|memory|files)/.test(name);
}

function runsRows(subjects: readonly Subject[], params: Operations["runs"], variant = ""): Row[] {
  const per = params.steps === 1 ? params.runs : params.runs * params.steps;
  return subjects.map((subject) =>
    row(subject, variant, async () => (await msOf(() => subject.call("runs", params))) / per),
  );
}

function waiterRow(subject: Subject): Row {
  return row(subject, "", async () => {
    await subject.call("waiter", {});
    const median = await medianOfTwenty(
      () => subject.call("waiting", {}),
      () => subject.call("emit", {}),
    );
    await subject.call("unwait", {});
    return median;
  });
}

/** `before` ends with a pause where the call will be carried out, so that each call meets what has just woken up. */
async function medianOfTwenty(before: () => Promise<unknown>, call: () => Promise<unknown>): Promise<number> {
  const each: number[] = [];
  for (let i = 0; i < 20; i += 1) {
    await before();
    each.push(await msOf(call));
  }
  return figureOf(each).median;
}

function resumeRow(subject: Subject, steps: number): Row {
  const measured = row(subject, `${steps.toLocaleString("en")} steps`, async () => {
    const ms = await msOf(() => subject.call("resume", { steps }));
    await subject.call("rest", {});
    return ms;
  });
  return { ...measured, prepare: () => settled(subject, () => subject.call("prefix", { steps })) };
}

function takeoverRows(subject: Subject): Row[] {
  const leaseMs = 1_000;
  const rowOf = (killed: boolean, restarted: boolean): Row => {
    const next = restarted ? "the same worker, restarted" : `another worker, lease ${leaseMs} ms`;
    return row(subject, killed ? `killed; ${next}` : next, async () => {
      await subject.call("die", { leaseMs, killed });
      const ms = await msOf(() => subject.call("takeover", { leaseMs, restarted }));
      await subject.call("rest", {});
      return ms;
    });
  };
  const kinds = subject.canBeKilled ? [false, true] : [false];
  return kinds.flatMap((killed) => [rowOf(killed, true), rowOf(killed, false)]);
}

function historyWork(callWorker: CallWorker): Work {
  const ask =
    (operation: string, times: number): Row["measure"] =>
    async () =>
      (await msOf(() => callWorker("history", operation, { times }))) / times;
  const asked: readonly (readonly [string, string, number])[] = [
    ["list: the newest 50", "list", 20],
    ["list: the failed ones of a project", "listByProject", 20],
    ["get", "get", 50],
    ["steps of a run", "steps", 50],
    ["stats of the last 24 hours", "stats", 3],
  ];
  const rows = asked.map(([subject, operation, times]): Row => ({
    subject,
    variant: "",
    measure: ask(operation, times),
  }));
  const [first, ...rest] = rows;
  if (first === undefined) return { id: "W8", title: "", unit: "", rows };
  return {
    id: "W8",
    title: "history over 100,000 runs",
    unit: "ms a call",
    rows: [{ ...first, prepare: () => seedHistory(callWorker) }, ...rest],
  };
}

async function seedHistory(callWorker: CallWorker): Promise<void> {
  await callWorker("history", "seed", { runs: 100_000 });
  for (;;) {
    const { done } = (await callWorker("history", "rollUp", {})) as { done: boolean };
    if (done) return;
  }
}

/** A row whose subject is left with nothing to do. */
function row(subject: Subject, variant: string, measure: () => Promise<number>): Row {
  return { subject: subject.name, variant, measure: () => settled(subject, measure) };
}

async function settled<T>(subject: Subject, work: () => Promise<T>): Promise<T> {
  const value = await work();
  await subject.call("settle", {});
  return value;
}

async function msOf(work: () => Promise<unknown>): Promise<number> {
  const since = performance.now();
  await work();
  return performance.now() - since;
}
