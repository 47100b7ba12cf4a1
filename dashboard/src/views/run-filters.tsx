/** The filters of the list. They live in the address, so that a filtered list can be kept and sent. */
import { memo } from "preact/compat";
import { useRef } from "preact/hooks";
import { STATUSES } from "../parts/badges.tsx";
import { hrefTo, replaceQuery } from "../router.ts";

const TYPING_MS = 350;

const TEXTS = [
  { name: "projectId", label: "Project" },
  { name: "scenarioId", label: "Scenario" },
  { name: "taskId", label: "Task" },
  { name: "tag", label: "Tag", placeholder: "key:value" },
] as const;

/** Drawn again for other filters alone: a list that is refreshed must not take back what somebody is typing. */
export const RunFilters = memo(
  FilterForm,
  (before, after) => before.filters.toString() === after.filters.toString(),
);

function FilterForm({ filters }: { filters: URLSearchParams }) {
  const form = useRef<HTMLFormElement>(null);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  const apply = (): void => {
    clearTimeout(timer.current);
    if (form.current !== null) replaceQuery(["runs"], queryOf(form.current, filters));
  };
  const soon = (): void => {
    clearTimeout(timer.current);
    timer.current = setTimeout(apply, TYPING_MS);
  };
  return (
    <form
      ref={form}
      class="filters"
      aria-label="Filters"
      onInput={soon}
      onSubmit={(event) => {
        event.preventDefault();
        apply();
      }}
    >
      <fieldset class="statuses">
        <legend class="hidden">Status</legend>
        {STATUSES.map((status) => (
          <label key={status} class="chip">
            <input
              type="checkbox"
              name="status"
              value={status}
              checked={filters.getAll("status").includes(status)}
            />
            <span>{status}</span>
          </label>
        ))}
        {filters.size > 0 && (
          <a class="clear" href={hrefTo(["runs"])}>
            Clear
          </a>
        )}
      </fieldset>
      <details class="more-filters" open={hasMoreFilters(filters)}>
        <summary>More filters</summary>
        <div class="fields">
          {TEXTS.map(({ name, label, ...rest }) => (
            <label key={name}>
              {label}
              <input
                name={name}
                value={filters.get(name) ?? ""}
                autocomplete="off"
                spellcheck={false}
                {...rest}
              />
            </label>
          ))}
          <label>
            Created from
            <input type="datetime-local" name="createdFrom" value={toLocal(filters.get("createdFrom"))} />
          </label>
          <label>
            Created before
            <input type="datetime-local" name="createdTo" value={toLocal(filters.get("createdTo"))} />
          </label>
          <label>
            Outcome
            <select name="pass" value={filters.get("pass") ?? ""}>
              <option value="">any</option>
              <option value="true">passed</option>
              <option value="false">not passed</option>
            </select>
          </label>
        </div>
      </details>
    </form>
  );
}

function hasMoreFilters(filters: URLSearchParams): boolean {
  return [...filters.keys()].some((name) => name !== "status");
}

/** What has no field here, such as `heldBy`, stays as it is. */
function queryOf(form: HTMLFormElement, filters: URLSearchParams): URLSearchParams {
  const query = new URLSearchParams();
  const data = new FormData(form);
  for (const [name, value] of data) {
    if (typeof value !== "string" || value.trim() === "") continue;
    query.append(name, name.startsWith("created") ? fromLocal(value) : value.trim());
  }
  const fields = new Set([...form.elements].map((field) => field.getAttribute("name")));
  for (const [name, value] of filters) if (!fields.has(name)) query.append(name, value);
  return query;
}

/** An instant as the field has it: in the reader's time zone, to the minute. */
function toLocal(instant: string | null): string {
  const time = Date.parse(instant ?? "");
  if (Number.isNaN(time)) return "";
  const shifted = time - new Date(time).getTimezoneOffset() * 60_000;
  return new Date(shifted).toISOString().slice(0, 16);
}

function fromLocal(text: string): string {
  return new Date(text).toISOString();
}
