/** What the coordinator has to know of a request beyond the ledger's rules: what it waits for, and where it may lie. */
import type { ClaimRequest, Op, Replies, Request } from "../ledger/requests.ts";
import type { Change } from "../ledger/state.ts";
import type { Envelope } from "../stores/coordinated/wire.ts";
import type { Answers } from "../stores/journal.ts";

/** What is asked for by nobody who works on the run, and so is decided again over what D1 has. */
export const NEED_NO_FENCE: ReadonlySet<Op> = new Set([
  "claim",
  "emit",
  "cancel",
  "resolve",
  "restart",
  "fork",
]);

const OF_ONE_AT_WORK: ReadonlySet<Op> = new Set(["claim", "renew", "begin", "complete", "fail", "copy"]);

/** Whether whoever asks has more to ask of the same run. What is final, or comes from outside, may be the last request. */
export function comesAgain({ op }: Request): boolean {
  return OF_ONE_AT_WORK.has(op);
}

export function mayDrop({ op }: Request): boolean {
  return op === "restart" || op === "fork";
}

/** In UTF-16 code units, of what a claim brings: far less than goes to D1 as one entry. */
const SHORT_CLAIM = 16 * 1_024;

export function isShort({ task, input, tags }: ClaimRequest): boolean {
  const length = "text" in input ? input.text.length : Infinity;
  return length + task.length + (tags?.length ?? 0) <= SHORT_CLAIM;
}

/** R16: a begin may wait for the next commit, unless it brings what nothing else will say again. */
export function mayLieInMemory(request: Request, change: Change): boolean {
  if (request.op !== "begin" || change.run) return false;
  return request.timeoutMs === null && request.caught.length === 0 && request.onInterrupted === "rerun";
}

/** R14: what is acknowledged under "record" only once D1 has it. A copy waits for the seal. */
export function isRecorded(request: Request, reply: Replies[Op]): boolean {
  if (request.op === "renew" || request.op === "copy") return false;
  if (request.op !== "begin" || request.onInterrupted !== "rerun") return true;
  return (reply as Replies["begin"]).step.status !== "running";
}

export function isRefusedRenewal(request: Request, answer: Envelope<Answers[Op]>): boolean {
  return request.op === "renew" && (!answer.ok || (answer.value as Answers["renew"]).leaseExpiresAt === null);
}
