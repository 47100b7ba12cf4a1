/** Checks of what history is asked: every field is known, and each refusal names the field. */
import { DurableInvalidInputError } from "../contract/errors.ts";
import { checkInteger, checkObject } from "../contract/limits.ts";

const DEFAULT_LIMIT = 50;
const MAX_LIMIT = 200;

/**
 * Refuses fields that the question does not have, for a filter that is misspelt would not filter; and those that the object
 * has inherited, which are read in some places and not in others.
 */
export function checkFields(what: string, options: object, known: readonly string[]): void {
  checkOwn(what, options);
  for (const [field, value] of Object.entries(options)) {
    if (value !== undefined && !known.includes(field)) {
      throw new DurableInvalidInputError(field, `is no field of ${what}, which has ${known.join(", ")}`);
    }
  }
}

export function checkOwn(what: string, options: object): void {
  checkObject(what, options);
  for (const field in options) {
    if (Object.hasOwn(options, field)) continue;
    throw new DurableInvalidInputError(field, `must be a field of ${what} itself, and not inherited`);
  }
}

/** Of a page. */
export function limitOf(limit: unknown): number {
  if (limit === undefined) return DEFAULT_LIMIT;
  checkInteger("limit", limit, 1, MAX_LIMIT);
  return limit;
}

/** One of several words, or a list of them, without repetitions; `undefined` where nothing was given. */
export function someOf<T extends string>(
  field: string,
  value: unknown,
  words: readonly T[],
): readonly T[] | undefined {
  if (value === undefined) return undefined;
  const given: unknown[] = Array.isArray(value) ? value : [value];
  const unknown = given.find((one) => !(words as readonly unknown[]).includes(one));
  if (given.length === 0 || unknown !== undefined) {
    throw new DurableInvalidInputError(field, `must be one or several of ${words.join(", ")}`);
  }
  return words.filter((word) => given.includes(word));
}
