/**
 * `npm run demo`: an agent audits a site, its whole runtime is killed with SIGKILL in the middle of a step, and a
 * second worker takes the run over and finishes it without doing again what is on record.
 *
 * Runs on Node, on loopback only, and leaves nothing behind: no process, no file. Exit 0 when the proof holds, 1 when
 * it does not or anything fails, 2 for arguments that are not understood, 130 when it is interrupted.
 */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { newRunId } from "../../src/identity.ts";
import type { DemoOptions } from "./demo/args.ts";
import { parseOptions, USAGE, UsageError } from "./demo/args.ts";
import type { RunRequest, RunView } from "./demo/client.ts";
import { readRun } from "./demo/client.ts";
import type { DocsSite } from "./demo/docs-site.ts";
import { startDocsSite } from "./demo/docs-site.ts";
import { detail, printPages, printReport, printSteps, printTable, say, secondsSoFar } from "./demo/print.ts";
import { completed, proveFromLog, proveFromRecord, proveNothingLost, recordedPaths } from "./demo/proof.ts";
import { prepareRuntime } from "./demo/runtime.ts";
import type { Kill } from "./demo/story.ts";
import { runUntilKilled, takeOver } from "./demo/story.ts";
import type { SiteAuditReport } from "./types.ts";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const LEASE_MS = 3_000;
/** Pages that are recorded before the kill. */
const KILL_AFTER = 4;
/** Far more than the audit of this project's own pages takes. */
const DOCS_DEADLINE_MS = 120_000;
const TOO_SMALL = "the site was too small for a kill midway, so nothing is shown about a crash";

async function main(options: DemoOptions): Promise<void> {
  const runtime = await prepareRuntime();
  const { workers } = runtime;
  process.once("exit", () => runtime.cleanUp());
  const site = options.url === undefined ? await startDocsSite(ROOT) : undefined;
  if (site) giveUpAfter(DOCS_DEADLINE_MS);
  const startUrl = options.url ?? site?.url ?? "";
  say(
    site
      ? `page server: ${site.pageCount} pages of this project's documentation at ${startUrl}`
      : `to audit: ${startUrl}`,
  );
  await workers.migrate();
  say(`D1 migrations applied, storage on disk in ${runtime.folder}`);
  await workers.start();
  say(`the Worker answers at ${workers.origin} (${await workers.processes()})`);

  const { maxPages, checkExternal } = options;
  const input = { startUrl, maxPages, checkExternal, ...(site && { publishUrl: site.publishUrl }) };
  const request: RunRequest = { runId: newRunId(), workerId: "worker-1", leaseMs: LEASE_MS, input };
  const pages = Math.min(maxPages, site?.pageCount ?? maxPages);
  const killAfter = options.kill ? Math.min(KILL_AFTER, pages - 1) : Number.POSITIVE_INFINITY;
  say(`worker-1 starts run ${request.runId}, with a lease of ${LEASE_MS / 1_000} s`);
  const first = await runUntilKilled(runtime, request, killAfter, site);

  const violations: string[] = [];
  let report: SiteAuditReport;
  let end: RunView;
  if ("kill" in first) {
    await workers.start();
    say(`the Worker is back, on the same storage (${await workers.processes()})`);
    const atKill = await readRun(runtime, request.runId);
    say(
      `the record has ${completed(atKill.steps).length} completed steps; its status is ${atKill.run.status}`,
    );
    report = await takeOver(runtime, { ...request, workerId: "worker-2" });
    end = await readRun(runtime, request.runId);
    printOutcome(end, report);
    violations.push(...prove(first.kill, atKill, end, site));
  } else {
    if (options.kill) say(`${TOO_SMALL} (fewer than ${killAfter + 1} pages)`);
    if (options.kill && site) violations.push(TOO_SMALL);
    report = first.report;
    end = await readRun(runtime, request.runId);
    printOutcome(end, report);
  }
  if (site && report.publishedTo !== undefined && site.published() === undefined) {
    violations.push("the report says that it is published, but the page server has not got it");
  }

  await workers.stop();
  await site?.close();
  runtime.cleanUp();
  for (const violation of violations) say(`NOT AS IT SHOULD BE: ${violation}`);
  if (violations.length > 0) process.exitCode = 1;
  say(`everything is stopped and removed; ${secondsSoFar()} s in all`);
}

function printOutcome(end: RunView, report: SiteAuditReport): void {
  const { status, fence, takeovers } = end.run;
  say(`the run is ${status}; takeovers: ${takeovers ?? 0}, last fence: ${fence}. Its steps:`);
  printSteps(end);
  say(`the report on ${report.site}:`);
  printPages(report);
  printReport(report);
}

/** Prints the proof and answers what is wrong with it. */
function prove(kill: Kill, atKill: RunView, end: RunView, site: DocsSite | undefined): string[] {
  const lost = proveNothingLost(kill.acknowledged, atKill.steps);
  const changed = proveFromRecord(atKill.steps, end.steps);
  const paths = recordedPaths(atKill.steps);
  const refetched: string[] = [];
  if (site) {
    const log = proveFromLog(site.visits, kill.at, paths);
    refetched.push(...log.violations);
    say(
      `the proof, from the page server's own log (GET requests by page; in flight at the kill: ${kill.inFlight}):`,
    );
    const rows = log.pages.map(({ path, recorded, getsBefore, getsAfter }) => [
      path,
      recorded ? "yes" : "no",
      String(getsBefore),
      String(getsAfter),
    ]);
    printTable(["page", "recorded at the kill", "GETs before", "GETs after"], rows, new Set([2, 3]));
    detail(
      `pages that were recorded at the kill: ${paths.length}; fetched again after it: ${log.violations.length}`,
    );
  } else {
    say("the proof, from the record alone, as the site's own log is not ours to read:");
    detail(`pages that were recorded at the kill: ${paths.length}; in flight: ${kill.inFlight}`);
  }
  detail(
    `steps reported as completed to worker-1's client: ${kill.acknowledged.length}; lost: ${lost.length}`,
  );
  detail(
    `steps on record at the kill: ${completed(atKill.steps).length}; run again or changed: ${changed.length}`,
  );
  const takeovers = (end.run.takeovers ?? 0) - (atKill.run.takeovers ?? 0);
  const wrongTakeovers = takeovers === 1 ? [] : [`there should be 1 takeover, but there are ${takeovers}`];
  detail(`takeovers: ${takeovers}; fence at the kill: ${atKill.run.fence}, at the end: ${end.run.fence}`);
  return [...lost, ...changed, ...refetched, ...wrongTakeovers];
}

function giveUpAfter(ms: number): void {
  const timer = setTimeout(() => {
    console.error(`not done after ${ms / 1_000} s, so something hangs`);
    process.exit(1);
  }, ms);
  timer.unref();
}

/** `process.exit` runs the clean-up that `main` registered. */
function exitOnSignals(): void {
  for (const [signal, code] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const) {
    process.once(signal, () => {
      console.error(`\n${signal}: stopping what was started`);
      process.exit(code);
    });
  }
}

try {
  const options = parseOptions(process.argv.slice(2));
  if (options === "help") console.log(USAGE);
  else if (process.platform === "win32")
    throw new UsageError("the demo kills a process group, so it needs Linux, macOS or WSL");
  else {
    exitOnSignals();
    await main(options);
  }
} catch (error) {
  if (error instanceof UsageError) {
    console.error(`${error.message}\n\n${USAGE}`);
    process.exit(2);
  }
  console.error(error);
  process.exit(1);
}
