/**
 * Event keys as the platform's event types. A type has 1 to 100 characters of `a-z A-Z 0-9 _ -` and does not begin with
 * a hyphen; a key is any text. Letters, digits and inner hyphens stand for themselves, every other byte of the key's
 * UTF-8, `_` included, is `_` and two hex digits. So no two keys share a type, and each type gives its key back.
 */
import { DurableInvalidInputError } from "../contract/errors.ts";
import { checkText, LIMITS } from "../contract/limits.ts";

/** https://developers.cloudflare.com/workflows/reference/limits/ */
const MAX_TYPE_LENGTH = 100;

/**
 * The event type to send to a Workflow instance whose task awaits `key`: `instance.sendEvent({ type, payload })`.
 * Throws `invalid_input` for a key that is too long for one.
 */
export function workflowEventType(key: string): string {
  checkText("key", key, LIMITS.eventKeyBytes);
  const type = encoded(key);
  if (type.length > MAX_TYPE_LENGTH) {
    throw new DurableInvalidInputError(
      "key",
      `has ${type.length} characters as an event type of Workflows; at most ${MAX_TYPE_LENGTH} are allowed. ` +
        "All but letters, digits and hyphens count three for each byte.",
    );
  }
  return type;
}

/** The key that {@link workflowEventType} made the type of. Throws `invalid_input` for any other text. */
export function eventKeyOf(type: string): string {
  const key = decoded(type);
  try {
    if (workflowEventType(key) === type) return key;
  } catch {
    // no key at all
  }
  throw new DurableInvalidInputError("type", "is not an event type that workflowEventType makes");
}

function encoded(key: string): string {
  let type = "";
  for (const byte of new TextEncoder().encode(key)) {
    const char = String.fromCharCode(byte);
    const plain = /[A-Za-z0-9]/.test(char) || (char === "-" && type !== "");
    type += plain ? char : `_${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return type;
}

function decoded(type: string): string {
  const bytes: number[] = [];
  for (const [part] of type.matchAll(/_[0-9A-F]{2}|[A-Za-z0-9-]/g)) {
    bytes.push(part.length === 1 ? part.charCodeAt(0) : Number.parseInt(part.slice(1), 16));
  }
  return new TextDecoder("utf-8", { fatal: false, ignoreBOM: true }).decode(new Uint8Array(bytes));
}
