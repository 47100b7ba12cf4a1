/**
 * The two halves of the demo: a worker that is killed in the middle of a step, and the one that takes over.
 *
 * Relies on the Worker's HTTP surface alone, as any client does. The kill is aimed by what the page server sees, or,
 * with a site of somebody else's, by the progress of the run.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Progress } from "../progress.ts";
import type { SiteAuditReport } from "../types.ts";
import type { RunRequest, Target } from "./client.ts";
import { runAudit, sendEvent, WorkerError } from "./client.ts";
import type { DocsSite, Visit } from "./docs-site.ts";
import { detail, say } from "./print.ts";
import { isFetch } from "./proof.ts";
import type { Runtime } from "./runtime.ts";

const APPROVAL_KEY = "approve";
const APPROVED_BY = "the demo, standing in for a person";

export interface Kill {
  at: number;
  /** The page that was being fetched. */
  inFlight: string;
  /** Steps whose completion the killed worker had reported. */
  acknowledged: number[];
}

export type FirstHalf = { kill: Kill } | { report: SiteAuditReport };

/**
 * Runs until `killAfter` pages are recorded and one more is in flight, then kills the runtime. Answers the report
 * where the site was too small for that, or where `killAfter` is infinite.
 */
export async function runUntilKilled(
  runtime: Runtime,
  request: RunRequest,
  killAfter: number,
  site: DocsSite | undefined,
): Promise<FirstHalf> {
  const acknowledged: number[] = [];
  let pagesRecorded = 0;
  let killing: Promise<Kill> | undefined;
  const killNow = async (inFlight: string): Promise<Kill> => {
    say(`${pagesRecorded} pages are recorded, and the fetch of ${inFlight} is in flight: kill -9`);
    detail(`the runtime: ${await runtime.workers.processes()}`);
    await runtime.workers.kill();
    const at = Date.now();
    say("every process of it is gone, and its port is closed");
    return { at, inFlight, acknowledged };
  };

  // The page server holds its answer back for as long as the kill takes, so a page is in flight when it strikes.
  site?.beforeAnswer(async (visit: Visit) => {
    if (killing !== undefined || pagesRecorded < killAfter) return;
    killing = killNow(visit.path);
    await killing.catch(() => {});
  });

  const onProgress = (progress: Progress): void => {
    if (progress.type !== "step") return;
    if (progress.status === "completed") {
      acknowledged.push(progress.stepIndex);
      if (isFetch(progress)) pagesRecorded += 1;
    }
    const aimedByProgress = site === undefined && progress.status === "running" && isFetch(progress);
    if (aimedByProgress && pagesRecorded >= killAfter)
      killing ??= killNow(progress.intent.slice("fetch ".length));
  };
  try {
    const report = await follow(runtime, request, onProgress);
    return killing === undefined ? { report } : { kill: await killing };
  } catch (error) {
    if (killing === undefined) throw error;
    return { kill: await killing };
  } finally {
    site?.beforeAnswer(async () => {});
  }
}

/** Takes the run over as soon as the dead worker's lease lets it, and runs it to its end. */
export async function takeOver(runtime: Runtime, request: RunRequest): Promise<SiteAuditReport> {
  for (let refusals = 0; ; refusals += 1) {
    try {
      return await follow(runtime, request, () => {});
    } catch (error) {
      if (!(error instanceof WorkerError && error.code === "lease_held")) throw error;
      if (refusals === 0) say(`${request.workerId} has to wait: ${error.message}`);
      if (refusals > 100) throw error;
      await sleep(Math.min(error.retryAfterMs ?? 250, 500));
    }
  }
}

/** Prints a run's progress and approves its report when it waits for that. */
async function follow(
  target: Target,
  request: RunRequest,
  onProgress: (progress: Progress) => void,
): Promise<SiteAuditReport> {
  for await (const progress of runAudit(target, request)) {
    onProgress(progress);
    switch (progress.type) {
      case "claimed":
        say(`${progress.workerId} holds the run under fence ${progress.fence}: ${claimText(progress)}`);
        break;
      case "step":
        if (progress.status !== "running") detail(stepText(request.workerId, progress));
        break;
      case "waiting":
        say(`the run waits for "${APPROVAL_KEY}"; sending it over HTTP as a person would`);
        await sendEvent(target, request.runId, APPROVAL_KEY, { approved: true, approvedBy: APPROVED_BY });
        break;
      case "finished":
        return progress.result as SiteAuditReport;
      case "failed":
        throw new Error(`the run failed: ${progress.error.code}: ${progress.error.message}`);
    }
  }
  throw new Error("the Worker's answer ended before the run did");
}

function claimText({ takeovers = 0, replayed }: Progress & { type: "claimed" }): string {
  return takeovers === 0 ? "it is new" : `it is taken over, and ${replayed} recorded steps are replayed`;
}

function stepText(
  workerId: string,
  { stepIndex, kind, intent, status, error }: Progress & { type: "step" },
): string {
  const position = String(stepIndex).padStart(3);
  return `${workerId} ${position} ${kind.padEnd(9)} ${intent}${status === "failed" ? `: FAILED, ${error}` : ""}`;
}
