/**
 * The journal of runs in a directory: loads the slice that a request is about from the run's log, asks the ledger, and
 * appends the change to that log, provided that nobody was faster.
 *
 * There are no locks. A log is a compare-and-set register (see folds.ts), so the workers of one machine agree on every
 * claim, fence and step by what stands in steps.jsonl, which is the only truth of a run. Must not know any rule.
 */
import { join, resolve } from "node:path";
import { DurableInvalidInputError, DurableStoreUnavailableError } from "../../contract/errors.ts";
import { decide } from "../../ledger/decide.ts";
import type { Decision, Op, Request, RequestOf } from "../../ledger/requests.ts";
import type { EventState, KeptManifest, RunState, StepState } from "../../ledger/state.ts";
import type { Counted } from "../answer.ts";
import { answer } from "../answer.ts";
import type { Answer, CountedRun, Journal, StepPage } from "../journal.ts";
import { directoryName, EVENTS_FILE, listRunIds, STEPS_FILE } from "./directory.ts";
import type { SliceFold } from "./folds.ts";
import { EventFold, RunFold } from "./folds.ts";
import { bodyText, parseRef } from "./lines.ts";
import { LogFile } from "./log-file.ts";
import { writeLeaseView, writeViews } from "./views.ts";

/** How many runs are held in memory. One that falls out is read again from its log when it is next asked for. */
const MAX_HELD_RUNS = 1_000;

interface HeldRun {
  readonly directory: string;
  readonly steps: { readonly log: LogFile; readonly fold: RunFold };
  readonly events: { readonly log: LogFile; readonly fold: EventFold };
}

export class FileJournal implements Journal {
  readonly #root: string;
  /** The least recently used first. */
  readonly #held = new Map<string, HeldRun>();

  constructor(root: string) {
    this.#root = resolve(root);
  }

  runIds(): Promise<string[]> {
    return listRunIds(this.#root);
  }

  async submit<O extends Op>(request: RequestOf<O>, now: () => number): Promise<Answer<O>> {
    const held = this.#hold(request.runId);
    const { log, fold } = request.op === "emit" ? held.events : held.steps;
    const decision = await commit<O>(log, fold, request, now);
    const answered = await answer(request.op as O, decision, () => countSteps(held));
    if (answered.ok) await this.#showRun(request.op, held);
    this.#letGoOnceEnded(held);
    return answered;
  }

  async run(runId: string): Promise<CountedRun | null> {
    const { run, stepCount } = this.#refreshed(runId);
    return run && { run, stepCount };
  }

  async manifest(runId: string): Promise<KeptManifest | null> {
    return this.#refreshed(runId).run;
  }

  async step(runId: string, stepIndex: number): Promise<StepState | null> {
    return this.#refreshed(runId).step(stepIndex);
  }

  async steps(runId: string, from: number): Promise<StepPage> {
    return this.#refreshed(runId).steps(from);
  }

  async event(runId: string, key: string): Promise<EventState | null> {
    const { log, fold } = this.#hold(runId).events;
    log.refresh();
    return fold.event(key);
  }

  async body(runId: string, ref: string): Promise<string> {
    const { field, place } = parseRef(ref);
    const { log } = field === "payload" ? this.#hold(runId).events : this.#hold(runId).steps;
    const line = log.read(place);
    const text = line === null ? null : bodyText(field, line);
    if (text !== null) return text;
    throw new DurableStoreUnavailableError(
      `the ${field} at ${ref} of run "${runId}" is gone: its log was replaced meanwhile`,
    );
  }

  /** The journal may be used again afterwards, and then reads anew. */
  async close(): Promise<void> {
    this.#held.clear();
  }

  #refreshed(runId: string): RunFold {
    const held = this.#hold(runId);
    held.steps.log.refresh();
    this.#letGoOnceEnded(held);
    return held.steps.fold;
  }

  #hold(runId: string): HeldRun {
    const held = this.#held.get(runId) ?? newHeldRun(runId, join(this.#root, directoryName(runId)));
    this.#held.delete(runId);
    this.#held.set(runId, held);
    const [oldest] = this.#held.keys();
    if (this.#held.size > MAX_HELD_RUNS && oldest !== undefined) this.#held.delete(oldest);
    return held;
  }

  #letGoOnceEnded(held: HeldRun): void {
    const { run } = held.steps.fold;
    if (run === null || run.completedAt === null) return;
    if (this.#held.get(run.runId) === held) this.#held.delete(run.runId);
  }

  /** Writes the views that an accepted request changes. Until they show what stands, so that the newest write wins. */
  async #showRun(op: Op, { directory, steps: { log, fold } }: HeldRun): Promise<void> {
    if (!CHANGES_VIEWS.has(op)) return;
    for (let shown: RunState | null = null; fold.run !== null && fold.run !== shown;) {
      shown = fold.run;
      const { runId, input } = shown;
      if (op === "renew") await writeLeaseView(directory, shown);
      else {
        const inputText = "text" in input ? input.text : await this.body(runId, input.ref);
        await writeViews(directory, shown, fold.stepCount, inputText);
      }
      log.refresh();
    }
  }
}

/** What a run's views show is as of the last of these. */
const CHANGES_VIEWS: ReadonlySet<Op> = new Set([
  "claim",
  "renew",
  "end",
  "suspend",
  "cancel",
  "resolve",
  "restart",
  "fork",
  "seal",
]);

/** Decides over the log as it stands, and again whenever another process was faster. */
async function commit<O extends Op>(
  log: LogFile,
  fold: SliceFold,
  request: RequestOf<O>,
  now: () => number,
): Promise<Decision<O>> {
  let decision: Decision<O> | undefined;
  await log.commit((nonce) => {
    refuseSharedDirectory(request.runId, fold.owner);
    decision = decide<O>(fold.slice(request), request, now());
    if (!decision.ok) return { line: null, sync: false };
    return { line: fold.line(decision.change, nonce), sync: !isLazy(request) };
  });
  return decision!;
}

/**
 * R16: what a begin, a renewal or a copy adds is seen by every process at once, and reaches the disk with the next sync,
 * for a copy that of the seal. All else syncs, even when it changes nothing: what it answers may be what an earlier call
 * could not sync.
 */
function isLazy(request: Request): boolean {
  if (request.op === "renew" || request.op === "copy") return true;
  return request.op === "begin" && request.onInterrupted === "rerun";
}

/** On a file system that ignores case, "run-a" and "RUN-A" have one directory. The first to come owns it. */
function refuseSharedDirectory(runId: string, owner: string | null): void {
  if (owner === null || owner === runId) return;
  throw new DurableInvalidInputError(
    "runId",
    `"${runId}" has the same directory as run "${owner}" on this file system`,
  );
}

function newHeldRun(runId: string, directory: string): HeldRun {
  const steps = new RunFold(runId);
  const events = new EventFold(runId);
  return {
    directory,
    steps: { fold: steps, log: new LogFile(join(directory, STEPS_FILE), steps) },
    events: { fold: events, log: new LogFile(join(directory, EVENTS_FILE), events) },
  };
}

function countSteps({ steps: { fold } }: HeldRun): Counted {
  return { stepCount: fold.stepCount, page: fold.steps(0) };
}
