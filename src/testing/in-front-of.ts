/** A store in front of another. */
import type { DurableRunStore } from "../contract/types.ts";

export type StoreMethod = Exclude<keyof DurableRunStore, "beginAfterMs">;

/** Stands in the way of a call; `call` makes it. */
export type Around = (
  method: StoreMethod,
  args: readonly unknown[],
  call: () => Promise<unknown>,
) => Promise<unknown>;

/** `around` stands in the way of each call. A method that the inner store lacks is lacking here too. */
export function inFrontOf<S extends DurableRunStore>(inner: S, around: Around): S {
  return new Proxy(inner, {
    get: (target, property) => {
      const method: unknown = Reflect.get(target, property);
      if (typeof method !== "function") return method;
      return (...args: unknown[]) =>
        around(property as StoreMethod, args, async () => (await method.apply(target, args)) as unknown);
    },
  });
}
