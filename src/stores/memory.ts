/**
 * Runs in the memory of one process, for development and tests. Serialises like the other stores: nothing is shared
 * by reference with a caller. Guarantee: none beyond the process.
 */
import type { RunRecord } from "../contract/types.ts";
import { decide } from "../ledger/decide.ts";
import type { Op, RequestOf } from "../ledger/requests.ts";
import type { Change, EventState, RunState, Slice, StepState } from "../ledger/state.ts";
import type { Counted } from "./answer.ts";
import { answer } from "./answer.ts";
import type { Answer, CountedRun, Journal, StepPage } from "./journal.ts";
import { subjectOf } from "./journal.ts";
import { LedgerStore } from "./ledger-store.ts";
import { toRunRecord } from "./records.ts";

export class InMemoryDurableRunStore extends LedgerStore {
  readonly #memory: MemoryJournal;

  constructor() {
    const memory = new MemoryJournal();
    super(memory);
    this.#memory = memory;
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
}

class MemoryJournal implements Journal {
  readonly #kept = new Map<string, Kept>();

  async submit<O extends Op>(request: RequestOf<O>, now: () => number): Promise<Answer<O>> {
    const { stepIndex, key } = subjectOf(request);
    const kept = this.#kept.get(request.runId);
    const slice: Slice = {
      run: kept?.run ?? null,
      step: (stepIndex !== undefined && kept?.steps.get(stepIndex)) || null,
      event: (key !== undefined && kept?.events.get(key)) || null,
    };
    const decision = decide<O>(slice, request, now());
    if (decision.ok) this.#keep(request.runId, decision.change);
    return answer(request.op as O, decision, () => this.#count(request.runId));
  }

  async run(runId: string): Promise<CountedRun | null> {
    return this.counted(runId);
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

  #keep(runId: string, change: Change): void {
    let kept = this.#kept.get(runId);
    if (kept === undefined)
      this.#kept.set(runId, (kept = { run: null, steps: new Map(), events: new Map() }));
    if (change.run) kept.run = change.run;
    if (change.step) kept.steps.set(change.step.stepIndex, change.step);
    if (change.event) kept.events.set(change.event.key, change.event);
  }

  async #count(runId: string): Promise<Counted> {
    const page = await this.steps(runId, 0);
    return { stepCount: page.steps.length, page };
  }
}
