/**
 * The events of a run on Workflows. An event is one fact, whose first payload counts.
 *
 * The platform gives an event to one wait alone, to the one that has waited longest, even if the code behind it has gone
 * on without. So whoever awaits a key hears of it, whichever wait the event was given to; and branches, which a replay may
 * leave out, share one wait that is of none of them. Whether the event or the time came first is then decided, and
 * recorded, for each that awaited it.
 */
import { unlessAborted } from "../contract/clock.ts";
import { codeOf, DurableAwaitEventTimeoutError } from "../contract/errors.ts";
import { fromJsonText, toJsonText } from "../contract/payload.ts";
import { workflowEventType } from "./event-type.ts";
import { isPlatformTimeout } from "./failures.ts";
import type { Line } from "./line.ts";
import { MAX_SLEEP_MS, type Platform, valueOf } from "./platform.ts";
import { fromRecorded, type Outcome, UNDECIDED } from "./recorded.ts";

export class WorkflowEvents {
  readonly #platform: Platform;
  readonly #root: Line;
  readonly #runId: string;
  /** Payloads by key, as JSON text. */
  readonly #received = new Map<string, string>();
  readonly #emitted = new Set<string>();
  /** The first events of keys, once they come. */
  readonly #arrivals = new Map<string, PromiseWithResolvers<void>>();
  readonly #collected = new Set<string>();

  constructor(platform: Platform, root: Line, runId: string) {
    this.#platform = platform;
    this.#root = root;
    this.#runId = runId;
  }

  /**
   * Waits for the task itself. Resolves to the payload, or rejects with `await_event_timeout`.
   *
   * The first wait for a key is one of the platform, whose record is the answer. A later one may wait beside it, and one
   * after a group beside a branch, so that who is first has to be decided. Under the same name, so that a wait that is on
   * record stands, whether or not a group was put before it since.
   */
  async awaitOutside(
    line: Line,
    key: string,
    { timeoutMs, hasBranched }: { timeoutMs: number; hasBranched: boolean },
  ): Promise<unknown> {
    const label = line.numbered("event", `event:${key}`);
    const name = line.labelName("key", label);
    const isFirst = label === `event:${key}`;
    if (isFirst && !hasBranched) {
      await this.#receive(name, key, timeoutMs);
      return fromJsonText(this.#received.get(key) ?? "");
    }
    const ready = (): Promise<unknown> => {
      // First, so that an event that no branch has waited for is given to it. 1 ms at least: see below.
      const wait = unlessTimedOut(this.#receive(name, key, Math.max(1, timeoutMs)));
      const arrival = hasBranched ? this.#arrivalForAll(key) : this.#arrival(key).promise;
      return Promise.race([arrival, wait]);
    };
    return this.#decide(line, { key, label, timeoutMs, ready });
  }

  /** The same in a branch. */
  async awaitInBranch(line: Line, key: string, timeoutMs: number): Promise<unknown> {
    const { halted } = line.branch;
    const label = line.numbered("event", `event:${key}`);
    const timer = line.labelName("key", `timeout:${label}`);
    const ready = (): Promise<unknown> => {
      const arrival = this.#arrivalForAll(key);
      // 1 ms at least: an event that is there already is to come first.
      const timeUp = this.#platform.sleep(timer, Math.max(1, timeoutMs));
      return unlessAborted(halted, Promise.race([arrival, timeUp]));
    };
    return this.#decide(line, { key, label, timeoutMs, ready });
  }

  /** Puts on record whether the event came in time. */
  async #decide(
    line: Line,
    {
      key,
      label,
      timeoutMs,
      ready,
    }: { key: string; label: string; timeoutMs: number; ready: () => Promise<unknown> },
  ): Promise<unknown> {
    const early = (): Outcome => {
      const text = this.#received.get(key);
      return text === undefined ? UNDECIDED : { text };
    };
    const decision = async (): Promise<Outcome> => {
      const outcome = early();
      if (outcome === UNDECIDED) throw this.#timeout(key, timeoutMs);
      return outcome;
    };
    const name = line.labelName("key", `decision:${label}`);
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
    const name = line.labelName("key", `emit:${key}`);
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
  #arrival(key: string): PromiseWithResolvers<void> {
    const known = this.#arrivals.get(key);
    if (known) return known;
    const arrival = Promise.withResolvers<void>();
    arrival.promise.catch(() => {});
    this.#arrivals.set(key, arrival);
    if (this.#received.has(key)) arrival.resolve();
    return arrival;
  }

  /** The same, with a wait that is of no branch, and so is not lost with one. */
  #arrivalForAll(key: string): Promise<void> {
    const arrival = this.#arrival(key);
    if (!this.#collected.has(key) && !this.#received.has(key)) {
      this.#collected.add(key);
      this.#collect(key).catch((error: unknown) => {
        this.#collected.delete(key);
        this.#arrivals.delete(key);
        arrival.reject(error as Error);
      });
    }
    return arrival.promise;
  }

  /** The one wait of all branches for a key, for as long as it takes. */
  async #collect(key: string): Promise<void> {
    const name = this.#root.labelName("key", `any:event:${key}`);
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
      throw isPlatformTimeout(error) ? this.#timeout(key, timeoutMs) : error;
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

/** Resolves when the event has come, or the time is up. */
async function unlessTimedOut(wait: Promise<void>): Promise<void> {
  try {
    await wait;
  } catch (error) {
    if (codeOf(error) !== "await_event_timeout") throw error;
  }
}
