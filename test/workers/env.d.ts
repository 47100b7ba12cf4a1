// What `import { env, exports } from "cloudflare:workers"` holds inside a test.
declare namespace Cloudflare {
  interface Env {
    RUNS: DurableObjectNamespace<import("./worker.ts").RunCoordinator>;
    DB: D1Database;
    SCRIPTED: Workflow<string>;
    TEST_MIGRATIONS: import("cloudflare:test").D1Migration[];
  }
  interface GlobalProps {
    mainModule: typeof import("./worker.ts");
    durableNamespaces: "RunCoordinator";
  }
}
