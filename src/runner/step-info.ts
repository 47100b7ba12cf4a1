/** What a step's function is told. */
import type { StepInfo } from "./types.ts";

/** `makeKey` is called when the key is first read: most functions never ask for it, and a hash is dear. */
export function stepInfo(known: Omit<StepInfo, "idempotencyKey">, makeKey: () => string): StepInfo {
  let key: string | undefined;
  return {
    ...known,
    get idempotencyKey() {
      return (key ??= makeKey());
    },
  };
}
