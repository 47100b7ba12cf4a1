/**
 * The context of a task that runs on Cloudflare's own Workflows, one for each branch: it checks what it is asked, names
 * the step, and leaves it to the platform, which records, retries and replays. There is no store and no lease here, and
 * so nothing that could be lost.
 *
 * Invariants: a step is named after its intent and the branches that it is in, never its position, so that an edit
 * leaves the other steps as they are (the platform counts repeats of a name); the platform is called before the
 * method first yields.
 */
import { systemClock, unlessAborted } from "../contract/clock.ts";
import { DurableInvalidInputError } from "../contract/errors.ts";
import { toJsonText } from "../contract/payload.ts";
import { stepId } from "../identity.ts";
import { checkRace, checkSleep, checkStep, checkWait, likeBranches, msUntil } from "../runner/arguments.ts";
import { namedBranches } from "../runner/groups.ts";
import { assertOutsideSteps, assertOwnContext, inBranch, insideStep } from "../runner/nesting.ts";
import { stepInfo } from "../runner/step-info.ts";
import { withTimeout } from "../runner/timeout.ts";
import type {
  AwaitEventOptions,
  Branches,
  BranchResult,
  DurableContext,
  StepInfo,
  StepOptions,
} from "../runner/types.ts";
import { workflowEventType } from "./event-type.ts";
import { Group, type NamedWork } from "./groups.ts";
import type { Line } from "./line.ts";
import { MAX_PAYLOAD_BYTES, valueOf, type Work } from "./platform.ts";
import { toRecorded } from "./recorded.ts";
import type { WorkflowRun } from "./run.ts";
import { platformConfig } from "./step-options.ts";
import type { WorkflowStepConfig } from "./types.ts";

export class WorkflowContext implements DurableContext {
  readonly runId: string;
  readonly projectId: string;
  declare readonly scenarioId?: string;
  readonly signal: AbortSignal;

  readonly #run: WorkflowRun;
  readonly #line: Line;

  constructor(run: WorkflowRun, line: Line = run.root) {
    const { runId, projectId, scenarioId } = run.input;
    this.runId = runId;
    this.projectId = projectId;
    if (scenarioId !== undefined) this.scenarioId = scenarioId;
    this.signal = line.branch.signal;
    this.#run = run;
    this.#line = line;
  }

  step<T>(intent: string, fn: (info: StepInfo) => Promise<T>, opts: StepOptions = {}): Promise<T> {
    return this.#step("ctx.step", async () => {
      const line = this.#line;
      const stepIndex = line.nextStepIndex();
      const { inputHash } = checkStep(intent, fn, opts);
      const config = platformConfig(opts, this.#run.input.stepConfig);
      const name = line.stepName("intent", intent);
      const repeat = line.nthOf(intent);
      const { prefix } = line.branch;
      const key = () => stepId(this.runId, prefix === "" ? repeat : `${prefix}${repeat}`, intent);
      const work: Work = async (attempt) => {
        const call = (signal: AbortSignal): Promise<T> => {
          const info = stepInfo({ signal, attempt, stepIndex }, key);
          return insideStep(this.#run, intent, () => fn(info));
        };
        const limit = { intent, timeoutMs: opts.timeoutMs, signal: this.signal };
        const value = await withTimeout(systemClock, limit, call);
        return { text: toJsonText(`the result of step "${intent}"`, value, MAX_PAYLOAD_BYTES) };
      };
      const recorded = await this.#perform(name, work, { config, inputHash });
      if (recorded.inputHash !== "" && inputHash !== "" && recorded.inputHash !== inputHash) {
        throw this.#run.diverge(intent, recorded.inputHash, inputHash);
      }
      return valueOf(recorded) as T;
    });
  }

  all<const B extends Branches>(branches: B): Promise<{ -readonly [K in keyof B]: BranchResult<B[K]> }> {
    return this.#group("ctx.all", branches, async (group, works) =>
      likeBranches(branches, works, await group(works).all()),
    ) as Promise<{ -readonly [K in keyof B]: BranchResult<B[K]> }>;
  }

  race<const B extends Branches>(
    branches: B,
  ): Promise<BranchResult<B[keyof B & (B extends readonly unknown[] ? number : string)]>> {
    return this.#group("ctx.race", branches, async (group, works) => {
      checkRace(works);
      return group(works).race();
    }) as Promise<BranchResult<B[keyof B & (B extends readonly unknown[] ? number : string)]>>;
  }

  sleep(ms: number): Promise<void> {
    return this.#step("ctx.sleep", async () => {
      checkSleep(ms);
      await this.#unlessHalted(this.#run.platform.sleep(this.#line.labelName("path", "ctx.sleep"), ms));
    });
  }

  sleepUntil(date: Date): Promise<void> {
    return this.#step("ctx.sleepUntil", async () => {
      const now = this.#now();
      const ms = msUntil(date, now);
      const name = this.#line.labelName("path", "ctx.sleepUntil");
      const until = new Date(now + ms).toISOString();
      const recorded = await this.#perform(name, async () => ({ text: JSON.stringify(until) }));
      // The platform knows a sleep by its name and its length, so that a shorter rest of it has to have its own name.
      const deadline = valueOf(recorded) as string;
      const rest = this.#line.labelName("path", `ctx.sleepUntil ${deadline}`);
      await this.#unlessHalted(
        this.#run.platform.sleep(rest, Math.max(0, Date.parse(deadline) - this.#now())),
      );
    });
  }

  awaitEvent<T = unknown>(key: string, opts: AwaitEventOptions = {}): Promise<T> {
    return this.#step("ctx.awaitEvent", async () => {
      workflowEventType(key);
      const { timeoutMs } = checkWait(opts);
      const { events, hasBranched } = this.#run;
      const isOutside = this.#line === this.#run.root;
      const wait = isOutside
        ? events.awaitOutside(this.#line, key, { timeoutMs, hasBranched })
        : events.awaitInBranch(this.#line, key, timeoutMs);
      return (await this.#unlessHalted(wait)) as T;
    });
  }

  emitEvent(key: string, payload: unknown): Promise<{ accepted: boolean }> {
    return this.#call(async () => {
      const type = workflowEventType(key);
      const text = toJsonText("payload", payload, MAX_PAYLOAD_BYTES);
      const { events, hasBranched, input } = this.#run;
      const { instance } = input;
      if (instance === undefined) {
        throw new DurableInvalidInputError(
          "instance",
          "is missing: ctx.emitEvent reaches its own Workflow instance only through it. Pass runOnWorkflowStep " +
            "instance: await env.MY_WORKFLOW.get(event.instanceId)",
        );
      }
      const send = (): Promise<void> => instance.sendEvent({ type, payload: toRecorded({ text }) });
      const accepted = await events.emit(this.#line, key, { isAmongBranches: hasBranched, send });
      return { accepted };
    });
  }

  now(): Promise<Date> {
    return this.#value(
      "ctx.now",
      () => new Date(this.#now()).toISOString(),
      (text) => new Date(text),
    );
  }

  uuid(): Promise<string> {
    return this.#value(
      "ctx.uuid",
      () => crypto.randomUUID(),
      (text) => text,
    );
  }

  #value<T>(label: string, read: () => string, parse: (text: string) => T): Promise<T> {
    return this.#step(label, async () => {
      const work: Work = async () => ({ text: JSON.stringify(read()) });
      const recorded = await this.#perform(this.#line.labelName("path", label), work);
      return parse(valueOf(recorded) as string);
    });
  }

  #group<T>(
    intent: "ctx.all" | "ctx.race",
    branches: Branches,
    run: (group: (works: readonly NamedWork[]) => Group, works: readonly NamedWork[]) => Promise<T>,
  ): Promise<T> {
    return this.#step(intent, async () => {
      const outer = this.#line;
      const place = {
        outer,
        intent,
        assertOpen: () => this.#run.assertOpen(outer),
      };
      this.#run.hasBranched = true;
      const works = namedBranches(branches).map(({ name, run: code }) => ({
        name,
        run: (line: Line) =>
          inBranch(this.#run, line, name, () => code(new WorkflowContext(this.#run, line))),
      }));
      const group = (named: readonly NamedWork[]) => new Group(this.#run.platform, place, named);
      return outer.branch.unlessAbandoned(() => run(group, works));
    });
  }

  #perform(
    name: string,
    work: Work,
    options: { config?: WorkflowStepConfig | undefined; inputHash?: string } = {},
  ) {
    const line = this.#line;
    return line.branch.unlessAbandoned(() =>
      this.#run.platform.perform(name, work, { ...options, isOver: () => line.isDecided }),
    );
  }

  #now(): number {
    return (this.#run.input.now ?? Date.now)();
  }

  /** For waits. */
  #unlessHalted<T>(wait: Promise<T>): Promise<T> {
    return unlessAborted(this.#line.branch.halted, wait);
  }

  #step<T>(what: string, work: () => Promise<T>): Promise<T> {
    return this.#call(async () => {
      assertOutsideSteps(this.#run, what);
      assertOwnContext(this.#run, this.#line, what);
      return work();
    });
  }

  /** A rejection that the task never looks at is no unhandled one. */
  #call<T>(work: () => Promise<T>): Promise<T> {
    const answer = (async () => {
      this.#run.assertOpen(this.#line);
      return work();
    })();
    answer.catch(() => {});
    return answer;
  }
}
