/** What is known of a run beside its steps: a list of names and values. */
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { RunDetails } from "../../../src/history/types.ts";
import { api, messageOf } from "../api/client.ts";
import { formatCount, formatDuration, formatInstant, shortened } from "../format.ts";
import { Ago, Tags } from "../parts/badges.tsx";
import { runHref } from "../router.ts";
import { RunDuration } from "../views/runs.tsx";

export function Facts({ run }: { run: RunDetails }) {
  return (
    <dl class="facts">
      <Fact name="Task">{run.task.id}</Fact>
      <Fact name="Project">
        {run.projectId}
        {run.scenarioId !== undefined && ` / ${run.scenarioId}`}
      </Fact>
      {run.tags !== undefined && Object.keys(run.tags).length > 0 && (
        <Fact name="Tags">
          <Tags tags={run.tags} />
        </Fact>
      )}
      <Fact name="Created">
        {formatInstant(run.createdAt)} (<Ago at={run.createdAt} />)
      </Fact>
      <Fact name={run.completedAt === undefined ? "Age" : "Duration"}>
        <RunDuration run={run} />
      </Fact>
      <Fact name="Steps begun">{run.stepCount.toLocaleString("en")}</Fact>
      <Fact name="Lease">
        <Lease run={run} />
      </Fact>
      <Fact name="Fence / takeovers">
        {run.fence ?? "–"} / {run.takeovers ?? 0}
      </Fact>
      <Fact name="Lag of D1">
        <Lag run={run} />
      </Fact>
      {run.forkedFrom !== undefined && (
        <Fact name="Forked from">
          <a href={runHref(run.forkedFrom.runId)}>{run.forkedFrom.runId}</a>, steps to{" "}
          {run.forkedFrom.throughStep}
        </Fact>
      )}
      <Fact name="Manifest hash">
        <code title={run.manifestHash}>{shortened(run.manifestHash)}</code>
      </Fact>
    </dl>
  );
}

function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** Renewals are not recorded, but for the loss of a lease: an end that has passed says only that there were some. */
function Lease({ run: { leaseHolderId, leaseExpiresAt } }: { run: RunDetails }) {
  if (leaseHolderId === undefined) return <>nobody holds it</>;
  const isAhead = leaseExpiresAt !== undefined && Date.parse(leaseExpiresAt) > Date.now();
  return (
    <>
      <code>{leaseHolderId}</code>
      {isAhead ? (
        <>
          , ends <Ago at={leaseExpiresAt} />, unless renewed
        </>
      ) : (
        ", renewed since it was recorded"
      )}
    </>
  );
}

/** What the latest change waited is on record; how many rows D1 lacks now, only the run's object knows. */
function Lag({ run }: { run: RunDetails }) {
  const [answer, setAnswer] = useState<string>();
  const ask = async (): Promise<void> => {
    setAnswer("asking…");
    try {
      setAnswer(`${formatCount((await api.lag(run.runId)).rows, "row")} behind`);
    } catch (error) {
      setAnswer(messageOf(error));
    }
  };
  return (
    <>
      {run.lagMs !== undefined && `${formatDuration(run.lagMs)} `}
      {answer !== undefined && <span role="status">{answer} </span>}
      <button type="button" class="link" onClick={() => void ask()}>
        {answer === undefined ? "ask now" : "again"}
      </button>
    </>
  );
}
