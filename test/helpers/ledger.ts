/**
 * For tests of the ledger: requests with defaults, and the smallest journal there can be, a few maps.
 *
 * Whatever a rule is shown is frozen, so that one that wrote into its slice or its request would throw.
 */
import type { ErrorData } from "../../src/contract/errors.ts";
import { decide } from "../../src/ledger/decide.ts";
import type {
  BeginFacts,
  BegunFacts,
  BeginRequest,
  CancelRequest,
  ClaimRequest,
  CompleteRequest,
  CopyRequest,
  Decision,
  EmitRequest,
  EndRequest,
  FailRequest,
  ForkRequest,
  RenewRequest,
  Replies,
  Request,
  ResolveRequest,
  RestartRequest,
  SealRequest,
  SuspendRequest,
} from "../../src/ledger/requests.ts";
import type { Change, EventState, RunState, Slice, StepState } from "../../src/ledger/state.ts";

export const LEASE_MS = 30_000;
/** What a journal's clock shows at first. */
export const BEGINNING = 1_000_000;
const RUN = { runId: "run-1" };

const MANIFEST = {
  manifestHash: "hash-1",
  projectId: "project",
  scenarioId: null,
  task: '{"id":"task"}',
  input: { text: "{}" },
  tags: null,
};

export function claimOf(over: Partial<ClaimRequest> = {}): ClaimRequest {
  return {
    op: "claim",
    ...RUN,
    requestId: "claim-1",
    workerId: "ann",
    leaseMs: LEASE_MS,
    ...MANIFEST,
    ...over,
  };
}

export function renewOf(over: Partial<RenewRequest> = {}): RenewRequest {
  return { op: "renew", ...RUN, requestId: "renew-1", workerId: "ann", leaseMs: LEASE_MS, fence: 1, ...over };
}

export function factsOf(over: Partial<BeginFacts> = {}): BeginFacts {
  return {
    requestId: "begin-1",
    intent: "fetch",
    kind: "tool",
    inputHash: "",
    timeoutMs: null,
    caught: [],
    path: "0",
    waitFor: null,
    onInterrupted: "rerun",
    ...over,
  };
}

/** What a begin was answered, beside what it said. */
export function begunOf(over: Partial<BegunFacts> = {}): BegunFacts {
  return { ...factsOf(), startedAt: 900, elapsedMs: 0, deadlineAt: null, ...over };
}

export function beginOf(over: Partial<BeginRequest> = {}): BeginRequest {
  return {
    op: "begin",
    ...RUN,
    ...factsOf({ path: String(over.stepIndex ?? 0) }),
    fence: 1,
    stepIndex: 0,
    attempt: null,
    ...over,
  };
}

export function completeOf(over: Partial<CompleteRequest> = {}): CompleteRequest {
  return {
    op: "complete",
    ...RUN,
    ...END_STEP,
    requestId: "complete-1",
    result: { text: '"page"' },
    ...over,
  };
}

export function failOf(over: Partial<FailRequest> = {}): FailRequest {
  return {
    op: "fail",
    ...RUN,
    ...END_STEP,
    requestId: "fail-1",
    error: '{"message":"no route"}',
    retryAfterMs: null,
    inDoubt: false,
    ...over,
  };
}

export function endOf(over: Partial<EndRequest> = {}): EndRequest {
  return {
    op: "end",
    ...RUN,
    requestId: "end-1",
    workerId: "ann",
    fence: 1,
    status: "completed",
    outcome: null,
    result: { text: '"report"' },
    error: null,
    ...over,
  };
}

export function emitOf(over: Partial<EmitRequest> = {}): EmitRequest {
  return { op: "emit", ...RUN, requestId: "emit-1", key: "approved", payload: { text: "1" }, ...over };
}

export function suspendOf(over: Partial<SuspendRequest> = {}): SuspendRequest {
  return { op: "suspend", ...RUN, requestId: "suspend-1", workerId: "ann", fence: 1, ...over };
}

export function cancelOf(over: Partial<CancelRequest> = {}): CancelRequest {
  return { op: "cancel", ...RUN, requestId: "cancel-1", reason: "not needed", ...over };
}

/** With a result; `result: null` asks for another attempt. What a step in doubt has failed with needs a `readAt`, too. */
export function resolveOf(over: Partial<ResolveRequest> = {}): ResolveRequest {
  return {
    op: "resolve",
    ...RUN,
    requestId: "resolve-1",
    stepIndex: 0,
    result: { text: '"decided"' },
    isCaught: false,
    readAt: null,
    ...over,
  };
}

export function restartOf(over: Partial<RestartRequest> = {}): RestartRequest {
  return { op: "restart", ...RUN, requestId: "restart-1", stepIndex: 0, ...over };
}

/** Of run "source" through its step 2. */
export function forkOf(over: Partial<ForkRequest> = {}): ForkRequest {
  return {
    op: "fork",
    ...RUN,
    requestId: "fork-1",
    ...MANIFEST,
    sourceRunId: "source",
    throughStep: 2,
    ...over,
  };
}

/** Of a completed step. */
export function copyOf(over: Partial<CopyRequest> = {}): CopyRequest {
  const { stepIndex = 0 } = over;
  const step = stepOf({ stepIndex, status: "completed", completedAt: 800 });
  return {
    op: "copy",
    ...RUN,
    requestId: `copy-${stepIndex}`,
    fence: 1,
    stepIndex,
    step,
    result: { text: '"page"' },
    ...over,
  };
}

export function sealOf(over: Partial<SealRequest> = {}): SealRequest {
  return { op: "seal", ...RUN, requestId: "seal-1", fence: 1, ...over };
}

/** A step as its first begin leaves it. */
export function stepOf(over: Partial<StepState> = {}): StepState {
  const { stepIndex = 0 } = over;
  return {
    stepIndex,
    path: String(stepIndex),
    intent: "fetch",
    kind: "tool",
    inputHash: "",
    status: "running",
    attempts: 1,
    tries: 1,
    nextAttemptAt: null,
    inDoubt: false,
    result: null,
    error: null,
    caught: [],
    deadlineAt: null,
    startedAt: BEGINNING,
    completedAt: null,
    workerId: "ann",
    fence: 1,
    beginRequestId: "begin-1",
    ...over,
  };
}

const END_STEP = { fence: 1, stepIndex: 0, attempt: null, begun: null };

/** All that a run is, at one moment. */
export interface Snapshot {
  readonly run: RunState | null;
  readonly steps: ReadonlyMap<number, StepState>;
  readonly events: ReadonlyMap<string, EventState>;
}

/** What would become of a request, if it came at that moment. */
export function decideOn<R extends Request>(
  { run, steps, events }: Snapshot,
  request: R,
  now: number,
): Decision<R["op"]> {
  const slice: Slice = {
    run,
    step: "stepIndex" in request ? (steps.get(request.stepIndex) ?? null) : null,
    event: "key" in request ? (events.get(request.key) ?? null) : null,
  };
  return decide(deepFreeze(slice), deepFreeze<Request>(request), now) as Decision<R["op"]>;
}

export class TinyJournal {
  /** The store's clock. */
  now = BEGINNING;
  run: RunState | null = null;
  readonly #steps = new Map<number, StepState>();
  readonly #events = new Map<string, EventState>();

  decide<R extends Request>(request: R): Decision<R["op"]> {
    return decideOn({ run: this.run, steps: this.#steps, events: this.#events }, request, this.now);
  }

  /** Decides and commits the change, if there is one. */
  submit<R extends Request>(request: R): Decision<R["op"]> {
    const decision = this.decide(request);
    if (decision.ok) this.commit(decision.change);
    return decision;
  }

  commit(change: Change): void {
    if (change.dropFrom !== undefined && !change.run) throw new Error("steps are dropped under no fence");
    for (const stepIndex of this.#steps.keys()) {
      if (stepIndex >= (change.dropFrom ?? Infinity)) this.#steps.delete(stepIndex);
    }
    if (change.run) this.run = change.run;
    if (change.step) this.#steps.set(change.step.stepIndex, change.step);
    if (change.event) this.#events.set(change.event.key, change.event);
  }

  /** The reply; fails the test on a refusal. */
  accepts<R extends Request>(request: R): Replies[R["op"]] {
    const decision = this.submit(request);
    if (!decision.ok) throw new Error(`refused: ${decision.error.message}`);
    return decision.reply;
  }

  /** The reply of a request that changes nothing; fails the test on a refusal or a change. */
  answers<R extends Request>(request: R): Replies[R["op"]] {
    const decision = this.decide(request);
    if (!decision.ok) throw new Error(`refused: ${decision.error.message}`);
    if (Object.keys(decision.change).length > 0)
      throw new Error(`changes ${JSON.stringify(decision.change)}`);
    return decision.reply;
  }

  /** What a refused request is told; fails the test if it is accepted. A refusal cannot carry a change. */
  refuses(request: Request): ErrorData {
    const decision = this.decide(request);
    if (decision.ok) throw new Error(`accepted, with the change ${JSON.stringify(decision.change)}`);
    if ("change" in decision) throw new Error("a refusal brings a change");
    return decision.error;
  }

  step(stepIndex = 0): StepState {
    const step = this.#steps.get(stepIndex);
    if (!step) throw new Error(`no step ${stepIndex}`);
    return step;
  }

  /** The run; fails the test if there is none. */
  get theRun(): RunState {
    if (!this.run) throw new Error("no run");
    return this.run;
  }

  snapshot(): Snapshot {
    return { run: this.run, steps: new Map(this.#steps), events: new Map(this.#events) };
  }
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const inner of Object.values(value)) deepFreeze(inner);
  }
  return value;
}
