/**
 * The sessions that a client has with coordinators, one for each run that it works on: what is done under a fence goes
 * over it, from the claim on (0031).
 *
 * A call of an object is a billed request, and a subrequest of whoever calls; a call on a session that the object handed
 * out is neither, and quicker. A session belongs to the invocation that opened it, and to one instance of the object. When
 * it fails, it is let go of, and the call is made of the object, which hands out another: so only what is safe to
 * repeat may come here (R20). Invariant: no session is left of a run that its worker has ended, left or lost, as far as
 * this client was told.
 */
import type { Clock } from "../../contract/clock.ts";
import type { Op, Request } from "../../ledger/requests.ts";
import type { Answers } from "../journal.ts";
import { HeldSession } from "./held-session.ts";
import { classifyFault } from "./retry.ts";
import type { CoordinatorLike, CoordinatorSession, Envelope, WireMessage } from "./wire.ts";
import { OPENING_OPS } from "./wire.ts";

/** Far more runs than one client works on at once. */
const MAX_SESSIONS = 1_000;

/** A session that owes an answer for so long, or for a third of the lease, is given up: a heartbeat must find its way in time. */
const UNANSWERED_MS = 5_000;

export interface CoordinatorSessionsInput {
  /** A fresh stub: one that saw a reset stays broken. */
  readonly stub: (runId: string) => CoordinatorLike;
  readonly clock: Clock;
}

interface Open {
  readonly fence: number;
  readonly session: HeldSession<CoordinatorSession>;
}

/** A call whose answer may bring a session. `fence`: `null` for a claim, which is yet to get one. */
interface Opening {
  readonly runId: string;
  readonly fence: number | null;
  /** Whether anybody has a use for it. */
  isWanted: boolean;
}

export class CoordinatorSessions {
  readonly #input: CoordinatorSessionsInput;
  readonly #open = new Map<string, Open>();
  readonly #opening = new Set<Opening>();

  constructor(input: CoordinatorSessionsInput) {
    this.#input = input;
  }

  /** Rejects with what the object throws, or befalls it. */
  async submit(message: WireMessage): Promise<Envelope<Answers[Op]>> {
    const { request } = message;
    const { runId } = request;
    const fence = fenceOf(request);
    const open = this.#usable(request, fence);
    let answer: Envelope<Answers[Op]> | undefined;
    try {
      answer = await open?.session.call((session) => session.submit(message));
    } catch (error) {
      if (classifyFault(error) === "overloaded") throw error;
      // It may have arrived all the same.
      if (this.#open.get(runId) === open) this.#letGo(runId);
    }
    answer ??= await this.#submitToObject(message, fence);
    this.heard(request, answer);
    return answer;
  }

  /** What the object says to a request of a worker, whichever way it was asked. */
  heard(request: Of, answer: Envelope<unknown>): void {
    const fence = fenceOf(request);
    if (fence !== null && isOver(request, answer)) this.release(request.runId, fence);
  }

  /** Nothing more is done under that fence. */
  release(runId: string, fence: number): void {
    for (const one of this.#opening) if (one.runId === runId && one.fence === fence) one.isWanted = false;
    if (this.#open.get(runId)?.fence === fence) this.#letGo(runId);
  }

  /** Calls under way are not disturbed. */
  close(): void {
    for (const one of this.#opening) one.isWanted = false;
    for (const runId of this.#open.keys()) this.#letGo(runId);
  }

  #usable(request: Request, fence: number | null): Open | undefined {
    const open = this.#open.get(request.runId);
    if (open === undefined || open.fence !== fence) return undefined;
    const leaseMs = request.op === "renew" ? request.leaseMs : Infinity;
    if (open.session.unansweredMs < Math.min(UNANSWERED_MS, leaseMs / 3)) return open;
    open.session.giveUp();
    this.#open.delete(request.runId);
    return undefined;
  }

  async #submitToObject(message: WireMessage, fence: number | null): Promise<Envelope<Answers[Op]>> {
    const { request } = message;
    const { op, runId } = request;
    const opens = OPENING_OPS.has(op) && (op === "claim" || fence !== null);
    const opening: Opening = { runId, fence, isWanted: opens };
    if (opens) this.#opening.add(opening);
    try {
      const answer = await this.#input.stub(runId).submit({ ...message, opens });
      if (answer.ok && answer.session) this.#keep(opening, request, answer.value, answer.session);
      return answer;
    } finally {
      this.#opening.delete(opening);
    }
  }

  #keep(
    { isWanted, ...of }: Opening,
    request: Request,
    value: Answers[Op],
    session: CoordinatorSession,
  ): void {
    const { runId } = of;
    const fence = request.op === "claim" ? heldBy(value as Answers["claim"]) : of.fence;
    const held = new HeldSession(session, this.#input.clock);
    const newest = this.#open.get(runId)?.fence ?? 0;
    if (!isWanted || fence === null || fence < newest || isOver(request, { ok: true, value }))
      return held.letGo();
    this.#letGo(runId);
    this.#open.set(runId, { fence, session: held });
    if (this.#open.size <= MAX_SESSIONS) return;
    for (const oldest of this.#open.keys()) {
      this.#letGo(oldest);
      break;
    }
  }

  #letGo(runId: string): void {
    this.#open.get(runId)?.session.letGo();
    this.#open.delete(runId);
  }
}

type Of = Pick<Request, "op" | "runId"> & { readonly fence?: number | null };

/** `null` where a request is not one of a worker, or its caller knows none. */
function fenceOf({ op, fence }: Of): number | null {
  return FENCED.has(op) ? (fence ?? null) : null;
}

/** What a worker does from its claim on. */
const FENCED: ReadonlySet<Op> = new Set(["renew", "begin", "complete", "fail", "end", "suspend"]);

/** `null` where there is nothing to be done any more. */
function heldBy({ run }: Answers["claim"]): number | null {
  return run.status === "running" ? run.fence : null;
}

/** Whether nothing more is done under the fence. */
function isOver({ op }: Pick<Request, "op">, answer: Envelope<unknown>): boolean {
  if (!answer.ok) return LOST.has(answer.error.code);
  if (op === "renew") return (answer.value as Answers["renew"]).leaseExpiresAt === null;
  return op === "end" || op === "suspend";
}

const LOST: ReadonlySet<string> = new Set(["lease_lost", "run_cancelled", "run_not_found"]);
