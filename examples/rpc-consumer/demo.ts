/**
 * `npm run example:rpc`: two Workers, one with runs and one that uses them over a service binding. The second begins a run;
 * both are killed with SIGKILL in the middle of it and started again; and the run is finished without doing again what
 * is on record.
 *
 * Runs on Node, on loopback only, with storage in a folder of its own, and leaves nothing behind. Exit 0 when all is as
 * it should be, 1 when it is not or anything fails.
 */
import { newRunId } from "../../src/index.ts";
import { LocalWorkers, newFolder, removeFolder } from "../local/local-workers.ts";
import type { Shown } from "./demo/client.ts";
import { beginUntilPacked, completed, get, runAgain, untilFinished } from "./demo/client.ts";
import { CONSUMER, RUNS } from "./demo/configs.ts";

const ITEMS = ["apples", "bread", "cheese", "dates", "eggs", "figs"];
/** Items that are packed before the kill. */
const KILL_AFTER = 2;

async function main(): Promise<void> {
  const folder = newFolder("durable-runs-rpc-");
  const workers = await LocalWorkers.prepare({ configs: [CONSUMER, RUNS], folder });
  process.once("exit", () => {
    workers.cleanUp();
    removeFolder(folder);
  });
  await workers.migrate();
  await workers.start();
  console.log(`two Workers are up: durable-runs, and rpc-consumer at ${workers.origin}`);

  const runId = newRunId();
  const url = `${workers.origin}/runs/${runId}`;
  const { shown: before, answer } = await beginUntilPacked(url, ITEMS, KILL_AFTER);
  await workers.kill();
  await answer;
  const kept = completed(before).length;
  console.log(`both are killed; ${kept} steps of run ${runId} are on record`);

  await workers.start();
  const { result } = await untilFinished(url, ITEMS);
  const after = await get<Shown>(url);
  const { runs } = await get<{ runs: { runId: string }[] }>(`${workers.origin}/runs`);
  console.log(`both are back; the run is ${after.run.status}: ${result}`);
  for (const { stepIndex, intent, attempts } of after.steps)
    console.log(`  step ${stepIndex}  ${intent.padEnd(12)}  attempts: ${attempts}`);
  await workers.stop();

  const takeovers = (after.run.takeovers ?? 0) - (before.run.takeovers ?? 0);
  const wrong = [
    ...runAgain(before, after).map((stepIndex) => `step ${stepIndex} was run again`),
    ...(after.run.status === "completed" ? [] : [`the run is ${after.run.status}`]),
    ...(after.steps.length === ITEMS.length + 1 ? [] : [`there are ${after.steps.length} steps`]),
    ...(takeovers >= 1 ? [] : [`there were ${takeovers} takeovers`]),
    ...(runs.some((run) => run.runId === runId) ? [] : ["history does not list the run"]),
  ];
  for (const problem of wrong) console.log(`NOT AS IT SHOULD BE: ${problem}`);
  if (wrong.length > 0) process.exitCode = 1;
  else console.log(`as it should be: none of the ${kept} recorded steps was run again`);
}

/** `process.exit` runs the clean-up that `main` registered. */
for (const [signal, code] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
  ["SIGHUP", 129],
] as const)
  process.once(signal, () => process.exit(code));

try {
  await main();
} catch (error) {
  console.error(error);
  process.exit(1);
}
