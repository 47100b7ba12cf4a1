/**
 * The context of a task that runs on Cloudflare's own Workflows: every method is one call of the platform's step, which
 * records, retries and replays. There is no store and no lease here, and so nothing that could be lost.
 *
 * Invariants: a step is named after its intent alone, never its position, so that an edit leaves the other steps as they
 * are (the platform counts repeats of a name); the platform is called before the method first yields, so that it counts
 * in order of the calls; what the platform throws on its own account reaches it again unchanged.
 */
import { systemClock } from "../contract/clock.ts";
import {
  codeOf,
  DurableAwaitEventTimeoutError,
  DurableInvalidInputError,
  DurableStepInputMismatchError,
} from "../contract/errors.ts";
import { checkInteger, checkStepKind, checkText, DEFAULT_WAIT_MS, LIMITS } from "../contract/limits.ts";
import { fromJsonText, toJsonText } from "../contract/payload.ts";
import { canonicalHash, stepId } from "../identity.ts";
import { fromStepError, toStepError } from "../runner/failures.ts";
import { withTimeout } from "../runner/timeout.ts";
import type { AwaitEventOptions, DurableContext, StepInfo, StepOptions } from "../runner/types.ts";
import { workflowEventType } from "./event-type.ts";
import { fromPlatformError, isSamePlatformError, isWaitTimeout, toPlatformError } from "./failures.ts";
import { type Outcome, fromRecorded, toRecorded } from "./recorded.ts";
import type { RunOnWorkflowStepInput, WorkflowStepConfig, WorkflowStepMethods } from "./types.ts";

const MAX_STEP_NAME_LENGTH = 256;
/** What the platform keeps of a step or an event. https://developers.cloudflare.com/workflows/reference/limits/ */
const MAX_PAYLOAD_BYTES = 1_048_576;

export type WorkflowContextInput = Omit<RunOnWorkflowStepInput<unknown>, "taskFn"> & {
  readonly runId: string;
  readonly projectId: string;
};

export class WorkflowContext implements DurableContext {
  readonly runId: string;
  readonly projectId: string;
  declare readonly scenarioId?: string;
  /** Never aborts: the instance is the run's only worker, and the platform tells it nothing before it stops it. */
  readonly signal = new AbortController().signal;

  readonly #platform: WorkflowStepMethods;
  readonly #input: WorkflowContextInput;
  /** Payloads by key, as JSON text: an event is one fact, though the platform would deliver a second one. */
  readonly #received = new Map<string, string>();
  readonly #emitted = new Set<string>();
  /** How often each name was used, as the platform counts them. */
  readonly #repeats = new Map<string, number>();
  #steps = 0;
  #divergence: Error | undefined;

  constructor(platform: WorkflowStepMethods, input: WorkflowContextInput) {
    this.#platform = platform;
    this.#input = input;
    this.runId = input.runId;
    this.projectId = input.projectId;
    if (input.scenarioId !== undefined) this.scenarioId = input.scenarioId;
  }

  step<T>(intent: string, fn: (info: StepInfo) => Promise<T>, opts: StepOptions = {}): Promise<T> {
    const stepIndex = this.#steps++;
    return this.#call(async () => {
      const { kind = "logic", inputFingerprint, timeoutMs } = opts;
      checkText("intent", intent, LIMITS.intentBytes);
      checkStepKind(kind);
      if (timeoutMs !== undefined) checkInteger("timeoutMs", timeoutMs, 1, LIMITS.timeoutMs);
      const inputHash = inputFingerprint === undefined ? "" : canonicalHash(inputFingerprint);
      const name = this.#nameOf("intent", intent);
      const repeat = this.#repeats.get(name) ?? 0;
      this.#repeats.set(name, repeat + 1);
      const idempotencyKey = stepId(this.runId, repeat, intent);
      // The platform says which attempt it makes; the declared shape of a step does not.
      const record = async ({ attempt = 1 }: { attempt?: number } = {}): Promise<unknown> => {
        const call = (signal: AbortSignal) => fn({ signal, attempt, idempotencyKey, stepIndex });
        const limit = { intent, timeoutMs, signal: this.signal };
        return toRecorded(outcomeOf(intent, await withTimeout(systemClock, limit, call)), inputHash);
      };
      const recorded = fromRecorded(await this.#do(name, record, this.#input.stepConfig));
      if (recorded.inputHash !== "" && inputHash !== "" && recorded.inputHash !== inputHash) {
        throw this.#diverge(intent, recorded.inputHash, inputHash);
      }
      if (recorded.error) throw fromStepError(recorded.error);
      // A copy, without the `Symbol.dispose` that the platform gives the objects that it hands out.
      return structuredClone(recorded.result) as T;
    });
  }

  awaitEvent<T = unknown>(key: string, opts: AwaitEventOptions = {}): Promise<T> {
    return this.#call(async () => {
      const { timeoutMs = DEFAULT_WAIT_MS, pollMs } = opts;
      const type = workflowEventType(key);
      checkInteger("timeoutMs", timeoutMs, 0, LIMITS.timeoutMs);
      if (pollMs !== undefined) checkInteger("pollMs", pollMs, 1, LIMITS.timeoutMs);
      const name = this.#nameOf("key", `event:${key}`);
      const text = this.#received.get(key) ?? (await this.#waitFor(key, name, type, timeoutMs));
      this.#received.set(key, text);
      return fromJsonText(text) as T;
    });
  }

  emitEvent(key: string, payload: unknown): Promise<{ accepted: boolean }> {
    return this.#call(async () => {
      const type = workflowEventType(key);
      const text = toJsonText("payload", payload, MAX_PAYLOAD_BYTES);
      const name = this.#nameOf("key", `emit:${key}`);
      const { sendEvent } = this.#input;
      if (sendEvent === undefined) {
        throw new DurableInvalidInputError(
          "sendEvent",
          "is missing: ctx.emitEvent reaches its own Workflow instance only through it. Pass runOnWorkflowStep " +
            "sendEvent: async (event) => (await env.MY_WORKFLOW.get(instanceId)).sendEvent(event)",
        );
      }
      if (this.#received.has(key) || this.#emitted.has(key)) return { accepted: false };
      this.#emitted.add(key);
      const send = async (): Promise<void> => {
        await sendEvent({ type, payload: toRecorded({ text }) });
      };
      await this.#do(name, send).catch((error: unknown) => {
        this.#emitted.delete(key);
        throw error;
      });
      return { accepted: true };
    });
  }

  now(): Promise<Date> {
    const { now = Date.now } = this.#input;
    const read = async (): Promise<string> => new Date(now()).toISOString();
    return this.#call(async () => new Date(await this.#do(`${this.#input.workflowName}/ctx.now`, read)));
  }

  uuid(): Promise<string> {
    return this.#call(() =>
      this.#do(`${this.#input.workflowName}/ctx.uuid`, async () => crypto.randomUUID()),
    );
  }

  /** Throws the divergence that the task met, though it should have caught it (R23). */
  assertNotDiverged(): void {
    if (this.#divergence) throw this.#divergence;
  }

  /** A rejection that the task never looks at is no unhandled one. */
  #call<T>(work: () => Promise<T>): Promise<T> {
    const answer = (async () => {
      this.assertNotDiverged();
      return work();
    })();
    answer.catch(() => {});
    return answer;
  }

  /** Resolves to what is on record of the step, having run it if nothing was. Rejects with what `work` threw. */
  async #do<T>(
    name: string,
    work: (context?: { attempt?: number }) => Promise<T>,
    config?: WorkflowStepConfig,
  ): Promise<T> {
    let failure: { thrown: unknown; sent: Error } | undefined;
    const attempt = async (context?: { attempt?: number }): Promise<T> => {
      try {
        return await work(context);
      } catch (thrown) {
        failure = { thrown, sent: toPlatformError(thrown) };
        throw failure.sent;
      }
    };
    try {
      return await (config === undefined
        ? this.#platform.do(name, attempt)
        : this.#platform.do(name, config, attempt));
    } catch (error) {
      // R27: at first the task gets its own error back; at a replay, one of that name, message and code (R24).
      throw failure && isSamePlatformError(error, failure.sent) ? failure.thrown : fromPlatformError(error);
    }
  }

  /** Resolves to the payload as JSON text. */
  async #waitFor(key: string, name: string, type: string, timeoutMs: number): Promise<string> {
    try {
      const { payload } = await this.#platform.waitForEvent(name, {
        type,
        timeout: `${timeoutMs / 1_000} seconds`,
      });
      return toJsonText(`the payload of event "${key}"`, fromRecorded(payload).result);
    } catch (error) {
      if (!isWaitTimeout(error)) throw error;
      throw new DurableAwaitEventTimeoutError(
        `no event "${key}" came to run "${this.runId}" within ${timeoutMs} ms.`,
      );
    }
  }

  #nameOf(field: string, label: string): string {
    const name = `${this.#input.workflowName}/${label}`;
    if (name.length <= MAX_STEP_NAME_LENGTH) return name;
    throw new DurableInvalidInputError(
      field,
      `makes a step name of ${name.length} characters; Workflows allow at most ${MAX_STEP_NAME_LENGTH}, ` +
        `"${this.#input.workflowName}/" included`,
    );
  }

  #diverge(intent: string, recorded: string, asked: string): Error {
    this.#divergence ??= new DurableStepInputMismatchError(
      `step "${intent}" of run "${this.runId}" was recorded with input hash ${recorded}, but now has ${asked}: its ` +
        "input is not that of the earlier attempt.",
    );
    return this.#divergence;
  }
}

/**
 * What a function returned as an outcome of its step. A value that JSON cannot carry, or that is too large, is a recorded
 * failure and not a thrown one: the platform would run a function that throws again, or, told not to by a
 * NonRetryableError, would keep no record of the failure and run it again at each replay.
 */
function outcomeOf(intent: string, value: unknown): Outcome {
  try {
    return { text: toJsonText(`the result of step "${intent}"`, value, MAX_PAYLOAD_BYTES) };
  } catch (error) {
    const code = codeOf(error);
    if (code !== "payload_not_json" && code !== "payload_too_large") throw error;
    const { stack: _, ...recorded } = toStepError(error);
    return { error: recorded };
  }
}
