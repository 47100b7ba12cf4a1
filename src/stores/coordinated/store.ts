/**
 * CoordinatedDurableRunStore: the contract over RPC to each run's coordinator.
 *
 * Guarantee: with `ack: "record"`, what is acknowledged is in D1; with `ack: "coordinator"`, it is in the object's own
 * storage, and D1 follows, but a run that is new to D1 waits for it (0030). The coordinator's clock decides leases; `now` here decides nothing (R7).
 */
import type { Clock } from "../../contract/clock.ts";
import { systemClock } from "../../contract/clock.ts";
import { errorFromData } from "../../contract/errors.ts";
import { checkRunId } from "../../contract/limits.ts";
import type { AwaitedEvent, RunStatus, WaitForEventInput, WatchLeaseInput } from "../../contract/types.ts";
import type {
  BegunFacts,
  BeginRequest,
  EventCompletion,
  Op,
  Request,
  RequestOf,
} from "../../ledger/requests.ts";
import { bodyOf, withBody } from "../../ledger/requests.ts";
import type { EventState, KeptManifest, StepState } from "../../ledger/state.ts";
import type { Answer, AwaitedState, CountedRun, Journal, StepPage } from "../journal.ts";
import type { BeginOptions } from "../ledger-store.ts";
import { LedgerStore } from "../ledger-store.ts";
import { isInline } from "../sql/bodies.ts";
import { checkWaitForEvent, checkWatchLease, eventCompletion } from "../to-request.ts";
import { CoordinatorSessions } from "./coordinator-sessions.ts";
import type { RetryOptions } from "./retry.ts";
import { callFresh } from "./retry.ts";
import type { AckPolicy, CoordinatorLike, CoordinatorNamespaceLike, Envelope, WireMessage } from "./wire.ts";
import { WIRE_VERSION } from "./wire.ts";

export interface CoordinatedStoreOptions extends BeginOptions {
  /** Default "record". */
  ack?: AckPolicy;
  /** Where objects are first made, such as "weur": near the D1 database. Default: near the caller. */
  locationHint?: string;
  retry?: RetryOptions;
  /** For tests: what backoffs are measured by. */
  clock?: Clock;
}

export class CoordinatedDurableRunStore extends LedgerStore {
  readonly #rpc: RpcJournal;

  constructor(namespace: CoordinatorNamespaceLike, options: CoordinatedStoreOptions = {}) {
    const rpc = new RpcJournal(namespace, options);
    super(rpc, options);
    this.#rpc = rpc;
    const { clock } = options;
    if (clock) this.now = () => clock.now();
  }

  async waitForEvent(input: WaitForEventInput): Promise<AwaitedEvent | undefined> {
    checkWaitForEvent(input);
    const event = await this.#rpc.waitForEvent(input, eventCompletion(input));
    return this.eventRecord(input.runId, event, event?.completed);
  }

  async watchLease(input: WatchLeaseInput): Promise<{ held: boolean; status?: RunStatus }> {
    checkWatchLease(input);
    return this.#rpc.watchLease(input);
  }

  /** How many rows of the run its object holds that D1 does not hold yet. Rejects with `store_unavailable`. */
  lag(runId: string): Promise<number> {
    checkRunId(runId);
    return this.#rpc.lag(runId);
  }
}

/** Begins that are remembered at once: far more than a worker has in flight. */
const MAX_BEGUN = 10_000;

class RpcJournal implements Journal {
  readonly #namespace: CoordinatorNamespaceLike;
  readonly #options: CoordinatedStoreOptions;
  /** R16: a begin is not committed by itself, so what ends the attempt says again what it began. */
  readonly #begun = new Map<string, BegunFacts & { attempt: number }>();
  readonly #sessions: CoordinatorSessions;

  constructor(namespace: CoordinatorNamespaceLike, options: CoordinatedStoreOptions) {
    this.#namespace = namespace;
    this.#options = options;
    const { clock = systemClock } = options;
    this.#sessions = new CoordinatorSessions({ stub: (runId) => this.#stub(runId), clock });
  }

  async submit<O extends Op>(request: RequestOf<O>): Promise<Answer<O>> {
    const message = this.#message(this.#withBegun(request));
    const envelope = await this.#repeat(() => this.#sessions.submit(message));
    this.#remember(request, envelope as Answer);
    return envelope as Answer<O>;
  }

  run(runId: string): Promise<CountedRun | null> {
    return this.#read(runId, (coordinator) => coordinator.readRun());
  }

  step(runId: string, stepIndex: number): Promise<StepState | null> {
    return this.#read(runId, (coordinator) => coordinator.readStep(stepIndex));
  }

  steps(runId: string, from: number): Promise<StepPage> {
    return this.#read(runId, (coordinator) => coordinator.readSteps(from));
  }

  event(runId: string, key: string): Promise<EventState | null> {
    return this.#read(runId, (coordinator) => coordinator.readEvent(key));
  }

  manifest(runId: string): Promise<KeptManifest | null> {
    return this.#read(runId, (coordinator) => coordinator.readManifest());
  }

  async waitForEvent(
    { runId, key, timeoutMs }: WaitForEventInput,
    completion: EventCompletion | null,
  ): Promise<AwaitedState | null> {
    if (completion === null)
      return this.#read(runId, (coordinator) => coordinator.waitForEvent(key, timeoutMs));
    const { ack = "record" } = this.#options;
    const message = { ack, request: this.#withBegun(completion) };
    const envelope = await this.#call(runId, (coordinator) =>
      coordinator.waitForEvent(key, timeoutMs, undefined, message),
    );
    if (!envelope.ok || envelope.value?.completed) this.#forgetBegun(completion, envelope);
    this.#sessions.heard(completion, envelope);
    if (!envelope.ok) throw errorFromData(envelope.error);
    return envelope.value;
  }

  async watchLease({
    runId,
    fence,
    timeoutMs,
  }: WatchLeaseInput): Promise<{ held: boolean; status?: RunStatus }> {
    const watched = await this.#read(runId, (coordinator) => coordinator.watchLease(fence, timeoutMs));
    if (!watched.held) this.#sessions.release(runId, fence);
    return watched;
  }

  async body(runId: string, ref: string): Promise<string> {
    const texts: string[] = [];
    for (let next: number | null = 0; next !== null;) {
      const first: number = next;
      const piece = await this.#read(runId, (coordinator) => coordinator.readBody(ref, first));
      texts.push(piece.text);
      next = piece.next;
    }
    return texts.join("");
  }

  async lag(runId: string): Promise<number> {
    const { rows } = await this.#read(runId, (coordinator) => coordinator.lag());
    return rows;
  }

  async close(): Promise<void> {
    this.#begun.clear();
    this.#sessions.close();
  }

  async #read<T>(runId: string, call: (coordinator: CoordinatorLike) => Promise<Envelope<T>>): Promise<T> {
    const envelope = await this.#call(runId, call);
    if (!envelope.ok) throw errorFromData(envelope.error);
    return envelope.value;
  }

  #call<T>(runId: string, call: (coordinator: CoordinatorLike) => Promise<T>): Promise<T> {
    return this.#repeat(() => call(this.#stub(runId)));
  }

  #repeat<T>(call: () => Promise<T>): Promise<T> {
    const { clock = systemClock, retry } = this.#options;
    return callFresh(call, clock, retry);
  }

  #stub(runId: string): CoordinatorLike {
    const { locationHint } = this.#options;
    const where = locationHint === undefined ? undefined : { locationHint };
    return this.#namespace.getByName(runId, where) as CoordinatorLike;
  }

  #message(request: Request): WireMessage {
    const { ack = "record" } = this.#options;
    const body = bodyOf(request);
    if (body === null || !("text" in body) || isInline(body.text)) return { v: WIRE_VERSION, ack, request };
    const emptied = withBody(request, { text: "" });
    return { v: WIRE_VERSION, ack, request: emptied, body: new TextEncoder().encode(body.text) };
  }

  #withBegun<R extends Request | EventCompletion>(request: R): R {
    if (request.op !== "complete" && request.op !== "fail") return request;
    if (request.begun !== null) return request;
    const begun = this.#begun.get(stepKey(request));
    if (!begun) return request;
    const { attempt, ...facts } = begun;
    return { ...request, attempt: request.attempt ?? attempt, begun: facts };
  }

  #remember(request: Request, answer: Answer): void {
    if (request.op === "begin" && answer.ok) {
      const { step } = answer.value as { step: StepState };
      if (step.status === "running") this.#keepBegun(request, step);
    } else if (request.op === "complete" || request.op === "fail") {
      this.#forgetBegun(request, answer);
    }
  }

  /** An answer that says nothing of the effect is asked for again, with the same facts. */
  #forgetBegun(request: EventCompletion | RequestOf<"fail">, answer: Envelope<unknown>): void {
    if (answer.ok || answer.error.code !== "store_unavailable") this.#begun.delete(stepKey(request));
  }

  #keepBegun(request: BeginRequest, { attempts, startedAt, deadlineAt }: StepState): void {
    const { op: _op, runId: _run, fence: _fence, stepIndex: _step, attempt: _attempt, ...facts } = request;
    this.#begun.set(stepKey(request), {
      ...facts,
      startedAt,
      elapsedMs: 0,
      deadlineAt,
      attempt: attempts,
    });
    if (this.#begun.size <= MAX_BEGUN) return;
    for (const oldest of this.#begun.keys()) {
      this.#begun.delete(oldest);
      break;
    }
  }
}

function stepKey({ runId, stepIndex }: { runId: string; stepIndex: number }): string {
  return `${stepIndex}/${runId}`;
}
