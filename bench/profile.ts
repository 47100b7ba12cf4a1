/**
 * Where the time goes in workerd's JavaScript: `npm run bench:profile -- --only W1`. V8's own sampling profiler, over
 * the inspector that Miniflare opens. Shows what a work spends in each function, by itself and with what it calls.
 *
 * What is not JavaScript (SQLite, fsync, RPC) is "(program)", and waiting is "(idle)". Sampling slows things down: what
 * something takes is for bench/run.ts to say.
 */
import { parseArgs } from "node:util";
import type { Inspector } from "./lib/inspector.ts";
import { connectInspector } from "./lib/inspector.ts";
import { bundled, Runtime } from "./lib/runtime.ts";

const { values: args } = parseArgs({
  options: {
    subject: { type: "string", default: "coordinated, ack coordinator;coordinated, ack record" },
    only: { type: "string", default: "W1,W2,W3" },
    top: { type: "string", default: "40" },
  },
});

const WORKS: Readonly<Record<string, object>> = {
  W1: { runs: 3, steps: 200, bytes: 20, concurrent: false },
  W2: { runs: 50, steps: 20, bytes: 20, concurrent: true },
  W3: { runs: 50, steps: 1, bytes: 20, concurrent: false },
};

/** In a row, of W4. */
const EVENTS = 200;

interface Frame {
  functionName: string;
  lineNumber: number;
  url: string;
}

interface Profile {
  nodes: { id: number; callFrame: Frame; children?: number[] }[];
  samples: number[];
  timeDeltas: number[];
}

const INSPECTOR_PORT = 9_441;

const INTERVAL_US = 200;

const runtime = await Runtime.start({ inspectorPort: INSPECTOR_PORT });
try {
  const inspector = await connectInspector(INSPECTOR_PORT);
  await inspector("Profiler.enable");
  await inspector("Profiler.setSamplingInterval", { interval: INTERVAL_US });
  for (const subject of args.subject.split(";")) {
    for (const work of args.only.split(",")) await profiled(inspector, subject, work);
  }
} finally {
  await runtime.stop();
}
process.exit(0);

async function profiled(inspector: Inspector, subject: string, work: string): Promise<void> {
  const run = async (): Promise<void> => {
    if (work === "W4") await events(subject);
    else await runtime.call(subject, "runs", WORKS[work]);
    await runtime.call(subject, "settle", {});
  };
  await run();
  await inspector("Profiler.start");
  const from = performance.now();
  await run();
  const wallMs = performance.now() - from;
  const profile = awake(((await inspector("Profiler.stop")) as { profile: Profile }).profile);
  process.stdout.write(`\n## ${work}, ${subject}: ${wallMs.toFixed(0)} ms\n`);
  print("by file", byFile(profile, await bundled()));
  print("by itself", byItself(profile));
  print("with what it calls", withCallees(profile));
}

/** V8 takes no samples while workerd sleeps: the time until the next one is not that one's. */
function awake(profile: Profile): Profile {
  return { ...profile, timeDeltas: profile.timeDeltas.map((delta) => Math.min(delta, 2 * INTERVAL_US)) };
}

async function events(subject: string): Promise<void> {
  await runtime.call(subject, "waiter", {});
  for (let i = 0; i < EVENTS; i += 1) {
    await runtime.call(subject, "waiting", {});
    await runtime.call(subject, "emit", {});
  }
  await runtime.call(subject, "unwait", {});
}

/** esbuild names the file above what comes of it. What has no line is the runtime's. */
function byFile({ nodes, samples, timeDeltas }: Profile, script: string): Map<string, number> {
  const starts = script.split("\n").flatMap((line, at) => {
    const file = /^\/\/ (\S+\.ts|node_modules\/\S+)$/.exec(line)?.[1];
    return file === undefined ? [] : [{ at, file }];
  });
  const fileOf = ({ functionName, lineNumber, url }: Frame): string => {
    if (lineNumber < 0) return functionName || "(native)";
    if (!/worker|script|bench/.test(url)) return url || "(internal)";
    return starts.findLast(({ at }) => at <= lineNumber)?.file ?? url;
  };
  const files = new Map(nodes.map(({ id, callFrame }) => [id, fileOf(callFrame)]));
  const total = new Map<string, number>();
  for (const [i, id] of samples.entries()) add(total, files.get(id) ?? "", timeDeltas[i] ?? 0);
  return total;
}

function byItself({ nodes, samples, timeDeltas }: Profile): Map<string, number> {
  const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]));
  const total = new Map<string, number>();
  for (const [i, id] of samples.entries()) {
    const frame = frames.get(id);
    add(total, `${frame?.functionName || "(anonymous)"}:${frame?.lineNumber}`, timeDeltas[i] ?? 0);
  }
  return total;
}

function withCallees({ nodes, samples, timeDeltas }: Profile): Map<string, number> {
  const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]));
  const parents = new Map(nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id])));
  const total = new Map<string, number>();
  for (const [i, sampled] of samples.entries()) {
    const names = new Set<string>();
    for (let id: number | undefined = sampled; id !== undefined; id = parents.get(id)) {
      const frame = frames.get(id);
      names.add(`${frame?.functionName || "(anonymous)"}:${frame?.lineNumber}`);
    }
    for (const name of names) add(total, name, timeDeltas[i] ?? 0);
  }
  return total;
}

function add(total: Map<string, number>, name: string, microseconds: number): void {
  total.set(name, (total.get(name) ?? 0) + microseconds / 1_000);
}

function print(title: string, total: ReadonlyMap<string, number>): void {
  const top = [...total].sort(([, a], [, b]) => b - a).slice(0, Number(args.top));
  const lines = top.map(([name, ms]) => `${ms.toFixed(1).padStart(9)}  ${name}`);
  process.stdout.write(`\n${title}, ms\n${lines.join("\n")}\n`);
}
