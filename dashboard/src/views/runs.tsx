/** The list of runs: filters, live rows, older pages; and what to do where there are none. */
import { useEffect, useRef, useState } from "preact/hooks";
import type { RunPage, RunSummary } from "../../../src/history/types.ts";
import { api } from "../api/client.ts";
import { formatDuration } from "../format.ts";
import { Ago, StatusBadge, Tags } from "../parts/badges.tsx";
import { announce, Note, Problem } from "../parts/notices.tsx";
import { hrefTo, runHref } from "../router.ts";
import { filtersOf, withHead, withOlder } from "../run-list.ts";
import { useNow } from "../ticker.ts";
import { usePoll } from "../use-poll.ts";
import { RunFilters } from "./run-filters.tsx";

const POLL_MS = 2_000;
const HEAD = 50;
const PAGE = 100;

export function RunsView({ query }: { query: URLSearchParams }) {
  const filters = filtersOf(query);
  const list = useRunList(filters);
  const { runs, error, hasMore, isLoading } = list;
  return (
    <>
      <h1>Runs</h1>
      <RunFilters filters={filters} />
      <Problem error={error} isStale={runs !== undefined} />
      {runs === undefined ? (
        error === undefined && <Note>Loading…</Note>
      ) : (
        <>
          <RunRows runs={runs} />
          {runs.length === 0 && !hasMore && <Nothing isFiltered={filters.size > 0} />}
          {runs.length === 0 && hasMore && (
            <Note>None of the runs looked at so far match. A page looks at a bounded number of runs.</Note>
          )}
          {hasMore && (
            <button type="button" class="button" disabled={isLoading} onClick={list.loadMore}>
              {runs.length === 0 ? "Look further" : "Load more"}
            </button>
          )}
        </>
      )}
    </>
  );
}

/** The head is polled; pages behind it are loaded on demand, and then stay as they were. */
function useRunList(filters: URLSearchParams) {
  const key = filters.toString();
  const head = usePoll(`runs?${key}`, () => api.runs(asked(filters, HEAD)), POLL_MS);
  const [tail, setTail] = useState<{ key: string; runs: RunSummary[]; cursor?: string }>();
  const [problem, setProblem] = useState<unknown>();
  const [isLoading, setLoading] = useState(false);
  const older = tail?.key === key ? tail : undefined;
  const runs = head.data && (older === undefined ? head.data.runs : withHead(head.data, older.runs));
  // What the head pushes out has to be known to the tail.
  useEffect(() => {
    if (older !== undefined && runs !== undefined) setTail({ ...older, runs });
  }, [head.data]);
  const cursor = head.data?.cursor && (older === undefined ? head.data.cursor : older.cursor);
  const loadMore = async (): Promise<void> => {
    if (cursor === undefined || runs === undefined) return;
    setLoading(true);
    setProblem(undefined);
    try {
      const page = await api.runs(asked(filters, PAGE, cursor));
      setTail({ key, ...tailOf(runs, page) });
      announce(page.runs.length === 0 ? "None in these runs." : `${page.runs.length} more runs.`);
    } catch (error) {
      setProblem(error);
    }
    setLoading(false);
  };
  return {
    runs,
    error: problem ?? head.error,
    hasMore: cursor !== undefined,
    isLoading,
    loadMore: () => void loadMore(),
  };
}

function tailOf(runs: readonly RunSummary[], page: RunPage): { runs: RunSummary[]; cursor?: string } {
  return { runs: withOlder(runs, page), ...(page.cursor !== undefined && { cursor: page.cursor }) };
}

function asked(filters: URLSearchParams, limit: number, cursor?: string): URLSearchParams {
  const query = new URLSearchParams(filters);
  query.set("limit", String(limit));
  if (cursor !== undefined) query.set("cursor", cursor);
  return query;
}

function RunRows({ runs }: { runs: readonly RunSummary[] }) {
  useStatusNews(runs);
  if (runs.length === 0) return null;
  return (
    <div class="rows runs" role="table" aria-label="Runs, newest first" aria-rowcount={runs.length + 1}>
      <RunsHead />
      {runs.map((run) => (
        <RunRow key={run.runId} run={run} />
      ))}
    </div>
  );
}

export function RunsHead() {
  return (
    <div class="row head" role="row">
      <span role="columnheader">Status</span>
      <span role="columnheader">Run</span>
      <span role="columnheader">Project</span>
      <span role="columnheader" class="number">
        Steps
      </span>
      <span role="columnheader" class="number">
        Duration
      </span>
      <span role="columnheader" class="number">
        Created
      </span>
    </div>
  );
}

export function RunRow({ run, note }: { run: RunSummary; note?: string }) {
  const steps = (run.lastStepIndex ?? -1) + 1;
  return (
    <div class="row" role="row">
      <span role="cell" class="cell-status">
        <StatusBadge status={run.status} />
        <WaitNote run={run} />
        {run.pass !== undefined && (
          <span class="muted small status-note">{run.pass ? "passed" : "not passed"}</span>
        )}
      </span>
      <span role="cell" class="cell-run">
        <a href={runHref(run.runId)} data-row class="run-id">
          {run.runId}
        </a>
        <span class="intent">{run.task.intent}</span>
        <Tags tags={run.tags} />
        {note !== undefined && <span class="attention">{note}</span>}
        {run.error !== undefined && (
          <span class={`error-line ${run.status === "cancelled" ? "muted" : "bad"}`}>
            {run.error.message}
          </span>
        )}
      </span>
      <span role="cell" class="cell-project">
        {run.projectId}
        {run.scenarioId !== undefined && <span class="muted"> / {run.scenarioId}</span>}
      </span>
      <span role="cell" class="number cell-steps">
        {steps}
        <span class="unit">{steps === 1 ? " step" : " steps"}</span>
      </span>
      <span role="cell" class="number">
        <RunDuration run={run} />
      </span>
      <span role="cell" class="number muted">
        <Ago at={run.createdAt} />
      </span>
    </div>
  );
}

function WaitNote({ run }: { run: RunSummary }) {
  const [first, ...others] = run.waitingFor ?? [];
  if (first === undefined) return null;
  const what = first.for === "event" ? (first.key ?? "an event") : first.for;
  return (
    <span class="muted small status-note">
      waits: {what}
      {others.length > 0 && ` +${others.length}`}
    </span>
  );
}

/** Ended runs have one; of those under way it is the time since they were made. */
export function RunDuration({ run }: { run: Pick<RunSummary, "durationMs" | "createdAt" | "status"> }) {
  const isUnderWay = run.durationMs === undefined;
  const now = useNow(isUnderWay);
  return <>{formatDuration(run.durationMs ?? now - Date.parse(run.createdAt))}</>;
}

/** Says which of the runs shown have changed their status, where that is few. */
function useStatusNews(runs: readonly RunSummary[]): void {
  const last = useRef(new Map<string, string>());
  useEffect(() => {
    const news = runs.filter(({ runId, status }) => (last.current.get(runId) ?? status) !== status);
    last.current = new Map(runs.map(({ runId, status }) => [runId, status]));
    if (news.length > 3) announce(`${news.length} runs have changed.`);
    else if (news.length > 0) announce(news.map((run) => `${run.runId} is ${run.status}.`).join(" "));
  }, [runs]);
}

function Nothing({ isFiltered }: { isFiltered: boolean }) {
  if (isFiltered) {
    return (
      <Note>
        No run matches these filters. <a href={hrefTo(["runs"])}>Show all runs</a>
      </Note>
    );
  }
  return (
    <section class="empty" aria-labelledby="empty-title">
      <h2 id="empty-title">No runs yet</h2>
      <p>A run is one execution of a task whose steps are recorded once. This list shows each as it goes.</p>
      <ol>
        <li>
          In a checkout, make a few examples: <code>npm run example:runs</code>
        </li>
        <li>
          Or <a href={hrefTo(["start"])}>start a run</a> of a task that this Worker has.
        </li>
        <li>
          Or call <code>runDurable</code> in your own Worker: <code>docs/quickstart.md</code> has it whole.
        </li>
      </ol>
    </section>
  );
}
