/**
 * What a resume of 10,000 steps holds, in the isolate that its caller and its object share.
 *
 * The kernel says how high the memory of workerd stood: no peak is missed, and more is counted than the isolate's.
 * The heap is seen by V8's inspector, which is heard between two turns of the event loop, and so a few times in a
 * resume. A workerd of its own for each subject: an inspector slows down what is timed, and none is to count what
 * another left.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Inspector } from "./inspector.ts";
import { connectInspector } from "./inspector.ts";
import { freePort } from "./ports.ts";
import { Runtime } from "./runtime.ts";
import { MEMORY_SUBJECTS } from "./works.ts";

const STEPS = 10_000;
const LOOK_EVERY_MS = 2;

export interface MeasuredMemory {
  readonly subject: string;
  /** "from D1" is the first resume, for which an object rebuilds itself; "warm" are the later ones. */
  readonly variant: "from D1" | "warm";
  /**
   * The highest that the isolate's heap was seen at, garbage included. MB of 1,000,000 bytes, one a resume; so are
   * all.
   */
  readonly peak: readonly number[];
  /** The same, with a collection before each look: what is needed. Of other resumes. */
  readonly live: readonly number[];
  /** How often it was looked at, for `peak`; the last time is right after the first new step began. */
  readonly looks: readonly number[];
  /**
   * The highest that the resident memory of workerd was at, above what it was before anything was run: heaps, SQLite's
   * caches, and what is free again but kept. NaN where there is no /proc.
   */
  readonly resident: readonly number[];
}

/** `rounds`: warm resumes of each subject, of either kind. */
export async function measuredMemory(
  rounds: number,
  progress: (text: string) => void,
): Promise<MeasuredMemory[]> {
  const measured: MeasuredMemory[] = [];
  for (const subject of MEMORY_SUBJECTS) {
    progress(`W5, memory of ${subject}`);
    measured.push(...(await memoryOfOne(subject, rounds)));
  }
  return measured;
}

async function memoryOfOne(subject: string, rounds: number): Promise<MeasuredMemory[]> {
  const inspectorPort = await freePort();
  const others = new Set(workerdIds());
  const runtime = await Runtime.start({ inspectorPort });
  try {
    const pid = workerdIds().find((id) => !others.has(id));
    const residentAtStart = residentOf(pid, "VmRSS");
    const inspector = awake(runtime, await connectInspector(inspectorPort));
    return await memoryOf({ runtime, inspector, pid, residentAtStart }, subject, rounds);
  } finally {
    await runtime.stop();
  }
}

/** An isolate with nothing to do may leave the inspector unheard: so it is given something until it answers. */
function awake(runtime: Runtime, inspector: Inspector): Inspector {
  return async (method, params) => {
    let isAnswered = false;
    const answer = inspector(method, params).finally(() => {
      isAnswered = true;
    });
    const keptAwake = async (): Promise<void> => {
      while (!isAnswered) {
        await runtime.call("floors", "line", { times: 1, atOnce: 1 });
        await sleep(1);
      }
    };
    await Promise.all([answer, keptAwake()]);
    return answer;
  };
}

interface Watched {
  readonly runtime: Runtime;
  readonly inspector: Inspector;
  /** Absent where there is no /proc. */
  readonly pid: number | undefined;
  /** In MB, before anything was run. */
  readonly residentAtStart: number;
}

async function memoryOf(watched: Watched, subject: string, rounds: number): Promise<MeasuredMemory[]> {
  const { runtime } = watched;
  const resumed = async (collects: boolean): Promise<Seen> => {
    const seen = await seenDuring(watched, collects, () => runtime.call(subject, "resume", { steps: STEPS }));
    await runtime.call(subject, "rest", {});
    await runtime.call(subject, "settle", {});
    return seen;
  };
  const prefix = (): Promise<unknown> => runtime.call(subject, "prefix", { steps: STEPS });
  await prefix();
  const fresh = await resumed(false);
  const warm: Seen[] = [];
  for (let round = 0; round < rounds; round += 1) warm.push(await resumed(false));
  const warmLive: Seen[] = [];
  for (let round = 0; round < rounds; round += 1) warmLive.push(await resumed(true));
  await prefix();
  const freshLive = await resumed(true);
  return [rowOf(subject, "from D1", [fresh], [freshLive]), rowOf(subject, "warm", warm, warmLive)];
}

function rowOf(
  subject: string,
  variant: MeasuredMemory["variant"],
  seen: readonly Seen[],
  live: readonly Seen[],
): MeasuredMemory {
  return {
    subject,
    variant,
    peak: seen.map(({ peak }) => peak),
    looks: seen.map(({ looks }) => looks),
    live: live.map(({ peak }) => peak),
    resident: seen.map(({ resident }) => resident),
  };
}

interface Seen {
  readonly peak: number;
  readonly looks: number;
  readonly resident: number;
}

async function seenDuring(
  { inspector, pid, residentAtStart }: Watched,
  collects: boolean,
  work: () => Promise<unknown>,
): Promise<Seen> {
  await inspector("HeapProfiler.collectGarbage");
  if (pid !== undefined) forgetHighest(pid);
  let peak = 0;
  let looks = 0;
  const look = async (): Promise<void> => {
    if (collects) await inspector("HeapProfiler.collectGarbage");
    peak = Math.max(peak, await heapInMb(inspector));
    looks += 1;
  };
  let isOver = false;
  const over = work().finally(() => {
    isOver = true;
  });
  while (!isOver) {
    await look();
    await sleep(LOOK_EVERY_MS);
  }
  await over;
  await look();
  return { peak, looks, resident: residentOf(pid, "VmHWM") - residentAtStart };
}

async function heapInMb(inspector: Inspector): Promise<number> {
  const { usedSize } = (await inspector("Runtime.getHeapUsage")) as { usedSize: number };
  return usedSize / 1_000_000;
}

/** The next VmHWM is the highest from now on. */
function forgetHighest(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, "5");
}

function residentOf(pid: number | undefined, name: "VmHWM" | "VmRSS"): number {
  if (pid === undefined) return Number.NaN;
  const kb = new RegExp(`${name}:\\s+(\\d+) kB`).exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return (Number(kb) * 1_024) / 1_000_000;
}

/** Of this process's workerd children, on Linux. */
function workerdIds(): number[] {
  try {
    return readdirSync(`/proc/${process.pid}/task`)
      .flatMap((task) => readFileSync(`/proc/${process.pid}/task/${task}/children`, "utf8").trim().split(" "))
      .filter((id) => id !== "" && readFileSync(`/proc/${id}/comm`, "utf8").startsWith("workerd"))
      .map(Number);
  } catch {
    return [];
  }
}
