/**
 * What a task works with, one for each branch: checks what it is asked, gives each step its place, and hands it on.
 *
 * Invariants: a place is taken synchronously at the call; whatever is wrong with the arguments rejects before
 * anything is begun.
 */
import { DurableInvalidInputError } from "../contract/errors.ts";
import { checkText, LIMITS } from "../contract/limits.ts";
import { fromJsonText, toJsonText } from "../contract/payload.ts";
import type { StepRecord } from "../contract/types.ts";
import { stepId } from "../identity.ts";
import { checkRace, checkSleep, checkStep, checkWait, likeBranches, msUntil } from "./arguments.ts";
import type { Attempt } from "./attempt.ts";
import type { Branch } from "./branch.ts";
import { Group, namedBranches } from "./groups.ts";
import { checkInterruption, interruptible } from "./interruptions.ts";
import { assertOutsideSteps, assertOwnContext, insideStep, nthEmitInside } from "./nesting.ts";
import type { StepPlan } from "./replay.ts";
import { stepInfo } from "./step-info.ts";
import { Completed, StepRunner } from "./step-runner.ts";
import { withTimeout } from "./timeout.ts";
import type {
  AwaitEventOptions,
  Branches,
  BranchResult,
  DurableContext,
  StepInfo,
  StepOptions,
} from "./types.ts";
import { deadlineOf, sleepUntilDeadline, waitForEvent } from "./waits.ts";

/** Where a step stands. */
interface Place {
  readonly stepIndex: number;
  readonly path: string;
}

export class RunContext implements DurableContext {
  readonly runId: string;
  readonly projectId: string;
  declare readonly scenarioId?: string;
  readonly signal: AbortSignal;

  readonly #attempt: Attempt;
  readonly #steps: StepRunner;
  readonly #branch: Branch;

  constructor(
    attempt: Attempt,
    { projectId, scenarioId }: Pick<DurableContext, "projectId" | "scenarioId">,
    branch: Branch = attempt.root,
  ) {
    this.runId = attempt.runId;
    this.projectId = projectId;
    if (scenarioId !== undefined) this.scenarioId = scenarioId;
    this.signal = branch.signal;
    this.#attempt = attempt;
    this.#steps = new StepRunner(attempt);
    this.#branch = branch;
  }

  step<T>(intent: string, fn: (info: StepInfo) => Promise<T>, opts: StepOptions = {}): Promise<T> {
    return this.#take("ctx.step", (place) => {
      const { kind, inputHash } = checkStep(intent, fn, opts);
      const { timeoutMs, retries, onInterrupted = "rerun" } = opts;
      const policy = checkInterruption(onInterrupted, this.#attempt.store);
      const { stepIndex, path } = place;
      // By the path alone: should the begin be lost, the next attempt may give the step another position.
      const key = () => stepId(this.runId, this.#branch.prefix === "" ? Number(path) : path, intent);
      const { run, isInDoubt } = interruptible(onInterrupted, fn);
      const work = ({ attempts, inDoubt = false }: StepRecord): Promise<T> => {
        const call = (signal: AbortSignal): Promise<T> => {
          const info = stepInfo({ signal, attempt: attempts, stepIndex }, key);
          const assertHeld = (): void => {
            const lost = this.#attempt.lease.lostError;
            if (lost) throw lost;
            signal.throwIfAborted();
          };
          return insideStep(this.#attempt, intent, () => run(info, inDoubt, assertHeld), path);
        };
        return withTimeout(this.#attempt.clock, { intent, timeoutMs, signal: this.signal }, call);
      };
      const decide: typeof retries =
        typeof retries === "function"
          ? (error, attempt) => insideStep(this.#attempt, intent, () => retries(error, attempt), path)
          : retries;
      // What a race dropped may yet be done: should that be open again, the step's policy decides.
      const isDropped = (): boolean => policy !== "rerun" && this.#branch.isAbandoned;
      const interruption = policy === "rerun" ? {} : { onInterrupted: policy };
      return this.#answer<T>(
        { ...place, intent, kind, inputHash, ...interruption },
        { run: work, retries: decide, isInDoubt: () => isInDoubt() || isDropped() },
      );
    });
  }

  all<const B extends Branches>(branches: B): Promise<{ -readonly [K in keyof B]: BranchResult<B[K]> }> {
    return this.#group("ctx.all", branches, async (group, works) => {
      return likeBranches(branches, works, await group.all(works));
    }) as Promise<{ -readonly [K in keyof B]: BranchResult<B[K]> }>;
  }

  race<const B extends Branches>(
    branches: B,
  ): Promise<BranchResult<B[keyof B & (B extends readonly unknown[] ? number : string)]>> {
    return this.#group("ctx.race", branches, (group, works) => {
      checkRace(works);
      return group.race(works);
    }) as Promise<BranchResult<B[keyof B & (B extends readonly unknown[] ? number : string)]>>;
  }

  sleep(ms: number): Promise<void> {
    return this.#take("ctx.sleep", (place) => {
      checkSleep(ms);
      return this.#sleep(place, ms);
    });
  }

  sleepUntil(date: Date): Promise<void> {
    return this.#take("ctx.sleepUntil", (place) =>
      this.#sleep(place, msUntil(date, this.#attempt.clock.now())),
    );
  }

  awaitEvent<T = unknown>(key: string, opts: AwaitEventOptions = {}): Promise<T> {
    return this.#take("ctx.awaitEvent", (place) => {
      checkText("key", key, LIMITS.eventKeyBytes - "event:".length);
      const { timeoutMs, pollMs } = checkWait(opts);
      const plan: StepPlan = {
        ...place,
        intent: `event:${key}`,
        kind: "event",
        inputHash: "",
        timeoutMs,
        waitFor: { kind: "event", key },
      };
      const signal = this.#branch.halted;
      return this.#answer<T>(plan, {
        run: async (begun) => {
          const deadline = deadlineOf(begun, timeoutMs, this.#attempt.clock.now());
          const until = begun.deadlineAt ?? new Date(deadline).toISOString();
          const { runId: _runId, ...step } = this.#attempt.ending(begun);
          const wait = { key, deadline, until, pollMs, signal, step };
          const event = await waitForEvent(this.#attempt, wait);
          return event.step ? new Completed(event.step) : (event.payload as T);
        },
        mayBeCompleted: true,
      });
    });
  }

  emitEvent(key: string, payload: unknown): Promise<{ accepted: boolean }> {
    return this.#attempt.track(async () => {
      // A branch's nth emit of a key is the same request at each replay, so that it is answered the same. Those in a
      // step's function, which a replay does not call, are numbered apart.
      assertOwnContext(this.#attempt, this.#branch, "ctx.emitEvent");
      const inside = nthEmitInside(this.#attempt, key);
      const nth = inside ? inside.nth : this.#branch.nthEmit(key);
      this.#attempt.assertOpen(this.#branch);
      checkText("key", key, LIMITS.eventKeyBytes);
      const origin = inside ? `${inside.path}:` : this.#branch.prefix;
      const requestId = stepId(this.runId, nth, `emit:${origin}${key}`);
      const value = fromJsonText(toJsonText("payload", payload));
      const emit = { runId: this.runId, key, payload: value, requestId };
      const { store, lease } = this.#attempt;
      const { accepted } = await lease.offer(() => store.emitEvent(emit));
      return { accepted };
    });
  }

  now(): Promise<Date> {
    const read = async (): Promise<string> => new Date(this.#attempt.clock.now()).toISOString();
    const now = this.step("ctx.now", read, { kind: "deterministic" }).then((text) => new Date(text));
    // Tracked is the step: of a run that is parked, this would never settle.
    now.catch(() => {});
    return now;
  }

  uuid(): Promise<string> {
    return this.step("ctx.uuid", async () => crypto.randomUUID(), { kind: "deterministic" });
  }

  /** Takes the next place, now. */
  #take<T>(what: string, run: (place: Place) => Promise<T>): Promise<T> {
    return this.#attempt.track(async () => {
      assertOutsideSteps(this.#attempt, what);
      assertOwnContext(this.#attempt, this.#branch, what);
      const ordinal = this.#branch.nextOrdinal();
      this.#attempt.assertOpen(this.#branch);
      const { prefix } = this.#branch;
      const path = `${prefix}${ordinal}`;
      return run({ path, stepIndex: this.#attempt.positions.of(path, prefix === "" ? ordinal : null) });
    });
  }

  #answer<T>(
    plan: StepPlan,
    work: Parameters<StepRunner["answer"]>[2] & { run(begun: StepRecord): Promise<T | Completed> },
  ) {
    this.#attempt.replay.assertNoBranches(plan);
    return this.#steps.answer<T>(this.#branch, plan, work);
  }

  async #sleep(place: Place, timeoutMs: number): Promise<void> {
    const plan: StepPlan = {
      ...place,
      intent: "ctx.sleep",
      kind: "deterministic",
      inputHash: "",
      timeoutMs,
      waitFor: { kind: "time" },
    };
    await this.#answer<void>(plan, {
      run: (begun) => sleepUntilDeadline(this.#attempt, begun, timeoutMs, this.#branch.halted),
    });
  }

  #group<T>(
    intent: "ctx.all" | "ctx.race",
    branches: Branches,
    run: (group: Group, works: { name: string; run: (branch: Branch) => Promise<unknown> }[]) => Promise<T>,
  ): Promise<T> {
    const attempt = this.#attempt;
    const outer = this.#branch;
    return attempt.track(async () => {
      assertOutsideSteps(attempt, intent);
      assertOwnContext(attempt, outer, intent);
      const path = `${outer.prefix}${outer.nextOrdinal()}`;
      attempt.assertOpen(outer);
      if (!attempt.knowsOpenSteps) {
        throw new DurableInvalidInputError(
          "store",
          `has no branches, which ${intent} needs: it answers no openSteps`,
        );
      }
      const works = namedBranches(branches).map(({ name, run: code }) => ({
        name,
        run: (branch: Branch) => code(new RunContext(attempt, this, branch)),
      }));
      attempt.positions.leaveLine();
      return run(new Group(attempt, this.#steps, { outer, path, intent }), works);
    });
  }
}
