/**
 * Bearer tokens: what a secret says of them, and how one is found again.
 *
 * Only their SHA-256 is kept. A token has 256 random bits, so a slow hash or a salt would add nothing. Every entry is
 * compared in constant time, each time.
 */
import { timingSafeEqual } from "node:crypto";
import { DurableInvalidInputError } from "../contract/errors.ts";
import { checkOneOf, checkText, LIMITS } from "../contract/limits.ts";
import { sha256Hex } from "../identity.ts";
import type { AccessLevel, Caller } from "./scope.ts";

/** One element of the JSON array that is the secret `API_TOKENS`. */
export interface TokenEntry {
  /** For people, and for logs: 1 to 128 bytes. */
  name: string;
  /** The token's SHA-256, in hex. */
  sha256: string;
  /** Without it: all projects. */
  projectId?: string;
  access: AccessLevel;
}

export interface TokenBook {
  /** Whose token this is. */
  find(token: string): Caller | undefined;
}

const utf8 = new TextEncoder();
const MAX_TOKEN_LENGTH = 512;
const MAX_ENTRIES = 1_000;
const FIELDS: readonly string[] = ["name", "sha256", "projectId", "access"];

/** A new token, and the entry that lets it in. The token is not to be found again from the entry. */
export function newToken(of: Omit<TokenEntry, "sha256">): { token: string; entry: TokenEntry } {
  const random = crypto.getRandomValues(new Uint8Array(32));
  const token = `dr_${btoa(String.fromCharCode(...random))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "")}`;
  const { name, ...rest } = of;
  return { token, entry: checkEntry({ name, sha256: sha256Hex(token), ...rest }, "token") };
}

/** Throws `invalid_input`, which names the entry and the field, and quotes nothing of the secret. */
export function parseTokens(json: string): TokenBook {
  const entries = parseEntries(json).map(({ sha256, ...caller }) => ({
    caller: caller satisfies Caller,
    sha256: utf8.encode(sha256.toLowerCase()),
  }));
  return {
    find(token) {
      if (token.length > MAX_TOKEN_LENGTH) return undefined;
      const presented = utf8.encode(sha256Hex(token));
      let found: Caller | undefined;
      for (const { caller, sha256 } of entries) if (timingSafeEqual(presented, sha256)) found = caller;
      return found;
    },
  };
}

function parseEntries(json: string): TokenEntry[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch {
    throw new DurableInvalidInputError("API_TOKENS", "is not JSON");
  }
  if (!Array.isArray(parsed) || parsed.length > MAX_ENTRIES)
    throw new DurableInvalidInputError("API_TOKENS", `must be an array of at most ${MAX_ENTRIES} entries`);
  return parsed.map((entry, at) => checkEntry(entry, `API_TOKENS[${at}]`));
}

function checkEntry(value: unknown, where: string): TokenEntry {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new DurableInvalidInputError(where, "must be an object");
  const entry = value as Record<string, unknown>;
  if (Object.keys(entry).some((field) => !FIELDS.includes(field)))
    throw new DurableInvalidInputError(
      where,
      `has a field that is not known; there are ${FIELDS.join(", ")}`,
    );
  const { name, sha256, projectId, access } = entry;
  checkText(`${where}.name`, name, 128);
  if (typeof sha256 !== "string" || !/^[0-9a-f]{64}$/i.test(sha256))
    throw new DurableInvalidInputError(`${where}.sha256`, "must be the token's SHA-256, 64 hex digits");
  checkOneOf(`${where}.access`, access, ["read", "write"]);
  if (projectId === undefined) return { name, sha256, access };
  checkText(`${where}.projectId`, projectId, LIMITS.projectIdBytes);
  return { name, sha256, access, projectId };
}
