/**
 * The frame: head, navigation, search, the view of the place, keys.
 *
 * Knows which view shows which place, and nothing of what they show.
 */
import { useEffect, useRef } from "preact/hooks";
import { api, signOut } from "./api/client.ts";
import { MeContext } from "./me.ts";
import { LiveRegion, Note } from "./parts/notices.tsx";
import type { Place } from "./router.ts";
import { goTo, hrefTo, runHref, usePlace } from "./router.ts";
import { usePoll } from "./use-poll.ts";
import { RunView } from "./views/run.tsx";
import { RunsView } from "./views/runs.tsx";
import { StartView } from "./views/start.tsx";
import { StatsView } from "./views/stats.tsx";
import { StuckView } from "./views/stuck.tsx";

const SECTIONS = [
  { name: "runs", label: "Runs" },
  { name: "stats", label: "Stats" },
  { name: "stuck", label: "Stuck" },
  { name: "start", label: "Start a run" },
] as const;

export function App() {
  const place = usePlace();
  const { data: me } = usePoll("me", api.me, 0);
  const main = useRef<HTMLElement>(null);
  const section = place.parts[0] ?? "runs";
  useKeys();
  useFocusOnArrival(place, main);
  return (
    <MeContext.Provider value={me}>
      <a
        class="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault();
          main.current?.focus();
        }}
      >
        Skip to the content
      </a>
      <header class="top">
        <a class="brand" href={hrefTo([])}>
          durable-runs
        </a>
        <nav aria-label="Sections">
          {SECTIONS.map(({ name, label }) => (
            <a key={name} href={hrefTo([name])} aria-current={section === name ? "page" : undefined}>
              {label}
            </a>
          ))}
        </nav>
        <Search />
        {me !== undefined && (
          <span class="who muted">
            {me.name}
            {me.projectId !== undefined && ` · ${me.projectId}`}
            {me.access === "read" && " · read only"}{" "}
            <button type="button" class="link" onClick={() => void signOut()}>
              Sign out
            </button>
          </span>
        )}
      </header>
      <main id="main" ref={main} tabIndex={-1}>
        <View place={place} />
      </main>
      <LiveRegion />
    </MeContext.Provider>
  );
}

function View({ place }: { place: Place }) {
  const [section = "runs", id] = place.parts;
  useEffect(() => {
    document.title = `${id ?? section} · durable-runs`;
  }, [section, id]);
  if (section === "runs")
    return id === undefined ? <RunsView query={place.query} /> : <RunView key={id} runId={id} />;
  if (section === "stats") return <StatsView query={place.query} />;
  if (section === "stuck") return <StuckView />;
  if (section === "start") return <StartView />;
  return (
    <>
      <h1>Nothing here</h1>
      <Note>There is no page of this name.</Note>
    </>
  );
}

function Search() {
  return (
    <form
      class="search"
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
        const input = event.currentTarget.querySelector("input");
        const runId = input?.value.trim() ?? "";
        if (runId !== "") goTo(runHref(runId));
        if (input !== null) input.value = "";
      }}
    >
      <input
        id="search"
        type="search"
        placeholder="Open a run by its id ( / )"
        aria-label="Open a run by its id"
        autocomplete="off"
        spellcheck={false}
      />
    </form>
  );
}

/** At another place, focus is at its content: so keys and screen readers begin there. */
function useFocusOnArrival({ parts }: Place, main: { current: HTMLElement | null }): void {
  const path = parts.join("/");
  const last = useRef(path);
  useEffect(() => {
    if (last.current === path) return;
    last.current = path;
    main.current?.focus({ preventScroll: true });
    scrollTo(0, 0);
  }, [path]);
}

/** "/" searches; j and k go from row to row. Not while one types. */
function useKeys(): void {
  useEffect(() => {
    const press = (event: KeyboardEvent): void => {
      if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
      if (document.querySelector("dialog[open]") !== null) return;
      if (event.key === "/") document.querySelector<HTMLElement>("#search")?.focus();
      else if (event.key === "j") moveFocus(1);
      else if (event.key === "k") moveFocus(-1);
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.matches("input, textarea, select");
}

function moveFocus(by: 1 | -1): void {
  const rows = [...document.querySelectorAll<HTMLElement>("[data-row]")];
  const at = rows.findIndex((row) => row === document.activeElement);
  rows[at < 0 ? 0 : Math.min(rows.length - 1, Math.max(0, at + by))]?.focus();
}
