/**
 * Cursors: where a page ended, as opaque text that holds for its own question alone.
 *
 * Nobody has to keep them secret, and nothing in them is trusted: what they say is a position, and what may be seen is
 * decided by the question that they come with.
 */
import { DurableInvalidInputError } from "../contract/errors.ts";
import { canonicalHash } from "../identity.ts";

const VERSION = 1;
const MAX_LENGTH = 8_192;

/** The last key of a page: an instant or a position, and an id where one alone does not tell rows apart. */
export type Key = readonly (number | string)[];

/** `question`: all that decides which rows there are, and in which order. */
export function toCursor(question: unknown, key: Key): string {
  const text = JSON.stringify([VERSION, hashOf(question), ...key]);
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");
}

/** The key, whose parts are of the types of `like`. Throws `invalid_input` for any text that is no cursor of the question. */
export function fromCursor<K extends Key>(question: unknown, cursor: unknown, like: K): K {
  const parsed = typeof cursor === "string" && cursor.length <= MAX_LENGTH ? parse(cursor) : undefined;
  if (!Array.isArray(parsed)) throw refused("is none that history has given out");
  const [version, hash, ...key] = parsed as unknown[];
  if (version !== VERSION || hash !== hashOf(question)) throw refused("is that of another question");
  const fits = key.length === like.length && key.every((part, i) => isLike(part, like[i]));
  if (!fits) throw refused("is none that history has given out");
  return key as unknown as K;
}

function isLike(part: unknown, like: unknown): boolean {
  return typeof like === "number"
    ? Number.isSafeInteger(part)
    : typeof part === "string" && part.isWellFormed();
}

function parse(cursor: string): unknown {
  try {
    const binary = atob(cursor.replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = Uint8Array.from(binary, (character) => character.charCodeAt(0));
    return JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    return undefined;
  }
}

function hashOf(question: unknown): string {
  return canonicalHash(question).slice(0, 16);
}

function refused(problem: string): DurableInvalidInputError {
  return new DurableInvalidInputError("cursor", problem);
}
