/**
 * Runs in the memory of one process, for development and tests. Serialises like the other stores: nothing is shared
 * by reference with a caller. Guarantee: none beyond the process.
 */
import type { Clock } from "../contract/clock.ts";
import { systemClock } from "../contract/clock.ts";
import { errorFromData } from "../contract/errors.ts";
import type {
  AwaitedEvent,
  RunRecord,
  RunStatus,
  WaitForEventInput,
  WatchLeaseInput,
} from "../contract/types.ts";
import { decide } from "../ledger/decide.ts";
import { completeWith } from "../ledger/events.ts";
import type { Decision, EventCompletion, Op, RequestOf } from "../ledger/requests.ts";
import type { Change, EventState, KeptManifest, RunState, Slice, StepState } from "../ledger/state.ts";
import type { Counted } from "./answer.ts";
import { answer } from "./answer.ts";
import type { HeldCompletion } from "./held-completions.ts";
import { HeldCompletions } from "./held-completions.ts";
import type { Answer, AwaitedState, CountedRun, Journal, StepPage } from "./journal.ts";
import { deleteFrom, lostLease, subjectOf } from "./journal.ts";
import type { BeginOptions } from "./ledger-store.ts";
import { LedgerStore } from "./ledger-store.ts";
import { toRunRecord } from "./records.ts";
import { checkWaitForEvent, checkWatchLease, eventCompletion } from "./to-request.ts";
import { eventTopic, LEASE_TOPIC, Waiters } from "./waiters.ts";

export interface InMemoryStoreOptions extends BeginOptions {
  /** For tests: what decides leases (`now` may be replaced by itself), and what held calls are timed by. */
  clock?: Clock;
}

export class InMemoryDurableRunStore extends LedgerStore {
  readonly #memory: MemoryJournal;

  constructor(options: InMemoryStoreOptions = {}) {
    const { clock = systemClock } = options;
    const memory = new MemoryJournal(clock);
    super(memory, options);
    this.#memory = memory;
    this.now = () => clock.now();
  }

  async waitForEvent(input: WaitForEventInput): Promise<AwaitedEvent | undefined> {
    checkWaitForEvent(input);
    const completion = eventCompletion(input);
    const event = await this.#memory.waitForEvent(input, completion, () => Math.floor(this.now()));
    return this.eventRecord(input.runId, event, event?.completed);
  }

  async watchLease(input: WatchLeaseInput): Promise<{ held: boolean; status?: RunStatus }> {
    checkWatchLease(input);
    return this.#memory.watchLease(input);
  }

  /** @internal The run as it stands, without waiting. */
  _inspect(runId: string): RunRecord | undefined {
    const counted = this.#memory.counted(runId);
    if (counted === null) return undefined;
    const { result } = counted.run;
    return toRunRecord(counted, result !== null && "text" in result ? result.text : null);
  }

  /** @internal Lets the lease lapse now. */
  _expireLease(runId: string): void {
    this.#memory.expireLease(runId, this.now());
  }
}

interface Kept {
  run: RunState | null;
  readonly steps: Map<number, StepState>;
  readonly events: Map<string, EventState>;
  readonly waiters: Waiters;
  readonly completions: HeldCompletions<Completion>;
}

type Completion = HeldCompletion<Decision<"complete">>;

class MemoryJournal implements Journal {
  readonly #kept = new Map<string, Kept>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async waitForEvent(
    { runId, key, timeoutMs, signal }: WaitForEventInput,
    request: EventCompletion | null,
    now: () => number,
  ): Promise<AwaitedState | null> {
    const { events, waiters, completions } = this.#of(runId);
    const limit = { clock: this.#clock, timeoutMs, signal };
    const found = () => waiters.until(eventTopic(key), limit, () => events.get(key));
    if (request === null) return (await found()) ?? null;
    const held: Completion = { request };
    const event = await completions.during(key, held, found);
    if (event === undefined) return null;
    const { outcome } = held;
    const decided = outcome && (await answer("complete", outcome, () => this.#count(runId)));
    const ended = decided ?? (await this.submit<"complete">({ ...request, result: event.payload }, now));
    if (!ended.ok) throw errorFromData(ended.error);
    return { ...event, completed: ended.value };
  }

  async watchLease({
    runId,
    fence,
    timeoutMs,
    signal,
  }: WatchLeaseInput): Promise<{ held: boolean; status?: RunStatus }> {
    const kept = this.#of(runId);
    const limit = { clock: this.#clock, timeoutMs, signal };
    const lost = await kept.waiters.until(LEASE_TOPIC, limit, () => lostLease(kept.run, fence));
    return lost ?? { held: true };
  }

  async submit<O extends Op>(request: RequestOf<O>, now: () => number): Promise<Answer<O>> {
    const { stepIndex, key } = subjectOf(request);
    const kept = this.#kept.get(request.runId);
    const slice: Slice = {
      run: kept?.run ?? null,
      step: (stepIndex !== undefined && kept?.steps.get(stepIndex)) || null,
      event: (key !== undefined && kept?.events.get(key)) || null,
    };
    const at = now();
    const decision = decide<O>(slice, request, at);
    if (decision.ok) this.#keep(request.runId, this.#withCompletions(kept, decision.change, at));
    return answer(request.op as O, decision, () => this.#count(request.runId));
  }

  async run(runId: string): Promise<CountedRun | null> {
    return this.counted(runId);
  }

  async manifest(runId: string): Promise<KeptManifest | null> {
    return this.#kept.get(runId)?.run ?? null;
  }

  async step(runId: string, stepIndex: number): Promise<StepState | null> {
    return this.#kept.get(runId)?.steps.get(stepIndex) ?? null;
  }

  async steps(runId: string, from: number): Promise<StepPage> {
    const steps = [...(this.#kept.get(runId)?.steps.values() ?? [])].filter((step) => step.stepIndex >= from);
    return { steps: steps.sort((a, b) => a.stepIndex - b.stepIndex), next: null };
  }

  async event(runId: string, key: string): Promise<EventState | null> {
    return this.#kept.get(runId)?.events.get(key) ?? null;
  }

  body(_runId: string, ref: string): Promise<string> {
    return Promise.reject(new Error(`memory keeps every body inline, but was asked for "${ref}"`));
  }

  async close(): Promise<void> {}

  counted(runId: string): CountedRun | null {
    const kept = this.#kept.get(runId);
    return kept?.run ? { run: kept.run, stepCount: kept.steps.size } : null;
  }

  expireLease(runId: string, now: number): void {
    const kept = this.#kept.get(runId);
    if (kept?.run?.leaseExpiresAt) kept.run = { ...kept.run, leaseExpiresAt: now };
  }

  /** With the steps that end with the event. */
  #withCompletions(kept: Kept | undefined, change: Change, now: number): Change {
    if (kept === undefined || change.event === undefined) return change;
    const held = kept.completions.of(change.event.key);
    const standing = { run: kept.run, step: (at: number) => kept.steps.get(at) ?? null };
    const { ends, change: more } = completeWith(change.event, standing, held, now);
    for (const end of ends) end.held.outcome = end.decision;
    return { ...change, ...more };
  }

  #keep(runId: string, change: Change): void {
    const { run, step, steps = [], event, dropFrom } = change;
    if (!run && !step && !event) return;
    const kept = this.#of(runId);
    if (dropFrom !== undefined) deleteFrom(kept.steps, dropFrom);
    if (run) kept.run = run;
    for (const one of step ? [step, ...steps] : steps) kept.steps.set(one.stepIndex, one);
    if (event) kept.events.set(event.key, event);
    if (run) kept.waiters.wake(LEASE_TOPIC);
    if (event) kept.waiters.wake(eventTopic(event.key));
  }

  #of(runId: string): Kept {
    let kept = this.#kept.get(runId);
    if (kept === undefined) {
      const [steps, events, waiters] = [new Map(), new Map(), new Waiters()];
      kept = { run: null, steps, events, waiters, completions: new HeldCompletions() };
      this.#kept.set(runId, kept);
    }
    return kept;
  }

  async #count(runId: string): Promise<Counted> {
    const page = await this.steps(runId, 0);
    return { stepCount: page.steps.length, page };
  }
}
