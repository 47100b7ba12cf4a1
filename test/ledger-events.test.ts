/** The rule of events: the first emit of a key wins, for good. */
import { describe, expect, test } from "vitest";
import { completeWith } from "../src/ledger/events.ts";
import type { EventCompletion } from "../src/ledger/requests.ts";
import { beginOf, claimOf, completeOf, emitOf, endOf, LEASE_MS, TinyJournal } from "./helpers/ledger.ts";

describe("an emit", () => {
  test("is accepted and kept, also for a run that has not begun", () => {
    const ledger = new TinyJournal();
    const { accepted, event } = ledger.accepts(emitOf({ payload: { ref: "body-1" } }));
    expect(accepted).toBe(true);
    expect(event).toEqual({
      key: "approved",
      payload: { ref: "body-1" },
      emittedAt: ledger.now,
      requestId: "emit-1",
    });
    expect(ledger.snapshot().events.get("approved")).toEqual(event);
    expect(ledger.run).toBeNull();
  });

  test("of a key that was emitted answers the standing record: the first wins", () => {
    const ledger = new TinyJournal();
    const { event } = ledger.accepts(emitOf());
    ledger.now += 10;
    const later = emitOf({ requestId: "emit-2", payload: { text: "2" } });
    expect(ledger.answers(later)).toEqual({ accepted: false, isNew: false, event });
    expect(ledger.answers(later)).toEqual({ accepted: false, isNew: false, event });
  });

  test("repeated under its request id was accepted, each time", () => {
    const ledger = new TinyJournal();
    const first = ledger.accepts(emitOf());
    ledger.now += 10;
    const standing = { ...first, isNew: false };
    expect(first.isNew).toBe(true);
    expect(ledger.answers(emitOf())).toEqual(standing);
    expect(ledger.answers(emitOf({ payload: { text: "2" } }))).toEqual(standing);
  });

  test("of another key stands beside it", () => {
    const ledger = new TinyJournal();
    ledger.accepts(emitOf());
    expect(ledger.accepts(emitOf({ key: "rejected", requestId: "emit-2" })).accepted).toBe(true);
    expect([...ledger.snapshot().events.keys()]).toEqual(["approved", "rejected"]);
  });

  test("needs no lease: the run may be held, lapsed or ended, and stays as it is", () => {
    const ledger = new TinyJournal();
    ledger.accepts(claimOf());
    const held = ledger.run;
    expect(ledger.accepts(emitOf({ key: "held" })).accepted).toBe(true);
    ledger.now += LEASE_MS;
    expect(ledger.accepts(emitOf({ key: "lapsed" })).accepted).toBe(true);
    expect(ledger.run).toBe(held);
    const { run } = ledger.accepts(endOf());
    expect(ledger.accepts(emitOf({ key: "ended" })).accepted).toBe(true);
    expect(ledger.run).toBe(run);
  });
});

describe("completions that come with an event", () => {
  /** Two steps that wait for "approved", and what becomes of completions that come with it. */
  function ended(completions: readonly Partial<EventCompletion>[], prepare = (_ledger: TinyJournal) => {}) {
    const ledger = new TinyJournal();
    ledger.accepts(claimOf());
    for (const stepIndex of [0, 1]) {
      const facts = { waitFor: { for: "event", key: "approved" }, path: String(stepIndex) } as const;
      ledger.accepts(
        beginOf({ stepIndex, requestId: `begin-${stepIndex}`, intent: `step-${stepIndex}`, ...facts }),
      );
    }
    prepare(ledger);
    const { event } = ledger.accepts(emitOf({ payload: { text: "7" } }));
    const { run } = ledger;
    const held = completions.map((more) => ({ request: { ...completeOf(), ...more } as EventCompletion }));
    const step = (at: number) => ledger.snapshot().steps.get(at) ?? null;
    return { ...completeWith(event, { run, step }, held, ledger.now), run };
  }

  test("are each decided over what those before them leave, and all add up to one change", () => {
    const { ends, change } = ended([{ stepIndex: 0 }, { stepIndex: 1 }, { stepIndex: 0 }]);
    const accepted = ends.map(({ decision }) => decision.ok && decision.reply.accepted);
    expect(accepted).toEqual([true, true, false]);
    expect(change.steps).toMatchObject(
      [0, 1].map((stepIndex) => ({ stepIndex, status: "completed", result: { text: "7" } })),
    );
    expect(change.run?.waits).toEqual([]);
  });

  test("are refused as they would be by themselves, and then change nothing, nor keep others back", () => {
    const { ends, change } = ended([{ stepIndex: 0, fence: 9 }, { stepIndex: 5 }, { stepIndex: 1 }]);
    const codes = ends.map(({ decision }) => (decision.ok ? "accepted" : decision.error.code));
    expect(codes).toEqual(["lease_lost", "step_not_running", "accepted"]);
    expect(change.steps).toMatchObject([{ stepIndex: 1, status: "completed" }]);
    expect(change.run?.waits).toMatchObject([{ stepIndex: 0 }]);
  });

  test("that are all refused, or none, are no change", () => {
    expect(ended([]).change).toEqual({});
    expect(ended([{ stepIndex: 0 }], (ledger) => ledger.accepts(endOf())).change).toEqual({});
  });
});
