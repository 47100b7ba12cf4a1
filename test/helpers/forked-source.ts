/** For tests of forks: a run that things happen to while it is read, and the fork of it. */
import type { ForkRunOptions } from "../../src/contract/types.ts";
import type { Request } from "../../src/ledger/requests.ts";
import type { StepState } from "../../src/ledger/state.ts";
import {
  beginOf,
  cancelOf,
  claimOf,
  completeOf,
  endOf,
  failOf,
  resolveOf,
  restartOf,
  type Snapshot,
  type TinyJournal,
} from "./ledger.ts";
import { type JournalCall, PagedStore } from "./paged-store.ts";

/** The run that is forked, and the run that the fork makes. */
export const SOURCE = "source";
export const COPY = "copy";

/** The worker of the source, and the people around it, who never wait for anybody. */
export class Source {
  readonly store: PagedStore;
  readonly ledger: TinyJournal;
  /** The run after each thing that happened to it. */
  readonly moments: Snapshot[] = [];
  #requests = 0;

  constructor(pageSize = 2) {
    this.store = new PagedStore(pageSize);
    this.ledger = this.store.ledger(SOURCE);
    this.claim();
  }

  get fence(): number {
    return this.ledger.theRun.fence;
  }

  get nextPosition(): number {
    return Math.max(-1, ...this.ledger.snapshot().steps.keys()) + 1;
  }

  claim(): void {
    this.#send(claimOf());
  }

  begin(stepIndex: number, ...caught: number[]): void {
    this.#send(beginOf({ stepIndex, fence: this.fence, caught }));
  }

  complete(stepIndex: number, result: unknown = `result ${stepIndex}`): void {
    this.#send(completeOf({ stepIndex, fence: this.fence, result: { text: JSON.stringify(result) } }));
  }

  run(...stepIndices: number[]): void {
    for (const stepIndex of stepIndices) {
      this.begin(stepIndex);
      this.complete(stepIndex);
    }
  }

  fail(stepIndex: number, over: Partial<Parameters<typeof failOf>[0]> = {}): void {
    this.#send(failOf({ stepIndex, fence: this.fence, ...over }));
  }

  /** Ann dies in it, and the next worker parks it. */
  park(stepIndex: number): void {
    this.claim();
    this.#send(beginOf({ stepIndex, fence: this.fence, onInterrupted: "park" }));
  }

  resolve(stepIndex: number, result: unknown): void {
    const { updatedAt: readAt } = this.ledger.theRun;
    this.#send(resolveOf({ stepIndex, result: { text: JSON.stringify(result) }, readAt }));
  }

  restart(fromStep: number): void {
    this.#send(restartOf({ stepIndex: fromStep }));
    this.claim();
  }

  cancel(): void {
    this.#send(cancelOf());
  }

  end(): void {
    this.#send(endOf({ fence: this.fence }));
  }

  /** Acts before the calls of a fork that read the source, the first of which is call 0. */
  during(act: (call: JournalCall, number: number) => void): void {
    let number = 0;
    this.store.before = (call, runId) => {
      if (runId === SOURCE) act(call, number++);
    };
  }

  /** Acts once, before the nth call of this sort. */
  beforeThe(nth: number, sort: JournalCall, act: () => void): void {
    let count = 0;
    this.during((call) => {
      if (call === sort && (count += 1) === nth) act();
    });
  }

  fork(throughStep: number, options: Partial<ForkRunOptions> = {}): Promise<unknown> {
    return this.store.forkRun(SOURCE, COPY, { throughStep, ...options });
  }

  /** Positions and results of the steps of the copy. */
  copied(): [number, unknown][] {
    const { steps } = this.store.ledger(COPY).snapshot();
    return Array.from(steps, ([position, step]) => [position, resultOf(step)]);
  }

  #send(request: Request): void {
    const requestId = `source-${(this.#requests += 1)}`;
    this.ledger.submit({ ...request, runId: SOURCE, requestId });
    this.moments.push(this.ledger.snapshot());
  }
}

function resultOf({ result, status }: StepState): unknown {
  return result && "text" in result ? JSON.parse(result.text) : status;
}
