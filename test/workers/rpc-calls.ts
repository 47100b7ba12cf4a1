/**
 * Every way to a run over the binding: each method of the contract, and each of a session with each request of the
 * ledger. The tables are typed by what they cover, so that something new does not compile until it is here, too.
 */
import type { DurableRunStore } from "../../src/contract/types.ts";
import { newRequestId, newRunId } from "../../src/identity.ts";
import type { Op, Request, RequestOf } from "../../src/ledger/requests.ts";
import type { StepState } from "../../src/ledger/state.ts";
import type { ConnectedRuns } from "../../src/service/connect-runs.ts";
import type { RunSessionMethods } from "../../src/service/wire.ts";
import type { Envelope, WireMessage } from "../../src/stores/coordinated/wire.ts";
import * as requests from "../../src/stores/to-request.ts";
import { aStep, MANIFEST } from "../../src/testing/harness.ts";

/** A run of a project, as whoever would meddle with it may know it. */
export interface Target {
  readonly runId: string;
  readonly projectId: string;
  readonly workerId: string;
  readonly fence: number;
  /** A run that the caller may read, to be forked into the target. */
  readonly ownRunId?: string;
}

type Method = Exclude<keyof DurableRunStore, "close" | "beginAfterMs"> | "lag";

export const contractCalls: Record<Method, (store: ConnectedRuns, run: Target) => Promise<unknown>> = {
  startOrResume: (store, run) => store.startOrResume(claimOf(run)),
  renewLease: (store, { runId, workerId, fence }) => store.renewLease({ runId, workerId, fence }),
  loadStep: (store, { runId }) => store.loadStep(runId, 0),
  beginStep: (store, { runId, fence }) => store.beginStep(aStep(runId, 2, { fence })),
  completeStep: (store, { runId, fence }) =>
    store.completeStep({ runId, fence, stepIndex: 1, attempt: 1, result: "theirs" }),
  failStep: (store, { runId, fence }) =>
    store.failStep({ runId, fence, stepIndex: 1, attempt: 1, error: { message: "theirs" } }),
  endRun: (store, { runId, workerId, fence }) =>
    store.endRun({ runId, workerId, fence, status: "completed", result: "theirs" }),
  emitEvent: (store, { runId }) => store.emitEvent({ runId, key: "new", payload: "theirs" }),
  loadEvent: (store, { runId }) => store.loadEvent(runId, "secret"),
  loadRun: (store, { runId }) => store.loadRun(runId),
  waitForEvent: (store, { runId }) => store.waitForEvent({ runId, key: "secret", timeoutMs: 10 }),
  watchLease: (store, { runId, fence }) => store.watchLease({ runId, fence, timeoutMs: 10 }),
  suspendRun: (store, { runId, workerId, fence }) => store.suspendRun({ runId, workerId, fence }),
  cancelRun: (store, { runId }) => store.cancelRun(runId, "theirs"),
  resolveStep: (store, { runId }) => store.resolveStep(runId, 1, { result: "theirs" }),
  restartRun: (store, { runId }) => store.restartRun(runId, { fromStep: 0, dropLater: true }),
  forkRun: (store, { runId }) => store.forkRun(runId, newRunId(), { throughStep: 0 }),
  lag: (store, { runId }) => store.lag(runId),
};

export const requestsOf: { [O in Op]: (run: Target) => RequestOf<O> } = {
  claim: (run) => requests.claimRequest(claimOf(run)),
  renew: ({ runId, workerId, fence }) => requests.renewRequest({ runId, workerId, fence }),
  begin: ({ runId, fence }) => requests.beginRequest(aStep(runId, 2, { fence })),
  complete: ({ runId, fence }) => requests.completeRequest({ runId, fence, stepIndex: 1, result: "theirs" }),
  fail: ({ runId, fence }) =>
    requests.failRequest({ runId, fence, stepIndex: 1, error: { message: "theirs" } }),
  end: ({ runId, workerId, fence }) =>
    requests.endRequest({ runId, workerId, fence, status: "completed", result: "theirs" }),
  emit: ({ runId }) => requests.emitRequest({ runId, key: "new", payload: "theirs" }),
  suspend: ({ runId, workerId, fence }) => requests.suspendRequest({ runId, workerId, fence }),
  cancel: ({ runId }) => requests.cancelRequest(runId, "theirs", {}),
  resolve: ({ runId }) => ({
    ...requests.resolveRequest(runId, 1, { result: "theirs" }, {}),
    isCaught: false,
    readAt: null,
  }),
  restart: ({ runId }) => requests.restartRequest(runId, { fromStep: 0, dropLater: true }),
  fork: (run) => {
    const { workerId: _worker, leaseMs: _lease, ...claim } = requests.claimRequest(claimOf(run));
    return { ...claim, op: "fork", sourceRunId: newRunId(), throughStep: 0 };
  },
  copy: ({ runId, fence }) => ({
    op: "copy",
    runId,
    requestId: newRequestId(),
    fence,
    stepIndex: 2,
    step: COMPLETED,
    result: { text: '"theirs"' },
  }),
  seal: ({ runId, fence }) => ({ op: "seal", runId, requestId: newRequestId(), fence }),
};

const COMPLETED: StepState = {
  stepIndex: 2,
  path: "2",
  intent: "step-2",
  kind: "logic",
  inputHash: "",
  status: "completed",
  attempts: 1,
  tries: 1,
  nextAttemptAt: null,
  inDoubt: false,
  result: null,
  error: null,
  caught: [],
  deadlineAt: null,
  startedAt: 1_700_000_000_000,
  completedAt: 1_700_000_000_001,
  workerId: "worker-1",
  fence: 1,
  beginRequestId: "begin-1",
};

/** `more`: what a caller might add in order to be taken for somebody else. */
export function messageOf(request: Request, more: Partial<WireMessage> = {}): WireMessage {
  return { v: 1, ack: "record", request, ...more } as WireMessage;
}

type Raw = (session: RunSessionMethods, run: Target, ref: string) => Promise<Envelope<unknown>>;

export const rawReads: Record<Exclude<keyof RunSessionMethods, "submit" | "history">, Raw> = {
  readRun: (session, { runId }) => session.readRun(runId),
  readStep: (session, { runId }) => session.readStep(runId, 0),
  readSteps: (session, { runId }) => session.readSteps(runId, 0),
  readEvent: (session, { runId }) => session.readEvent(runId, "secret"),
  readManifest: (session, { runId }) => session.readManifest(runId),
  waitForEvent: (session, { runId }) => session.waitForEvent(runId, "secret", 10),
  watchLease: (session, { runId, fence }) => session.watchLease(runId, fence, 10),
  lag: (session, { runId }) => session.lag(runId),
  readBody: (session, { runId }, ref) => session.readBody(runId, ref, 0),
};

export function claimOf({ runId, workerId, projectId }: Target) {
  return { runId, workerId, manifest: { ...MANIFEST, projectId }, leaseMs: 3_600_000 };
}
