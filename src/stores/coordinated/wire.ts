/**
 * The wire between the coordinated store and the coordinator (R20, R21).
 *
 * A message is a ledger request with a version and an acknowledgement policy; an answer is an envelope, for only
 * returned values wait for the object's storage. Flat types and JSON text: what RPC's types and structured clone take.
 * A large body goes to the object as UTF-8 bytes, for a string may take two bytes a character on the wire and RPC
 * carries 32 MiB; large bodies come back piece by piece.
 */
import type { ErrorData } from "../../contract/errors.ts";
import type { EventCompletion, Op, RequestOf } from "../../ledger/requests.ts";
import type { RunStatus } from "../../contract/types.ts";
import type { EventState, KeptManifest, StepState } from "../../ledger/state.ts";
import type { Answers, AwaitedState, CountedRun, StepPage } from "../journal.ts";

export const WIRE_VERSION = 1;

/** Of a message with a `projectId`: an object from before there were scopes refuses it, and so does nothing out of scope. */
export const SCOPED_WIRE_VERSION = 2;

/**
 * When a mutation is acknowledged (R14). "record": once D1 has it; "coordinator": once the object's own storage has
 * committed, D1 following within about 100 ms; but what is to be recorded of a run not before D1 holds the run (0030).
 */
export type AckPolicy = "record" | "coordinator";

export interface WireMessage<O extends Op = Op> {
  readonly v: typeof WIRE_VERSION | typeof SCOPED_WIRE_VERSION;
  readonly ack: AckPolicy;
  readonly request: RequestOf<O>;
  /** The request's large body, in UTF-8; the request then carries an empty text in its place. */
  readonly body?: Uint8Array;
  /** The scope: the one project whose runs the caller may change. Absent: those of all. */
  readonly projectId?: string;
  /** Whether the answer is to bring a session. An object from before there were sessions brings none. */
  readonly opens?: boolean;
}

/** Requests whose answers may bring one: of a worker that has more to do. */
export const OPENING_OPS: ReadonlySet<Op> = new Set(["claim", "renew", "begin", "complete", "fail"]);

/** What an object hands out for the calls that follow: `submit`, as its own (0031). */
export interface CoordinatorSession {
  submit(message: WireMessage): Promise<Envelope<Answers[Op]>>;
}

/** To a message that `opens`. */
export type OpeningAnswer = Envelope<Answers[Op]> & { readonly session?: CoordinatorSession };

/** A step that is to be completed with the event that a call waits for. What is completed is acknowledged by `ack`. */
export interface CompletionMessage {
  readonly ack: AckPolicy;
  readonly request: EventCompletion;
}

export type Envelope<T> = (
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly error: ErrorData }
) & {
  /** The scope that was kept to. An answer to a scoped call that lacks it is from an object that knows no scopes. */
  readonly scope?: string;
};

/**
 * What a client may read; one method each. `scope`: the one project that the caller may see. The runs of others are
 * `forbidden`, and a run that does not exist has nothing to read, not even events.
 */
export interface CoordinatorReads {
  readRun(scope?: string): Promise<Envelope<CountedRun | null>>;
  readStep(stepIndex: number, scope?: string): Promise<Envelope<StepState | null>>;
  readSteps(from: number, scope?: string): Promise<Envelope<StepPage>>;
  readEvent(key: string, scope?: string): Promise<Envelope<EventState | null>>;
  readManifest(scope?: string): Promise<Envelope<KeptManifest | null>>;
  /**
   * Held until the event is accepted, or for `timeoutMs`. An object from before there were completions leaves
   * `completion` aside, and answers the event alone.
   */
  waitForEvent(
    key: string,
    timeoutMs: number,
    scope?: string,
    completion?: CompletionMessage,
  ): Promise<Envelope<AwaitedState | null>>;
  /** Held until the fence no longer holds the run, or for `timeoutMs`. */
  watchLease(
    fence: number,
    timeoutMs: number,
    scope?: string,
  ): Promise<Envelope<{ held: boolean; status?: RunStatus }>>;
  lag(scope?: string): Promise<Envelope<{ rows: number }>>;
  /** Some chunks of a body, from `first` on, joined; as many as one answer should hold. */
  readBody(
    ref: string,
    first: number,
    scope?: string,
  ): Promise<Envelope<{ text: string; next: number | null }>>;
}

/** What the coordinator's stub offers, structurally, so that this package's store needs no Cloudflare types. */
export interface CoordinatorLike extends CoordinatorReads {
  submit(message: WireMessage): Promise<OpeningAnswer>;
}

/** A namespace of coordinators. Cloudflare's `DurableObjectNamespace<RunCoordinator>` fits. */
export interface CoordinatorNamespaceLike {
  getByName(name: string, options?: { locationHint?: string }): unknown;
}
