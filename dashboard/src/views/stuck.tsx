/** Runs that are overdue, and why. */
import type { StuckReason, StuckRun } from "../../../src/history/types.ts";
import { api } from "../api/client.ts";
import { formatRelative } from "../format.ts";
import { Note, Problem } from "../parts/notices.tsx";
import { useNow } from "../ticker.ts";
import { usePoll } from "../use-poll.ts";
import { RunRow, RunsHead } from "./runs.tsx";

const POLL_MS = 5_000;

const REASONS: Readonly<Record<StuckReason, string>> = {
  lease_lapsed: "its worker is gone, and nobody took over",
  wait_overdue: "its wait is over, and nobody went on",
  late_record: "its latest change was recorded late",
};

export function StuckView() {
  const { data, error } = usePoll("stuck", () => api.stuck(new URLSearchParams()), POLL_MS);
  return (
    <>
      <h1>Stuck runs</h1>
      <p class="muted">
        Runs that should have gone on for more than a minute, the longest overdue first. A run goes on when
        any worker claims it again, under the same id.
      </p>
      <Problem error={error} isStale={data !== undefined} />
      {data === undefined && error === undefined && <Note>Loading…</Note>}
      {data?.runs.length === 0 && <Note>Nothing is stuck.</Note>}
      {data !== undefined && data.runs.length > 0 && (
        <div class="rows runs" role="table" aria-label="Stuck runs">
          <RunsHead />
          {data.runs.map((run) => (
            <StuckRow key={run.runId} run={run} />
          ))}
        </div>
      )}
      {data?.cursor !== undefined && <Note>There are more than these.</Note>}
    </>
  );
}

function StuckRow({ run }: { run: StuckRun }) {
  const now = useNow();
  const why = run.reasons.map((reason) => REASONS[reason]).join("; ");
  return <RunRow run={run} note={`${why} (${formatRelative(run.since, now)})`} />;
}
