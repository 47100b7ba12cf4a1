/** For tests of what bad input gets. */
import { expect } from "vitest";
import type { DurableInvalidInputError } from "../../src/contract/errors.ts";

/** It throws a typed error that names the field, and says the problem. */
export function expectInvalid(work: () => unknown, field: string, problem: string): void {
  let thrown: unknown;
  try {
    work();
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toMatchObject({ name: "DurableInvalidInputError", code: "invalid_input", field });
  const { message } = thrown as DurableInvalidInputError;
  expect(message.startsWith(`${field} `)).toBe(true);
  expect(message).toContain(problem);
}
