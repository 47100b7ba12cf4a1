/**
 * The invariants of the ledger, over random sequences of requests: three workers with the fences that they were told
 * (so, often, stale ones), time that jumps, late duplicates of earlier requests, lost begins.
 *
 * A failing run prints its seed and its shortest sequence.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { StepKind } from "../src/contract/types.ts";
import type { BeginFacts, Decision, Op, Request } from "../src/ledger/requests.ts";
import { leaseIsLive } from "../src/ledger/state.ts";
import type { Snapshot } from "./helpers/ledger.ts";
import {
  beginOf,
  claimOf,
  completeOf,
  emitOf,
  endOf,
  factsOf,
  failOf,
  renewOf,
  TinyJournal,
} from "./helpers/ledger.ts";

const WORKERS = ["ann", "bob", "cat"];

/** Which fence a worker sends: the one that it was told last, none, or one that it cannot have. */
type FenceChoice = "told" | "none" | "older" | "newer";

interface FactsChoice {
  readonly otherIntent: boolean;
  readonly kind: StepKind;
  readonly inputHash: string;
  readonly timeoutMs: number | null;
  readonly caught: readonly number[];
}

type Command =
  | { readonly do: "wait"; readonly ms: number }
  /** Sends an earlier request again, late. */
  | { readonly do: "duplicate"; readonly back: number }
  | { readonly do: "claim"; readonly worker: string; readonly leaseMs: number; readonly manifestHash: string }
  | { readonly do: "renew"; readonly worker: string; readonly leaseMs: number; readonly fence: FenceChoice }
  | {
      readonly do: "begin";
      readonly worker: string;
      readonly fence: FenceChoice;
      readonly stepIndex: number;
      readonly facts: FactsChoice;
    }
  | {
      readonly do: "complete" | "fail";
      readonly worker: string;
      readonly fence: FenceChoice;
      readonly stepIndex: number;
      /** Beside the attempt on record; `null`: the caller does not say. */
      readonly attempt: number | null;
      readonly facts: FactsChoice | null;
    }
  | { readonly do: "end"; readonly worker: string; readonly fence: FenceChoice; readonly status: "completed" | "failed" }
  | { readonly do: "emit"; readonly key: string };

const worker = fc.constantFrom(...WORKERS);
const leaseMs = fc.integer({ min: 1, max: 100 });
const stepIndex = fc.integer({ min: 0, max: 2 });
const fence = rarely<FenceChoice>("told", "none", "older", "newer");
const facts: fc.Arbitrary<FactsChoice> = fc.record({
  otherIntent: rarely(false, true),
  kind: rarely<StepKind>("tool", "llm"),
  inputHash: rarely("", "in-1", "in-2"),
  timeoutMs: fc.constantFrom(null, 0, 50),
  caught: fc.subarray([0, 1, 2]),
});

const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant("wait"), ms: fc.integer({ min: 0, max: 120 }) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("duplicate"), back: fc.nat({ max: 12 }) }) },
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant("claim"), worker, leaseMs, manifestHash: rarely("hash-1", "hash-2") }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("renew"), worker, leaseMs, fence }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant("begin"), worker, fence, stepIndex, facts }) },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constantFrom("complete", "fail"),
      worker,
      fence,
      stepIndex,
      attempt: fc.constantFrom(null, 0, 0, 0, -1, 1, 2),
      facts: fc.option(facts),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("end"),
      worker,
      fence,
      status: fc.constantFrom("completed", "failed", "failed"),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("emit"), key: fc.constantFrom("approved", "rejected") }) },
);

/** One request, and all that it did. */
interface Moment {
  readonly request: Request;
  readonly now: number;
  readonly before: Snapshot;
  readonly decision: Decision;
  readonly after: Snapshot;
  /** What the same slice decided when it was asked twice. */
  readonly decidedAgain: Decision;
  /** What the very same request, sent once more at once, was answered. */
  readonly repeated: Decision;
}

/** Applies the commands, one by one, to a run that does not exist yet. */
function play(commands: readonly Command[]): Moment[] {
  const journal = new TinyJournal();
  const told = new Map<string, number>();
  const moments: Moment[] = [];
  for (const [i, each] of commands.entries()) {
    if (each.do === "wait") {
      journal.now += each.ms;
      continue;
    }
    const request =
      each.do === "duplicate" ? moments.at(-1 - each.back)?.request : requestOf(each, `request-${i}`, journal, told);
    if (!request) continue;
    const before = journal.snapshot();
    const decidedAgain = journal.decide(request);
    const decision = journal.submit(request);
    const after = journal.snapshot();
    const repeated = journal.decide(request);
    moments.push({ request, now: journal.now, before, decision, after, decidedAgain, repeated });
    if (request.op === "claim" && decision.ok && after.run) told.set(request.workerId, after.run.fence);
  }
  return moments;
}

function requestOf(
  each: Exclude<Command, { do: "wait" | "duplicate" }>,
  requestId: string,
  { run, ...journal }: TinyJournal & { run: TinyJournal["run"] },
  told: ReadonlyMap<string, number>,
): Request {
  void journal;
  const fenceOf = (choice: FenceChoice, who: string): number | null => {
    const standing = run?.fence ?? 0;
    if (choice === "none") return null;
    if (choice === "older") return Math.max(0, standing - 1);
    return choice === "newer" ? standing + 1 : (told.get(who) ?? 0);
  };
  void fenceOf;
  void each;
  return claimOf({ requestId });
}

function rarely<T>(usual: T, ...others: T[]): fc.Arbitrary<T> {
  return fc.oneof({ weight: 8 * others.length, arbitrary: fc.constant(usual) }, ...others.map((other) => fc.constant(other)));
}
