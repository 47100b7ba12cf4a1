/**
 * The face of every store: the contract on one side, a journal on the other.
 *
 * Owns the way from arguments to requests and from answers to records, and nothing of either the rules or the
 * storage, so that all stores check, serialise and answer alike.
 */
import { errorFromData } from "../contract/errors.ts";
import { checkRunId, checkStepIndex, checkText, LIMITS } from "../contract/limits.ts";
import type {
  BeginStepInput,
  ClaimedRunRecord,
  CompleteStepInput,
  DurableRunStore,
  EmitEventInput,
  EndRunInput,
  EventRecord,
  FailStepInput,
  RenewLeaseInput,
  RunRecord,
  StartOrResumeInput,
  StartOrResumeResult,
  StepRecord,
} from "../contract/types.ts";
import type { Op, RequestOf } from "../ledger/requests.ts";
import type { Body, StepState } from "../ledger/state.ts";
import { caughtFailures } from "../ledger/steps.ts";
import type { Answers, CountedRun, Journal } from "./journal.ts";
import { toEventRecord, toIso, toRunRecord, toStepRecord } from "./records.ts";
import * as requests from "./to-request.ts";

export abstract class LedgerStore implements DurableRunStore {
  /** The clock that decides leases, in epoch milliseconds. Replace it in tests. */
  now: () => number = () => Date.now();

  readonly #journal: Journal;

  protected constructor(journal: Journal) {
    this.#journal = journal;
  }

  async startOrResume(input: StartOrResumeInput): Promise<StartOrResumeResult> {
    const counted = await this.#submit(requests.claimRequest(input));
    const { run } = counted;
    const steps = [...counted.page.steps];
    for (let from = counted.page.next; from !== null;) {
      const page = await this.#journal.steps(run.runId, from);
      steps.push(...page.steps);
      from = page.next;
    }
    // One by one: each large body is a call or more of its own, and an invocation has only so many.
    const completedSteps: StepRecord[] = [];
    for (const step of steps) {
      if (step.status === "completed") completedSteps.push(await this.#stepRecord(run.runId, step));
    }
    return {
      run: (await this.#runRecord(counted)) as ClaimedRunRecord,
      completedSteps,
      caughtSteps: caughtFailures(steps).map((step) => toStepRecord(run.runId, step, "")),
      leaseExpiresAt: toIso(run.leaseExpiresAt ?? run.updatedAt),
      fence: run.fence,
    };
  }

  async renewLease(input: RenewLeaseInput): Promise<{ ok: boolean; leaseExpiresAt?: string }> {
    const { leaseExpiresAt } = await this.#submit(requests.renewRequest(input));
    return leaseExpiresAt === null ? { ok: false } : { ok: true, leaseExpiresAt: toIso(leaseExpiresAt) };
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
    const event = await this.#journal.event(runId, key);
    if (event === null) return undefined;
    return toEventRecord(runId, event, await this.#text(runId, event.payload));
  }

  async loadRun(runId: string): Promise<RunRecord | undefined> {
    checkRunId(runId);
    const counted = await this.#journal.run(runId);
    return counted === null ? undefined : this.#runRecord(counted);
  }

  close(): Promise<void> {
    return this.#journal.close();
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
