/**
 * A store that somebody wrote to the plain declaration alone: no fence, no request id, no recorded result of a run, no
 * deadline of a wait, no word of caught failures. It keeps what it is given by reference, trusts its caller with steps,
 * and tells workers apart by their ids. It is correct as far as that declaration goes, and no further.
 */
import type {
  DurableRunManifest,
  DurableRunStore,
  ErrorCode,
  EventRecord,
  RunOutcome,
  RunRecord,
  StepError,
  StepKind,
  StepRecord,
} from "./plain-declarations.ts";

class PlainError extends Error {
  readonly code: ErrorCode;
  constructor(code: ErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

interface Kept {
  manifest: string;
  record: RunRecord;
  steps: StepRecord[];
}

export class PlainStore implements DurableRunStore {
  readonly #now: () => number;
  readonly #runs = new Map<string, Kept>();
  readonly #events = new Map<string, EventRecord>();

  constructor(now: () => number) {
    this.#now = now;
  }

  async startOrResume(input: {
    runId: string;
    manifest: DurableRunManifest;
    workerId: string;
    leaseMs?: number;
  }): Promise<{ run: RunRecord; completedSteps: StepRecord[]; leaseExpiresAt: string }> {
    const { runId, manifest, workerId, leaseMs } = input;
    let kept = this.#runs.get(runId);
    if (!kept) {
      const record = { runId, manifestHash: "", projectId: manifest.projectId, stepCount: 0 };
      const at = this.#iso();
      kept = {
        manifest: JSON.stringify(manifest),
        record: { ...record, status: "running", createdAt: at, updatedAt: at },
        steps: [],
      };
      this.#runs.set(runId, kept);
    }
    const { record } = kept;
    if (kept.manifest !== JSON.stringify(manifest)) {
      throw new PlainError("manifest_mismatch", `${runId} has another manifest`);
    }
    if (record.leaseHolderId !== workerId && this.#isLive(record)) {
      throw new PlainError("lease_held", `${runId} is held by ${record.leaseHolderId}`);
    }
    const leaseExpiresAt = this.#iso(leaseMs ?? 30_000);
    if (record.status !== "completed") {
      Object.assign(record, { status: "running", leaseHolderId: workerId, leaseExpiresAt });
    }
    const completedSteps = kept.steps.filter((step) => step?.status === "completed");
    return { run: record, completedSteps, leaseExpiresAt };
  }

  async renewLease(input: {
    runId: string;
    workerId: string;
    leaseMs?: number;
  }): Promise<{ ok: boolean; leaseExpiresAt?: string }> {
    const { record } = this.#run(input.runId);
    if (record.leaseHolderId !== input.workerId || !this.#isLive(record)) return { ok: false };
    record.leaseExpiresAt = this.#iso(input.leaseMs ?? 30_000);
    return { ok: true, leaseExpiresAt: record.leaseExpiresAt };
  }

  async loadStep(runId: string, stepIndex: number): Promise<StepRecord | undefined> {
    return this.#runs.get(runId)?.steps[stepIndex];
  }

  async beginStep(input: {
    runId: string;
    stepIndex: number;
    intent: string;
    kind: StepKind;
    inputHash: string;
  }): Promise<StepRecord> {
    const { runId, stepIndex, intent, kind, inputHash } = input;
    const { steps, record } = this.#run(runId);
    const step = steps[stepIndex];
    if (step?.status === "completed") return step;
    if (step && step.intent !== intent) {
      throw new PlainError("step_divergence", `step ${stepIndex} is "${step.intent}", not "${intent}"`);
    }
    const attempts = (step?.attempts ?? 0) + 1;
    const begun: StepRecord = { runId, stepIndex, intent, kind, inputHash, status: "running", attempts };
    steps[stepIndex] = { ...begun, startedAt: this.#iso() };
    record.stepCount = steps.length;
    return steps[stepIndex];
  }

  async completeStep(input: { runId: string; stepIndex: number; result: unknown }): Promise<StepRecord> {
    const step = this.#step(input);
    if (step.status === "completed") return step;
    return Object.assign(step, { status: "completed", result: input.result, completedAt: this.#iso() });
  }

  async failStep(input: { runId: string; stepIndex: number; error: StepError }): Promise<StepRecord> {
    return Object.assign(this.#step(input), {
      status: "failed",
      error: input.error,
      completedAt: this.#iso(),
    });
  }

  async endRun(input: {
    runId: string;
    workerId: string;
    status: "completed" | "failed";
    outcome?: RunOutcome;
  }): Promise<RunRecord> {
    const { record } = this.#run(input.runId);
    const { status, outcome } = input;
    delete record.leaseHolderId;
    delete record.leaseExpiresAt;
    return Object.assign(record, { status, completedAt: this.#iso(), ...(outcome && { outcome }) });
  }

  async emitEvent(input: {
    runId: string;
    key: string;
    payload: unknown;
  }): Promise<{ accepted: boolean; record: EventRecord }> {
    const { runId, key, payload } = input;
    const id = JSON.stringify([runId, key]);
    const standing = this.#events.get(id);
    if (standing) return { accepted: false, record: standing };
    const record = { runId, key, payload, emittedAt: this.#iso() };
    this.#events.set(id, record);
    return { accepted: true, record };
  }

  async loadEvent(runId: string, key: string): Promise<EventRecord | undefined> {
    return this.#events.get(JSON.stringify([runId, key]));
  }

  async close(): Promise<void> {}

  #run(runId: string): Kept {
    const kept = this.#runs.get(runId);
    if (!kept) throw new Error(`no run ${runId}`);
    return kept;
  }

  #step({ runId, stepIndex }: { runId: string; stepIndex: number }): StepRecord {
    const step = this.#run(runId).steps[stepIndex];
    if (!step) throw new Error(`no step ${stepIndex} in run ${runId}`);
    return step;
  }

  #isLive({ leaseExpiresAt }: RunRecord): boolean {
    return leaseExpiresAt !== undefined && Date.parse(leaseExpiresAt) > this.#now();
  }

  #iso(inMs = 0): string {
    return new Date(this.#now() + inMs).toISOString();
  }
}
