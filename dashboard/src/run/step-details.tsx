/** What is known of one step, and its result, which is loaded when somebody looks. */
import { useState } from "preact/hooks";
import type { HistoryStep } from "../../../src/history/types.ts";
import { api } from "../api/client.ts";
import { formatBytes, formatInstant } from "../format.ts";
import { useMayWrite } from "../me.ts";
import { Ago } from "../parts/badges.tsx";
import { JsonTree } from "../parts/json-tree.tsx";
import { Note, Problem } from "../parts/notices.tsx";
import { usePoll } from "../use-poll.ts";
import type { Action } from "./action.ts";
import { ErrorView } from "./outcome.tsx";
import type { TimelineRow } from "./timeline.ts";

/** Larger results wait for a second click. */
const LOADED_BYTES = 256 * 1_024;

interface StepDetailsProps {
  id: string;
  row: TimelineRow;
  onAction: (action: Action) => void;
}

export function StepDetails({ id, row, onAction }: StepDetailsProps) {
  const { step, state } = row;
  const mayWrite = useMayWrite();
  return (
    <div role="row" class="step-details" id={id}>
      <div role="cell">
        <dl class="facts">
          <div>
            <dt>Input hash</dt>
            <dd>{step.inputHash === "" ? "none given" : <code>{step.inputHash}</code>}</dd>
          </div>
          {step.path !== undefined && (
            <div>
              <dt>Path</dt>
              <dd>
                <code>{step.path}</code>
              </dd>
            </div>
          )}
          <Instant name="Latest attempt began" at={step.startedAt} />
          <Instant name="Ended" at={step.completedAt} />
          <Instant name="Next attempt" at={step.nextAttemptAt} />
          <Instant name="Gives up" at={step.deadlineAt} />
          {step.workerId !== undefined && (
            <div>
              <dt>Worker</dt>
              <dd>
                <code>{step.workerId}</code>
              </dd>
            </div>
          )}
        </dl>
        {state === "in doubt" && mayWrite && (
          <p>
            Its worker died, and nobody knows what it did.{" "}
            <button
              type="button"
              class="button"
              onClick={() => onAction({ does: "resolve", stepIndex: step.stepIndex })}
            >
              Resolve…
            </button>
          </p>
        )}
        {step.error !== undefined && <ErrorView error={step.error} title="Error" />}
        {step.lastError !== undefined && (
          <ErrorView error={step.lastError} title="Error of an earlier attempt" />
        )}
        {step.status === "completed" && <Result step={step} />}
      </div>
    </div>
  );
}

function Instant({ name, at }: { name: string; at: string | undefined }) {
  if (at === undefined) return null;
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        {formatInstant(at)} (<Ago at={at} />)
      </dd>
    </div>
  );
}

function Result({ step }: { step: HistoryStep }) {
  const bytes = step.resultBytes ?? 0;
  const [isWanted, setWanted] = useState(bytes <= LOADED_BYTES);
  return (
    <>
      <h3>
        Result <span class="muted small">{formatBytes(bytes)}</span>
      </h3>
      {bytes === 0 && <Note>It returned nothing.</Note>}
      {bytes > 0 && isWanted && <LoadedResult step={step} />}
      {bytes > 0 && !isWanted && (
        <button type="button" class="button" onClick={() => setWanted(true)}>
          Load {formatBytes(bytes)}
        </button>
      )}
    </>
  );
}

function LoadedResult({ step }: { step: HistoryStep }) {
  const { runId, stepIndex } = step;
  const key = `${runId} ${stepIndex} ${step.completedAt ?? ""}`;
  const { data, error } = usePoll(key, () => api.step(runId, stepIndex), 0);
  if (data === undefined) return error === undefined ? <Note>Loading…</Note> : <Problem error={error} />;
  return <JsonTree value={data.result} label={`the result of step ${stepIndex}`} />;
}
