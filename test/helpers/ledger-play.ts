/**
 * Random sequences of requests to one run, and what each of them did.
 *
 * Three workers send the fences that they were told (so, often, stale ones) or, now and then, none or a wrong one; other
 * people suspend, cancel, decide, restart and fork; time jumps; earlier requests come again, however late; begins get
 * lost.
 */
import fc from "fast-check";
import type { BeginFacts, Decision, Request } from "../../src/ledger/requests.ts";
import type { StepState } from "../../src/ledger/state.ts";
import { caughtFailures } from "../../src/ledger/steps.ts";
import {
  beginOf,
  begunOf,
  cancelOf,
  claimOf,
  completeOf,
  copyOf,
  emitOf,
  endOf,
  failOf,
  forkOf,
  renewOf,
  resolveOf,
  restartOf,
  sealOf,
  type Snapshot,
  stepOf,
  suspendOf,
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

/** Whoever forks is told a fence like a worker. */
const FORKER = "the forker";

type FenceChoice = "told" | "none" | "older" | "standing" | "newer";

/** What a worker knows when it makes a request. */
interface Situation {
  readonly requestId: string;
  fence(worker: string, choice: FenceChoice): number | null;
  step(stepIndex: number): StepState | undefined;
  /** The position of a step, if there is one. */
  onRecord(nth: number): number | undefined;
  /** The position of a step in doubt, if there is one. */
  inDoubt(nth: number): number | undefined;
  /** Whether the task has gone on from the step's failure. */
  isCaught(stepIndex: number): boolean;
  /** When the run was last updated. */
  readonly readAt: number | null;
  /** The request before the last one, and so on back. */
  earlier(back: number): Request | undefined;
}

/** Time that passes, or a request to be made of the situation in which it is sent. */
type Command =
  | { readonly waitMs: number }
  | { readonly request: (situation: Situation) => Request | undefined };

const worker = fc.constantFrom("ann", "bob", "cat");
const leaseMs = fc.integer({ min: 1, max: 100 });
/** Steps 1 and 3 are in branches of the group that step 0 is. */
const PATHS = ["0", "0/a/0", "2", "0/b/1/c/0"] as const;
const stepIndex = fc.integer({ min: 0, max: PATHS.length - 1 });
const fence = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom<FenceChoice>("told", "standing") },
  { weight: 1, arbitrary: fc.constantFrom<FenceChoice>("none", "older", "newer") },
);
const facts = fc.record({
  intent: rarely("fetch", "parse"),
  kind: rarely<BeginFacts["kind"]>("tool", "llm"),
  inputHash: rarely("in-1", "in-2", ""),
  isMoved: rarely(false, true),
  timeoutMs: fc.constantFrom(null, 0, 50),
  caught: fc.subarray([0, 1, 2]),
  waitFor: fc.constantFrom(
    null,
    { for: "event", key: "approved" } as const,
    { for: "time", key: null } as const,
  ),
  onInterrupted: fc.constantFrom("rerun", "fail", "park", "park", "reconcile"),
});
type Facts = typeof facts extends fc.Arbitrary<infer F> ? F : never;

const wait = fc.integer({ min: 0, max: 120 }).map((waitMs) => ({ waitMs }));

/** As a rule of late, and now and then from any time before. */
const duplicate = requests(fc.oneof(fc.nat({ max: 12 }), fc.nat({ max: 150 })), (back, now) =>
  now.earlier(back),
);

const claim = claimBy(worker);

function claimBy(workerId: fc.Arbitrary<string>): fc.Arbitrary<Command> {
  return requests(
    fc.record({ workerId, leaseMs, manifestHash: rarely("hash-1", "hash-2") }),
    (choice, { requestId }) => claimOf({ ...choice, requestId }),
  );
}

const renew = requests(fc.record({ workerId: worker, leaseMs, fence }), (choice, now) =>
  renewOf({ ...choice, requestId: now.requestId, fence: now.fence(choice.workerId, choice.fence) }),
);

const begin = beginUnder(fence);

/** `ahead`: how many attempts after the one on record it begins; `null`: it does not say. */
function beginUnder(fence: fc.Arbitrary<FenceChoice>): fc.Arbitrary<Command> {
  const ahead = rarely<number | null>(1, null, null, 0, 2);
  return requests(fc.record({ worker, fence, stepIndex, facts, ahead }), (choice, now) => {
    const attempts = now.step(choice.stepIndex)?.attempts ?? 0;
    return beginOf({
      ...factsAt(choice.stepIndex, choice.facts),
      requestId: now.requestId,
      fence: now.fence(choice.worker, choice.fence),
      stepIndex: choice.stepIndex,
      attempt: choice.ahead === null ? null : Math.max(1, attempts + choice.ahead),
    });
  });
}

/** What was said of a begin: told and lost, or told with the end of its attempt, however long that says it took. */
const begunWhen = fc.oneof(
  fc.constant({ startedAt: 900, elapsedMs: 0 }),
  fc.record({ startedAt: fc.constant(null), elapsedMs: fc.constantFrom(0, 40, 10 ** 12) }),
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
    when: begunWhen,
    retryAfterMs: fc.constantFrom(null, 0, 50),
    inDoubt: rarely(false, true),
  }),
  (choice, now) => {
    const attempts = now.step(choice.stepIndex)?.attempts ?? 0;
    const ending = {
      requestId: now.requestId,
      fence: now.fence(choice.worker, choice.fence),
      stepIndex: choice.stepIndex,
      attempt: choice.ahead === null ? null : Math.max(0, attempts + choice.ahead),
      begun:
        choice.facts &&
        begunOf({
          ...factsAt(choice.stepIndex, choice.facts),
          ...choice.when,
          requestId: `begin-${now.requestId}`,
        }),
    };
    const { retryAfterMs, inDoubt } = choice;
    return choice.completes ? completeOf(ending) : failOf({ ...ending, retryAfterMs, inDoubt });
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

const suspend = requests(fc.record({ workerId: worker, fence }), (choice, now) =>
  suspendOf({ ...choice, requestId: now.requestId, fence: now.fence(choice.workerId, choice.fence) }),
);

const cancel = requests(fc.constant(null), (_, { requestId }) => cancelOf({ requestId }));

/** There is a step that the run can be restarted from. */
const cancelThatIsNotFinal = requests(fc.constant(null), (_, now) =>
  now.onRecord(0) === undefined ? undefined : cancelOf({ requestId: now.requestId }),
);

/** People decide on what they are shown to be in doubt, or, now and then, on anything. */
const resolve = requests(
  fc.record({
    stepIndex,
    nth: fc.nat(),
    isBlind: rarely(false, true),
    isResult: fc.boolean(),
    isDated: rarely(true, false),
  }),
  (choice, now) => {
    const at = (choice.isBlind ? undefined : now.inDoubt(choice.nth)) ?? choice.stepIndex;
    return resolveOf({
      stepIndex: at,
      requestId: now.requestId,
      result: choice.isResult ? { text: JSON.stringify(now.requestId) } : null,
      isCaught: now.isCaught(at),
      readAt: choice.isDated ? now.readAt : null,
    });
  },
);

/** People restart from a step that they are shown, or, now and then, from any. */
const restart = requests(
  fc.record({ stepIndex, nth: fc.nat(), isBlind: rarely(false, true) }),
  (choice, now) =>
    restartOf({
      stepIndex: (choice.isBlind ? undefined : now.onRecord(choice.nth)) ?? choice.stepIndex,
      requestId: now.requestId,
    }),
);

const fork = requests(
  fc.record({ sourceRunId: rarely("source", "other"), throughStep: rarely(3, 2) }),
  (choice, { requestId }) => forkOf({ ...choice, requestId }),
);

const copy = requests(
  fc.record({ fence, stepIndex, failed: rarely(false, true), inDoubt: fc.boolean() }),
  (choice, now) => {
    const { failed, inDoubt } = choice;
    const at = {
      stepIndex: choice.stepIndex,
      path: PATHS[choice.stepIndex] ?? "",
      completedAt: 900,
      fence: 7,
    };
    return copyOf({
      stepIndex: choice.stepIndex,
      requestId: now.requestId,
      fence: now.fence(FORKER, choice.fence) ?? 0,
      step: failed
        ? stepOf({ ...at, status: "failed", inDoubt, error: '{"message":"no route"}' })
        : stepOf({ ...at, status: "completed" }),
      result: failed ? null : { text: JSON.stringify(now.requestId) },
    });
  },
);

const seal = requests(fence, (choice, now) =>
  sealOf({ requestId: now.requestId, fence: now.fence(FORKER, choice) ?? 0 }),
);

const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 8, arbitrary: wait },
  { weight: 6, arbitrary: duplicate },
  { weight: 10, arbitrary: claim },
  { weight: 5, arbitrary: renew },
  { weight: 16, arbitrary: begin },
  { weight: 16, arbitrary: endStep },
  { weight: 2, arbitrary: end },
  { weight: 2, arbitrary: emit },
  { weight: 4, arbitrary: suspend },
  { weight: 1, arbitrary: cancel },
  { weight: 6, arbitrary: resolve },
  { weight: 3, arbitrary: restart },
  { weight: 1, arbitrary: fork },
  { weight: 2, arbitrary: copy },
  { weight: 1, arbitrary: seal },
);

/** How a run that is a fork begins: filled, and, as a rule, sealed. Forks may come twice, and late: after the seal, too. */
const forking: fc.Arbitrary<Command[]> = fc
  .tuple(
    fork,
    fc.array(fc.oneof(copy, copy, copy, duplicate, fork, cancel, resolve), { maxLength: 6 }),
    fc.option(seal),
    fc.array(duplicate, { maxLength: 2 }),
  )
  .map(([first, filling, last, late]) => [first, ...filling, ...(last ? [last, ...late] : [])]);

const commands = fc.array(command, { minLength: 1, maxLength: 60, size: "max" });

/** A run whose worker people do not leave alone: they ask for more than it knows again. */
const meddling: fc.Arbitrary<Command[]> = fc
  .array(
    fc.tuple(
      claimBy(fc.constant("ann")),
      beginUnder(fc.constant("standing")),
      beginUnder(fc.constant("standing")),
      fc.oneof(restart, restart, resolve, cancelThatIsNotFinal),
      fc.oneof(restart, resolve, duplicate, suspend, emit),
    ),
    { minLength: 20, maxLength: 26, size: "max" },
  )
  .map((turns) => turns.flat());

/** What became of one run, from before its first claim, or from when another was forked into it. */
export const history: fc.Arbitrary<Moment[]> = fc
  .oneof(
    { weight: 6, arbitrary: commands },
    { weight: 2, arbitrary: fc.tuple(forking, commands).map((parts) => parts.flat()) },
    { weight: 1, arbitrary: meddling },
  )
  .map((all) => play(all));

/** Holds at each moment of each history. */
export function always(invariant: (moment: Moment) => void): void {
  throughout((moments) => {
    for (const moment of moments) invariant(moment);
  });
}

/** Holds of each history as a whole. */
export function throughout(invariant: (moments: readonly Moment[]) => void, numRuns = 300): void {
  fc.assert(fc.property(history, invariant), { numRuns });
}

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
      onRecord: (nth) => [...before.steps.keys()][nth % before.steps.size],
      inDoubt: (nth) => {
        const doubtful = [...before.steps.values()].filter((step) => step.inDoubt);
        return doubtful[nth % doubtful.length]?.stepIndex;
      },
      isCaught: (index) => isCaught(before, index),
      readAt: before.run?.updatedAt ?? null,
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
    if (request.op === "fork" && decision.ok) told.set(FORKER, after.run?.fence ?? 0);
  }
  return Object.defineProperty(moments, fc.toStringMethod, { value: () => moments.map(describe).join("\n") });
}

/** R24: whether the task has gone on from this step's failure. */
export function isCaught({ steps }: Snapshot, stepIndex: number): boolean {
  return caughtFailures(steps.values()).some((step) => step.stepIndex === stepIndex);
}

/** A line of the history that a failed property prints. */
function describe({ now, request, decision }: Moment): string {
  const answer = decision.ok ? `changes ${JSON.stringify(decision.change)}` : decision.error.code;
  return `at ${now}: ${JSON.stringify(request)} → ${answer}`;
}

/** What a begin of this step says. Now and then it comes from another path than it should. */
function factsAt(position: number, { isMoved, ...said }: Facts): Omit<BeginFacts, "requestId"> {
  return { ...said, path: isMoved ? "elsewhere" : (PATHS[position] ?? "") };
}

function fenceOf(choice: FenceChoice, told: number, standing: number): number | null {
  switch (choice) {
    case "told":
      return told;
    case "none":
      return null;
    case "older":
      return Math.max(0, standing - 1);
    case "standing":
      return standing;
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
  const often = { weight: 20 * others.length, arbitrary: fc.constant(usual) };
  return fc.oneof(often, ...others.map((other) => fc.constant(other)));
}
