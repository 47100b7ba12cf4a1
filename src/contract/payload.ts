/**
 * Payloads: the one place where a caller's value becomes JSON text, and text a value again.
 *
 * What JSON would drop or change without a word is refused with its path: functions, symbols, BigInt, NaN and
 * Infinity, cycles, holes and `undefined` in arrays, and class instances without `toJSON`. As in JSON.stringify,
 * `toJSON` is honoured (a Date becomes its ISO string) and a property whose value is `undefined` is left out.
 */
import { DurablePayloadError } from "./errors.ts";
import { byteLength, LIMITS } from "./limits.ts";

/** The text that stands for `undefined`: the one value outside JSON that a step may return. */
export const NO_VALUE = "";

const MAX_DEPTH = 1_000;

/**
 * The JSON text of a value, or {@link NO_VALUE} for `undefined`.
 * Throws `payload_not_json` or `payload_too_large`; `field` names the value in the message.
 */
export function toJsonText(field: string, value: unknown, maxBytes: number = LIMITS.payloadBytes): string {
  if (value === undefined) return NO_VALUE;
  const text = JSON.stringify(plainJson(field, value));
  const bytes = text.length * 3 <= maxBytes ? text.length : byteLength(text);
  if (bytes > maxBytes) {
    throw new DurablePayloadError(
      `${field} has ${bytes} bytes as JSON; at most ${maxBytes} are allowed. Keep large results elsewhere and record a pointer.`,
      "payload_too_large",
    );
  }
  return text;
}

/** The value that {@link toJsonText} took, as JSON gives it back. A new one at each call. */
export function fromJsonText(text: string): unknown {
  return text === NO_VALUE ? undefined : (JSON.parse(text) as unknown);
}

/** A copy of a value that {@link fromJsonText} gave. */
export function copyOf(value: unknown): unknown {
  return typeof value === "object" && value !== null ? structuredClone(value) : value;
}

/**
 * A copy of a value in plain objects, arrays, strings, finite numbers, booleans and null. Throws `payload_not_json`.
 */
export function plainJson(field: string, value: unknown): unknown {
  return copy(value, { path: field, key: "", ancestors: [] });
}

interface Place {
  path: string;
  /** What `toJSON` is told. */
  key: string;
  ancestors: readonly object[];
}

function copy(value: unknown, place: Place): unknown {
  const { path, key, ancestors } = place;
  if (hasToJson(value)) return copyData(value.toJSON(key), path, ancestors);
  return copyData(value, path, ancestors);
}

function copyData(value: unknown, path: string, ancestors: readonly object[]): unknown {
  switch (typeof value) {
    case "string":
    case "boolean":
      return value;
    case "number":
      if (!Number.isFinite(value)) return refuse(path, `is ${value}`);
      return value;
    case "object":
      return value === null ? null : copyObject(value, path, ancestors);
    case "bigint":
      return refuse(path, "is a BigInt; write it as a string");
    default:
      return refuse(path, value === undefined ? "is undefined" : `is a ${typeof value}`);
  }
}

function copyObject(value: object, path: string, ancestors: readonly object[]): unknown {
  if (ancestors.includes(value)) refuse(path, "refers back to an object that contains it (a cycle)");
  if (ancestors.length >= MAX_DEPTH) refuse(path.slice(0, 80) + "…", `is nested more than ${MAX_DEPTH} deep`);
  const inner = [...ancestors, value];
  if (Array.isArray(value)) {
    return Array.from(value, (item: unknown, i) =>
      copy(item, { path: `${path}[${i}]`, key: String(i), ancestors: inner }),
    );
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== null && !isPlainPrototype(prototype)) {
    refuse(path, `is an instance of ${className(value)}, which has no toJSON`);
  }
  // Object.fromEntries defines own properties, so that a key "__proto__" is data too.
  const entries: [string, unknown][] = [];
  for (const [key, item] of Object.entries(value as Record<string, unknown>)) {
    if (item === undefined) continue;
    entries.push([key, copy(item, { path: memberPath(path, key), key, ancestors: inner })]);
  }
  return Object.fromEntries(entries);
}

/** Also the Object.prototype of another realm, such as a vm context or a test runner's. */
function isPlainPrototype(prototype: unknown): boolean {
  return prototype === Object.prototype || Object.getPrototypeOf(prototype) === null;
}

function hasToJson(value: unknown): value is { toJSON(key: string): unknown } {
  return (
    typeof value === "object" && value !== null && "toJSON" in value && typeof value.toJSON === "function"
  );
}

function className(value: object): string {
  const maker: unknown = value.constructor;
  return typeof maker === "function" && maker.name !== "" ? maker.name : "a class";
}

/** How a message names a member: `path.key`, or `path["some key"]`. */
export function memberPath(path: string, key: string): string {
  return /^[A-Za-z_$][\w$]*$/.test(key) ? `${path}.${key}` : `${path}[${JSON.stringify(key)}]`;
}

function refuse(path: string, problem: string): never {
  throw new DurablePayloadError(`${path} ${problem}: JSON cannot carry it`, "payload_not_json");
}
