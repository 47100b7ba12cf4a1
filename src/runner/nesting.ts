/**
 * Where the code at hand runs: in which step's function, if any, where a step is refused, for no replay would come by; and
 * in which branch, whose own context it has to use, or its steps would be numbered among those of another.
 *
 * By the asynchronous context of Node, which Workers have too:
 * https://developers.cloudflare.com/workers/runtime-apis/nodejs/asynclocalstorage/
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { DurableInvalidInputError, DurableNestedStepError } from "../contract/errors.ts";

interface Inside {
  /** Whose step it is: a step of another run may be begun inside. */
  readonly attempt: object;
  readonly intent: string;
  readonly path: string;
  readonly outer: Inside | undefined;
  /** How often each key was emitted in this call of the function. */
  readonly emits: Map<string, number>;
}

const context = new AsyncLocalStorage<Inside>();

/** Calls a step's function. `path`: for whoever numbers emits. */
export function insideStep<T>(attempt: object, intent: string, fn: () => T, path = ""): T {
  return context.run({ attempt, intent, path, outer: context.getStore(), emits: new Map() }, fn);
}

/** Throws `nested_step` inside a step's function of the same attempt. */
export function assertOutsideSteps(attempt: object, what: string): void {
  const inside = insideOf(attempt);
  if (inside === undefined) return;
  throw new DurableNestedStepError(
    `${what} was called inside the function of step "${inside.intent}". A replay does not call that function, so ` +
      "it would not come by: call it before or after the step.",
  );
}

/** Inside a step's function of the same attempt: the step's path, and which emit of a key it is there, from 0. */
export function nthEmitInside(attempt: object, key: string): { path: string; nth: number } | undefined {
  const inside = insideOf(attempt);
  if (inside === undefined) return undefined;
  const nth = inside.emits.get(key) ?? 0;
  inside.emits.set(key, nth + 1);
  return { path: inside.path, nth };
}

interface InBranch {
  readonly attempt: object;
  readonly branch: object;
  readonly name: string;
  readonly outer: InBranch | undefined;
}

const branches = new AsyncLocalStorage<InBranch>();

/** Calls the code of a branch. */
export function inBranch<T>(attempt: object, branch: object, name: string, fn: () => T): T {
  return branches.run({ attempt, branch, name, outer: branches.getStore() }, fn);
}

/** Throws `invalid_input` inside a branch of the same attempt, for a context that is not the branch's own. */
export function assertOwnContext(attempt: object, branch: object, what: string): void {
  let inside = branches.getStore();
  while (inside !== undefined && inside.attempt !== attempt) inside = inside.outer;
  if (inside === undefined || inside.branch === branch) return;
  throw new DurableInvalidInputError(
    "ctx",
    `is not that of branch "${inside.name}", which called ${what} on it: use the context that the branch is given`,
  );
}

/** The innermost one. */
function insideOf(attempt: object): Inside | undefined {
  let inside = context.getStore();
  while (inside !== undefined && inside.attempt !== attempt) inside = inside.outer;
  return inside;
}
