/** For tests of the ledger: runs and steps in the states that rules are about, and requests that are made twice. */
import { expect } from "vitest";
import type { BeginRequest, Replies, Request, ResolveRequest } from "../../src/ledger/requests.ts";
import {
  beginOf,
  claimOf,
  completeOf,
  endOf,
  failOf,
  LEASE_MS,
  resolveOf,
  suspendOf,
  TinyJournal,
} from "./ledger.ts";

/** A run that ann holds under fence 1. */
export function claimed(): TinyJournal {
  const ledger = new TinyJournal();
  ledger.accepts(claimOf());
  return ledger;
}

/** Its step 0 runs in attempt 1. */
export function begun(over: Partial<BeginRequest> = {}): TinyJournal {
  const ledger = claimed();
  ledger.accepts(beginOf(over));
  return ledger;
}

export function completed(): TinyJournal {
  const ledger = begun();
  ledger.accepts(completeOf());
  return ledger;
}

/** Step 0 has failed for good. */
export function failed(): TinyJournal {
  const ledger = begun();
  ledger.accepts(failOf());
  return ledger;
}

/** Attempt 1 of step 0 has failed, and the next one is due in so many milliseconds. */
export function pendingRetry(retryAfterMs: number, inDoubt = false): TinyJournal {
  const ledger = begun();
  ledger.accepts(failOf({ retryAfterMs, inDoubt }));
  return ledger;
}

/** The run in the hands of bob, under the next fence, ann being dead. */
export function takenOver(ledger: TinyJournal): TinyJournal {
  ledger.now += LEASE_MS;
  ledger.accepts(claimOf({ requestId: `claim-${ledger.theRun.fence + 1}`, workerId: "bob" }));
  return ledger;
}

/** Ann died in attempt 1 of step 0. Bob, under fence 2, came with this policy. */
export function interrupted(onInterrupted: BeginRequest["onInterrupted"]): TinyJournal {
  const ledger = takenOver(begun());
  ledger.accepts(beginOf({ requestId: "begin-2", fence: 2, onInterrupted }));
  return ledger;
}

/** Step 0 is parked, and bob has left the run, which is suspended. */
export function suspended(): TinyJournal {
  const ledger = interrupted("park");
  ledger.accepts(suspendOf({ workerId: "bob", fence: 2 }));
  return ledger;
}

/** Step 0 failed by interruption, and in doubt; the run has failed with it, and nobody holds it. */
export function failedInDoubt(): TinyJournal {
  const ledger = interrupted("fail");
  ledger.accepts(endOf({ status: "failed", workerId: "bob", fence: 2 }));
  return ledger;
}

/** A decision by somebody who has just read the run. */
export function decisionOn(ledger: TinyJournal, over: Partial<ResolveRequest> = {}): ResolveRequest {
  return resolveOf({ readAt: ledger.theRun.updatedAt, ...over });
}

/**
 * Makes a request twice, the second time a little later, and answers what it was answered.
 *
 * R20: one effect, one answer. `accepted` and `isNew` are for the journal, and no part of the answer; a copy writes
 * again what stands.
 */
export function twice<R extends Request>(ledger: TinyJournal, request: R): Replies[R["op"]] {
  const reply = ledger.accepts(request);
  const before = ledger.snapshot();
  ledger.now += 7;
  expect(answerOf(ledger.accepts(request))).toEqual(answerOf(reply));
  ledger.now -= 7;
  expect(ledger.snapshot()).toEqual(before);
  return reply;
}

function answerOf(reply: object): object {
  const { accepted: _accepted, isNew: _isNew, ...answer } = reply as { accepted?: boolean; isNew?: boolean };
  return answer;
}
