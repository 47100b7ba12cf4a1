/**
 * A store for tests of what goes on between the calls that one of its methods makes: its journal is a few maps, hands out
 * steps in pages, as D1 and the coordinator do, and lets a test act before each call that reaches it.
 */
import type { Op, RequestOf } from "../../src/ledger/requests.ts";
import type { EventState, KeptManifest, StepState } from "../../src/ledger/state.ts";
import { answer } from "../../src/stores/answer.ts";
import type { Answer, CountedRun, Journal, StepPage } from "../../src/stores/journal.ts";
import { LedgerStore } from "../../src/stores/ledger-store.ts";
import { BEGINNING, TinyJournal } from "./ledger.ts";

/** A call of the journal: what it reads, or the request that is submitted. */
export type JournalCall = "run" | "manifest" | "step" | "steps" | Op;

export class PagedStore extends LedgerStore {
  readonly #journal: PagedJournal;

  /** `pageSize`: how many steps a page has. */
  constructor(pageSize = 2) {
    const journal = new PagedJournal(pageSize);
    super(journal);
    this.#journal = journal;
    this.now = () => BEGINNING;
  }

  /** Is called before each call of the journal takes effect, with its run. If it throws, the call is not made. */
  set before(act: (call: JournalCall, runId: string) => void) {
    this.#journal.before = act;
  }

  /** A run as it stands, and requests to it that pass by the store's methods. */
  ledger(runId: string): TinyJournal {
    return this.#journal.of(runId);
  }
}

class PagedJournal implements Journal {
  readonly #pageSize: number;
  readonly #ledgers = new Map<string, TinyJournal>();
  before: (call: JournalCall, runId: string) => void = () => {};

  constructor(pageSize: number) {
    this.#pageSize = pageSize;
  }

  async submit<O extends Op>(request: RequestOf<O>, now: () => number): Promise<Answer<O>> {
    const { op, runId } = request;
    this.before(op, runId);
    const ledger = this.of(runId);
    ledger.now = now();
    const decision = ledger.submit(request);
    return answer<O>(op as O, decision as Parameters<typeof answer<O>>[1], () => ({
      stepCount: ledger.snapshot().steps.size,
      page: this.#page(runId, 0),
    }));
  }

  async run(runId: string): Promise<CountedRun | null> {
    this.before("run", runId);
    const { run, steps } = this.of(runId).snapshot();
    return run && { run, stepCount: steps.size };
  }

  async manifest(runId: string): Promise<KeptManifest | null> {
    this.before("manifest", runId);
    return this.of(runId).run;
  }

  async step(runId: string, stepIndex: number): Promise<StepState | null> {
    this.before("step", runId);
    return this.of(runId).snapshot().steps.get(stepIndex) ?? null;
  }

  async steps(runId: string, from: number): Promise<StepPage> {
    this.before("steps", runId);
    return this.#page(runId, from);
  }

  async event(runId: string, key: string): Promise<EventState | null> {
    return this.of(runId).snapshot().events.get(key) ?? null;
  }

  body(_runId: string, ref: string): Promise<string> {
    return Promise.reject(new Error(`every body is inline, but "${ref}" was asked for`));
  }

  async close(): Promise<void> {}

  of(runId: string): TinyJournal {
    const ledger = this.#ledgers.get(runId) ?? new TinyJournal();
    this.#ledgers.set(runId, ledger);
    return ledger;
  }

  #page(runId: string, from: number): StepPage {
    const { steps } = this.of(runId).snapshot();
    const positions = [...steps.keys()].filter((position) => position >= from).toSorted((a, b) => a - b);
    const page = positions.slice(0, this.#pageSize);
    const last = page.at(-1);
    const next = last === undefined || positions.length === page.length ? null : last + 1;
    return { steps: page.map((position) => steps.get(position)!), next };
  }
}
