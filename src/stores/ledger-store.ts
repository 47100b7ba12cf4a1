/**
 * The face of every store: the contract on one side, a journal on the other.
 *
 * Owns the way from arguments to requests and from answers to records, and nothing of either the rules or the
 * storage, so that all stores check, serialise and answer alike.
 */
import { errorFromData } from "../contract/errors.ts";
import { checkInteger, checkRunId, checkStepIndex, checkText, LIMITS } from "../contract/limits.ts";
import type {
  AwaitedEvent,
  BeginStepInput,
  ClaimedRunRecord,
  CompleteStepInput,
  DurableRunStore,
  EmitEventInput,
  EndRunInput,
  EventRecord,
  FailStepInput,
  ForkRunOptions,
  RenewLeaseInput,
  RequestOptions,
  RestartRunOptions,
  RunRecord,
  StartOrResumeInput,
  StartOrResumeResult,
  StepRecord,
  StepResolution,
  SuspendRunInput,
} from "../contract/types.ts";
import type { Op, RequestOf } from "../ledger/requests.ts";
import type { Body, EventState, StepState } from "../ledger/state.ts";
import { caughtFailures } from "../ledger/steps.ts";
import { forkRun } from "./fork.ts";
import type { Answers, CountedRun, Journal } from "./journal.ts";
import { readSteps } from "./journal.ts";
import { toEventRecord, toIso, toRunRecord, toStepRecord } from "./records.ts";
import * as requests from "./to-request.ts";

export interface BeginOptions {
  /** {@link DurableRunStore.beginAfterMs}: 0 to 10,000. Default 100. */
  beginAfterMs?: number;
}

/** How long a step may run before it is to be seen running. */
const BEGIN_AFTER_MS = 100;
const MAX_BEGIN_AFTER_MS = 10_000;

export abstract class LedgerStore implements DurableRunStore {
  readonly beginAfterMs: number;

  /** The clock that decides leases, in epoch milliseconds. Replace it in tests. */
  now: () => number = () => Date.now();

  readonly #journal: Journal;

  protected constructor(journal: Journal, { beginAfterMs = BEGIN_AFTER_MS }: BeginOptions = {}) {
    checkInteger("beginAfterMs", beginAfterMs, 0, MAX_BEGIN_AFTER_MS);
    this.beginAfterMs = beginAfterMs;
    this.#journal = journal;
  }

  async startOrResume(input: StartOrResumeInput): Promise<StartOrResumeResult> {
    const counted = await this.#submit(requests.claimRequest(input));
    const { run } = counted;
    const steps = await readSteps(this.#journal, run.runId, counted.page);
    // One by one: each large body is a call or more of its own, and an invocation has only so many.
    const completedSteps: StepRecord[] = [];
    for (const step of steps) {
      if (step.status === "completed") completedSteps.push(await this.#stepRecord(run.runId, step));
    }
    const caught = new Set(caughtFailures(steps));
    const open = steps.filter((step) => step.status !== "completed" && !caught.has(step));
    const unfinished = (some: Iterable<StepState>) =>
      Array.from(some, (step) => toStepRecord(run.runId, step, ""));
    return {
      run: (await this.#runRecord(counted)) as ClaimedRunRecord,
      completedSteps,
      caughtSteps: unfinished(caught),
      openSteps: unfinished(open),
      leaseExpiresAt: toIso(run.leaseExpiresAt ?? run.updatedAt),
      fence: run.fence,
    };
  }

  async renewLease(
    input: RenewLeaseInput,
  ): Promise<{ ok: boolean; leaseExpiresAt?: string; status?: "cancelled" }> {
    const { leaseExpiresAt, status } = await this.#submit(requests.renewRequest(input));
    if (leaseExpiresAt !== null) return { ok: true, leaseExpiresAt: toIso(leaseExpiresAt) };
    return status === "cancelled" ? { ok: false, status } : { ok: false };
  }

  async loadStep(runId: string, stepIndex: number): Promise<StepRecord | undefined> {
    checkRunId(runId);
    checkStepIndex(stepIndex);
    const step = await this.#journal.step(runId, stepIndex);
    return step === null ? undefined : this.#stepRecord(runId, step);
  }

  async beginStep(input: BeginStepInput): Promise<StepRecord> {
    const { step } = await this.#submit(requests.beginRequest(input));
    return this.#stepRecord(input.runId, step);
  }

  async completeStep(input: CompleteStepInput): Promise<StepRecord> {
    const request = requests.completeRequest(input);
    const { step, accepted } = await this.#submit(request);
    return accepted
      ? toStepRecord(input.runId, step, await this.#text(input.runId, request.result))
      : this.#stepRecord(input.runId, step);
  }

  async failStep(input: FailStepInput): Promise<StepRecord> {
    const { step } = await this.#submit(requests.failRequest(input));
    return this.#stepRecord(input.runId, step);
  }

  async endRun(input: EndRunInput): Promise<ClaimedRunRecord> {
    const request = requests.endRequest(input);
    const counted = await this.#submit(request);
    return (await this.#runRecord(
      counted,
      counted.accepted ? request.result : undefined,
    )) as ClaimedRunRecord;
  }

  async emitEvent(input: EmitEventInput): Promise<{ accepted: boolean; record: EventRecord }> {
    const request = requests.emitRequest(input);
    const { accepted, isNew, event } = await this.#submit(request);
    const payload = await this.#text(input.runId, isNew ? request.payload : event.payload);
    return { accepted, record: toEventRecord(input.runId, event, payload) };
  }

  async loadEvent(runId: string, key: string): Promise<EventRecord | undefined> {
    checkRunId(runId);
    checkText("key", key, LIMITS.eventKeyBytes);
    return this.eventRecord(runId, await this.#journal.event(runId, key));
  }

  async loadRun(runId: string): Promise<RunRecord | undefined> {
    checkRunId(runId);
    const counted = await this.#journal.run(runId);
    return counted === null ? undefined : this.#runRecord(counted);
  }

  async suspendRun(input: SuspendRunInput): Promise<RunRecord> {
    return this.#runRecord(await this.#submit(requests.suspendRequest(input)));
  }

  async cancelRun(
    runId: string,
    reason = "no reason given",
    options: RequestOptions = {},
  ): Promise<RunRecord> {
    return this.#runRecord(await this.#submit(requests.cancelRequest(runId, reason, options)));
  }

  async resolveStep(
    runId: string,
    stepIndex: number,
    resolution: StepResolution,
    options: RequestOptions = {},
  ): Promise<StepRecord> {
    const request = requests.resolveRequest(runId, stepIndex, resolution, options);
    const { step } = await this.#submit<"resolve">({
      ...request,
      ...(await this.#readCaught(runId, stepIndex)),
    });
    return this.#stepRecord(runId, step);
  }

  async restartRun(runId: string, options: RestartRunOptions): Promise<RunRecord> {
    return this.#runRecord(await this.#submit(requests.restartRequest(runId, options)));
  }

  async forkRun(runId: string, newRunId: string, options: ForkRunOptions): Promise<RunRecord> {
    const submit = <O extends Op>(request: RequestOf<O>): Promise<Answers[O]> => this.#submit<O>(request);
    return this.#runRecord(await forkRun({ journal: this.#journal, submit }, runId, newRunId, options));
  }

  close(): Promise<void> {
    return this.#journal.close();
  }

  /** R24: whether a failed step is one that its task has gone on from, and when the run was then last updated. */
  async #readCaught(runId: string, stepIndex: number): Promise<{ isCaught: boolean; readAt: number | null }> {
    const counted = await this.#journal.run(runId);
    // While the run is running, its task may go on: what is read then is worth nothing.
    const readAt = counted === null || counted.run.status === "running" ? null : counted.run.updatedAt;
    const step = await this.#journal.step(runId, stepIndex);
    if (step?.status !== "failed") return { isCaught: false, readAt };
    const caught = caughtFailures(await readSteps(this.#journal, runId));
    return { isCaught: caught.some((one) => one.stepIndex === stepIndex), readAt };
  }

  /** `null`: there is none. `completed`: what became of the step that was to be completed with it. */
  protected async eventRecord(
    runId: string,
    event: EventState | null,
    completed?: Answers["complete"],
  ): Promise<AwaitedEvent | undefined> {
    if (event === null) return undefined;
    const payload = await this.#text(runId, event.payload);
    const record = toEventRecord(runId, event, payload);
    if (completed === undefined) return record;
    const { step, accepted } = completed;
    return {
      ...record,
      step: accepted ? toStepRecord(runId, step, payload) : await this.#stepRecord(runId, step),
    };
  }

  async #submit<O extends Op>(request: RequestOf<O>): Promise<Answers[O]> {
    const answer = await this.#journal.submit<O>(request, () => Math.floor(this.now()));
    if (!answer.ok) throw errorFromData(answer.error);
    return answer.value;
  }

  async #runRecord(counted: CountedRun, result: Body | null = counted.run.result): Promise<RunRecord> {
    return toRunRecord(counted, result === null ? null : await this.#text(counted.run.runId, result));
  }

  async #stepRecord(runId: string, step: StepState): Promise<StepRecord> {
    return toStepRecord(runId, step, step.result === null ? "" : await this.#text(runId, step.result));
  }

  async #text(runId: string, body: Body): Promise<string> {
    return "text" in body ? body.text : this.#journal.body(runId, body.ref);
  }
}
