/** How runs fare: ends by hour or day, durations, and the steps by intent. */
import type { RunStats, StepStats } from "../../../src/history/types.ts";
import { api } from "../api/client.ts";
import { formatCount, formatDuration, formatInstant } from "../format.ts";
import { KindBadge, STATUSES, StatusBadge } from "../parts/badges.tsx";
import { Note, Problem } from "../parts/notices.tsx";
import { hrefTo, replaceQuery } from "../router.ts";
import { durationsChart, endsChart } from "../stats/charts.ts";
import { Chart } from "../stats/chart.tsx";
import { usePoll } from "../use-poll.ts";

const POLL_MS = 15_000;
const DAY_MS = 86_400_000;
const RANGES = [
  { name: "day", label: "24 hours", by: "hour", ms: DAY_MS },
  { name: "week", label: "7 days", by: "hour", ms: 7 * DAY_MS },
  { name: "month", label: "30 days", by: "day", ms: 30 * DAY_MS },
  { name: "year", label: "a year", by: "day", ms: 365 * DAY_MS },
] as const;

export function StatsView({ query }: { query: URLSearchParams }) {
  const range = RANGES.find(({ name }) => name === query.get("range")) ?? RANGES[0];
  const projectId = query.get("projectId") ?? "";
  const { data, error } = usePoll(
    `stats ${range.name} ${projectId}`,
    () => {
      const from = new Date(Date.now() - range.ms).toISOString();
      const asked = new URLSearchParams({ by: range.by, from });
      if (projectId !== "") asked.set("projectId", projectId);
      return api.stats(asked);
    },
    POLL_MS,
  );
  return (
    <>
      <h1>Stats</h1>
      <form
        class="filters inline"
        aria-label="Range"
        onInput={(event) => {
          const form = new FormData(event.currentTarget);
          const next = new URLSearchParams();
          for (const [name, value] of form)
            if (typeof value === "string" && value !== "") next.set(name, value);
          replaceQuery(["stats"], next);
        }}
        onSubmit={(event) => event.preventDefault()}
      >
        <label>
          Range
          <select name="range" value={range.name}>
            {RANGES.map(({ name, label }) => (
              <option key={name} value={name}>
                {label}
              </option>
            ))}
          </select>
        </label>
        <label>
          Project
          <input name="projectId" value={projectId} autocomplete="off" spellcheck={false} placeholder="all" />
        </label>
      </form>
      <Problem error={error} isStale={data !== undefined} />
      {data === undefined ? error === undefined && <Note>Loading…</Note> : <Shown stats={data} />}
    </>
  );
}

function Shown({ stats }: { stats: RunStats }) {
  const ended = stats.counts.completed + stats.counts.failed + stats.counts.cancelled;
  return (
    <>
      {stats.isBehind && <Note>More runs have ended than are counted here yet.</Note>}
      <ul class="counts">
        {STATUSES.map((status) => (
          <li key={status}>
            <a href={hrefTo(["runs"], new URLSearchParams({ status }))}>
              <strong>{stats.counts[status].toLocaleString("en")}</strong>
              <StatusBadge status={status} />
            </a>
          </li>
        ))}
      </ul>
      <p class="muted small">
        Running, pending and suspended: now. The others: ends from {formatInstant(stats.from)} to{" "}
        {formatInstant(stats.to)}.
      </p>
      <section aria-labelledby="ends-title">
        <h2 id="ends-title">Runs that ended, by {stats.by}</h2>
        <Chart
          of={endsChart(stats)}
          label={`${formatCount(ended, "run")} ended: ${stats.counts.completed} completed, ${stats.counts.failed} failed, ${stats.counts.cancelled} cancelled.`}
        />
      </section>
      <section aria-labelledby="durations-title">
        <h2 id="durations-title">Duration of completed runs</h2>
        {stats.durationMs === undefined ? (
          <Note>No run completed in this time.</Note>
        ) : (
          <Durations stats={stats} />
        )}
      </section>
      <section aria-labelledby="intents-title">
        <h2 id="intents-title">Steps by intent</h2>
        <StepTable steps={stats.steps} />
      </section>
    </>
  );
}

function Durations({ stats }: { stats: RunStats }) {
  const { p50 = 0, p95 = 0, p99 = 0 } = stats.durationMs ?? {};
  const label = `Half of the runs took up to ${formatDuration(p50)}, 95 % up to ${formatDuration(p95)}, 99 % up to ${formatDuration(p99)}.`;
  return (
    <>
      <p>{label}</p>
      <Chart of={durationsChart(stats)} label={label} />
    </>
  );
}

function StepTable({ steps }: { steps: readonly StepStats[] }) {
  if (steps.length === 0) return <Note>No run with steps ended in this time.</Note>;
  return (
    <div class="scroll" role="region" aria-label="Steps by intent" tabIndex={0}>
      <table>
        <thead>
          <tr>
            <th scope="col">Intent</th>
            <th scope="col">Kind</th>
            <th scope="col" class="number">
              Steps
            </th>
            <th scope="col" class="number">
              Failed
            </th>
            <th scope="col" class="number">
              Failure rate
            </th>
            <th scope="col" class="number">
              Attempts a step
            </th>
            <th scope="col" class="number">
              Mean duration
            </th>
          </tr>
        </thead>
        <tbody>
          {steps.map((step) => (
            <tr key={`${step.kind} ${step.intent}`}>
              <th scope="row">{step.intent === "" ? "all others" : step.intent}</th>
              <td>
                <KindBadge kind={step.kind} />
              </td>
              <td class="number">{step.steps.toLocaleString("en")}</td>
              <td class="number">{step.failed.toLocaleString("en")}</td>
              <td class={`number ${step.failed > 0 ? "bad" : ""}`}>
                {(step.failureRate * 100).toFixed(1)} %
              </td>
              <td class="number">{step.steps === 0 ? "–" : (step.attempts / step.steps).toFixed(2)}</td>
              <td class="number">{formatDuration(step.meanDurationMs)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
