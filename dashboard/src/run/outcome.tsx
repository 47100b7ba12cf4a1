/** How a run or a step ended: its outcome, its error. */
import type { StepError } from "../../../src/contract/types.ts";
import type { RunDetails } from "../../../src/history/types.ts";
import { JsonTree } from "../parts/json-tree.tsx";

export function OutcomeView({ run }: { run: RunDetails }) {
  const { outcome } = run;
  if (outcome === undefined) return null;
  return (
    <section class="outcome" aria-labelledby="outcome-title">
      <h2 id="outcome-title">Outcome</h2>
      <p>
        {outcome.pass !== undefined && (
          <strong class={outcome.pass ? "good" : "bad"}>{outcome.pass ? "✓ passed" : "✕ not passed"}</strong>
        )}
        {outcome.score !== undefined && <span> score {outcome.score}</span>}
        {outcome.notes !== undefined && <span> {outcome.notes}</span>}
      </p>
      {outcome.metadata !== undefined && <JsonTree value={outcome.metadata} label="the outcome's metadata" />}
    </section>
  );
}

export function ErrorView({ error, title }: { error: StepError; title: string }) {
  return (
    <div class="error-view">
      <h3>{title}</h3>
      <p class="error-text">
        {error.name !== undefined && <strong>{error.name}: </strong>}
        {error.message}
        {error.code !== undefined && <code> {error.code}</code>}
      </p>
      {error.stack !== undefined && (
        <details>
          <summary>Stack</summary>
          <pre tabIndex={0}>{error.stack}</pre>
        </details>
      )}
    </div>
  );
}
