/** The events of a run, with their payloads. */
import { useState } from "preact/hooks";
import type { EventPage, HistoryEvent } from "../../../src/history/types.ts";
import { api, messageOf } from "../api/client.ts";
import { formatBytes } from "../format.ts";
import { Ago } from "../parts/badges.tsx";
import { JsonTree } from "../parts/json-tree.tsx";
import { Note, Problem } from "../parts/notices.tsx";

interface EventsProps {
  runId: string;
  /** The first page. */
  page: EventPage | undefined;
  error: unknown;
}

export function Events({ runId, page, error }: EventsProps) {
  const [older, setOlder] = useState<EventPage>({ events: [] });
  const [problem, setProblem] = useState<unknown>();
  const isMoreLoaded = older.events.length > 0;
  const cursor = isMoreLoaded ? older.cursor : page?.cursor;
  const loadMore = async (): Promise<void> => {
    try {
      const next = await api.events(runId, cursor);
      setOlder({ ...next, events: [...older.events, ...next.events] });
    } catch (thrown) {
      setProblem(thrown);
    }
  };
  const events = [...(page?.events ?? []), ...(page?.cursor === undefined ? [] : older.events)];
  return (
    <section aria-labelledby="events-title">
      <h2 id="events-title">Events</h2>
      <Problem error={problem ?? error} isStale={page !== undefined} />
      {page === undefined && error === undefined && <Note>Loading…</Note>}
      {page !== undefined && events.length === 0 && <Note>None was emitted.</Note>}
      <ul class="events">
        {events.map((event) => (
          <EventItem key={event.key} event={event} />
        ))}
      </ul>
      {cursor !== undefined && (
        <button type="button" class="button" onClick={() => void loadMore()}>
          Load more
        </button>
      )}
    </section>
  );
}

function EventItem({ event }: { event: HistoryEvent }) {
  return (
    <li>
      <div class="event-head">
        <code>{event.key}</code>
        <span class="muted">
          <Ago at={event.emittedAt} />
        </span>
      </div>
      {"payload" in event ? (
        <JsonTree value={event.payload} label={`the payload of ${event.key}`} />
      ) : (
        <LargePayload event={event} />
      )}
    </li>
  );
}

function LargePayload({ event }: { event: HistoryEvent }) {
  const [loaded, setLoaded] = useState<{ payload: unknown } | { problem: string }>();
  const load = async (): Promise<void> => {
    try {
      setLoaded({ payload: (await api.event(event.runId, event.key)).payload });
    } catch (error) {
      setLoaded({ problem: messageOf(error) });
    }
  };
  if (loaded !== undefined && "payload" in loaded) {
    return <JsonTree value={loaded.payload} label={`the payload of ${event.key}`} />;
  }
  return (
    <p>
      {loaded?.problem}{" "}
      <button type="button" class="link" onClick={() => void load()}>
        Load {formatBytes(event.payloadBytes)}
      </button>
    </p>
  );
}
