/** What the file system refuses, in the words of the contract. */
import { DurableStoreUnavailableError } from "../../contract/errors.ts";

/** A failed system call becomes `store_unavailable`, with the failure as its cause. Anything else stays what it is. */
export function unavailable(error: unknown, path: string): unknown {
  if (!isSystemError(error)) return error;
  return new DurableStoreUnavailableError(`${path} could not be used: ${error.message}`, { cause: error });
}

export function isMissing(error: unknown): boolean {
  return isSystemError(error) && error.code === "ENOENT";
}

export function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && "syscall" in error;
}
