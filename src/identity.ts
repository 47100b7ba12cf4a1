/**
 * Identity: canonical JSON, the hashes made of it, and fresh ids.
 *
 * Canonical JSON is RFC 8785 (JCS): no white space, keys in order of their UTF-16 code units, numbers and strings as
 * ECMAScript writes them. Values are first taken as JSON takes them (contract/payload.ts): `toJSON` is honoured, so a
 * Date counts as its ISO string; properties that are `undefined` are left out; what JSON cannot carry is refused
 * with its path. Hashes are SHA-256 in lower-case hex, synchronous, and equal in Node and in Workers.
 */
import { createHash } from "node:crypto";
import { monotonicFactory } from "ulid";
import { DurablePayloadError } from "./contract/errors.ts";
import { memberPath, plainJson } from "./contract/payload.ts";
import type { DurableRunManifest } from "./contract/types.ts";

/** Throws `payload_not_json`, also for lone surrogates, which RFC 8785 (3.2.2.2) does not allow. */
export function canonicalJson(value: unknown): string {
  return serialise(plainJson("value", value), "value");
}

/** SHA-256 (hex) of the canonical JSON. */
export function canonicalHash(value: unknown): string {
  return sha256Hex(canonicalJson(value));
}

/** The identity of a manifest: its project, scenario, task id, intent and domain, and input. Tags do not count. */
export function manifestHash(manifest: DurableRunManifest): string {
  const { projectId, scenarioId, task, input } = manifest;
  const identity = {
    projectId,
    scenarioId,
    task: { id: task.id, intent: task.intent, domain: task.domain },
    input,
  };
  return sha256Hex(serialise(plainJson("manifest", identity), "manifest"));
}

/** A stable id of a step, the same at each attempt. `position`: the step's position, or its path in a branch. */
export function stepId(runId: string, position: number | string, intent: string): string {
  return canonicalHash([runId, position, intent]);
}

/**
 * A new worker id, `host:pid:random`, different at each call. Where the runtime has no host name or process, as in
 * Workers, the first two are "workers" and 0.
 */
export function deriveWorkerId(): string {
  const { process } = globalThis as { process?: { pid?: number; env?: Record<string, string | undefined> } };
  const host = process?.env?.["HOSTNAME"] ?? (process?.pid === undefined ? "workers" : "host");
  return `${host}:${process?.pid ?? 0}:${crypto.randomUUID().slice(0, 13)}`;
}

/** A new run id: a ULID (https://github.com/ulid/spec), which sorts by time, and within one process strictly so. */
export function newRunId(): string {
  return newUlid();
}

/** A new id for a request, under which it may be repeated. */
export function newRequestId(): string {
  return newUlid();
}

let ulid: (() => string) | undefined;

/** Made at first use: Workers refuse randomness outside a request. */
function newUlid(): string {
  ulid ??= monotonicFactory(pooledRandom());
  return ulid();
}

/**
 * Numbers from 0 to below 1, each made of a byte of its own; 256 bytes are drawn at once, which costs as much as one.
 */
function pooledRandom(): () => number {
  const pool = crypto.getRandomValues(new Uint8Array(256));
  let used = 0;
  return () => {
    if (used === pool.length) {
      crypto.getRandomValues(pool);
      used = 0;
    }
    return (pool[used++] as number) / 256;
  };
}

/** SHA-256 (hex) of a text's UTF-8. */
export function sha256Hex(text: string): string {
  return createHash("sha256").update(text, "utf8").digest("hex");
}

function serialise(value: unknown, path: string): string {
  if (Array.isArray(value)) return `[${value.map((item, i) => serialise(item, `${path}[${i}]`)).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const members = value as Record<string, unknown>;
    const keys = Object.keys(members).sort();
    return `{${keys.map((key) => `${quote(key, path)}:${serialise(members[key], memberPath(path, key))}`).join(",")}}`;
  }
  return typeof value === "string" ? quote(value, path) : JSON.stringify(value);
}

function quote(text: string, path: string): string {
  if (text.isWellFormed()) return JSON.stringify(text);
  throw new DurablePayloadError(
    `${path} has a lone surrogate: canonical JSON (RFC 8785) cannot carry it`,
    "payload_not_json",
  );
}
