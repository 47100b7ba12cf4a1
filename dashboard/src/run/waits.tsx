/** What a run waits for, and the button that ends the wait. */
import type { RunWait } from "../../../src/contract/types.ts";
import type { RunDetails } from "../../../src/history/types.ts";
import { formatInstant } from "../format.ts";
import { useMayWrite } from "../me.ts";
import { Ago } from "../parts/badges.tsx";
import type { Action } from "./action.ts";
import { isApproval } from "./action.ts";

interface WaitsProps {
  run: RunDetails;
  onAction: (action: Action) => void;
}

export function Waits({ run, onAction }: WaitsProps) {
  const waits = run.waitingFor ?? [];
  const mayWrite = useMayWrite();
  if (waits.length === 0) return null;
  return (
    <section class="waits" aria-labelledby="waits-title">
      <h2 id="waits-title">Waits for</h2>
      <ul>
        {waits.map((wait) => (
          <li key={`${wait.for} ${wait.stepIndex}`}>
            <span>
              <WaitText wait={wait} />
              <Until until={wait.until} />
            </span>
            {mayWrite && <WaitButton wait={wait} onAction={onAction} />}
          </li>
        ))}
      </ul>
    </section>
  );
}

function WaitText({ wait }: { wait: RunWait }) {
  switch (wait.for) {
    case "event":
      return (
        <>
          the event <code>{wait.key}</code> (step {wait.stepIndex})
        </>
      );
    case "time":
      return <>a sleep to end (step {wait.stepIndex})</>;
    case "retry":
      return <>the next attempt at step {wait.stepIndex}</>;
    case "decision":
      return <>a decision: a worker died in step {wait.stepIndex}, and nobody knows what it has done</>;
  }
}

function Until({ until }: { until: string | undefined }) {
  if (until === undefined) return null;
  return (
    <span class="muted">
      {" "}
      until {formatInstant(until)} (<Ago at={until} />)
    </span>
  );
}

function WaitButton({ wait, onAction }: { wait: RunWait; onAction: (action: Action) => void }) {
  if (wait.for === "decision") {
    return (
      <button
        type="button"
        class="button primary"
        onClick={() => onAction({ does: "resolve", stepIndex: wait.stepIndex })}
      >
        Resolve…
      </button>
    );
  }
  const { key } = wait;
  if (wait.for !== "event" || key === undefined) return null;
  return (
    <button type="button" class="button primary" onClick={() => onAction({ does: "emit", key })}>
      {isApproval(key) ? "Approve…" : "Emit…"}
    </button>
  );
}
