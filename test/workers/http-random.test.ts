/** Ten thousand random requests: whatever they are, the API answers them, and never with a 5xx. */
import { expect, it } from "vitest";
import { ENDPOINTS } from "../../src/http/endpoints.ts";
import { Random } from "./random.ts";
import type { CallOptions, TokenName } from "./http-world.ts";
import { call, completedRun, parkedRun } from "./http-world.ts";

const REQUESTS = 10_000;
const SEED = Number(process.env["HTTP_SEED"] ?? 20_260_815);

const TEXTS = [
  "",
  "0",
  "1",
  "-1",
  "1e9",
  "99999999999999999999",
  "null",
  "true",
  "a",
  "done",
  "parked",
  "unborn",
  "%",
  "%00",
  "%ff",
  "..",
  "a/b",
  "é",
  "💥",
  "\ud800",
  "__proto__",
  "constructor",
  "x".repeat(300),
  "x".repeat(1_100),
  "key:value",
  ":",
  "running",
  "cancelled",
  "2026-01-01T00:00:00Z",
  "2026-13-45",
  "hour",
  "' OR 1=1 --",
  "<script>",
  '{"a":1}',
  "dG9rZW4=",
  "\u0007",
  "NaN",
  "Infinity",
];
const QUERY_NAMES = [
  "limit",
  "cursor",
  "status",
  "tag",
  "projectId",
  "scenarioId",
  "taskId",
  "createdFrom",
  "createdTo",
  "completedFrom",
  "completedTo",
  "pass",
  "minScore",
  "maxScore",
  "heldBy",
  "takeoversOver",
  "results",
  "from",
  "to",
  "by",
  "graceMs",
  "lagMs",
  "other",
];
const FIELD_NAMES = [
  "task",
  "input",
  "runId",
  "tags",
  "scenarioId",
  "reason",
  "fromStep",
  "dropLater",
  "throughStep",
  "newRunId",
  "edits",
  "result",
  "rerun",
  "token",
  "x",
];
const METHODS = ["GET", "GET", "POST", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"];
const WHO: (TokenName | null)[] = ["admin", "admin", "reader", "alpha", "alphaReader", null];
const HEADER_NAMES = [
  "authorization",
  "cookie",
  "content-type",
  "content-length",
  "idempotency-key",
  "origin",
  "sec-fetch-site",
  "cf-access-jwt-assertion",
  "accept",
  "host",
  "transfer-encoding",
  "x-http-method-override",
];

it(`answers ${REQUESTS} random requests without a 5xx`, { timeout: 280_000 }, async () => {
  for (const runId of ["done", "done2"]) await completedRun(runId, "alpha");
  await parkedRun("parked", "alpha");
  const random = new Random(SEED);
  const statuses = new Map<number, number>();
  for (let sent = 0; sent < REQUESTS; sent += 1) {
    const { path, options } = requestOf(random);
    const { status } = await call(path, options);
    statuses.set(status, (statuses.get(status) ?? 0) + 1);
    if (status >= 500) throw new Error(`seed ${SEED}: ${status} for ${JSON.stringify({ path, options })}`);
  }
  // The requests are worth something only if they get past the first checks.
  for (const expected of [200, 201, 400, 401, 403, 404, 405, 409, 415])
    expect([expected, statuses.get(expected) ?? 0]).not.toEqual([expected, 0]);
});

/** What gets past the checks of an endpoint. */
const LIKELY_BODIES: Readonly<Record<string, (random: Random) => unknown>> = {
  cancelRun: () => ({ reason: "no more" }),
  restartRun: (random) => ({ fromStep: random.below(3), dropLater: true }),
  forkRun: (random) => ({
    throughStep: random.below(3),
    newRunId: random.pick(["done", "done2", "f1", "f2", "f3"]),
  }),
  resolveStep: (random) => random.pick<unknown>([{ rerun: true }, { result: random.pick(TEXTS) }]),
  emitEvent: (random) => random.pick(TEXTS),
};

function requestOf(random: Random): { path: string; options: CallOptions } {
  const endpoint = random.pick(ENDPOINTS);
  const fits = random.chance(0.7);
  const method = fits ? endpoint.method.toUpperCase() : random.pick(METHODS);
  let path = endpoint.path.replaceAll(/:(\w+)/g, (_all, name: string) => {
    if (random.chance(0.5))
      return name === "stepIndex" ? "0" : name === "key" ? "news" : random.pick(["done", "done2", "parked"]);
    return random.chance(0.8)
      ? encode(random.pick(TEXTS))
      : random.pick(TEXTS).toWellFormed().replaceAll("\u0007", "");
  });
  if (random.chance(0.05)) path += `/${encode(random.pick(TEXTS))}`;
  if (random.chance(0.4)) path += `?${queryOf(random)}`;
  const headers: Record<string, string> = {};
  if (random.chance(0.2))
    headers[random.pick(HEADER_NAMES)] = random
      .pick(TEXTS)
      .replaceAll(/[^\x20-\x7e]/g, "")
      .slice(0, 400);
  const options: CallOptions = { method, headers, as: random.pick(WHO) };
  if (method === "GET" || method === "HEAD") return { path: `/api/v1${path}`, options };
  const likely = LIKELY_BODIES[endpoint.id];
  if (likely !== undefined && random.chance(0.4)) options.body = likely(random);
  else if (random.chance(0.8)) options.body = valueOf(random, 0);
  else if (random.chance(0.7))
    options.raw = random.pick(["", "{", "[", "nul", "[".repeat(5_000), '"\\ud800"', '{"a":1}{', "\u0000"]);
  return { path: `/api/v1${path}`, options };
}

function queryOf(random: Random): string {
  return Array.from(
    { length: random.below(4) },
    () => `${random.pick(QUERY_NAMES)}=${encode(random.pick(TEXTS))}`,
  ).join("&");
}

function valueOf(random: Random, depth: number): unknown {
  const kind = random.below(depth > 3 ? 4 : 8);
  if (kind === 0) return random.pick(TEXTS);
  if (kind === 1) return random.pick([0, 1, -1, 1.5, 1e300, 99_999, true, false, null]);
  if (kind === 2) return { fromStep: random.below(3), dropLater: true };
  if (kind === 3)
    return random.pick<unknown>([
      { rerun: true },
      { result: 1 },
      { throughStep: 0 },
      { reason: "x" },
      { task: "approval", input: 5 },
      {},
    ]);
  if (kind === 4) return Array.from({ length: random.below(4) }, () => valueOf(random, depth + 1));
  return Object.fromEntries(
    Array.from({ length: random.below(5) }, () => [random.pick(FIELD_NAMES), valueOf(random, depth + 1)]),
  );
}

function encode(text: string): string {
  return encodeURIComponent(text.toWellFormed());
}
