/**
 * The Workers that run beside the tests' own, and the bindings between them: runs on one side, and those who use them
 * over RPC on the other. Runs in Node, for vitest.config.ts; the pool takes other Workers as JavaScript alone.
 */
import { build } from "esbuild";

const COMPATIBILITY_DATE = "2026-08-15";

export async function secondWorkers() {
  return [
    {
      name: "durable-runs",
      modules: true,
      script: await bundled("test/workers/rpc-runs.ts"),
      compatibilityDate: COMPATIBILITY_DATE,
      // The tests' own D1: there it gets its tables, and there tests look into it.
      d1Databases: { DB: { id: "DB" } },
      durableObjects: {
        RUNS: { className: "RunCoordinator", useSQLite: true },
        OBJECTS_WITH_A_STORE: { className: "ObjectWithAStore", useSQLite: true },
      },
    },
    {
      name: "rpc-consumer",
      modules: true,
      script: await bundled("examples/rpc-consumer/worker.ts"),
      compatibilityDate: COMPATIBILITY_DATE,
      serviceBindings: { RUNS: runService({ projectId: "rpc-consumer", access: "write" }) },
    },
  ];
}

/** Of the tests' own Worker: one binding for each set of props. */
export const bindingsToSecondWorkers = {
  RUNS_SERVICE: runService({}),
  RUNS_OF_CONFORMANCE: runService({ projectId: "conformance" }),
  RUNS_OF_A: runService({ projectId: "project-a" }),
  RUNS_OF_B: runService({ projectId: "project-b" }),
  RUNS_FOR_READING: runService({ access: "read" }),
  RUNS_OF_A_FOR_READING: runService({ projectId: "project-a", access: "read" }),
  RUNS_COUNTED: { name: "durable-runs", entrypoint: "CountedService" },
  SHARED_STORE: { name: "durable-runs", entrypoint: "SharedStore" },
  RPC_CONSUMER: { name: "rpc-consumer" },
  RUNS_WORLD: { name: "durable-runs", entrypoint: "World" },
};

/** Of the tests' own Worker, too: the class itself, by `script_name`. */
export const objectsOfSecondWorkers = {
  RUNS_ACROSS: { className: "RunCoordinator", scriptName: "durable-runs", useSQLite: true },
};

function runService(props: Record<string, unknown>) {
  return { name: "durable-runs", entrypoint: "RunService", props };
}

async function bundled(entry: string): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    format: "esm",
    target: "es2024",
    external: ["cloudflare:*", "node:*"],
    logLevel: "silent",
  });
  return outputFiles[0]?.text ?? "";
}
