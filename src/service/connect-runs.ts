/**
 * connectRuns: another Worker's runs as a store here, over a service binding to its RunService.
 *
 * The coordinated store, over sessions with the service: one client, which repeats what is safe to repeat (R20), and
 * which makes typed errors of what is answered.
 */
import type { Clock } from "../contract/clock.ts";
import { systemClock } from "../contract/clock.ts";
import { DurableInvalidInputError, errorFromData } from "../contract/errors.ts";
import { toJsonText } from "../contract/payload.ts";
import type { RunHistoryReads } from "../history/types.ts";
import type { RetryOptions } from "../stores/coordinated/retry.ts";
import { callFresh } from "../stores/coordinated/retry.ts";
import { CoordinatedDurableRunStore } from "../stores/coordinated/store.ts";
import type { AckPolicy, CoordinatorLike, CoordinatorNamespaceLike } from "../stores/coordinated/wire.ts";
import type { BeginOptions } from "../stores/ledger-store.ts";
import { Sessions } from "./sessions.ts";
import type { RunServiceMethods } from "./wire.ts";
import { HISTORY_READ_NAMES } from "./wire.ts";

export interface ConnectOptions extends BeginOptions {
  /** Default "record". */
  ack?: AckPolicy;
  retry?: RetryOptions;
  /** For tests: what backoffs are measured by. */
  clock?: Clock;
}

/**
 * The runs of another Worker: the whole contract, `lag`, and history. What the binding's props do not allow rejects with
 * `forbidden`; props that are not understood make every call reject with `invalid_input`.
 *
 * Its calls share a session with the service, which belongs to the request that opened it, so take a store for each
 * request. It ends with `close`, or with the request.
 */
export class ConnectedRuns extends CoordinatedDurableRunStore {
  /** Reads of D1, which wake no object. As late as D1 is: see `lag`. */
  readonly history: RunHistoryReads;

  readonly #sessions: Sessions;

  constructor(service: RunServiceMethods, options: ConnectOptions = {}) {
    const sessions = new Sessions(service, options.clock ?? systemClock);
    super(coordinatorsBehind(sessions), options);
    this.#sessions = sessions;
    this.history = historyBehind(sessions, options);
  }

  /** Lets go of the session with the service; calls under way are not disturbed. A later call opens another. */
  override async close(): Promise<void> {
    await super.close();
    this.#sessions.close();
  }
}

/**
 * A store of the runs behind a service binding whose entrypoint is RunService.
 *
 * `binding` is any object, as the types that tools make of an entrypoint are not those of its methods. Throws
 * `invalid_input` when it is none: the binding is missing from the configuration.
 */
export function connectRuns(binding: object, options: ConnectOptions = {}): ConnectedRuns {
  const given: unknown = binding;
  if (given === null || (typeof given !== "object" && typeof given !== "function")) {
    throw new DurableInvalidInputError(
      "binding",
      `is ${String(given)}. Bind the entrypoint RunService in [[services]].`,
    );
  }
  return new ConnectedRuns(binding as RunServiceMethods, options);
}

function coordinatorsBehind(sessions: Sessions): CoordinatorNamespaceLike {
  return {
    getByName: (runId): CoordinatorLike => ({
      submit: (message) => sessions.call((session) => session.submit(message)),
      readRun: () => sessions.call((session) => session.readRun(runId)),
      readStep: (stepIndex) => sessions.call((session) => session.readStep(runId, stepIndex)),
      readSteps: (from) => sessions.call((session) => session.readSteps(runId, from)),
      readEvent: (key) => sessions.call((session) => session.readEvent(runId, key)),
      readManifest: () => sessions.call((session) => session.readManifest(runId)),
      waitForEvent: (key, timeoutMs, _scope, completion) =>
        sessions.call((session) => session.waitForEvent(runId, key, timeoutMs, completion)),
      watchLease: (fence, timeoutMs) =>
        sessions.call((session) => session.watchLease(runId, fence, timeoutMs)),
      lag: () => sessions.call((session) => session.lag(runId)),
      readBody: (ref, first) => sessions.call((session) => session.readBody(runId, ref, first)),
    }),
  };
}

function historyBehind(sessions: Sessions, { clock = systemClock, retry }: ConnectOptions): RunHistoryReads {
  const reads = HISTORY_READ_NAMES.map((name) => {
    const read = async (...args: unknown[]): Promise<unknown> => {
      const text = toJsonText(
        "arguments",
        args.map((arg) => arg ?? null),
      );
      const ask = () => sessions.call((session) => session.history(name, text));
      const answer = await callFresh(ask, clock, retry);
      if (!answer.ok) throw errorFromData(answer.error);
      return answer.value === null
        ? undefined
        : (JSON.parse(new TextDecoder().decode(answer.value)) as unknown);
    };
    return [name, read] as const;
  });
  return Object.fromEntries(reads) as unknown as RunHistoryReads;
}
