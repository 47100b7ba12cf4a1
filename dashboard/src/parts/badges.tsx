/** Statuses, kinds and instants, as words with a colour or a mark beside them: no meaning is in the colour alone. */
import type { RunStatus, StepKind } from "../../../src/contract/types.ts";
import { formatInstant, formatRelative } from "../format.ts";
import type { StepState } from "../run/timeline.ts";
import { useNow } from "../ticker.ts";

/** In the order in which people look for them. */
export const STATUSES: readonly RunStatus[] = [
  "running",
  "pending",
  "suspended",
  "completed",
  "failed",
  "cancelled",
];

const MARKS: Readonly<Record<RunStatus | StepState, string>> = {
  running: "▶",
  completed: "✓",
  failed: "✕",
  cancelled: "⊘",
  suspended: "‖",
  pending: "○",
  waiting: "◔",
  retrying: "↻",
  "in doubt": "?",
};

export function StatusBadge({ status }: { status: RunStatus | StepState }) {
  return (
    <span class={`status status-${status.replace(" ", "-")}`}>
      <span class="mark" aria-hidden="true">
        {MARKS[status]}
      </span>
      {status}
    </span>
  );
}

export function KindBadge({ kind }: { kind: StepKind }) {
  return <span class={`kind kind-${kind}`}>{kind}</span>;
}

/** "12 s ago", with the instant as its title. */
export function Ago({ at }: { at: string }) {
  const now = useNow();
  return (
    <time dateTime={at} title={formatInstant(at)}>
      {formatRelative(at, now)}
    </time>
  );
}

export function Tags({ tags }: { tags: Readonly<Record<string, string>> | undefined }) {
  const entries = Object.entries(tags ?? {});
  if (entries.length === 0) return null;
  return (
    <span class="tags">
      {entries.map(([key, value]) => (
        <span class="tag" key={key}>
          <span class="muted">{key}:</span>
          {value}
        </span>
      ))}
    </span>
  );
}
