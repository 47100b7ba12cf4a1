/** What may be done to a run from here, each in a dialog of its own: emit an event, cancel, resolve a step in doubt. */
import { useContext, useId, useState } from "preact/hooks";
import type { RunDetails } from "../../../src/history/types.ts";
import { api } from "../api/client.ts";
import { MeContext } from "../me.ts";
import { Dialog } from "../parts/dialog.tsx";
import { JsonField, parseJson } from "../parts/json-field.tsx";
import { announce } from "../parts/notices.tsx";
import type { Action } from "./action.ts";
import { isApproval } from "./action.ts";

interface ActionProps<A = Action> {
  action: A;
  run: RunDetails;
  /** It was done. */
  onDone: () => void;
  onClose: () => void;
}

export function ActionDialog(props: ActionProps) {
  const { action } = props;
  switch (action.does) {
    case "emit":
      return <EmitDialog {...props} action={action} />;
    case "cancel":
      return <CancelDialog {...props} />;
    case "resolve":
      return <ResolveDialog {...props} action={action} />;
  }
}

type OneAction<Does extends Action["does"]> = ActionProps<Extract<Action, { does: Does }>>;

function EmitDialog({ action, run, onDone, onClose }: OneAction<"emit">) {
  const id = useId();
  const me = useContext(MeContext);
  const [key, setKey] = useState(action.key ?? "");
  const isApproving = action.key !== undefined && isApproval(action.key);
  const [payload, setPayload] = useState(isApproving ? approvalBy(me?.name ?? "") : "{}");
  const awaited = (run.waitingFor ?? []).flatMap((wait) => wait.key ?? []);
  const emit = async (): Promise<void> => {
    const { accepted } = await api.emit(run.runId, key, parseJson(payload, "Payload"));
    announce(
      accepted ? `The event ${key} is on record.` : `An earlier event ${key} stands; this one was dropped.`,
    );
    onDone();
  };
  const title = isApproving ? `Approve: ${action.key}` : "Emit an event";
  return (
    <Dialog title={title} action={isApproving ? "Approve" : "Emit"} onSubmit={emit} onClose={onClose}>
      <div class="field">
        <label for={id}>Key</label>
        <input
          id={id}
          value={key}
          required
          list={`${id}-keys`}
          autocomplete="off"
          spellcheck={false}
          onInput={(event) => setKey(event.currentTarget.value)}
        />
        <datalist id={`${id}-keys`}>
          {awaited.map((each) => (
            <option key={each} value={each} />
          ))}
        </datalist>
      </div>
      <JsonField label="Payload (JSON)" value={payload} onValue={setPayload} />
      <p class="muted small">The first event of a key counts, for good.</p>
    </Dialog>
  );
}

function approvalBy(name: string): string {
  return JSON.stringify({ approved: true, by: name }, null, 2);
}

function CancelDialog({ run, onDone, onClose }: ActionProps) {
  const id = useId();
  const [reason, setReason] = useState("");
  const cancel = async (): Promise<void> => {
    const { run: after } = await api.cancel(run.runId, reason.trim());
    announce(`The run is ${after.status}.`);
    onDone();
  };
  return (
    <Dialog title="Cancel this run?" action="Cancel the run" isDangerous onSubmit={cancel} onClose={onClose}>
      <p>
        Its worker is stopped at its next call, and no worker can claim it again. What its steps have done
        stays done.
      </p>
      <div class="field">
        <label for={id}>Reason (optional)</label>
        <input
          id={id}
          value={reason}
          autocomplete="off"
          onInput={(event) => setReason(event.currentTarget.value)}
        />
      </div>
    </Dialog>
  );
}

function ResolveDialog({ action, run, onDone, onClose }: OneAction<"resolve">) {
  const [isRerun, setRerun] = useState(false);
  const [result, setResult] = useState("null");
  const { stepIndex } = action;
  const resolve = async (): Promise<void> => {
    const resolution = isRerun ? { rerun: true as const } : { result: parseJson(result, "Result") };
    await api.resolve(run.runId, stepIndex, resolution);
    announce(`Step ${stepIndex} is resolved.`);
    onDone();
  };
  return (
    <Dialog title={`Resolve step ${stepIndex}`} action="Resolve" onSubmit={resolve} onClose={onClose}>
      <p>A worker died inside this step. Find out what it did, then say:</p>
      <fieldset class="choices">
        <legend class="hidden">What the step did</legend>
        <label>
          <input type="radio" name="how" checked={!isRerun} onChange={() => setRerun(false)} />
          It was done, with this result
        </label>
        <label>
          <input type="radio" name="how" checked={isRerun} onChange={() => setRerun(true)} />
          It was not done: run it again
        </label>
      </fieldset>
      {!isRerun && <JsonField label="Result (JSON)" value={result} onValue={setResult} />}
    </Dialog>
  );
}
