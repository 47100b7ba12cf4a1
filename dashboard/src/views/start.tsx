/** Starts a run of a task that the Worker has. */
import { useState } from "preact/hooks";
import type { StartRequest, TaskInfo } from "../api/client.ts";
import { api, messageOf } from "../api/client.ts";
import { useMayWrite } from "../me.ts";
import { JsonField, parseJson } from "../parts/json-field.tsx";
import { announce, Note, Problem } from "../parts/notices.tsx";
import { goTo, runHref } from "../router.ts";
import { usePoll } from "../use-poll.ts";

export function StartView() {
  const { data: tasks, error } = usePoll("tasks", api.tasks, 0);
  const mayWrite = useMayWrite();
  return (
    <>
      <h1>Start a run</h1>
      <Problem error={error} />
      {tasks === undefined && error === undefined && <Note>Loading…</Note>}
      {tasks?.length === 0 && <Note>This Worker has no task that can be started from here.</Note>}
      {!mayWrite && tasks !== undefined && <Note>You may read, and start nothing.</Note>}
      {mayWrite && tasks !== undefined && tasks.length > 0 && <StartForm tasks={tasks} />}
    </>
  );
}

function StartForm({ tasks }: { tasks: readonly TaskInfo[] }) {
  const [name, setName] = useState(tasks[0]?.name ?? "");
  const [input, setInput] = useState("{}");
  const [problem, setProblem] = useState<string>();
  const [isBusy, setBusy] = useState(false);
  const task = tasks.find((candidate) => candidate.name === name);
  const start = async (form: HTMLFormElement): Promise<void> => {
    setBusy(true);
    setProblem(undefined);
    try {
      const { runId } = await api.start(requestOf(form, name, input));
      announce(`${runId} has been started.`);
      goTo(runHref(runId));
    } catch (error) {
      setProblem(messageOf(error));
      setBusy(false);
    }
  };
  return (
    <form
      class="form"
      onSubmit={(event) => {
        event.preventDefault();
        void start(event.currentTarget);
      }}
    >
      <label>
        Task
        <select value={name} onChange={(event) => setName(event.currentTarget.value)}>
          {tasks.map((each) => (
            <option key={each.name} value={each.name}>
              {each.name}
            </option>
          ))}
        </select>
      </label>
      {task !== undefined && (
        <p class="muted">
          {task.description ?? task.intent} Project {task.projectId}.
        </p>
      )}
      <JsonField label="Input (JSON)" value={input} rows={8} onValue={setInput} />
      <div class="fields">
        <label>
          Run id
          <input name="runId" placeholder="made for you" autocomplete="off" spellcheck={false} />
        </label>
        <label>
          Scenario
          <input name="scenarioId" autocomplete="off" spellcheck={false} />
        </label>
        <label>
          Tags
          <input name="tags" placeholder="key:value, key:value" autocomplete="off" spellcheck={false} />
        </label>
      </div>
      {problem !== undefined && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      <button type="submit" class="button primary" disabled={isBusy}>
        Start
      </button>
    </form>
  );
}

function requestOf(form: HTMLFormElement, task: string, inputText: string): StartRequest {
  const request: StartRequest = { task, input: parseJson(inputText, "Input") };
  const data = new FormData(form);
  const text = (name: string): string => textOf(data.get(name)).trim();
  if (text("runId") !== "") request.runId = text("runId");
  if (text("scenarioId") !== "") request.scenarioId = text("scenarioId");
  const tags = text("tags");
  if (tags !== "") request.tags = Object.fromEntries(tags.split(",").map(tagOf));
  return request;
}

function textOf(value: FormDataEntryValue | null): string {
  return typeof value === "string" ? value : "";
}

function tagOf(text: string): [string, string] {
  const at = text.indexOf(":");
  if (at < 1) throw new Error(`Tags: "${text.trim()}" is not key:value.`);
  return [text.slice(0, at).trim(), text.slice(at + 1).trim()];
}
