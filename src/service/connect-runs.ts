/**
 * connectRuns: another Worker's runs as a store here, over a service binding to its RunService.
 *
 * The coordinated store, over stubs that call the service: one client, which repeats what is safe to repeat (R20), and
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
import type {
  AckPolicy,
  CoordinatorLike,
  CoordinatorNamespaceLike,
  Envelope,
} from "../stores/coordinated/wire.ts";
import type { RunServiceMethods, ServiceEnvelope } from "./wire.ts";
import { HISTORY_READ_NAMES } from "./wire.ts";

export interface ConnectOptions {
  /** Default "record". */
  ack?: AckPolicy;
  retry?: RetryOptions;
  /** For tests: what backoffs are measured by. */
  clock?: Clock;
}

/**
 * The runs of another Worker: the whole contract, `lag`, and history. What the binding's props do not allow rejects with
 * `forbidden`; props that are not understood make every call reject with `invalid_input`.
 */
export class ConnectedRuns extends CoordinatedDurableRunStore {
  /** Reads of D1, which wake no object. As late as D1 is: see `lag`. */
  readonly history: RunHistoryReads;

  constructor(service: RunServiceMethods, options: ConnectOptions = {}) {
    super(coordinatorsBehind(service), options);
    this.history = historyBehind(service, options);
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

function coordinatorsBehind(service: RunServiceMethods): CoordinatorNamespaceLike {
  return {
    getByName: (runId): CoordinatorLike => ({
      submit: (message) => heard(service.submit(message)),
      readRun: () => heard(service.readRun(runId)),
      readStep: (stepIndex) => heard(service.readStep(runId, stepIndex)),
      readSteps: (from) => heard(service.readSteps(runId, from)),
      readEvent: (key) => heard(service.readEvent(runId, key)),
      readManifest: () => heard(service.readManifest(runId)),
      waitForEvent: (key, timeoutMs) => heard(service.waitForEvent(runId, key, timeoutMs)),
      watchLease: (fence, timeoutMs) => heard(service.watchLease(runId, fence, timeoutMs)),
      lag: () => heard(service.lag(runId)),
      readBody: (ref, first) => heard(service.readBody(runId, ref, first)),
    }),
  };
}

/** What befell the object behind the service, thrown as a stub of the object would throw it. */
async function heard<T>(answer: Promise<ServiceEnvelope<T>>): Promise<Envelope<T>> {
  const envelope = await answer;
  if (envelope.ok || envelope.fault === undefined) return envelope;
  const mark = envelope.fault === "overloaded" ? { overloaded: true } : { retryable: true };
  throw Object.assign(new Error(envelope.error.message), mark);
}

function historyBehind(
  service: RunServiceMethods,
  { clock = systemClock, retry }: ConnectOptions,
): RunHistoryReads {
  const reads = HISTORY_READ_NAMES.map((name) => {
    const read = async (...args: unknown[]): Promise<unknown> => {
      const text = toJsonText(
        "arguments",
        args.map((arg) => arg ?? null),
      );
      const answer = await callFresh(() => heard(service.history(name, text)), clock, retry);
      if (!answer.ok) throw errorFromData(answer.error);
      return answer.value === null
        ? undefined
        : (JSON.parse(new TextDecoder().decode(answer.value)) as unknown);
    };
    return [name, read] as const;
  });
  return Object.fromEntries(reads) as unknown as RunHistoryReads;
}
