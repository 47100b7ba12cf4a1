/**
 * Steps on an axis of time.
 *
 * A row says when its bar begins and ends, in milliseconds; the table says how long the axis is and what time it is, as
 * custom properties. So as time goes on two properties change, and no row is drawn again. Pages of rows that are out of
 * sight are not laid out.
 */
import { memo } from "preact/compat";
import { useMemo, useState } from "preact/hooks";
import type { RunDetails } from "../../../src/history/types.ts";
import { formatCount, formatDuration } from "../format.ts";
import { Ago, KindBadge, StatusBadge } from "../parts/badges.tsx";
import { Note } from "../parts/notices.tsx";
import { useNow } from "../ticker.ts";
import type { Action } from "./action.ts";
import type { LoadedSteps } from "./step-pages.ts";
import { StepDetails } from "./step-details.tsx";
import type { TimelineRow } from "./timeline.ts";
import { ticksOf, timelineOf } from "./timeline.ts";

/** A mark further right has no room for its label. */
const LAST_TICK = 0.93;

interface WaterfallProps {
  run: RunDetails;
  loaded: LoadedSteps;
  onMore: () => void;
  onAction: (action: Action) => void;
}

export function Waterfall({ run, loaded, onMore, onAction }: WaterfallProps) {
  const steps = useMemo(() => loaded.pages.flatMap((page) => page.steps), [loaded]);
  const timeline = useMemo(() => timelineOf(run.createdAt, steps), [run.createdAt, steps]);
  const isLive = timeline.rows.some((row) => row.start !== undefined && row.end === undefined);
  const now = Math.max(useNow(isLive) - timeline.origin, timeline.end);
  const span = isLive ? now : timeline.end;
  if (steps.length === 0) return <Note>No step has begun yet.</Note>;
  return (
    <>
      <Legend rows={timeline.rows} />
      {loaded.hasMore && <More shown={steps.length} all={run.stepCount} onMore={onMore} />}
      <div
        class="waterfall"
        role="table"
        aria-label="Steps in order of position, with their time"
        aria-rowcount={loaded.hasMore ? -1 : steps.length + 1}
        style={{ "--span": String(span), "--now": String(now) }}
      >
        <div role="rowgroup">
          <div class="row head" role="row">
            <span role="columnheader">#</span>
            <span role="columnheader">Step</span>
            <span role="columnheader">State</span>
            <span role="columnheader" class="number">
              Attempts
            </span>
            <span role="columnheader" class="number">
              Took
            </span>
            <span role="columnheader" class="axis" aria-label="Time since the run was made">
              {ticksOf(span * LAST_TICK).map((tick) => (
                <span class="tick" key={tick.label} style={{ "--start": String(tick.at) }}>
                  {tick.label}
                </span>
              ))}
            </span>
          </div>
        </div>
        <Pages loaded={loaded} rows={timeline.rows} onAction={onAction} />
      </div>
      {loaded.hasMore && <More shown={steps.length} all={run.stepCount} onMore={onMore} />}
    </>
  );
}

function More({ shown, all, onMore }: { shown: number; all: number; onMore: () => void }) {
  return (
    <p>
      The first {shown.toLocaleString("en")} of {formatCount(all, "step")} are shown.{" "}
      <button type="button" class="button" onClick={onMore}>
        Load more
      </button>
    </p>
  );
}

function Legend({ rows }: { rows: readonly TimelineRow[] }) {
  const kinds = [...new Set(rows.map((row) => row.step.kind))];
  const underWay = rows.filter((row) => row.state === "running" || row.state === "waiting");
  return (
    <p class="legend">
      {kinds.map((kind) => (
        <KindBadge key={kind} kind={kind} />
      ))}
      {underWay.length > 0 && (
        <span class="now-line">
          Now:{" "}
          {underWay
            .slice(0, 3)
            .map((row) => row.step.intent)
            .join(", ")}
          {underWay.length > 3 && ` and ${underWay.length - 3} more`}
        </span>
      )}
    </p>
  );
}

interface PagesProps {
  loaded: LoadedSteps;
  rows: readonly TimelineRow[];
  onAction: (action: Action) => void;
}

/** The rows in groups of a page each. */
function Pages({ loaded, rows, onAction }: PagesProps) {
  let from = 0;
  return (
    <>
      {loaded.pages.map((page, i) => {
        const part = rows.slice(from, (from += page.steps.length));
        return <Group key={i} rows={part} onAction={onAction} />;
      })}
    </>
  );
}

const Group = memo(GroupRows, (before, after) => {
  const isSame = (row: TimelineRow, i: number): boolean =>
    row.step === before.rows[i]?.step && row.start === before.rows[i]?.start;
  return before.rows.length === after.rows.length && after.rows.every(isSame);
});

function GroupRows({ rows, onAction }: Pick<PagesProps, "rows" | "onAction">) {
  return (
    <div role="rowgroup" class="step-group" style={{ "--rows": String(rows.length) }}>
      {rows.map((row) => (
        <StepRow key={row.step.stepIndex} row={row} onAction={onAction} />
      ))}
    </div>
  );
}

function StepRow({ row, onAction }: { row: TimelineRow; onAction: (action: Action) => void }) {
  const [isOpen, setOpen] = useState(false);
  const { step, state, depth, branch } = row;
  const detailsId = `step-${step.stepIndex}`;
  return (
    <>
      <div class={`row step ${isOpen ? "open" : ""}`} role="row">
        <span role="cell" class="cell-index muted">
          {step.stepIndex}
        </span>
        <span role="cell" class="cell-intent" style={{ "--depth": String(Math.min(depth, 6)) }}>
          <button
            type="button"
            class="intent-button"
            data-row
            aria-expanded={isOpen}
            aria-controls={detailsId}
            onClick={() => setOpen(!isOpen)}
          >
            {step.intent}
          </button>
          <KindBadge kind={step.kind} />
          {branch !== undefined && <span class="branch muted">{branch}</span>}
        </span>
        <span role="cell" class="cell-state">
          <StatusBadge status={state} />
        </span>
        <span role="cell" class={`number cell-attempts ${step.attempts > 1 ? "attention" : "muted"}`}>
          {step.attempts}
          <span class="unit">{step.attempts === 1 ? " attempt" : " attempts"}</span>
        </span>
        <span role="cell" class="number cell-took">
          <Took row={row} />
        </span>
        <Bar row={row} />
      </div>
      {isOpen && <StepDetails id={detailsId} row={row} onAction={onAction} />}
    </>
  );
}

function Took({ row }: { row: TimelineRow }) {
  const { step, state } = row;
  const isUnderWay = state === "running" || state === "waiting";
  const now = useNow(isUnderWay);
  if (state === "retrying" && step.nextAttemptAt !== undefined) return <Ago at={step.nextAttemptAt} />;
  if (isUnderWay && step.startedAt !== undefined)
    return <>{formatDuration(now - Date.parse(step.startedAt))}</>;
  return <>{step.durationMs === undefined ? "–" : formatDuration(step.durationMs)}</>;
}

function Bar({ row }: { row: TimelineRow }) {
  const { step, state, start, end } = row;
  return (
    <span
      role="cell"
      class="cell-bar"
      aria-label={start === undefined ? "not begun" : `began after ${formatDuration(start)}`}
    >
      {start !== undefined && (
        <span
          class={`bar kind-${step.kind} bar-${state.replace(" ", "-")}`}
          style={{ "--start": String(start), ...(end !== undefined && { "--end": String(end) }) }}
        />
      )}
    </span>
  );
}
