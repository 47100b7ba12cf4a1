/** A run's page: what it is, what it waits for, its steps in time, its input, result and events; and what may be done. */
import { useEffect, useRef, useState } from "preact/hooks";
import type { RunStatus } from "../../../src/contract/types.ts";
import type { RunDetails } from "../../../src/history/types.ts";
import { api, ApiError } from "../api/client.ts";
import { formatBytes } from "../format.ts";
import { useMayWrite } from "../me.ts";
import { StatusBadge } from "../parts/badges.tsx";
import { CopyButton, JsonTree } from "../parts/json-tree.tsx";
import { announce, Note, Problem } from "../parts/notices.tsx";
import { hrefTo } from "../router.ts";
import type { Action } from "../run/action.ts";
import { ActionDialog } from "../run/actions.tsx";
import { Events } from "../run/events.tsx";
import { Facts } from "../run/facts.tsx";
import { ErrorView, OutcomeView } from "../run/outcome.tsx";
import { StepPages } from "../run/step-pages.ts";
import { Waits } from "../run/waits.tsx";
import { Waterfall } from "../run/waterfall.tsx";
import { usePoll } from "../use-poll.ts";

const POLL_MS = 2_000;
const ENDED_POLL_MS = 15_000;
/** Pages of steps that are loaded without being asked for. */
const FIRST_PAGES = 10;

export function isEnded(status: RunStatus): boolean {
  return status === "completed" || status === "failed" || status === "cancelled";
}

export function RunView({ runId }: { runId: string }) {
  const [pace, setPace] = useState(POLL_MS);
  const { data: run, error, refresh } = usePoll(`run ${runId}`, () => api.run(runId), pace);
  const steps = useSteps(run, runId, pace);
  const events = usePoll(`events ${runId}`, () => api.events(runId, undefined), pace);
  const [action, setAction] = useState<Action>();
  useStatusNews(run);
  useEffect(() => {
    if (run !== undefined) setPace(isEnded(run.status) ? ENDED_POLL_MS : POLL_MS);
  }, [run?.status]);
  const refreshAll = (): void => {
    setAction(undefined);
    for (const again of [refresh, steps.refresh, events.refresh]) again();
  };
  if (run === undefined) {
    return (
      <>
        <Crumbs runId={runId} />
        <h1>Run</h1>
        {error === undefined ? <Note>Loading…</Note> : <NoRun runId={runId} error={error} />}
      </>
    );
  }
  return (
    <>
      <Crumbs runId={runId} />
      <Head run={run} onAction={setAction} />
      <Problem error={error} isStale />
      <Waits run={run} onAction={setAction} />
      <Facts run={run} />
      <OutcomeView run={run} />
      {run.error !== undefined && (
        <section aria-label="Error of the run">
          <ErrorView
            error={run.error}
            title={run.status === "cancelled" ? "Why it was cancelled" : "Error"}
          />
        </section>
      )}
      <section aria-labelledby="steps-title">
        <h2 id="steps-title">Steps</h2>
        <Problem error={steps.error} isStale={steps.data !== undefined} />
        {steps.data === undefined && steps.error === undefined && <Note>Loading…</Note>}
        {steps.data !== undefined && (
          <Waterfall run={run} loaded={steps.data} onMore={steps.loadMore} onAction={setAction} />
        )}
      </section>
      <Bodies run={run} />
      <Events runId={runId} page={events.data} error={events.error} />
      {action !== undefined && (
        <ActionDialog action={action} run={run} onDone={refreshAll} onClose={() => setAction(undefined)} />
      )}
    </>
  );
}

function useSteps(run: RunDetails | undefined, runId: string, pace: number) {
  const pages = useRef(new StepPages());
  const most = useRef(FIRST_PAGES);
  const fence = useRef(run?.fence);
  fence.current = run?.fence;
  const polled = usePoll(
    `steps ${runId}`,
    () => pages.current.load(fence.current, most.current, (limit, cursor) => api.steps(runId, limit, cursor)),
    pace,
  );
  const loadMore = (): void => {
    most.current += FIRST_PAGES;
    polled.refresh();
  };
  return { ...polled, loadMore };
}

function useStatusNews(run: RunDetails | undefined): void {
  const last = useRef<RunStatus>(undefined);
  useEffect(() => {
    if (run === undefined) return;
    if (last.current !== undefined && last.current !== run.status) announce(`The run is ${run.status}.`);
    last.current = run.status;
  }, [run]);
}

function Crumbs({ runId }: { runId: string }) {
  return (
    <nav class="crumbs" aria-label="Breadcrumb">
      <a href={hrefTo(["runs"])}>Runs</a>
      <span aria-hidden="true">/</span>
      <span class="run-id" aria-current="page">
        {runId}
      </span>
      <CopyButton text={() => runId} what="the run id" />
    </nav>
  );
}

function Head({ run, onAction }: { run: RunDetails; onAction: (action: Action) => void }) {
  const mayWrite = useMayWrite();
  return (
    <div class="run-head">
      <h1>{run.task.intent}</h1>
      <StatusBadge status={run.status} />
      {mayWrite && (
        <div class="actions">
          <button type="button" class="button" onClick={() => onAction({ does: "emit" })}>
            Emit an event…
          </button>
          {run.status !== "completed" && run.status !== "cancelled" && (
            <button type="button" class="button danger-outline" onClick={() => onAction({ does: "cancel" })}>
              Cancel…
            </button>
          )}
        </div>
      )}
    </div>
  );
}

function Bodies({ run }: { run: RunDetails }) {
  return (
    <div class="bodies">
      <section aria-labelledby="input-title">
        <h2 id="input-title">Input</h2>
        {run.input === undefined ? (
          <Note>{formatBytes(run.inputBytes)}: too large to be shown here.</Note>
        ) : (
          <JsonTree value={{ task: run.task, input: run.input }} label="the manifest" />
        )}
      </section>
      <section aria-labelledby="result-title">
        <h2 id="result-title">Result</h2>
        <Result run={run} />
      </section>
    </div>
  );
}

function Result({ run }: { run: RunDetails }) {
  if (run.result !== undefined) return <JsonTree value={run.result} label="the result" />;
  if ((run.resultBytes ?? 0) > 0) {
    return <Note>{formatBytes(run.resultBytes ?? 0)}: too large to be shown here.</Note>;
  }
  return <Note>{run.status === "completed" ? "It returned nothing." : "None yet."}</Note>;
}

function NoRun({ runId, error }: { runId: string; error: unknown }) {
  if (!(error instanceof ApiError) || error.code !== "run_not_found") return <Problem error={error} />;
  return (
    <Note>
      No run has the id “{runId}”, or it is of a project that you may not see.{" "}
      <a href={hrefTo(["runs"])}>Show all runs</a>
    </Note>
  );
}
