/** The rule of events: the first emit of a key wins, for good. */
import { describe, expect, test } from "vitest";
import { claimOf, emitOf, endOf, LEASE_MS, TinyJournal } from "./helpers/ledger.ts";

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
