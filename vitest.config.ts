// Two projects. A portable test (test/*.test.ts) runs in both: in Node and in workerd. Those of the ledger, whose rules
// are pure functions, run in Node alone.
import { availableParallelism } from "node:os";
import { cloudflareTest, readD1Migrations } from "@cloudflare/vitest-pool-workers";
import { defineConfig } from "vitest/config";
import {
  bindingsToSecondWorkers,
  objectsOfSecondWorkers,
  secondWorkers,
} from "./test/workers/second-workers.ts";

// No test leaves this machine: no usage reports, no look-up of request.cf.
process.env["WRANGLER_SEND_METRICS"] ??= "false";
process.env["CLOUDFLARE_CF_FETCH_ENABLED"] ??= "false";

/** No test says how quick something is: a poll that waits for what comes late passes on a busy machine, too. */
const expect = { poll: { timeout: 30_000 } };

/** A file waits more than it computes: two at once, also where there are two cores. */
const maxWorkers = Math.max(2, availableParallelism() - 1);

export default defineConfig({
  test: {
    maxWorkers,
    coverage: {
      provider: "istanbul", // workerd has no V8 coverage
      include: ["src/ledger/**/*.ts", "src/runner/**/*.ts"],
      reporter: ["text", "html"],
      reportsDirectory: "coverage",
    },
    projects: [
      {
        test: {
          name: "node",
          testTimeout: 60_000,
          expect,
          environment: "node",
          include: ["test/*.test.ts", "test/node/**/*.test.ts", "examples/**/*.test.ts"],
        },
      },
      {
        plugins: [
          cloudflareTest(async () => ({
            // workerd prints each rejected RPC as an uncaught exception, also those a test expects
            verbose: false,
            wrangler: { configPath: "./test/workers/wrangler.toml" },
            miniflare: {
              bindings: {
                TEST_MIGRATIONS: await readD1Migrations("./migrations"),
                TEST_D1_LATE_MS: Number(process.env["TEST_D1_LATE_MS"] ?? 0),
              },
              serviceBindings: bindingsToSecondWorkers,
              durableObjects: objectsOfSecondWorkers,
              workers: await secondWorkers(),
            },
          })),
        ],
        test: {
          name: "workers",
          testTimeout: 60_000,
          expect,
          include: ["test/*.test.ts", "test/workers/**/*.test.ts"],
          exclude: ["test/ledger-*.test.ts"],
          setupFiles: ["./test/workers/setup.ts"],
        },
      },
    ],
  },
});
