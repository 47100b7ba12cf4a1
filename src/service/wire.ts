/**
 * The wire between `connectRuns` and RunService: the coordinator's own (stores/coordinated/wire.ts), each method with the
 * run's id in front, and history as one method; all of it on a session that the service opens.
 *
 * An answer of history may be a body of 16 MiB, and a string may take two bytes a character on the wire, of which RPC
 * carries 32 MiB: so it goes as UTF-8.
 */
import type { RunHistoryReads } from "../history/types.ts";
import type { Op } from "../ledger/requests.ts";
import type { CoordinatorReads, Envelope, WireMessage } from "../stores/coordinated/wire.ts";
import type { Answers } from "../stores/journal.ts";

export interface RunServiceMethods {
  /** Over RPC this is a promise, on which calls can be made before it has settled. */
  open(): RunSessionMethods;
}

export interface RunSessionMethods extends ReadsByRun {
  submit(message: WireMessage): Promise<ServiceEnvelope<Answers[Op]>>;
  /** `args`: JSON text of an array; `null` in it stands for what is left out. Answers JSON text in UTF-8; `null` for `undefined`. */
  history(name: HistoryRead, args: string): Promise<ServiceEnvelope<Uint8Array | null>>;
}

/**
 * `fault`: the object did not answer, and nothing is known of the effect; thrown, the marks by which the runtime tells a
 * reset from a defect would be lost on this second hop. Of a failure alone, with `store_unavailable`.
 */
export type ServiceEnvelope<T> = Envelope<T> & { readonly fault?: "transient" | "overloaded" };

/** The coordinator's reads. The scope is the binding's, and no caller's to say. */
type ReadsByRun = { [M in keyof CoordinatorReads]: ByRun<CoordinatorReads[M]> };

type ByRun<F> = F extends (...args: infer A) => infer R
  ? (runId: string, ...args: WithoutScope<A>) => R
  : never;

type WithoutScope<A extends unknown[]> =
  Required<A> extends [...infer Rest, string]
    ? Rest
    : Required<A> extends [...infer Rest, string, infer Last extends object]
      ? [...Rest, Last?]
      : never;

export type HistoryRead = keyof RunHistoryReads;

/** What may be asked of history, and nothing else. */
const HISTORY_READS: Readonly<Record<HistoryRead, true>> = {
  list: true,
  get: true,
  steps: true,
  step: true,
  events: true,
  event: true,
  stats: true,
  stuck: true,
};

export const HISTORY_READ_NAMES = Object.keys(HISTORY_READS) as readonly HistoryRead[];

export function isHistoryRead(name: unknown): name is HistoryRead {
  return typeof name === "string" && Object.hasOwn(HISTORY_READS, name);
}
