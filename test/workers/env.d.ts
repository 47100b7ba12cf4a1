// What `import { env, exports } from "cloudflare:workers"` holds inside a test.
declare namespace Cloudflare {
  interface Env {
    RUNS: DurableObjectNamespace<import("./worker.ts").RunCoordinator>;
    RECORDERS: DurableObjectNamespace<import("./worker.ts").RunRecorder>;
    DB: D1Database;
    SCRIPTED: Workflow<string>;
    RUN_WORKFLOW: Workflow<import("../../src/workflows/tasks.ts").RunWorkflowParams>;
    RUNS_SERVICE: object;
    RUNS_OF_CONFORMANCE: object;
    RUNS_OF_A: object;
    RUNS_OF_B: object;
    RUNS_FOR_READING: object;
    RUNS_OF_A_FOR_READING: object;
    RUNS_ACROSS: DurableObjectNamespace<import("./worker.ts").RunCoordinator>;
    RPC_CONSUMER: Fetcher;
    RUNS_COUNTED: object;
    SHARED_STORE: Service<typeof import("./rpc-runs.ts").SharedStore>;
    RUNS_WORLD: Service<typeof import("./rpc-runs.ts").World>;
    TEST_D1_LATE_MS: number;
    TEST_MIGRATIONS: import("cloudflare:test").D1Migration[];
  }
  interface GlobalProps {
    mainModule: typeof import("./worker.ts");
    durableNamespaces: "RunCoordinator" | "RunRecorder";
  }
}
