/**
 * The benchmark, in one sitting: `npm run bench`, or `npm run bench:peers` with the peers of bench/package.json.
 *
 * docs/benchmarks.md says what is measured and what is not. Writes bench/results/latest.json, and the tables and the
 * chart into docs/. `--only W1,W3` measures some works and writes nothing.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { toSvg } from "./lib/chart.ts";
import type { MeasuredMemory } from "./lib/memory.ts";
import { measuredMemory } from "./lib/memory.ts";
import type { Results } from "./lib/report.ts";
import { toMarkdown } from "./lib/report.ts";
import type { MeasuredWork } from "./lib/rounds.ts";
import { measured } from "./lib/rounds.ts";
import { Runtime } from "./lib/runtime.ts";
import type { ClosableSubject, PeersModule } from "./lib/subjects.ts";
import { filesSubject, IN_THE_WORKER, subjectInTheWorker } from "./lib/subjects.ts";
import { targetsOf } from "./lib/targets.ts";
import type { CallWorker } from "./lib/works.ts";
import { worksOf } from "./lib/works.ts";
import type { CountedCost } from "./counts/counters.ts";

const ROOT = join(import.meta.dirname, "..");
const BEGIN = "<!-- results: written by bench/run.ts -->";
const END = "<!-- end of results -->";

const { values: args } = parseArgs({
  options: {
    rounds: { type: "string", default: "9" },
    only: { type: "string" },
    peers: { type: "boolean", default: false },
  },
});

const runtime = await Runtime.start();
const closable: ClosableSubject[] = [];
try {
  const results = await sitting();
  process.stdout.write(`${toMarkdown(results)}\n`);
  if (args.only === undefined) save(results);
} finally {
  for (const subject of closable) await subject.close();
  await runtime.stop();
}

async function sitting(): Promise<Results> {
  const callWorker: CallWorker = (subject, operation, params) => runtime.call(subject, operation, params);
  closable.push(filesSubject(runtime.folder));
  const notes: string[] = [];
  if (args.peers) {
    const path: string = "./peers/index.ts";
    const { startPeers } = (await import(path)) as PeersModule;
    const started = await startPeers(runtime.folder);
    closable.push(...started.subjects);
    notes.push(...started.notes);
  }
  const subjects = [...IN_THE_WORKER.map((name) => subjectInTheWorker(name, callWorker)), ...closable];
  const only = args.only?.split(",");
  const rounds = Number(args.rounds);
  const progress = (text: string): void => void process.stderr.write(`${text}\n`);
  const memory: MeasuredMemory[] = only && !only.includes("W5") ? [] : await measuredMemory(rounds, progress);
  const works: MeasuredWork[] = [];
  for (const work of worksOf({ subjects, callWorker })) {
    if (only && !only.includes(work.id)) continue;
    works.push(await measured(work, rounds, progress));
  }
  const counts = (await callWorker("counts", "", {})) as CountedCost[];
  const [cpu] = cpus();
  return {
    machine: `${cpus().length} cores (${cpu?.model.trim() ?? "unknown"}), ${process.platform}`,
    versions: [`Node ${process.versions.node}`, `workerd ${versionOf("workerd")}`, ...notes].join(", "),
    rounds,
    works,
    memory,
    counts,
    targets: targetsOf({ works, memory, counts }),
  };
}

function save(results: Results): void {
  mkdirSync(join(ROOT, "bench/results"), { recursive: true });
  writeFileSync(join(ROOT, "bench/results/latest.json"), `${JSON.stringify(results, null, 2)}\n`);
  writeFileSync(join(ROOT, "bench/results/latest.md"), `${toMarkdown(results)}\n`);
  const shown = results.works.filter(({ id }) => id === "W1" || id === "W2");
  writeFileSync(join(ROOT, "bench/results/steps.svg"), toSvg(shown));
  // As the repository is formatted, so that its check holds.
  execFileSync(join(ROOT, "node_modules/.bin/oxfmt"), ["--write", "bench/results/latest.json"], {
    cwd: ROOT,
  });
  const path = join(ROOT, "docs/benchmarks.md");
  const [before, rest = ""] = readFileSync(path, "utf8").split(BEGIN);
  const after = rest.split(END)[1] ?? "";
  writeFileSync(path, `${before}${BEGIN}\n\n${toMarkdown(results)}\n\n${END}${after}`);
}

function versionOf(name: string): string {
  const { version } = JSON.parse(readFileSync(join(ROOT, "node_modules", name, "package.json"), "utf8")) as {
    version: string;
  };
  return version;
}
