/** A task some of whose steps are answered by the test. */
import type { Branch, Branches, DurableContext, StepInfo, StepOptions } from "../runner/types.ts";

/**
 * What is called in place of a step's function. `call`: which call of this mock, from 1, over all steps and attempts
 * with its intent.
 */
export type StepMockFunction = (info: StepInfo, call: number) => unknown;

/**
 * What stands in for a step's function: a function, which is called and may throw; an error, which is thrown; or
 * anything else, which is the step's result. (A function is never a result: JSON has none.)
 */
export type StepMock = StepMockFunction | object | string | number | boolean | null | undefined;

/** By intent. */
export type StepMocks = Readonly<Record<string, StepMock>>;

export interface MockedTask<T, I extends string = string> {
  (ctx: DurableContext): Promise<T>;
  /** What each mock was called with. A step that replays its record calls nothing. */
  readonly calls: { readonly [intent in I]: readonly StepInfo[] };
  /** Intents of mocks that no step has come by with, replayed ones included: a misspelt one, for instance. */
  unused(): I[];
}

/**
 * The task, with mocks in place of the functions of the steps that have their intents, in branches too. Everything else
 * of a step is as it was: its options, retries, record and replay.
 */
export function mockSteps<T, const M extends StepMocks>(
  taskFn: (ctx: DurableContext) => Promise<T>,
  mocks: M,
): MockedTask<T, keyof M & string> {
  type Intent = keyof M & string;
  const intents = Object.keys(mocks) as Intent[];
  const calls = Object.fromEntries(intents.map((intent) => [intent, [] as StepInfo[]])) as Record<
    Intent,
    StepInfo[]
  >;
  const met = new Set<string>();

  const isMocked = (intent: string): intent is Intent => Object.hasOwn(mocks, intent);
  const answer = async (intent: Intent, info: StepInfo): Promise<unknown> => {
    const call = calls[intent].push(info);
    const mock: unknown = mocks[intent];
    if (mock instanceof Error) throw mock;
    return typeof mock === "function" ? (mock as StepMockFunction)(info, call) : mock;
  };

  const mocked = (ctx: DurableContext): DurableContext => {
    const own: Pick<DurableContext, "step" | "all" | "race"> = {
      step: <R>(intent: string, fn: (info: StepInfo) => Promise<R>, opts?: StepOptions) => {
        if (!isMocked(intent)) return ctx.step(intent, fn, opts);
        met.add(intent);
        return ctx.step(intent, (info) => answer(intent, info) as Promise<R>, opts);
      },
      all: (branches) => ctx.all(eachBranch(branches, inBranch)),
      race: (branches) => ctx.race(eachBranch(branches, inBranch)),
    };
    return new Proxy(ctx, {
      get: (target, property) => {
        if (Object.hasOwn(own, property)) return Reflect.get(own, property) as unknown;
        const value: unknown = Reflect.get(target, property);
        return typeof value === "function" ? (value.bind(target) as unknown) : value;
      },
    });
  };
  const inBranch =
    (branch: Branch): Branch =>
    (ctx) =>
      branch(mocked(ctx));

  const task = (ctx: DurableContext): Promise<T> => taskFn(mocked(ctx));
  return Object.assign(task, { calls, unused: () => intents.filter((intent) => !met.has(intent)) });
}

/** The same branches, each changed. What is no branch stays as it is, for the context to refuse. */
function eachBranch<B extends Branches>(branches: B, change: (branch: Branch) => Branch): B {
  const one = (branch: unknown): unknown => {
    if (Array.isArray(branch)) return branch.map((part, i) => (i === 1 ? one(part) : (part as unknown)));
    return typeof branch === "function" ? change(branch as Branch) : branch;
  };
  if (Array.isArray(branches)) return branches.map(one) as unknown as B;
  if (typeof branches !== "object" || branches === null) return branches;
  return Object.fromEntries(Object.entries(branches).map(([name, branch]) => [name, one(branch)])) as B;
}
