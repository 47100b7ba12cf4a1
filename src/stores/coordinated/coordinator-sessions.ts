/**
 * The sessions that a client has with coordinators, one for each run that it works on: what is done under a fence goes
 * over it, from the claim on (0031).
 *
 * A call of an object is a billed request, and a subrequest of whoever calls; a call on a session that the object handed
 * out is neither, and quicker. A session belongs to the invocation that opened it, and to one instance of the object. When
 * it fails, it is let go of, and the call is made of the object, which hands out another: so only what is safe to
 * repeat may come here (R20).
 */
import type { Clock } from "../../contract/clock.ts";
import type { Op, Request } from "../../ledger/requests.ts";
import type { Answers } from "../journal.ts";
import { HeldSession } from "./held-session.ts";
import { classifyFault } from "./retry.ts";
import type { CoordinatorLike, CoordinatorSession, Envelope, OpeningAnswer, WireMessage } from "./wire.ts";

/** Far more runs than one client works on at once. */
const MAX_SESSIONS = 1_000;

/** Of a session that owes an answer for so long, nothing more is asked: a heartbeat has to find another way in time. */
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

export class CoordinatorSessions {
  readonly #input: CoordinatorSessionsInput;
  readonly #open = new Map<string, Open>();

  constructor(input: CoordinatorSessionsInput) {
    this.#input = input;
  }

  /** Rejects with what the object throws, or befalls it. */
  async submit(message: WireMessage): Promise<Envelope<Answers[Op]>> {
    const { request } = message;
    const { runId } = request;
    const open = this.#usable(request);
    let answer: Envelope<Answers[Op]> | undefined;
    try {
      answer = await open?.session.call((session) => session.submit(message));
    } catch (error) {
      if (classifyFault(error) === "overloaded") throw error;
      // It may have arrived all the same.
      if (this.#open.get(runId) === open) this.#letGo(runId);
    }
    answer ??= await this.#submitToObject(message);
    if (isOver(request, answer)) this.#letGo(runId);
    return answer;
  }

  /** Calls under way are not disturbed. */
  close(): void {
    for (const runId of this.#open.keys()) this.#letGo(runId);
  }

  #usable(request: Request): Open | undefined {
    const open = this.#open.get(request.runId);
    if (open === undefined || open.fence !== fenceOf(request)) return undefined;
    if (open.session.unansweredMs < UNANSWERED_MS) return open;
    this.#letGo(request.runId);
    return undefined;
  }

  async #submitToObject(message: WireMessage): Promise<Envelope<Answers[Op]>> {
    const { request } = message;
    const { op, runId } = request;
    const opens = op === "claim" || (fenceOf(request) !== null && !LEAVES.has(op));
    const answer = await this.#input.stub(runId).submit(opens ? { ...message, opens } : message);
    if (opens && answer.ok && answer.session) this.#keep(request, answer.value, answer.session);
    return answer;
  }

  #keep(request: Request, value: Answers[Op], session: CoordinatorSession): void {
    const fence = request.op === "claim" ? (value as Answers["claim"]).run.fence : fenceOf(request);
    if (fence === null) return;
    this.#letGo(request.runId);
    this.#open.set(request.runId, { fence, session: new HeldSession(session, this.#input.clock) });
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

/** `null` where a request needs none, or its caller knows none. */
function fenceOf(request: Request): number | null {
  return "fence" in request && FENCED.has(request.op) ? request.fence : null;
}

/** What a worker does from its claim on. */
const FENCED: ReadonlySet<Op> = new Set(["renew", "begin", "complete", "fail", "end", "suspend"]);

/** After which a worker does no more. */
const LEAVES: ReadonlySet<Op> = new Set(["end", "suspend"]);

function isOver({ op }: Request, answer: OpeningAnswer): boolean {
  if (answer.ok) return LEAVES.has(op);
  return FENCED.has(op) && LOST.has(answer.error.code);
}

const LOST: ReadonlySet<string> = new Set(["lease_lost", "run_cancelled", "run_not_found"]);
