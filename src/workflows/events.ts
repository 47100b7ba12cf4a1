/**
 * The events of a run on Workflows. An event is one fact, whose first payload counts.
 *
 * The platform gives an event to one wait alone, to the one that has waited longest, even if the code behind it has gone
 * on without. So once a task has branched off there is one wait for each key, of no branch, and whoever awaits the key
 * listens to it; whether the event or the time came first is then decided, and recorded, for each of them.
 */
import { unlessAborted } from "../contract/clock.ts";
import { codeOf, DurableAwaitEventTimeoutError } from "../contract/errors.ts";
import { fromJsonText, toJsonText } from "../contract/payload.ts";
import { workflowEventType } from "./event-type.ts";
import { isWaitTimeout } from "./failures.ts";
import type { Line } from "./line.ts";
import { MAX_SLEEP_MS, type Platform, valueOf } from "./platform.ts";
import { fromRecorded, type Outcome, UNDECIDED } from "./recorded.ts";

/** In place of a branch's path. */
const OF_NO_BRANCH = "*";

export class WorkflowEvents {
  readonly #platform: Platform;
  readonly #runId: string;
  /** Payloads by key, as JSON text. */
  readonly #received = new Map<string, string>();
  readonly #emitted = new Set<string>();
  /** The first events of keys, once they come. */
  readonly #arrivals = new Map<string, PromiseWithResolvers<void>>();

  constructor(platform: Platform, runId: string) {
    this.#platform = platform;
    this.#runId = runId;
  }

  /** Waits with a wait of the platform. Resolves to the payload, or rejects with `await_event_timeout`. */
  async await(line: Line, key: string, timeoutMs: number): Promise<unknown> {
    const name = line.stepName("key", `event:${key}`);
    if (!this.#received.has(key)) await this.#receive(name, key, timeoutMs);
    return fromJsonText(this.#received.get(key) ?? "");
  }

  /** The same, in a task that has branched off: others may await the key, too. */
  async awaitAmongBranches(line: Line, key: string, timeoutMs: number): Promise<unknown> {
    const { halted } = line.branch;
    const label = `event:${key}`;
    const path = line.nextWaitPath(key);
    const timer = line.placeName("key", path, `${label} timeout`);
    const ready = (): Promise<unknown> => {
      const arrival = this.#arrival(line, key);
      // 1 ms at least: an event that is there already is to come first.
      const timeUp = this.#platform.sleep(timer, Math.max(1, timeoutMs));
      return unlessAborted(halted, Promise.race([arrival, timeUp]));
    };
    const early = (): Outcome => {
      const text = this.#received.get(key);
      return text === undefined ? UNDECIDED : { text };
    };
    const decision = async (): Promise<Outcome> => {
      const outcome = early();
      if (outcome === UNDECIDED) throw this.#timeout(key, timeoutMs);
      return outcome;
    };
    const name = line.placeName("key", path, label);
    const payload = valueOf(await this.#platform.decide(name, { early, ready, decision }));
    this.#note(key, toJsonText("payload", payload));
    return payload;
  }

  /**
   * Sends an event once, unless the key is known to have one. Answers whether it did.
   * `isAmongBranches`: that is put on record, too, as others may emit or receive at the same time.
   */
  async emit(
    line: Line,
    key: string,
    { isAmongBranches, send }: { isAmongBranches: boolean; send: () => Promise<void> },
  ): Promise<boolean> {
    const name = line.stepName("key", `emit:${key}`);
    const isKnown = this.#received.has(key) || this.#emitted.has(key);
    if (isKnown && !isAmongBranches) return false;
    this.#emitted.add(key);
    try {
      const emitted = await this.#platform.perform(name, async () => {
        if (!isKnown) await send();
        return { text: String(!isKnown) };
      });
      return valueOf(emitted) !== false;
    } catch (error) {
      if (!isKnown) this.#emitted.delete(key);
      throw error;
    }
  }

  /** Resolves once the first event of the key has come. */
  #arrival(line: Line, key: string): Promise<void> {
    const known = this.#arrivals.get(key);
    if (known) return known.promise;
    const arrival = Promise.withResolvers<void>();
    this.#arrivals.set(key, arrival);
    if (this.#received.has(key)) arrival.resolve();
    else {
      this.#collect(line, key).catch((error: unknown) => {
        this.#arrivals.delete(key);
        arrival.reject(error as Error);
      });
    }
    return arrival.promise;
  }

  /** The one wait for a key, for as long as it takes. */
  async #collect(line: Line, key: string): Promise<void> {
    const name = line.placeName("key", OF_NO_BRANCH, `event:${key}`);
    for (;;) {
      try {
        return await this.#receive(name, key, MAX_SLEEP_MS);
      } catch (error) {
        if (codeOf(error) !== "await_event_timeout") throw error;
      }
    }
  }

  async #receive(name: string, key: string, timeoutMs: number): Promise<void> {
    try {
      const payload = await this.#platform.waitForEvent(name, workflowEventType(key), timeoutMs);
      this.#note(key, toJsonText(`the payload of event "${key}"`, fromRecorded(payload).result));
    } catch (error) {
      throw isWaitTimeout(error) ? this.#timeout(key, timeoutMs) : error;
    }
  }

  #note(key: string, text: string): void {
    if (!this.#received.has(key)) this.#received.set(key, text);
    this.#arrivals.get(key)?.resolve();
  }

  #timeout(key: string, timeoutMs: number): Error {
    return new DurableAwaitEventTimeoutError(
      `no event "${key}" came to run "${this.#runId}" within ${timeoutMs} ms.`,
    );
  }
}
