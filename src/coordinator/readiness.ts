/**
 * Whether a coordinator's cache may answer, and how it comes to that (R17).
 *
 * The cache must hold the run, or know that D1 does not; and before it changes anything it must have been compared
 * with D1, once in the life of this instance, for its storage may have been restored to an older state, or trail
 * behind what was deferred; where it may trail, reads wait for that as well. Heartbeats do not wait for the
 * comparison. A claim that finds nothing here may assume that D1 holds nothing either, and all else then waits until D1
 * has said so. Loading, comparing and emptying each happen behind one promise that all who need it share.
 */
import { DurableStoreUnavailableError } from "../contract/errors.ts";
import type { Op } from "../ledger/requests.ts";
import type { RunCache } from "./cache.ts";
import type { RecordInput } from "./rebuild.ts";
import { rebuild, recordIsAhead } from "./rebuild.ts";
import { StaleSliceError } from "../stores/d1/database.ts";

export interface ReadinessInput {
  readonly cache: RunCache;
  readonly record: RecordInput;
  readonly deleteAll: () => Promise<void>;
  readonly onRebuilt: () => void;
  /** Once the cache may answer, after a rebuild or a comparison. */
  readonly onReady: () => void;
  readonly onEmptied: () => void;
  /** Has D1 say whether a claim that is assumed holds. Rejects when it does not, or when D1 cannot say. */
  readonly confirm: () => Promise<void>;
}

export class Readiness {
  readonly #input: ReadinessInput;
  #loaded: boolean;
  #compared = false;
  #loading: Promise<void> | undefined;
  #comparing: Promise<void> | undefined;
  #failures = 0;
  /** D1 has refused what was assumed. */
  #mustLook = false;
  /** D1 has refused what was sent, and has not been looked at since. */
  #isRefused = false;

  constructor(input: ReadinessInput) {
    this.#input = input;
    this.#loaded = input.cache.run !== null;
  }

  get isLoading(): boolean {
    return this.#loading !== undefined;
  }

  /** Comparisons that failed in a row. */
  get failures(): number {
    return this.#failures;
  }

  /** Whether a claim may be made as if D1 held nothing of the run: D1 then says so when it is recorded (0030). */
  get mayAssume(): boolean {
    return !this.#loaded && this.#loading === undefined && !this.#mustLook && this.#input.cache.isUntouched;
  }

  /** Whether D1 has refused what was assumed, and has not been read since. */
  get mustLook(): boolean {
    return this.#mustLook;
  }

  /** The cache holds a claim that is assumed. */
  assumed(): void {
    this.#loaded = true;
    this.#compared = true;
  }

  isReady(op: Op | "read"): boolean {
    if (this.#input.cache.isAssumed) return false;
    if (this.#loading !== undefined || !this.#loaded) return false;
    return this.#compared || op === "renew" || (op === "read" && !this.#input.cache.mayTrail);
  }

  /** Takes the next step towards being ready. Rejects with `store_unavailable` when D1 is needed and cannot answer. */
  prepare(): Promise<void> {
    if (this.#loading !== undefined) return this.#loading;
    if (this.#input.cache.isAssumed) return this.#confirm();
    if (!this.#loaded) return this.#load(this.#rebuild());
    this.#comparing ??= this.#compare().finally(() => {
      this.#comparing = undefined;
    });
    return this.#comparing;
  }

  /** D1 knows the run whose claim was assumed: the next caller asks it. */
  giveUpAssumption(): void {
    this.forget();
    this.#mustLook = true;
  }

  /**
   * Whether D1 has to be looked at before anything goes there: it could be refused by the number that the look takes (0033).
   */
  get mustLookFirst(): boolean {
    const { run, mayTrail, isAssumed } = this.#input.cache;
    return run !== null && !isAssumed && (mayTrail || this.#isRefused) && !this.isReady("end");
  }

  /**
   * After D1 has refused what was sent. That may be for a later look alone, by an instance that was replaced and not stopped yet: then
   * what is here stands, as its storage commits, and is sent again under another number. Anything else is thrown away, to be
   * rebuilt. Answers whether the cache stands.
   */
  async reconcile(): Promise<boolean> {
    const { epoch } = this.#input.cache;
    this.#isRefused = true;
    this.#compared = false;
    await this.prepare();
    return this.#input.cache.epoch === epoch;
  }

  /** Resolves once a change may be made. Rejects as `prepare` does. */
  async untilReady(): Promise<void> {
    while (!this.isReady("end")) await this.prepare();
  }

  async #confirm(): Promise<void> {
    try {
      await this.#input.confirm();
    } catch (error) {
      if (!(error instanceof StaleSliceError)) throw error;
    }
  }

  /** Forgets what is in memory, where no storage was ever made: the next caller asks D1. */
  forget(): void {
    this.#input.cache.forget();
    this.#reset();
  }

  /** Throws the object's own copy away, for D1 knows better; the next caller rebuilds it. */
  discard(): void {
    this.#input.cache.discard();
    this.#reset();
  }

  /** Deletes the object's storage, which D1 holds all of. Whoever comes meanwhile waits. */
  remove(): void {
    this.#input.cache.forget();
    this.#reset();
    // A failure breaks the object, which is reset: nobody is left to handle it.
    this.#load(this.#input.deleteAll()).catch(() => {});
  }

  #reset(): void {
    this.#loaded = false;
    this.#compared = false;
    this.#isRefused = false;
    this.#failures = 0;
    this.#input.onEmptied();
  }

  #load(work: Promise<void>): Promise<void> {
    const loading = work.finally(() => {
      if (this.#loading === loading) this.#loading = undefined;
      if (this.#loaded) this.#input.onReady();
    });
    this.#loading = loading;
    return loading;
  }

  async #rebuild(): Promise<void> {
    const { cache, record, onRebuilt } = this.#input;
    const { epoch } = cache;
    await rebuild(cache, record, !this.#mustLook);
    if (cache.epoch !== epoch) return;
    this.#loaded = true;
    this.#compared = true;
    this.#mustLook = false;
    this.#failures = 0;
    onRebuilt();
  }

  /**
   * D1 out of reach is no reason to stop where storage holds all that was acknowledged: then it is at least as new as
   * D1, unless it was restored.
   */
  async #compare(): Promise<void> {
    const { cache, record } = this.#input;
    const { epoch } = cache;
    const isRefused = this.#isRefused;
    const ahead = await recordIsAhead(cache, record, isRefused).catch((error: unknown) => {
      if (cache.epoch === epoch) this.#failures += 1;
      if (error instanceof DurableStoreUnavailableError && !cache.mayTrail && !isRefused) return false;
      throw error;
    });
    // What has been refused since is not answered by it: a look that takes a number has to.
    if (cache.epoch !== epoch || isRefused !== this.#isRefused) return;
    this.#failures = 0;
    this.#compared = true;
    this.#isRefused = false;
    if (ahead) this.discard();
    else this.#input.onReady();
  }
}
