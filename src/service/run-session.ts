/**
 * RunSession: what RunService answers to `open`, and all that can be asked of runs over a binding (docs/rpc-binding.md).
 *
 * A thin way to the run's coordinator, in its own wire, and to history. It knows no rule: who may see or touch a run is
 * decided by the coordinator, in the block that decides the request. Here, the binding's scope is put into each call, and
 * no answer goes out that does not say that it was kept to. What befalls an object is told to the caller's
 * store, which repeats calls: one who repeats is enough. Where its own session with
 * the object has ended, it asks the object.
 */
import { RpcTarget } from "cloudflare:workers";
import { systemClock } from "../contract/clock.ts";
import type { ErrorData } from "../contract/errors.ts";
import { DurableForbiddenError, DurableInvalidInputError, DurableRunError } from "../contract/errors.ts";
import { checkInteger, checkRunId, checkStepIndex, checkText, LIMITS } from "../contract/limits.ts";
import type { RunStatus } from "../contract/types.ts";
import { RunHistory } from "../history/run-history.ts";
import type { RunHistoryReads } from "../history/types.ts";
import type { Op } from "../ledger/requests.ts";
import type { EventState, KeptManifest, StepState } from "../ledger/state.ts";
import { checkCompletion, checkMessage } from "../stores/coordinated/check-message.ts";
import { CoordinatorSessions } from "../stores/coordinated/coordinator-sessions.ts";
import { classifyFault, isOutOfSubrequests } from "../stores/coordinated/retry.ts";
import type {
  CompletionMessage,
  CoordinatorLike,
  CoordinatorNamespaceLike,
  Envelope,
  WireMessage,
} from "../stores/coordinated/wire.ts";
import { SCOPED_WIRE_VERSION, WIRE_VERSION } from "../stores/coordinated/wire.ts";
import type { D1ReplicatedLike } from "../stores/d1/database.ts";
import type { Answers, AwaitedState, CountedRun, StepPage } from "../stores/journal.ts";
import { checkWaitForEvent, checkWatchLease } from "../stores/to-request.ts";
import type { Grant } from "./props.ts";
import { grantOf } from "./props.ts";
import type { HistoryRead, RunSessionMethods, ServiceEnvelope } from "./wire.ts";
import { HISTORY_READ_NAMES, isHistoryRead } from "./wire.ts";

export interface RunServiceEnv {
  /** The namespace of RunCoordinator. */
  RUNS: CoordinatorNamespaceLike;
  /** The system of record. */
  DB: D1ReplicatedLike;
}

/** Every method answers an envelope; only defects are thrown. */
export class RunSession extends RpcTarget implements RunSessionMethods {
  readonly #env: RunServiceEnv;
  readonly #props: unknown;
  readonly #coordinators: CoordinatorSessions;

  /** `props`: the binding's, unchecked. A mistake in them is the answer to every call. */
  constructor(env: RunServiceEnv, props: unknown) {
    super();
    this.#env = env;
    this.#props = props;
    this.#coordinators = new CoordinatorSessions({ stub: (runId) => this.#stub(runId), clock: systemClock });
  }

  [Symbol.dispose](): void {
    this.#coordinators.close();
  }

  submit(message: WireMessage): Promise<Envelope<Answers[Op]>> {
    return this.#answer(async (grant) => {
      checkMessage(message);
      const { op, runId } = message.request;
      if (grant.access === "read") throw readOnly(op);
      return this.#kept(runId, grant, await this.#coordinators.submit(withScope(message, grant)));
    });
  }

  readRun(runId: string): Promise<Envelope<CountedRun | null>> {
    return this.#read(runId, (coordinator, scope) => coordinator.readRun(scope));
  }

  readStep(runId: string, stepIndex: number): Promise<Envelope<StepState | null>> {
    return this.#read(runId, (coordinator, scope) => {
      checkStepIndex(stepIndex);
      return coordinator.readStep(stepIndex, scope);
    });
  }

  readSteps(runId: string, from: number): Promise<Envelope<StepPage>> {
    return this.#read(runId, (coordinator, scope) => {
      checkInteger("from", from, 0, LIMITS.steps);
      return coordinator.readSteps(from, scope);
    });
  }

  readEvent(runId: string, key: string): Promise<Envelope<EventState | null>> {
    return this.#read(runId, (coordinator, scope) => {
      checkText("key", key, LIMITS.eventKeyBytes);
      return coordinator.readEvent(key, scope);
    });
  }

  readManifest(runId: string): Promise<Envelope<KeptManifest | null>> {
    return this.#read(runId, (coordinator, scope) => coordinator.readManifest(scope));
  }

  waitForEvent(
    runId: string,
    key: string,
    timeoutMs: number,
    completion?: CompletionMessage,
  ): Promise<Envelope<AwaitedState | null>> {
    return this.#answer(async (grant) => {
      checkWaitForEvent({ runId, key, timeoutMs });
      if (completion !== undefined) {
        checkCompletion(completion, runId, Date.now());
        if (grant.access === "read") throw readOnly("complete");
      }
      const scope = grant.projectId;
      const answer = await this.#ask(runId, grant, (coordinator) =>
        coordinator.waitForEvent(key, timeoutMs, scope, completion),
      );
      if (completion) this.#coordinators.heard(completion.request, answer);
      return answer;
    });
  }

  async watchLease(
    runId: string,
    fence: number,
    timeoutMs: number,
  ): Promise<Envelope<{ held: boolean; status?: RunStatus }>> {
    const watched = await this.#read(runId, (coordinator, scope) => {
      checkWatchLease({ runId, fence, timeoutMs });
      return coordinator.watchLease(fence, timeoutMs, scope);
    });
    if (watched.ok && !watched.value.held) this.#coordinators.release(runId, fence);
    return watched;
  }

  lag(runId: string): Promise<Envelope<{ rows: number }>> {
    return this.#read(runId, (coordinator, scope) => coordinator.lag(scope));
  }

  readBody(
    runId: string,
    ref: string,
    first: number,
  ): Promise<Envelope<{ text: string; next: number | null }>> {
    return this.#read(runId, (coordinator, scope) => {
      checkRef(ref);
      checkInteger("first", first, 0, MAX_CHUNKS);
      return coordinator.readBody(ref, first, scope);
    });
  }

  history(name: HistoryRead, args: string): Promise<Envelope<Uint8Array | null>> {
    return this.#answer(async ({ projectId }) => {
      if (!isHistoryRead(name)) {
        throw new DurableInvalidInputError("name", `must be one of ${HISTORY_READ_NAMES.join(", ")}`);
      }
      const scope = projectId === undefined ? {} : { projectId };
      const history: RunHistoryReads = new RunHistory(this.#env.DB, scope);
      const read = history[name] as (...given: unknown[]) => Promise<unknown>;
      const found = await read.apply(history, argumentsOf(args));
      const value = found === undefined ? null : new TextEncoder().encode(JSON.stringify(found));
      return { ok: true, value };
    });
  }

  #read<T>(
    runId: string,
    call: (coordinator: CoordinatorLike, scope: string | undefined) => Promise<Envelope<T>>,
  ): Promise<Envelope<T>> {
    return this.#answer((grant) =>
      this.#ask(runId, grant, (coordinator) => call(coordinator, grant.projectId)),
    );
  }

  async #ask<T>(
    runId: string,
    grant: Grant,
    call: (coordinator: CoordinatorLike) => Promise<Envelope<T>>,
  ): Promise<Envelope<T>> {
    checkRunId(runId);
    return this.#kept(runId, grant, await call(this.#stub(runId)));
  }

  #stub(runId: string): CoordinatorLike {
    return this.#env.RUNS.getByName(runId) as CoordinatorLike;
  }

  /** Refuses what an object answers that does not say that it kept to the scope: one from before there were scopes. */
  #kept<T>(runId: string, { projectId }: Grant, envelope: Envelope<T>): Envelope<T> {
    if (projectId === undefined || envelope.scope === projectId) return ownCopy(envelope);
    const message = `the object of run "${runId}" is of a version that knows no scopes. Call again once it is replaced.`;
    return { ok: false, error: { code: "store_unavailable", message } };
  }

  async #answer<T>(work: (grant: Grant) => Promise<Envelope<T>>): Promise<ServiceEnvelope<T>> {
    try {
      return await work(grantOf(this.#props));
    } catch (error) {
      const isSpent = isOutOfSubrequests(error);
      if (error instanceof DurableRunError && !isSpent) return { ok: false, error: dataOf(error) };
      // Another session has subrequests of its own.
      const fault = isSpent ? "transient" : classifyFault(error);
      if (fault === "defect") throw error;
      const message = error instanceof Error ? error.message : String(error);
      return { ok: false, error: { code: "store_unavailable", message }, fault };
    }
  }
}

function readOnly(op: Op): Error {
  return new DurableForbiddenError(`this binding is for reading: ${op} is not allowed`);
}

/** More than the largest body has. */
const MAX_CHUNKS = 1_000;

/** What stands for a large body: its hash, its bytes, its chunks. */
function checkRef(ref: unknown): void {
  if (typeof ref === "string" && /^[0-9a-f]{64}\/\d{1,9}\/\d{1,3}$/.test(ref)) return;
  throw new DurableInvalidInputError("ref", "must be one that the record has answered");
}

/** An unscoped binding adds nothing to what its caller says. */
function withScope(message: WireMessage, { projectId }: Grant): WireMessage {
  if (projectId === undefined) return message;
  const v = message.v === WIRE_VERSION ? SCOPED_WIRE_VERSION : message.v;
  return { ...message, v, projectId };
}

function argumentsOf(text: string): unknown[] {
  let args: unknown;
  try {
    args = JSON.parse(text);
  } catch {
    args = undefined;
  }
  if (!Array.isArray(args)) throw new DurableInvalidInputError("args", "must be the JSON text of an array");
  return args.map((arg: unknown) => arg ?? undefined);
}

/** Without what RPC adds to an answer: passed on, it would tell the caller to dispose of it. */
function ownCopy<T>(envelope: Envelope<T>): Envelope<T> {
  return envelope.ok ? { ok: true, value: envelope.value } : { ok: false, error: envelope.error };
}

function dataOf(error: DurableRunError): ErrorData {
  const { code, message } = error;
  const { field, retryAfterMs } = error as Partial<ErrorData>;
  return {
    code,
    message,
    ...(field !== undefined && { field }),
    ...(retryAfterMs !== undefined && { retryAfterMs }),
  };
}
