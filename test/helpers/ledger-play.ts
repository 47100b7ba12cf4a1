/**
 * Random sequences of requests to one run, and what each of them did.
 *
 * Three workers send the fences that they were told (so, often, stale ones) or, now and then, none or a wrong one;
 * time jumps; earlier requests come again, late; begins get lost.
 */
import fc from "fast-check";
import type { BeginFacts, Decision, Request } from "../../src/ledger/requests.ts";
import type { StepState } from "../../src/ledger/state.ts";
import {
  beginOf,
  claimOf,
  completeOf,
  emitOf,
  endOf,
  begunOf,
  failOf,
  renewOf,
  type Snapshot,
  TinyJournal,
} from "./ledger.ts";

/** One request, and all that it did. */
export interface Moment {
  readonly request: Request;
  readonly now: number;
  readonly before: Snapshot;
  readonly decision: Decision;
  readonly after: Snapshot;
  /** What the slice as it was before decided when it was asked a second time. */
  readonly again: Decision;
  /** What the very same request was answered when it was sent once more, at once. */
  readonly repeated: Decision;
}

type FenceChoice = "told" | "none" | "older" | "newer";

/** What a worker knows when it makes a request. */
interface Situation {
  readonly requestId: string;
  fence(worker: string, choice: FenceChoice): number | null;
  step(stepIndex: number): StepState | undefined;
  /** The request before the last one, and so on back. */
  earlier(back: number): Request | undefined;
}

/** Time that passes, or a request to be made of the situation in which it is sent. */
type Command =
  | { readonly waitMs: number }
  | { readonly request: (situation: Situation) => Request | undefined };

const worker = fc.constantFrom("ann", "bob", "cat");
const leaseMs = fc.integer({ min: 1, max: 100 });
const stepIndex = fc.integer({ min: 0, max: 2 });
const fence = rarely<FenceChoice>("told", "none", "older", "newer");
const facts = fc.record({
  intent: rarely("fetch", "parse"),
  kind: rarely<BeginFacts["kind"]>("tool", "llm"),
  inputHash: rarely("in-1", "in-2", ""),
  timeoutMs: fc.constantFrom(null, 0, 50),
  caught: fc.subarray([0, 1, 2]),
});

const wait = fc.integer({ min: 0, max: 120 }).map((waitMs) => ({ waitMs }));

const duplicate = requests(fc.record({ back: fc.nat({ max: 12 }) }), ({ back }, now) => now.earlier(back));

const claim = requests(
  fc.record({ workerId: worker, leaseMs, manifestHash: rarely("hash-1", "hash-2") }),
  (choice, { requestId }) => claimOf({ ...choice, requestId }),
);

const renew = requests(fc.record({ workerId: worker, leaseMs, fence }), (choice, now) =>
  renewOf({ ...choice, requestId: now.requestId, fence: now.fence(choice.workerId, choice.fence) }),
);

const begin = requests(fc.record({ worker, fence, stepIndex, facts }), (choice, now) =>
  beginOf({
    ...choice.facts,
    requestId: now.requestId,
    fence: now.fence(choice.worker, choice.fence),
    stepIndex: choice.stepIndex,
  }),
);

/** `ahead`: how many attempts the caller believes to be ahead of the record; `null`: it does not say. */
const endStep = requests(
  fc.record({
    completes: fc.boolean(),
    worker,
    fence,
    stepIndex,
    ahead: fc.constantFrom(null, 0, 0, 0, -1, 1, 2),
    facts: fc.option(facts),
  }),
  (choice, now) => {
    const attempts = now.step(choice.stepIndex)?.attempts ?? 0;
    const ending = {
      requestId: now.requestId,
      fence: now.fence(choice.worker, choice.fence),
      stepIndex: choice.stepIndex,
      attempt: choice.ahead === null ? null : Math.max(0, attempts + choice.ahead),
      begun: choice.facts && begunOf({ ...choice.facts, requestId: `begin-${now.requestId}` }),
    };
    return choice.completes ? completeOf(ending) : failOf(ending);
  },
);

const end = requests(
  fc.record({ workerId: worker, fence, status: fc.constantFrom("completed", "failed", "failed") }),
  (choice, now) =>
    endOf({ ...choice, requestId: now.requestId, fence: now.fence(choice.workerId, choice.fence) }),
);

const emit = requests(fc.constantFrom("approved", "rejected"), (key, { requestId }) =>
  emitOf({ key, requestId, payload: { text: JSON.stringify(requestId) } }),
);

const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 4, arbitrary: wait },
  { weight: 3, arbitrary: duplicate },
  { weight: 5, arbitrary: claim },
  { weight: 3, arbitrary: renew },
  { weight: 6, arbitrary: begin },
  { weight: 8, arbitrary: endStep },
  { weight: 1, arbitrary: end },
  { weight: 1, arbitrary: emit },
);

/** What became of one run, from before its first claim. */
export const history: fc.Arbitrary<Moment[]> = fc
  .array(command, { minLength: 1, maxLength: 60, size: "max" })
  .map((commands) => play(commands));

function play(commands: readonly Command[]): Moment[] {
  const journal = new TinyJournal();
  const told = new Map<string, number>();
  const moments: Moment[] = [];
  for (const each of commands) {
    if ("waitMs" in each) {
      journal.now += each.waitMs;
      continue;
    }
    const before = journal.snapshot();
    const request = each.request({
      requestId: `request-${moments.length}`,
      fence: (who, choice) => fenceOf(choice, told.get(who) ?? 0, before.run?.fence ?? 0),
      step: (index) => before.steps.get(index),
      earlier: (back) => moments.at(-1 - back)?.request,
    });
    if (!request) continue;
    const again = journal.decide(request);
    const decision = journal.submit(request);
    const after = journal.snapshot();
    moments.push({
      request,
      now: journal.now,
      before,
      decision,
      after,
      again,
      repeated: journal.decide(request),
    });
    if (request.op === "claim" && decision.ok) told.set(request.workerId, after.run?.fence ?? 0);
  }
  return Object.defineProperty(moments, fc.toStringMethod, { value: () => moments.map(describe).join("\n") });
}

/** A line of the history that a failed property prints. */
function describe({ now, request, decision }: Moment): string {
  const answer = decision.ok ? `changes ${JSON.stringify(decision.change)}` : decision.error.code;
  return `at ${now}: ${JSON.stringify(request)} → ${answer}`;
}

function fenceOf(choice: FenceChoice, told: number, standing: number): number | null {
  switch (choice) {
    case "told":
      return told;
    case "none":
      return null;
    case "older":
      return Math.max(0, standing - 1);
    case "newer":
      return standing + 1;
  }
}

function requests<T>(
  choices: fc.Arbitrary<T>,
  make: (choice: T, situation: Situation) => Request | undefined,
): fc.Arbitrary<Command> {
  return choices.map((choice) => ({ request: (situation: Situation) => make(choice, situation) }));
}

function rarely<T>(usual: T, ...others: readonly T[]): fc.Arbitrary<T> {
  const often = { weight: 8 * others.length, arbitrary: fc.constant(usual) };
  return fc.oneof(often, ...others.map((other) => fc.constant(other)));
}
